//! The protobuf messages themselves, derived by hand (no protoc), and checks that conversions share. Private: what
//! leaves `peer` is checked.

mod link;

use bytes::Bytes;
pub(crate) use link::*;

use crate::code::Code;
use crate::error::DecodeError;
use crate::ids::{MemberNo, SLOTS, Seq, ShardId, UserSeq};
use crate::varint;

/// A 128-bit id as two fixed numbers: 20 bytes with tag and length, and no allocation as a `bytes` field would have.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Id {
    #[prost(fixed64, tag = "1")]
    pub(crate) high: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) low: u64,
}

impl From<[u8; 16]> for Id {
    fn from(id: [u8; 16]) -> Self {
        let id = u128::from_be_bytes(id);
        Self { high: (id >> 64) as u64, low: id as u64 }
    }
}

impl From<Id> for [u8; 16] {
    fn from(id: Id) -> Self {
        (u128::from(id.high) << 64 | u128::from(id.low)).to_be_bytes()
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Empty {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Nonce {
    #[prost(uint64, tag = "1")]
    pub(crate) nonce: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(oneof = "Role", tags = "2, 3")]
    pub(crate) role: Option<Role>,
    #[prost(message, required, tag = "4")]
    pub(crate) cluster: Id,
    #[prost(uint32, tag = "5")]
    pub(crate) shards: u32,
    #[prost(string, tag = "6")]
    pub(crate) node_name: String,
    #[prost(uint64, tag = "7")]
    pub(crate) epoch: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(crate) enum Role {
    #[prost(uint64, tag = "2")]
    Node(u64),
    #[prost(fixed64, tag = "3")]
    Gateway(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refused {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Raft {
    #[prost(uint32, tag = "1")]
    pub(crate) shard: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) to: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) log_term: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) index: u64,
    #[prost(message, repeated, tag = "8")]
    pub(crate) entries: Vec<Entry>,
    #[prost(uint64, tag = "9")]
    pub(crate) commit: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) commit_term: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) request_snapshot: u64,
    #[prost(bool, tag = "12")]
    pub(crate) reject: bool,
    #[prost(uint64, tag = "13")]
    pub(crate) reject_hint: u64,
    #[prost(bytes = "bytes", tag = "14")]
    pub(crate) context: Bytes,
    #[prost(sint64, tag = "15")]
    pub(crate) priority: i64,
    #[prost(uint64, tag = "16")]
    pub(crate) suspect: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) context: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RaftConf {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) learners: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    pub(crate) learners_next: Vec<u64>,
    #[prost(bool, tag = "5")]
    pub(crate) auto_leave: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Snapshot {
    #[prost(fixed64, tag = "1")]
    pub(crate) stream: u64,
    #[prost(oneof = "SnapshotWhat", tags = "10, 11, 12, 13, 14, 15")]
    pub(crate) what: Option<SnapshotWhat>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(clippy::large_enum_variant, reason = "one value at a time, on its way to or from a frame")]
pub(crate) enum SnapshotWhat {
    #[prost(message, tag = "10")]
    Offer(SnapshotOffer),
    #[prost(uint64, tag = "11")]
    Accept(u64),
    #[prost(message, tag = "12")]
    Refuse(Empty),
    #[prost(message, tag = "13")]
    Chunk(SnapshotChunk),
    #[prost(uint64, tag = "14")]
    Ack(u64),
    #[prost(bool, tag = "15")]
    Done(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotOffer {
    #[prost(message, required, tag = "1")]
    pub(crate) message: Raft,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) log_term: u64,
    #[prost(message, required, tag = "4")]
    pub(crate) conf: RaftConf,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotChunk {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) rows: Vec<SnapshotRow>,
    #[prost(fixed64, optional, tag = "3")]
    pub(crate) digest: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotRow {
    #[prost(uint32, tag = "1")]
    pub(crate) table: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Router {
    #[prost(uint32, tag = "1")]
    pub(crate) from_shard: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) to_shard: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) batch: u64,
    #[prost(oneof = "RouterWhat", tags = "10, 11, 12, 13, 14")]
    pub(crate) what: Option<RouterWhat>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum RouterWhat {
    #[prost(message, tag = "10")]
    InboxUpdate(InboxRows),
    #[prost(message, tag = "11")]
    InboxStored(Empty),
    /// The leader of `to_shard`.
    #[prost(uint64, tag = "12")]
    LeaderIs(u64),
    /// A command of the metadata machine; `batch` is the ticket.
    #[prost(bytes = "bytes", tag = "13")]
    Meta(Bytes),
    /// What it came to.
    #[prost(bytes = "bytes", tag = "14")]
    MetaAnswer(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InboxRows {
    #[prost(message, repeated, tag = "1")]
    pub(crate) rows: Vec<InboxRow>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct InboxRow {
    #[prost(message, required, tag = "1")]
    pub(crate) user: Id,
    #[prost(message, required, tag = "2")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "3")]
    pub(crate) head: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) count: u64,
}

/// A number that a client frame can carry.
pub(crate) fn number(value: u64, name: &'static str) -> Result<u64, DecodeError> {
    if value > varint::MAX { Err(DecodeError::BadValue(name)) } else { Ok(value) }
}

pub(crate) fn seq(value: u64) -> Result<Seq, DecodeError> {
    number(value, "seq").map(Seq)
}

pub(crate) fn user_seq(value: u64) -> Result<UserSeq, DecodeError> {
    number(value, "user_seq").map(UserSeq)
}

pub(crate) fn member(value: u32) -> MemberNo {
    MemberNo(value)
}

pub(crate) fn shard(value: u32) -> Result<ShardId, DecodeError> {
    if value >= SLOTS { Err(DecodeError::BadValue("shard")) } else { Ok(ShardId(value)) }
}

pub(crate) fn code(value: u32) -> Result<Code, DecodeError> {
    u16::try_from(value).map(Code).map_err(|_| DecodeError::BadValue("code"))
}

pub(crate) fn list<P, T>(
    items: Vec<P>,
    max: usize,
    name: &'static str,
    convert: impl Fn(P) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    if items.len() > max {
        return Err(DecodeError::OverLimit(name));
    }
    items.into_iter().map(convert).collect()
}
