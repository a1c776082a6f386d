//! A group's log as raft reads it: the tail in memory, older entries from the log on disk.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use throng_wire::ids::ShardId;

use super::config::LogRead;
use super::convert;
use super::terms::Terms;

/// What an entry costs beside its payload.
const ENTRY_OVERHEAD: usize = size_of::<eraftpb::Entry>();

/// One group's log.
///
/// Invariant: the tail is contiguous and ends at `terms.last_index()`.
pub(super) struct GroupLog {
    shard: ShardId,
    initial: RaftState,
    terms: Terms,
    tail: VecDeque<eraftpb::Entry>,
    /// Bytes that the tail holds in memory.
    bytes: usize,
    older: Arc<dyn LogRead>,
    /// Requests to `older`; a cell because raft reads through a shared reference.
    reads: Cell<u64>,
}

impl GroupLog {
    /// A log whose older entries are known by their `terms`, before its tail is appended.
    pub(super) fn new(shard: ShardId, initial: RaftState, terms: Terms, older: Arc<dyn LogRead>) -> Self {
        Self { shard, initial, terms, tail: VecDeque::new(), bytes: 0, older, reads: Cell::new(0) }
    }

    /// The terms of all entries.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Bytes held in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How often older entries were asked for.
    pub(super) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// The lowest index in memory, one above the last if there is none.
    fn tail_first(&self) -> u64 {
        self.terms.last_index() + 1 - self.tail.len() as u64
    }

    /// Adds entries, which replace whatever the log held from the first one's index on. Returns whether they did
    /// replace something.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) -> bool {
        let Some(first) = entries.first() else { return false };
        let replaces = first.index <= self.terms.last_index();
        if replaces {
            self.truncate(first.index);
        }
        assert_eq!(first.index, self.terms.last_index() + 1, "raft appends without gaps");
        for entry in entries {
            assert!(self.terms.extend(entry.index, entry.term), "terms never fall along a log");
            self.bytes += cost(entry);
            self.tail.push_back(entry.clone());
        }
        replaces
    }

    fn truncate(&mut self, index: u64) {
        self.terms.truncate(index);
        while self.tail.back().is_some_and(|entry| entry.index >= index) {
            let dropped = self.tail.pop_back().expect("it was just seen");
            self.bytes -= cost(&dropped);
        }
    }

    /// Lets go of entries through `index` until `want` bytes are free. Returns how many bytes were.
    pub(super) fn evict(&mut self, index: u64, want: usize) -> usize {
        let before = self.bytes;
        while before - self.bytes < want && self.tail.front().is_some_and(|entry| entry.index <= index) {
            let dropped = self.tail.pop_front().expect("it was just seen");
            self.bytes -= cost(&dropped);
        }
        before - self.bytes
    }

    fn read_memory(&self, low: u64, high: u64, max: u64) -> Vec<eraftpb::Entry> {
        let start = (low - self.tail_first()) as usize;
        let end = (high - self.tail_first()) as usize;
        let mut size = 0u64;
        let within = |entry: &&eraftpb::Entry| {
            let first = size == 0;
            size = size.saturating_add(cost(entry) as u64);
            first || size <= max
        };
        self.tail.range(start..end).take_while(within).cloned().collect()
    }

    /// Reads entries that left memory. Anything but a proper answer means "later": raft tries again with the
    /// follower's next heartbeat.
    fn read_disk(&self, low: u64, high: u64, max: u64) -> raft::Result<Vec<eraftpb::Entry>> {
        self.reads.set(self.reads.get() + 1);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let read = self.older.entries(self.shard, low, high, max).unwrap_or_default();
        let fits = |(i, entry): (usize, &crate::entry::Entry)| {
            entry.index == low + i as u64 && self.terms.term(entry.index) == Some(entry.term)
        };
        if read.is_empty() || read.len() as u64 > high - low || !read.iter().enumerate().all(fits) {
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        Ok(read.into_iter().map(convert::entry_to_raft).collect())
    }
}

fn cost(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let max = max_size.into().unwrap_or(u64::MAX);
        if low < self.terms.first_index() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.terms.last_index() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        if low >= high {
            return Ok(Vec::new());
        }
        if low >= self.tail_first() {
            return Ok(self.read_memory(low, high, max));
        }
        // Whatever is not applied stays in memory, so only appends to followers read older entries, and those can
        // wait. (Other callers would panic on this answer.)
        assert!(context.can_async(), "entries that are not applied never leave memory");
        self.read_disk(low, high.min(self.tail_first()), max)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.terms.term(index) {
            Some(term) => Ok(term),
            None if index < self.terms.first_index() => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.terms.first_index())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.terms.last_index())
    }

    /// Snapshots do not exist in this version: a replica that asks for one waits, and nothing panics.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::Entry;
    use crate::store::config::{LogReadError, NoLog};

    struct Disk;

    impl LogRead for Disk {
        fn entries(&self, _: ShardId, low: u64, high: u64, _: usize) -> Result<Vec<Entry>, LogReadError> {
            Ok((low..high).map(|index| Entry { index, term: 1, ..Entry::default() }).collect())
        }
    }

    fn log(older: Arc<dyn LogRead>) -> GroupLog {
        GroupLog::new(ShardId(0), RaftState::default(), Terms::new(0, 0), older)
    }

    fn entries(range: core::ops::RangeInclusive<u64>, term: u64) -> Vec<eraftpb::Entry> {
        let entry = |index| Entry { index, term, data: Bytes::from_static(b"payload"), ..Entry::default() };
        range.map(entry).map(convert::entry_to_raft).collect()
    }

    fn indices(read: raft::Result<Vec<eraftpb::Entry>>) -> Vec<u64> {
        read.expect("readable").iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn appends_replace_what_they_contradict() {
        let mut log = log(Arc::new(NoLog));
        assert!(!log.append(&entries(1..=5, 1)));
        assert!(log.append(&entries(4..=4, 2)));
        assert_eq!((log.last_index(), log.term(4), log.term(3)), (Ok(4), Ok(2), Ok(1)));
        assert_eq!(log.bytes(), 4 * (ENTRY_OVERHEAD + 7));
        assert!(log.term(5).is_err());
    }

    #[test]
    fn evicted_entries_come_from_the_log() {
        let mut log = log(Arc::new(Disk));
        log.append(&entries(1..=6, 1));
        assert!(log.evict(3, usize::MAX) > 0, "three of six may go");
        assert_eq!(indices(log.entries(1, 7, None, GetEntriesContext::empty(true))), [1, 2, 3]);
        assert_eq!(indices(log.entries(4, 7, None, GetEntriesContext::empty(false))), [4, 5, 6]);
        assert_eq!(log.reads(), 1);
        assert_eq!(log.term(2), Ok(1));
    }

    #[test]
    fn an_unreadable_log_means_later_not_panic() {
        let mut log = log(Arc::new(NoLog));
        log.append(&entries(1..=6, 1));
        log.evict(6, usize::MAX);
        let read = log.entries(1, 7, None, GetEntriesContext::empty(true));
        assert_eq!(read, Err(StorageError::LogTemporarilyUnavailable.into()));
        // What the disk returns is checked against the known terms.
        let mut other = tests::log(Arc::new(Disk));
        other.append(&entries(1..=2, 7));
        other.evict(2, usize::MAX);
        assert!(other.entries(1, 3, None, GetEntriesContext::empty(true)).is_err());
    }

    #[test]
    fn sizes_are_limited_but_one_entry_always_comes() {
        let mut log = log(Arc::new(NoLog));
        log.append(&entries(1..=6, 1));
        let one = GetEntriesContext::empty(false);
        assert_eq!(indices(log.entries(2, 7, 0, one)), [2]);
        let two = log.entries(2, 7, 2 * (ENTRY_OVERHEAD as u64 + 7), GetEntriesContext::empty(false));
        assert_eq!(indices(two), [2, 3]);
    }

    #[test]
    fn a_snapshot_is_never_there() {
        let temporarily = StorageError::SnapshotTemporarilyUnavailable;
        assert_eq!(log(Arc::new(NoLog)).snapshot(5, 2), Err(temporarily.into()));
    }
}
