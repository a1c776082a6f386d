//! Primitive fields, written and read (SPEC.md, "Fields").

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::ids::{
    ChannelId, ClientMsgId, DeviceId, Epoch, MemberNo, RequestId, Seq, ServerTs, UserId, UserSeq,
};
use crate::varint;

/// The largest `u48`.
pub(super) const U48_MAX: u64 = (1 << 48) - 1;

/// Where fields are written to: a buffer, or a counter that finds the length first. One generic function per frame
/// serves both, so they cannot disagree.
pub(super) trait Writer {
    /// Raw bytes.
    fn raw(&mut self, bytes: &[u8]);

    /// A varint.
    fn varint(&mut self, value: u64);

    /// One byte.
    fn byte(&mut self, value: u8) {
        self.raw(&[value]);
    }

    /// `bytes`: a length and as many bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// `text`: `bytes` in UTF-8.
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// `u48`: six bytes, big-endian; times.
    fn u48(&mut self, value: u64) {
        assert!(value <= U48_MAX, "Unix milliseconds fit 48 bits until the year 10889");
        self.raw(&value.to_be_bytes()[2..]);
    }
}

impl Writer for BytesMut {
    fn raw(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn varint(&mut self, value: u64) {
        varint::encode(value, self);
    }
}

/// Counts what would be written.
#[derive(Default)]
pub(super) struct Counter(pub(super) usize);

impl Writer for Counter {
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn varint(&mut self, value: u64) {
        self.0 += varint::len(value);
    }
}

/// Reads fields from the front of a payload.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take(N) returns N bytes"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        varint::decode(&mut self.rest)
    }

    /// A varint of at most 2¹⁶ − 1.
    pub(super) fn u16(&mut self, name: &'static str) -> Result<u16, DecodeError> {
        u16::try_from(self.varint()?).map_err(|_| DecodeError::BadValue(name))
    }

    /// A varint of at most 2³² − 1.
    pub(super) fn u32(&mut self, name: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::BadValue(name))
    }

    pub(super) fn u48(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.array::<6>()?;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// A length and as many bytes; the frame bounds it.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        if length > self.rest.len() as u64 {
            return Err(DecodeError::Truncated);
        }
        self.take(length as usize)
    }

    /// `bytes` with a limit of its own.
    pub(super) fn bytes_max(&mut self, max: usize, name: &'static str) -> Result<&'a [u8], DecodeError> {
        let bytes = self.bytes()?;
        if bytes.len() > max { Err(DecodeError::OverLimit(name)) } else { Ok(bytes) }
    }

    /// UTF-8 text with a limit.
    pub(super) fn text(&mut self, max: usize, name: &'static str) -> Result<&'a str, DecodeError> {
        core::str::from_utf8(self.bytes_max(max, name)?).map_err(|_| DecodeError::BadUtf8)
    }

    /// The length of a list whose items take `item_min` bytes at least: checked against its limit and against what is
    /// left before anything is collected.
    pub(super) fn count(
        &mut self,
        max: usize,
        item_min: usize,
        name: &'static str,
    ) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        if count > max as u64 {
            return Err(DecodeError::OverLimit(name));
        }
        let count = count as usize;
        if count * item_min > self.rest.len() { Err(DecodeError::Truncated) } else { Ok(count) }
    }

    /// A list; see [`Reader::count`].
    pub(super) fn list<T>(
        &mut self,
        max: usize,
        item_min: usize,
        name: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(max, item_min, name)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// How many items a request asks for: 1 to `max`.
    pub(super) fn limit(&mut self, max: usize) -> Result<u16, DecodeError> {
        match self.u16("limit")? {
            limit if limit == 0 || usize::from(limit) > max => Err(DecodeError::OverLimit("limit")),
            limit => Ok(limit),
        }
    }

    pub(super) fn channel(&mut self) -> Result<ChannelId, DecodeError> {
        self.array().map(ChannelId)
    }

    pub(super) fn user(&mut self) -> Result<UserId, DecodeError> {
        self.array().map(UserId)
    }

    pub(super) fn device(&mut self) -> Result<DeviceId, DecodeError> {
        self.array().map(u64::from_be_bytes).map(DeviceId)
    }

    pub(super) fn request(&mut self) -> Result<RequestId, DecodeError> {
        self.varint().map(RequestId)
    }

    pub(super) fn seq(&mut self) -> Result<Seq, DecodeError> {
        self.varint().map(Seq)
    }

    pub(super) fn user_seq(&mut self) -> Result<UserSeq, DecodeError> {
        self.varint().map(UserSeq)
    }

    pub(super) fn epoch(&mut self) -> Result<Epoch, DecodeError> {
        self.varint().map(Epoch)
    }

    pub(super) fn client_msg_id(&mut self) -> Result<ClientMsgId, DecodeError> {
        self.varint().map(ClientMsgId)
    }

    pub(super) fn member(&mut self) -> Result<MemberNo, DecodeError> {
        self.u32("member").map(MemberNo)
    }

    pub(super) fn ts(&mut self) -> Result<ServerTs, DecodeError> {
        self.u48().map(ServerTs)
    }
}
