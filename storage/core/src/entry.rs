//! What the log holds, free of the Raft crate's types: hard state, entries and the record that joins them.

use bytes::Bytes;
use throng_wire::ids::ShardId;

/// What a Raft group must never forget.
///
/// Invariant: `term` and `commit` never fall. Written by [`crate::store`], persisted by the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term this replica has seen.
    pub term: u64,
    /// The replica it voted for in that term, 0 for none.
    pub vote: u64,
    /// The highest index it knows to be committed.
    pub commit: u64,
}

/// What an entry carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// Commands of the replicated machine, or nothing (a new leader's first entry).
    #[default]
    Normal,
    /// A change of one member.
    ConfChange,
    /// A joint change of several members.
    ConfChangeV2,
}

/// One entry of a group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// How `data` is to be read.
    pub kind: EntryKind,
    /// The term of the leader that appended it.
    pub term: u64,
    /// Its place, from 1.
    pub index: u64,
    /// The payload; empty in a new leader's first entry.
    pub data: Bytes,
    /// Which proposal it is (see [`crate::store`]); empty where nobody waits for it.
    pub context: Bytes,
}

/// What one group adds in one group commit. All of it becomes durable together or not at all: hard state and entries
/// in two writes can be torn apart by a crash (`hs.commit out of range` at every later start).
///
/// `entries` are contiguous; the first one replaces whatever the log held from its index on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The group.
    pub shard: ShardId,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// New entries.
    pub entries: Vec<Entry>,
}
