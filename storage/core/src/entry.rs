//! What the log holds, free of the Raft crate's types: hard state, marks, entries and the record that joins them.

mod conf;
mod peer;

use bytes::Bytes;
use throng_wire::ids::ShardId;

pub use conf::{Conf, ConfError, MEMBERS_MAX};
pub use peer::PeerId;

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

/// Where a group's log begins, and which copy of the state goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The entry before the first one that the log keeps; 0 if it keeps everything.
    pub index: u64,
    /// Its term; 0 if `index` is 0.
    pub term: u64,
    /// The Raft id of this replica ([`PeerId`]); 0 while this node is no member of the group.
    pub peer: u64,
    /// Local number of the copy of the applied state: the first part of every key of it.
    pub replica: u32,
    /// The group's members as of `index`.
    pub conf: Conf,
    /// Whether all entries that were there are dropped: a snapshot was installed, or this replica has a new id.
    pub reset: bool,
    /// Whether this replica may have lost synced data at the end of the log and was not covered by a leader since
    /// (see [`crate::store`]). It must outlive restarts: the damage itself is gone as soon as something is written.
    pub is_suspect: bool,
}

/// What one group adds in one group commit. All of it becomes durable together or not at all: hard state and entries
/// in two writes can be torn apart by a crash (`hs.commit out of range` at every later start).
///
/// The mark comes first: without `reset` it forgets the entries through its index and keeps later ones (the log must
/// hold that index with that term, or begin exactly after it); with `reset` all entries go, and the hard state of this
/// record replaces the old one (it may fall only if the mark changes the peer id). Then `entries`, which are
/// contiguous; the first one replaces whatever the log held from its index on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The group.
    pub shard: ShardId,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// The new mark, if it changed.
    pub mark: Option<Mark>,
    /// New entries.
    pub entries: Vec<Entry>,
}
