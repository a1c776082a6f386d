//! Reading frames.

use core::ops::Range;

use crate::limits::{CONTROL_PAYLOAD_MAX, FRAGMENTS_MAX_DEFAULT};
use crate::utf8::Utf8;
use crate::{Opcode, ProtocolError, apply_mask, close};

/// Which side the decoder is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads masked frames of a client.
    Server,
    /// Reads unmasked frames of a server.
    Client,
}

/// What a peer may send. Passed to every call, because a million decoders share one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes, all its fragments together.
    pub message_max: u32,
    /// Most frames in one message; `u16::MAX` = any number.
    pub fragments_max: u16,
}

impl Limits {
    /// Messages up to `message_max` bytes in at most [`FRAGMENTS_MAX_DEFAULT`] frames.
    pub const fn new(message_max: u32) -> Self {
        Self { message_max, fragments_max: FRAGMENTS_MAX_DEFAULT }
    }
}

/// What kind of message a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8; checked so far.
    Text,
    /// Bytes.
    Binary,
}

/// What came. Ranges point into the input, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A piece of a message: as much of the current frame as the input holds. Text may be cut inside a character.
    Data {
        /// Text or bytes.
        kind: Kind,
        /// The piece; empty only if its frame is.
        payload: Range<usize>,
        /// Whether the message is complete with it.
        end: bool,
    },
    /// Answer with a pong of the same payload (§5.5.2).
    Ping(Range<usize>),
    /// Answer to a ping, or unasked.
    Pong(Range<usize>),
    /// The peer's last frame: answer it once, then end the connection (§5.5.1). Later input is ignored.
    Close {
        /// The code, if there is one; only codes that may be sent.
        code: Option<u16>,
        /// The reason, checked UTF-8.
        reason: Range<usize>,
    },
}

/// Turns a peer's bytes into [`Item`]s, unmasking in place.
///
/// ```text
///            data header, ≥ 1 byte or empty             last byte of a frame with FIN
///  Idle ────────────────────────────────► InFrame ──────────────────────────────────► Idle
///   │ ▲                                      │  ▲
///   │ └──────── ping, pong ─────┐            ▼  │ continuation header
///   │                           └──── BetweenFrames (same controls)
///   └── close (from Idle or BetweenFrames) ──► Closed
/// ```
///
/// `remaining` > 0 is InFrame, `IN_MESSAGE` alone BetweenFrames.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Key of the current data frame, turned to its next byte.
    key: [u8; 4],
    /// Payload bytes of the current data frame that have not come yet.
    remaining: u32,
    /// Bytes of the current message that were announced so far. Invariant: ≤ `message_max` of the limits.
    message_len: u32,
    /// Frames of the current message so far, saturating.
    fragments: u16,
    /// Of the current text message.
    utf8: Utf8,
    flags: u8,
}

const _: () = assert!(size_of::<Decoder>() == 16, "every session holds one");

/// Frames are masked (the role is `Server`).
const MASKED: u8 = 1;
/// The current frame is the last of its message.
const FIN: u8 = 2;
/// A message has begun and not ended.
const IN_MESSAGE: u8 = 4;
/// That message is text.
const TEXT: u8 = 8;
/// A close frame came.
const CLOSED: u8 = 16;

/// A frame header that passed every check that needs no state.
struct Head {
    fin: bool,
    opcode: Opcode,
    /// Checked against the limits only for control frames.
    payload_len: u64,
    key: [u8; 4],
    /// Where the payload begins; `None` if the key is still missing.
    payload_at: Option<usize>,
}

impl Decoder {
    /// A decoder at the start of a connection, after the handshake.
    pub fn new(role: Role) -> Self {
        let flags = match role {
            Role::Server => MASKED,
            Role::Client => 0,
        };
        Self { key: [0; 4], remaining: 0, message_len: 0, fragments: 0, utf8: Utf8::default(), flags }
    }

    /// Whether the peer sent its close frame. Everything after it is to be thrown away (§5.5.1).
    pub fn is_closed(&self) -> bool {
        self.flags & CLOSED != 0
    }

    /// Takes the next item off the front of `input` and says how many bytes it used. `None`: `input` holds no whole
    /// header, no whole control frame or, after a data header, no byte of payload; call again with the same bytes and
    /// more behind them ([`crate::limits::TAIL_MAX`] bytes at most are ever left over).
    ///
    /// # Errors
    /// The peer broke the protocol or a limit: send its close code and end the connection. Text fails at its first
    /// impossible byte, a message that is too large at its header.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
    ) -> Result<Option<(usize, Item)>, ProtocolError> {
        if self.is_closed() {
            return Ok(None);
        }
        if self.remaining > 0 {
            return if input.is_empty() { Ok(None) } else { self.piece(input, 0).map(Some) };
        }
        let Some(head) = self.parse_head(input)? else { return Ok(None) };
        if head.opcode.is_control() {
            return self.control(input, &head);
        }
        self.check_data(&head, limits)?;
        match head.payload_at {
            Some(at) if head.payload_len == 0 || input.len() > at => {
                self.begin_frame(&head);
                self.piece(input, at).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Reads a header as far as it is there; `None` until its length is.
    fn parse_head(&self, input: &[u8]) -> Result<Option<Head>, ProtocolError> {
        let &[first, second, ref rest @ ..] = input else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBit);
        }
        let opcode = Opcode::from_u8(first & 0x0f).ok_or(ProtocolError::ReservedOpcode)?;
        let (fin, masked) = (first & 0x80 != 0, second & 0x80 != 0);
        match (masked, self.flags & MASKED != 0) {
            (false, true) => return Err(ProtocolError::Unmasked),
            (true, false) => return Err(ProtocolError::Masked),
            _ => {}
        }
        let short_len = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if usize::from(short_len) > CONTROL_PAYLOAD_MAX {
                return Err(ProtocolError::OversizedControl);
            }
        }
        let Some((payload_len, length_bytes)) = parse_len(short_len, rest)? else { return Ok(None) };
        let key_at = 2 + length_bytes;
        let (key, payload_at) = match input.get(key_at..).and_then(|rest| rest.first_chunk::<4>()) {
            _ if !masked => ([0; 4], Some(key_at)),
            Some(key) => (*key, Some(key_at + 4)),
            None => ([0; 4], None),
        };
        Ok(Some(Head { fin, opcode, payload_len, key, payload_at }))
    }

    /// The rules for data frames that need the state of the message, before anything is taken.
    fn check_data(&self, head: &Head, limits: &Limits) -> Result<(), ProtocolError> {
        let continues = head.opcode == Opcode::Continuation;
        match (continues, self.flags & IN_MESSAGE != 0) {
            (true, false) => return Err(ProtocolError::UnexpectedContinuation),
            (false, true) => return Err(ProtocolError::ExpectedContinuation),
            _ => {}
        }
        let before = if continues { self.message_len } else { 0 };
        if head.payload_len > u64::from(limits.message_max.saturating_sub(before)) {
            return Err(ProtocolError::TooLarge);
        }
        if continues && self.fragments >= limits.fragments_max && limits.fragments_max != u16::MAX {
            return Err(ProtocolError::TooManyFragments);
        }
        Ok(())
    }

    /// Enters a data frame that passed [`Self::check_data`].
    fn begin_frame(&mut self, head: &Head) {
        let payload_len = u32::try_from(head.payload_len).expect("checked against message_max, a u32");
        if head.opcode != Opcode::Continuation {
            (self.message_len, self.fragments, self.utf8) = (0, 0, Utf8::default());
            self.flags &= !TEXT;
            self.flags |= IN_MESSAGE | if head.opcode == Opcode::Text { TEXT } else { 0 };
        }
        self.flags = if head.fin { self.flags | FIN } else { self.flags & !FIN };
        self.message_len += payload_len;
        self.fragments = self.fragments.saturating_add(1);
        self.remaining = payload_len;
        self.key = head.key;
    }

    /// Hands out what `input` holds of the current data frame, from `at` on.
    fn piece(&mut self, input: &mut [u8], at: usize) -> Result<(usize, Item), ProtocolError> {
        assert!(self.flags & IN_MESSAGE != 0);
        let len = (input.len() - at).min(self.remaining as usize);
        let payload = at..at + len;
        if self.flags & MASKED != 0 {
            self.key = apply_mask(&mut input[payload.clone()], self.key);
        }
        self.remaining -= len as u32;
        let end = self.remaining == 0 && self.flags & FIN != 0;
        let kind = if self.flags & TEXT != 0 { Kind::Text } else { Kind::Binary };
        if kind == Kind::Text {
            self.utf8 = self.utf8.feed(&input[payload.clone()]).ok_or(ProtocolError::BadUtf8)?;
            if end && self.utf8 != Utf8::Boundary {
                return Err(ProtocolError::BadUtf8);
            }
        }
        if end {
            self.flags &= !IN_MESSAGE;
        }
        Ok((payload.end, Item::Data { kind, payload, end }))
    }

    /// Hands out a control frame once it is whole.
    fn control(&mut self, input: &mut [u8], head: &Head) -> Result<Option<(usize, Item)>, ProtocolError> {
        let Some(at) = head.payload_at else { return Ok(None) };
        let payload = at..at + head.payload_len as usize;
        if input.len() < payload.end {
            return Ok(None);
        }
        if self.flags & MASKED != 0 {
            let _ = apply_mask(&mut input[payload.clone()], head.key);
        }
        let consumed = payload.end;
        let item = match head.opcode {
            Opcode::Ping => Item::Ping(payload),
            Opcode::Pong => Item::Pong(payload),
            _ => {
                let code = close::parse(&input[payload.clone()])?;
                self.flags |= CLOSED;
                Item::Close { code, reason: payload.start + code.map_or(0, |_| 2)..payload.end }
            }
        };
        Ok(Some((consumed, item)))
    }
}

/// The payload length and how many extra bytes it took; `None` if they are not all there (§5.2).
fn parse_len(short_len: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    let (len, bytes, least) = match short_len {
        126 => match rest.first_chunk::<2>() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 2, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(len) => (u64::from_be_bytes(*len), 8, 1 << 16),
            None => return Ok(None),
        },
        len => (u64::from(len), 0, 0),
    };
    // The shortest form is required, and the most significant bit must be 0.
    if len < least || len >> 63 != 0 {
        return Err(ProtocolError::BadLength);
    }
    Ok(Some((len, bytes)))
}
