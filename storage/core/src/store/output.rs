//! What a store tells its driver to do, and the numbers in it.

use bytes::Bytes;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftBatch, RaftMessage};

use super::config::LogReadError;
use crate::entry::{Conf, ConfError, EntryKind, Mark, PeerId, Record};

/// A group commit; reporting one reports all below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(pub u64);

/// A proposal of this node since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// A linearizable read of this node since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// A proposal or read was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// Another node leads, or nobody.
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// A limit is reached or leadership is being handed over: try again a little later.
    Busy,
}

impl core::fmt::Display for ProposeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader; node {leader} is"),
            Self::NotLeader { leader: None } => write!(f, "not the leader; nobody is known to be"),
            Self::Busy => write!(f, "too much is open; try again"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// One step of a membership change. All steps of one change take effect together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfStep {
    /// Adds a replica on this node, which receives the log and has no vote. Its id follows from the change's place in
    /// the log.
    AddLearner(NodeId),
    /// Gives a learner a vote.
    Promote(PeerId),
    /// Takes a voter's vote; it stays as a learner.
    Demote(PeerId),
    /// Removes a voter or a learner.
    Remove(PeerId),
}

/// A membership change was not taken; nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeConfError {
    /// Another node leads, or nobody.
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Another change is under way, or leadership is being handed over: try again a little later.
    Busy,
    /// The change makes no sense for the members there are.
    Refused(&'static str),
}

impl core::fmt::Display for ProposeConfError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotLeader { leader } => ProposeError::NotLeader { leader: *leader }.fmt(f),
            Self::Busy => write!(f, "another membership change is under way; try again"),
            Self::Refused(why) => write!(f, "the members cannot change like that: {why}"),
        }
    }
}

impl std::error::Error for ProposeConfError {}

/// A committed membership change cannot be applied: this replica and the leader that proposed it disagree about the
/// members. The node must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyConfError {
    /// Its bytes are no membership change.
    Bytes(ConfError),
    /// It does not follow from the members there are.
    Members(String),
    /// It is not the next entry to apply.
    Order {
        /// The index that was given.
        index: u64,
        /// Through where the group had applied.
        applied: u64,
    },
}

impl core::fmt::Display for ApplyConfError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bytes(error) => error.fmt(f),
            Self::Members(why) => write!(f, "membership: {why}"),
            Self::Order { index, applied } => {
                write!(f, "membership: entry {index} was applied after entry {applied}")
            }
        }
    }
}

impl std::error::Error for ApplyConfError {}

/// What a snapshot stands for: everything a group has applied through `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members as of `index`.
    pub conf: Conf,
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Whether it is for the machines or for [`super::Store::apply_conf`].
    pub kind: EntryKind,
    /// Its place in the group's log: 1, 2, 3 … without gaps.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// What was proposed; empty in the first entry of a leader, which only moves the applied index.
    pub payload: Bytes,
    /// The proposal of this node that it answers, unless that was reported lost before.
    pub proposal: Option<ProposalId>,
}

/// Effects for the driver, in the order in which they are to begin.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreOutput {
    /// Write these records as one atomic group commit, sync, then report the token. Group commits must become durable
    /// in the order in which they are handed out.
    Persist {
        /// What to report to [`super::Store::handle_persisted`].
        token: PersistToken,
        /// At most one record per group.
        records: Vec<Record>,
    },
    /// Send messages to a node; everything they depend on is durable. They may be lost, doubled or reordered.
    Send {
        /// To whom.
        node: NodeId,
        /// Messages of all groups.
        batch: RaftBatch,
    },
    /// Apply these entries and report with [`super::Store::handle_applied`].
    Committed {
        /// The group.
        shard: ShardId,
        /// Contiguous, and contiguous with the previous ones of the group.
        entries: Vec<Committed>,
    },
    /// The log needs no entries of the group through `mark.index`; it may recycle their space (see
    /// [`crate::entry::Mark`]).
    Truncate {
        /// The group.
        shard: ShardId,
        /// Where its log begins from here on, without `reset`.
        mark: Mark,
    },
    /// A member lacks entries that the log no longer holds. Make what is applied durable, open a view of it that does
    /// not change, and answer with [`super::Store::snapshot_prepared`] or, if that fails, with
    /// [`super::Store::snapshot_sent`].
    SnapshotWanted {
        /// The group.
        shard: ShardId,
        /// Who needs it.
        to: PeerId,
    },
    /// Send the rows of the prepared view, then this message, which the receiver gives to
    /// [`super::Store::handle_snapshot`]; report the outcome with [`super::Store::snapshot_sent`], always.
    SendSnapshot {
        /// The group.
        shard: ShardId,
        /// To whom.
        to: PeerId,
        /// The end of the transfer.
        message: RaftMessage,
        /// What the rows stand for.
        meta: SnapshotMeta,
    },
    /// A received snapshot is the group's state, durably: load the copy `mark.replica` and drop every other one.
    /// Entries handed out before that are not to be applied any more; the next ones follow `mark.index`.
    Restored {
        /// The group.
        shard: ShardId,
        /// The new beginning of its log.
        mark: Mark,
    },
    /// Whatever was acknowledged before this read was asked for is applied here.
    ReadReady {
        /// The group.
        shard: ShardId,
        /// Which read.
        read: ReadId,
        /// The index that had to be applied.
        index: u64,
    },
    /// An entry that the log should hold cannot be read back. As final as a failed write: this node may have acknowledged
    /// what it no longer has, and must stop.
    Unreadable {
        /// The group.
        shard: ShardId,
        /// What the log said.
        error: LogReadError,
    },
    /// This node no longer leads the group. The outcome of the proposals is open (they may still commit, then without
    /// a proposal id); the reads must be retried.
    Lost {
        /// The group.
        shard: ShardId,
        /// Reported here exactly once, or in `Committed` exactly once.
        proposals: Vec<ProposalId>,
        /// Reported here exactly once, or in `ReadReady` exactly once.
        reads: Vec<ReadId>,
    },
    /// Who leads has changed, or whether this node serves.
    Role {
        /// The group.
        shard: ShardId,
        /// The leader, if one is known.
        leader: Option<NodeId>,
        /// The newest term this node has seen.
        term: u64,
        /// Whether this node leads and has applied an entry of its own term.
        serving: bool,
    },
}

/// Counters, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Messages from or to replicas that are no members, or under a false name.
    pub dropped_stranger: u64,
    /// Messages for groups this node does not have.
    pub dropped_shard: u64,
    /// Messages of kinds that only travel inside a node, or that belong to features which are not in use.
    pub dropped_kind: u64,
    /// Messages whose fields contradict themselves or the log.
    pub dropped_malformed: u64,
    /// Stale rejections of appends, and votes that answer nothing.
    pub dropped_stale: u64,
    /// Heartbeats that commit beyond the end of this replica's log: it has lost synced entries.
    pub dropped_beyond_log: u64,
    /// Appends refused because too much waits to be applied.
    pub dropped_apply_lag: u64,
    /// Elections this node began.
    pub campaigns: u64,
    /// Times a group's log forgot entries.
    pub truncations: u64,
    /// Snapshots raft sent.
    pub snapshots_sent: u64,
    /// Snapshots that became a group's state here.
    pub snapshots_taken: u64,
    /// Leaderships this node began to hand over.
    pub transfers: u64,
    /// Short heartbeats that were not answered because something differed; a whole one follows each.
    pub beats_unanswered: u64,
    /// Leaderships this node let go because it could talk to no majority.
    pub let_go: u64,
    /// Times a replica here was found to have perhaps forgotten what it said.
    pub suspects: u64,
    /// Times a leader cleared it of that.
    pub released: u64,
    /// Group commits handed out.
    pub persists: u64,
    /// Bytes of log entries in memory.
    pub tail_bytes: u64,
    /// Entries read back from the log because they had left memory, in requests.
    pub log_reads: u64,
}
