//! Encoding and decoding of a whole frame: type, flags, extension block, fields.

use bytes::{Bytes, BytesMut};

use super::fields::{Counter, Reader, Writer};
use super::{Frame, Sender};
use crate::error::DecodeError;
use crate::ids::RequestId;
use crate::varint;

/// Flag on every frame type: an extension block (a length and that many bytes) stands between flags and fields and is
/// skipped by whoever does not know it (SPEC W-FRAME-7). So frames that end in a body can grow, too.
pub const FLAG_EXTENSION: u8 = 0x80;

/// Frame types whose first field is a request id, known to this version or not (SPEC W-TYPE-2).
pub const REQUEST_TYPES: core::ops::RangeInclusive<u8> = 0x10..=0x3f;

/// How one frame type lays out its flags and fields.
pub(super) trait Layout<'a>: Sized {
    /// The flags it may carry, beside [`FLAG_EXTENSION`].
    const FLAGS: u8 = 0;

    /// The flags of this frame.
    fn flags(&self) -> u8 {
        0
    }

    /// Writes the fields.
    fn write(&self, out: &mut impl Writer);

    /// Reads the fields; `flags` holds none outside [`Layout::FLAGS`].
    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// Reads one frame type.
pub(super) fn read<'a, T: Layout<'a>>(flags: u8, mut fields: Reader<'a>) -> Result<T, DecodeError> {
    if flags & !(T::FLAGS | FLAG_EXTENSION) != 0 {
        return Err(DecodeError::BadFlags(flags));
    }
    // Whatever follows the known fields belongs to a later version (SPEC W-FRAME-8).
    T::read(flags & T::FLAGS, &mut fields)
}

/// A frame type, as listed in SPEC.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameType {
    /// The number.
    pub number: u8,
    /// The name.
    pub name: &'static str,
    /// Who sends it.
    pub sender: Sender,
}

/// A frame of a type that this version does not know: skipped, or, if it is a request, answered by ERROR
/// `UNSUPPORTED` (SPEC W-TYPE-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its type.
    pub type_: u8,
    /// The id to answer to, if it is a request.
    pub request: Option<RequestId>,
}

impl Unknown {
    /// Looks at a payload for which [`Frame::decode`] returned `None`.
    ///
    /// # Errors
    /// [`DecodeError`] if type, flags or request id are malformed.
    pub fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let (type_, _, mut fields) = head(payload)?;
        let request = if REQUEST_TYPES.contains(&type_) { Some(fields.request()?) } else { None };
        Ok(Self { type_, request })
    }
}

/// The request id of a payload, if it is a request of a known or unknown type. With this a session answers a request
/// whose other fields are above a limit by ERROR instead of closing (SPEC W-ERR-4).
pub fn request_of(payload: &[u8]) -> Option<RequestId> {
    Unknown::read(payload).ok()?.request
}

/// Splits a payload into type, flags and fields; the extension block is left out.
fn head(payload: &[u8]) -> Result<(u8, u8, Reader<'_>), DecodeError> {
    let [type_, flags, fields @ ..] = payload else { return Err(DecodeError::ShortFrame) };
    if *type_ == 0 {
        return Err(DecodeError::TypeZero);
    }
    let mut fields = Reader::new(fields);
    if flags & FLAG_EXTENSION != 0 {
        fields.bytes()?;
    }
    Ok((*type_, *flags, fields))
}

impl<'a> Frame<'a> {
    /// Appends the frame, length first.
    pub fn encode(&self, out: &mut BytesMut) {
        let length = self.payload_len();
        let total = varint::len(length as u64) + length;
        let end = out.len() + total;
        out.reserve(total);
        varint::encode(length as u64, out);
        out.byte(self.type_number());
        out.byte(self.flags());
        self.write(out);
        assert_eq!(out.len(), end, "counting and writing run the same code");
    }

    /// The frame as bytes, length first.
    pub fn encoded(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Bytes after the length field.
    pub fn payload_len(&self) -> usize {
        let mut counter = Counter::default();
        self.write(&mut counter);
        2 + counter.0
    }

    /// Decodes a payload (the bytes after the length field); `None` if the type is unknown, see [`Unknown`].
    ///
    /// # Errors
    /// [`DecodeError`]; its code is what the sender is told.
    pub fn decode(payload: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let (type_, flags, fields) = head(payload)?;
        Self::read(type_, flags, fields)
    }
}
