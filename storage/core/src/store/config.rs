//! What a store is told at its start: its configuration and what the driver found on disk.

use core::fmt;
use core::time::Duration;

use throng_wire::ids::{NodeId, ShardId};

use super::limits;
use crate::entry::{Conf, Entry, HardState, Mark, PeerId};

/// Configuration of a [`super::Store`].
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// This node.
    pub node: NodeId,
    /// The voters that the cluster was formatted with; the same on every node. A node that joined later is not among
    /// them, and has no part in a group before its leader says so.
    pub voters: Vec<NodeId>,
    /// Number of groups, those of all shards and the metadata group; fixed when the cluster was formatted.
    pub shards: u32,
    /// One tick of the groups' timers, 10 to 100 ms.
    pub tick: Duration,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader before an election, at least 5 heartbeats; the real time-out lies between this and twice
    /// this.
    pub election_ticks: usize,
    /// Bytes of log entries kept in memory over all groups ([`limits::TAIL_BYTES_MAX`]).
    pub tail_bytes_max: usize,
    /// Bytes of entries per group that the log keeps for followers ([`limits::LOG_KEEP_BYTES`]).
    pub log_keep_bytes: u64,
    /// Entries per group that the log keeps for followers ([`limits::LOG_KEEP_ENTRIES`]).
    pub log_keep_entries: u64,
    /// Group commits in flight ([`limits::PERSISTS_IN_FLIGHT_MAX`]).
    pub persists_in_flight_max: usize,
    /// Open proposals per group ([`limits::PROPOSALS_MAX`]).
    pub proposals_max: usize,
    /// Whether leadership moves by itself to each group's preferred node, so that every node leads its share.
    pub balance: bool,
}

impl StoreConfig {
    /// Defaults: heartbeats every 40 ms, elections after 360 to 720 ms.
    pub fn new(node: NodeId, voters: Vec<NodeId>, shards: u32) -> Self {
        Self {
            node,
            voters,
            shards,
            tick: Duration::from_millis(20),
            heartbeat_ticks: 2,
            election_ticks: 18,
            tail_bytes_max: limits::TAIL_BYTES_MAX,
            log_keep_bytes: limits::LOG_KEEP_BYTES,
            log_keep_entries: limits::LOG_KEEP_ENTRIES,
            persists_in_flight_max: limits::PERSISTS_IN_FLIGHT_MAX,
            proposals_max: limits::PROPOSALS_MAX,
            balance: true,
        }
    }

    /// Says what is wrong with the configuration, if anything is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let mut voters = self.voters.clone();
        voters.sort_unstable();
        voters.dedup();
        let wrong = [
            (self.node.0 == 0 || voters.first() == Some(&NodeId(0)), "node ids begin at 1"),
            (
                self.node.0 > PeerId::NODE_MAX || voters.last().is_some_and(|node| node.0 > PeerId::NODE_MAX),
                "node ids have 24 bits",
            ),
            (voters.len() != self.voters.len(), "a voter is listed twice"),
            (voters.len() > limits::VOTERS_MAX, "too many voters"),
            (voters.is_empty(), "a cluster is formatted with at least one voter"),
            (self.shards == 0 || self.shards > throng_wire::ids::SLOTS, "a node has 1 to 65,536 groups"),
            (self.tick.is_zero(), "the tick must be longer than nothing"),
            (self.heartbeat_ticks == 0, "heartbeats need at least one tick"),
            (
                self.election_ticks < self.heartbeat_ticks.saturating_mul(5),
                "an election takes at least five heartbeats",
            ),
            (self.persists_in_flight_max == 0, "at least one group commit must be allowed in flight"),
            (self.proposals_max == 0, "at least one proposal must be allowed"),
        ];
        wrong.into_iter().find_map(|(is_wrong, why)| is_wrong.then_some(why))
    }
}

/// The first entry of a run of entries of the same term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// Index of the first entry of the run.
    pub first_index: u64,
    /// The term of all its entries.
    pub term: u64,
}

/// What the driver found on disk for one group. A group without any record may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The group.
    pub shard: ShardId,
    /// Its newest hard state.
    pub hard_state: HardState,
    /// Its newest mark; without one this is a replica that the cluster was formatted with, which has never truncated
    /// its log.
    pub mark: Option<Mark>,
    /// Whether the end of the log was damaged: it may be an unfinished write or lost synced data, and nobody can tell.
    pub is_suspect: bool,
    /// The first index the log holds, one above the mark's.
    pub first_index: u64,
    /// The terms of the entries from `first_index` to just before `entries`, as runs in rising order.
    pub terms: Vec<TermRun>,
    /// The tail of the log, contiguous: at least everything above `applied`, and the last entry.
    pub entries: Vec<Entry>,
    /// Through which index the flushed state has applied the log.
    pub applied: u64,
    /// The term of the entry at `applied`, as the flushed state remembers it; 0 if `applied` is 0.
    pub applied_term: u64,
    /// The members as of `applied`, as the flushed state remembers them; `None` if it has never stored any.
    pub conf: Option<Conf>,
}

impl RecoveredGroup {
    /// A group with an empty log.
    pub fn empty(shard: ShardId) -> Self {
        Self {
            shard,
            hard_state: HardState::default(),
            mark: None,
            is_suspect: false,
            first_index: 1,
            terms: Vec::new(),
            entries: Vec::new(),
            applied: 0,
            applied_term: 0,
            conf: None,
        }
    }

    /// The highest index the log holds, 0 if it is empty.
    pub fn last_index(&self) -> u64 {
        self.entries.last().map_or(self.first_index.saturating_sub(1), |entry| entry.index)
    }
}

/// What was found on disk cannot be a group's past. The node must not start: it may have voted or acknowledged things
/// that it no longer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// The configuration is impossible.
    Config(&'static str),
    /// A group was found that the cluster does not have.
    UnknownShard(ShardId),
    /// A group was given twice.
    Twice(ShardId),
    /// The log and its terms contradict themselves.
    BadLog {
        /// The group.
        shard: ShardId,
        /// What is wrong.
        why: &'static str,
    },
    /// The log ends before what was committed: synced entries are missing.
    CommitBeyondLog {
        /// The group.
        shard: ShardId,
        /// The committed index.
        commit: u64,
        /// Where the log ends.
        last: u64,
    },
    /// The log begins after what the flushed state has applied: entries between them are missing.
    AppliedBehindLog {
        /// The group.
        shard: ShardId,
        /// The applied index.
        applied: u64,
        /// The entry that the log begins after.
        base: u64,
    },
    /// The flushed state has applied an entry that the log does not hold with the same term.
    AppliedNotInLog {
        /// The group.
        shard: ShardId,
        /// The applied index.
        applied: u64,
        /// Its term.
        term: u64,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => write!(f, "store configuration: {why}"),
            Self::UnknownShard(shard) => {
                write!(f, "the log holds shard {shard}, which this cluster does not have")
            }
            Self::Twice(shard) => write!(f, "shard {shard} was recovered twice"),
            Self::BadLog { shard, why } => write!(f, "shard {shard}: {why}"),
            Self::CommitBeyondLog { shard, commit, last } => write!(
                f,
                "shard {shard}: entries through {commit} were committed, but the log ends at {last}; synced data is \
                 missing, so this replica must be wiped and join anew"
            ),
            Self::AppliedBehindLog { shard, applied, base } => write!(
                f,
                "shard {shard}: the state has applied entries through {applied}, but the log begins after {base}; this \
                 replica must be wiped and join anew"
            ),
            Self::AppliedNotInLog { shard, applied, term } => write!(
                f,
                "shard {shard}: the state has applied entry {applied} of term {term}, which the log does not hold; this \
                 replica must be wiped and join anew"
            ),
        }
    }
}

impl std::error::Error for RecoverError {}

/// The log could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReadError(pub String);

impl fmt::Display for LogReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log: {}", self.0)
    }
}

impl std::error::Error for LogReadError {}

/// Reads entries that have left memory, for followers that are far behind.
pub trait LogRead: Send + Sync {
    /// Entries with `low <= index < high`, contiguous from `low`, at most about `max_bytes` of payload but at least
    /// one.
    ///
    /// # Errors
    /// [`LogReadError`] if they cannot be read. It is final: the store asks for nothing that the log was told to forget,
    /// so what is missing or damaged was acknowledged once, and the node must stop
    /// ([`super::StoreOutput::Unreadable`]).
    fn entries(
        &self,
        shard: ShardId,
        low: u64,
        high: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogReadError>;
}

/// For stores whose tail holds everything: nothing is ever read.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl LogRead for NoLog {
    fn entries(&self, shard: ShardId, low: u64, _: u64, _: usize) -> Result<Vec<Entry>, LogReadError> {
        Err(LogReadError(format!("entry {low} of shard {shard} has left memory")))
    }
}
