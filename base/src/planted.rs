//! Known bugs that the simulator plants to show that it would find them.
//!
//! The machines ask [`is_planted`] at the places where each bug would live. Without the cargo feature `planted` the
//! answer is a constant `false` and the compiler removes the branch; only the simulator may enable the feature
//! (`./x tidy` refuses it anywhere else, and a node does not compile with it). With the feature, one build holds all
//! bugs and [`plant`] chooses one for the calling thread, so a run with a bug is as reproducible as one without.

/// A known bug. Each is a mistake that real systems have shipped, or that this one would lose data by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// A group commit is reported durable before it was synced.
    NoFsync,
    /// A leader hands out entries as committed as soon as its own disk has them.
    AckBeforeQuorum,
    /// Votes and acknowledgements leave before the hard state they depend on is durable.
    HardStateAfterSend,
    /// A group's hard state is written one commit later than the entries that came with it.
    HardStateSplit,
    /// The entries of a group commit are written, its hard states are not.
    HardStateForgotten,
    /// The leader answers a publish when it proposes, with the number it expects.
    SequenceBeforeCommit,
    /// A dedup record counts as expired by the time stamps of entries.
    DedupByWallClock,
    /// A dedup record is kept in memory and not in the state store.
    DedupNotStored,
    /// Recovery passes over a damaged commit although intact ones follow it.
    HoleAccepted,
    /// A leader answers linearizable reads without a round, trusting a lease on the wall clock.
    LeaseOnWallClock,
    /// A linearizable read is answered from applied state by whoever is asked.
    ReadWithoutIndex,
    /// A cursor of another history is taken as one of this.
    StaleEpochAccepted,
    /// A new leader forgets the outbox rows that the old one had not delivered.
    OutboxLostAtLeaderChange,
    /// A removed member goes on to be served.
    RemovedMemberServed,
    /// A gateway that registers again is not told the head, so a push lost in a leader change is never missed.
    HeadNotHealed,
    /// The applied index is flushed in another batch than the state it belongs to.
    AppliedIndexSplit,
    /// Votes in the same term are given to whoever asks.
    VoteTwice,
    /// A vote is given to a candidate whose log is behind.
    VoteForStaleLog,
    /// A shard reports inbox rows as stored when they arrive.
    InboxReportedEarly,
    /// A repeated send is answered with the head instead of its number.
    DuplicateAnsweredWithHead,
    /// A commit's checksum is not compared.
    TornCommitAccepted,
    /// A flush leaves out the events themselves.
    EventsNotFlushed,
    /// A snapshot leaves out the dedup records.
    DedupNotInSnapshot,
    /// A segment is used again as it is, and recovery takes whatever intact commit it finds there.
    StaleBytesParsed,
    /// The log drops entries as soon as they are applied, before the flush that covers them.
    LogCutBeforeFlush,
    /// A start takes a commit index that is below what the state has applied, and hands entries out again.
    CommitBehindApplied,
    /// A snapshot that failed is never reported to raft.
    SnapshotNotReported,
    /// A change of the members is applied twice.
    ConfChangeTwice,
    /// A replica whose newest commit may have been damaged after it was reported votes and acknowledges as if it had
    /// forgotten nothing.
    VoteAfterDamage,
    /// A replica deletes old events on its own, without a command in the log.
    RetentionWithoutCommand,
    /// A command that only newer programs know is proposed before every node runs one.
    VersionNotAwaited,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::NoFsync,
        Self::AckBeforeQuorum,
        Self::HardStateAfterSend,
        Self::HardStateSplit,
        Self::HardStateForgotten,
        Self::SequenceBeforeCommit,
        Self::DedupByWallClock,
        Self::DedupNotStored,
        Self::HoleAccepted,
        Self::LeaseOnWallClock,
        Self::ReadWithoutIndex,
        Self::StaleEpochAccepted,
        Self::OutboxLostAtLeaderChange,
        Self::RemovedMemberServed,
        Self::HeadNotHealed,
        Self::AppliedIndexSplit,
        Self::VoteTwice,
        Self::VoteForStaleLog,
        Self::InboxReportedEarly,
        Self::DuplicateAnsweredWithHead,
        Self::TornCommitAccepted,
        Self::EventsNotFlushed,
        Self::DedupNotInSnapshot,
        Self::StaleBytesParsed,
        Self::LogCutBeforeFlush,
        Self::CommitBehindApplied,
        Self::SnapshotNotReported,
        Self::ConfChangeTwice,
        Self::VoteAfterDamage,
        Self::RetentionWithoutCommand,
        Self::VersionNotAwaited,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: core::cell::Cell<Option<Bug>> = const { core::cell::Cell::new(None) };
    static NOTES: core::cell::RefCell<std::collections::BTreeMap<u64, u64>> =
        const { core::cell::RefCell::new(std::collections::BTreeMap::new()) };
}

/// Plants a bug in all machines of the calling thread, or none, and forgets what an earlier one noted.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
    NOTES.with_borrow_mut(std::collections::BTreeMap::clear);
}

/// Notes a number for bugs that need a memory which the machines do not have.
#[cfg(feature = "planted")]
pub fn note(key: u64, value: u64) {
    if PLANTED.get().is_some() {
        NOTES.with_borrow_mut(|notes| notes.insert(key, value));
    }
}

/// What was noted last.
#[cfg(feature = "planted")]
pub fn noted(key: u64) -> Option<u64> {
    NOTES.with_borrow(|notes| notes.get(&key).copied())
}

/// Notes nothing in a build without the feature.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn note(_key: u64, _value: u64) {}

/// Nothing was noted in a build without the feature.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn noted(_key: u64) -> Option<u64> {
    None
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
#[inline]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted: never, in a build without the feature.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Whether bugs can be planted in this build.
pub const CAN_PLANT: bool = cfg!(feature = "planted");
