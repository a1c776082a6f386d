//! Why a peer's bytes end the connection.

use core::fmt;

/// The peer broke RFC 6455 or one of our limits. The close code is derived from it in one place: [`Self::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set though no extension was negotiated (§5.2).
    ReservedBit,
    /// Opcodes 3–7 and 11–15 are reserved (§5.2).
    ReservedOpcode,
    /// A client's frame is not masked (§5.1).
    Unmasked,
    /// A server's frame is masked (§5.1).
    Masked,
    /// A control frame without FIN (§5.5).
    FragmentedControl,
    /// A control frame above 125 bytes (§5.5).
    OversizedControl,
    /// A length in more bytes than it needs, or with its top bit set (§5.2).
    BadLength,
    /// A continuation without a message to continue (§5.4).
    UnexpectedContinuation,
    /// A new message inside an unfinished one (§5.4).
    ExpectedContinuation,
    /// A close frame with one byte of payload (§5.5.1).
    TruncatedCloseCode,
    /// A close code that must not be sent (§7.4).
    BadCloseCode(u16),
    /// Text or a close reason is not UTF-8 (§8.1).
    BadUtf8,
    /// The message is above the limit; found in the header, before a byte of it was taken.
    TooLarge,
    /// The message has more fragments than allowed.
    TooManyFragments,
}

impl ProtocolError {
    /// The close code that tells the peer (§7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::BadUtf8 => 1007,
            Self::TooManyFragments => 1008,
            Self::TooLarge => 1009,
            Self::ReservedBit
            | Self::ReservedOpcode
            | Self::Unmasked
            | Self::Masked
            | Self::FragmentedControl
            | Self::OversizedControl
            | Self::BadLength
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::TruncatedCloseCode
            | Self::BadCloseCode(_) => 1002,
        }
    }

    /// For people, in the close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ReservedBit => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::Unmasked => "frame of a client is not masked",
            Self::Masked => "frame of a server is masked",
            Self::FragmentedControl => "control frame is fragmented",
            Self::OversizedControl => "control frame above 125 bytes",
            Self::BadLength => "length not in its shortest form",
            Self::UnexpectedContinuation => "nothing to continue",
            Self::ExpectedContinuation => "message inside a message",
            Self::TruncatedCloseCode => "close code of one byte",
            Self::BadCloseCode(_) => "close code must not be sent",
            Self::BadUtf8 => "not UTF-8",
            Self::TooLarge => "message too large",
            Self::TooManyFragments => "too many fragments",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for ProtocolError {}
