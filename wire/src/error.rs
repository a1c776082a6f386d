//! Why bytes could not be decoded.

use core::fmt;

use crate::code::Code;

/// Why bytes could not be decoded. Always the sender's fault; [`DecodeError::code`] is what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A field reaches beyond the end of its frame (SPEC W-FIELD-1).
    Truncated,
    /// A frame shorter than its type and flags (SPEC W-FRAME-2).
    ShortFrame,
    /// Type 0, which is never assigned (SPEC W-FRAME-3).
    TypeZero,
    /// A frame above the frame limit (SPEC W-FRAME-4).
    FrameTooLarge {
        /// Its length field.
        length: u64,
    },
    /// A varint in more bytes than it needs (SPEC W-VAR-2).
    NotShortest,
    /// A flag that the frame type does not have (SPEC W-FRAME-6).
    BadFlags(u8),
    /// A field holds a value outside its range; the name is SPEC.md's (SPEC W-FIELD-2).
    BadValue(&'static str),
    /// A list, text or count is above its limit; the name is SPEC.md's (SPEC W-FIELD-4).
    OverLimit(&'static str),
    /// A text field is not UTF-8 (SPEC W-FIELD-3).
    BadUtf8,
    /// A peer frame's protobuf message is malformed.
    Protobuf,
}

impl DecodeError {
    /// The code for ERROR or CLOSE, derived here and nowhere else.
    pub fn code(self) -> Code {
        match self {
            Self::Truncated
            | Self::ShortFrame
            | Self::TypeZero
            | Self::NotShortest
            | Self::BadFlags(_)
            | Self::BadValue(_)
            | Self::Protobuf => Code::PROTOCOL,
            Self::FrameTooLarge { .. } => Code::FRAME_TOO_LARGE,
            Self::OverLimit(_) => Code::LIMIT,
            Self::BadUtf8 => Code::BAD_UTF8,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a field reaches beyond the end of the frame"),
            Self::ShortFrame => f.write_str("a frame without type and flags"),
            Self::TypeZero => f.write_str("frame type 0"),
            Self::FrameTooLarge { length } => write!(f, "a frame of {length} bytes is above the limit"),
            Self::NotShortest => f.write_str("a varint is not in its shortest form"),
            Self::BadFlags(flags) => write!(f, "unknown flags {flags:#04x}"),
            Self::BadValue(field) => write!(f, "field {field} is out of range"),
            Self::OverLimit(field) => write!(f, "field {field} is above its limit"),
            Self::BadUtf8 => f.write_str("a text field is not UTF-8"),
            Self::Protobuf => f.write_str("a malformed protobuf message"),
        }
    }
}

impl std::error::Error for DecodeError {}
