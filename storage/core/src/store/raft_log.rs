//! A group's log as raft reads it: the tail in memory, older entries from the log on disk.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use throng_wire::ids::ShardId;

use super::config::{LogRead, LogReadError};
use super::convert;
use super::output::SnapshotMeta;
use super::terms::Terms;

/// What an entry costs beside its payload.
const ENTRY_OVERHEAD: usize = size_of::<eraftpb::Entry>();

/// Bytes of entries between two notes of how much was appended.
const SIZE_STEP: u64 = 64 << 10;

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
    /// Why an older entry could not be read back: as final as a failed write.
    failure: RefCell<Option<LogReadError>>,
    /// Bytes appended since the start, and where they stood after some entries: enough to say how large a part is.
    appended: u64,
    sizes: VecDeque<(u64, u64)>,
    /// Whether some member began without the log's first entries, so that nobody may be served from there: what it
    /// would apply them to is the membership that the cluster was formatted with, which it does not know.
    pub(super) hides_start: bool,
    offers: RefCell<Offers>,
}

/// Snapshots, as raft asks for them through a shared reference.
#[derive(Debug, Default)]
struct Offers {
    /// Replicas that raft wants to send one.
    wanted: Vec<u64>,
    /// One that is ready, and for whom.
    ready: Option<(u64, SnapshotMeta)>,
}

impl GroupLog {
    /// A log whose older entries are known by their `terms`, before its tail is appended.
    pub(super) fn new(shard: ShardId, initial: RaftState, terms: Terms, older: Arc<dyn LogRead>) -> Self {
        Self {
            shard,
            initial,
            terms,
            tail: VecDeque::new(),
            bytes: 0,
            older,
            reads: Cell::new(0),
            failure: RefCell::default(),
            appended: 0,
            sizes: VecDeque::new(),
            hides_start: false,
            offers: RefCell::default(),
        }
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
            self.appended += cost(entry) as u64;
            self.tail.push_back(entry.clone());
        }
        if self.sizes.back().is_none_or(|(_, bytes)| self.appended - bytes >= SIZE_STEP) {
            self.sizes.push_back((self.terms.last_index(), self.appended));
        }
        replaces
    }

    /// Forgets the entries through `index`.
    pub(super) fn forget(&mut self, index: u64) {
        self.terms.forget(index);
        self.drop_front(index);
        while self.sizes.front().is_some_and(|(at, _)| *at <= index) {
            self.sizes.pop_front();
        }
    }

    /// Drops everything; the log goes on after the entry `index` of `term`.
    pub(super) fn reset(&mut self, index: u64, term: u64) {
        self.terms = Terms::new(index, term);
        self.tail.clear();
        self.bytes = 0;
        self.sizes.clear();
    }

    /// The lowest index such that the entries above it have at most about `bytes` and number at most `entries`. What
    /// was there before the start counts as nothing.
    pub(super) fn keep_from(&self, bytes: u64, entries: u64) -> u64 {
        let from = self.appended.saturating_sub(bytes);
        let after = self.sizes.partition_point(|(_, at)| *at < from);
        let by_bytes = if from == 0 { 0 } else { self.sizes.get(after).map_or(0, |(index, _)| *index) };
        by_bytes.max(self.terms.last_index().saturating_sub(entries))
    }

    /// Replicas that raft wanted to send a snapshot since the last call.
    pub(super) fn take_wanted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.offers.get_mut().wanted)
    }

    /// Has the next request of raft for `to` answered with this snapshot; `None` takes the offer back.
    pub(super) fn offer(&mut self, offer: Option<(u64, SnapshotMeta)>) {
        self.offers.get_mut().ready = offer;
    }

    fn truncate(&mut self, index: u64) {
        while self.sizes.back().is_some_and(|(at, _)| *at >= index) {
            self.sizes.pop_back();
        }
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

    fn drop_front(&mut self, index: u64) {
        while self.tail.front().is_some_and(|entry| entry.index <= index) {
            let dropped = self.tail.pop_front().expect("it was just seen");
            self.bytes -= cost(&dropped);
        }
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

    /// Why an entry that the log should hold could not be read back; told once.
    pub(super) fn take_failure(&mut self) -> Option<LogReadError> {
        self.failure.get_mut().take()
    }

    /// Reads entries that left memory. Anything but what was written is final, and raft is told "later" until the node
    /// has stopped.
    fn read_disk(&self, low: u64, high: u64, max: u64) -> raft::Result<Vec<eraftpb::Entry>> {
        self.reads.set(self.reads.get() + 1);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let read = self.older.entries(self.shard, low, high, max);
        let fits = |(i, entry): (usize, &crate::entry::Entry)| {
            entry.index == low + i as u64 && self.terms.term(entry.index) == Some(entry.term)
        };
        let read = read.and_then(|read| {
            let is_whole = !read.is_empty() && read.len() as u64 <= high - low;
            if is_whole && read.iter().enumerate().all(fits) {
                return Ok(read);
            }
            Err(LogReadError(format!(
                "shard {}: other entries than those from {low} on were read",
                self.shard
            )))
        });
        match read {
            Ok(read) => Ok(read.into_iter().map(convert::entry_to_raft).collect()),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                Err(StorageError::LogTemporarilyUnavailable.into())
            }
        }
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
        if low < self.terms.first_index() || low == 1 && self.hides_start && context.can_async() {
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

    /// A snapshot takes time, so the first request only notes that it is wanted; raft asks again.
    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        let mut offers = self.offers.borrow_mut();
        match offers.ready.take_if(|(receiver, _)| *receiver == to) {
            Some((_, meta)) => Ok(convert::snapshot_to_raft(&meta)),
            None => {
                if !offers.wanted.contains(&to) {
                    offers.wanted.push(to);
                }
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
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
    fn an_unreadable_log_is_told_once_and_no_panic() {
        let mut log = log(Arc::new(NoLog));
        log.append(&entries(1..=6, 1));
        log.evict(6, usize::MAX);
        for _ in 0..2 {
            let read = log.entries(1, 7, None, GetEntriesContext::empty(true));
            assert_eq!(read, Err(StorageError::LogTemporarilyUnavailable.into()));
        }
        assert_eq!(log.take_failure(), Some(LogReadError("entry 1 of shard 0 has left memory".into())));
        assert_eq!(log.take_failure(), None);
        // What the disk returns is checked against the known terms.
        let mut other = tests::log(Arc::new(Disk));
        other.append(&entries(1..=2, 7));
        other.evict(2, usize::MAX);
        assert!(other.entries(1, 3, None, GetEntriesContext::empty(true)).is_err());
        assert!(other.take_failure().is_some_and(|failure| failure.0.contains("other entries")));
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
    fn a_snapshot_is_asked_for_once_and_given_once() {
        let mut log = log(Arc::new(NoLog));
        for _ in 0..2 {
            let later = Err(StorageError::SnapshotTemporarilyUnavailable.into());
            assert_eq!(log.snapshot(0, 2), later);
        }
        assert_eq!(log.take_wanted(), [2]);
        assert_eq!(log.take_wanted(), []);
        log.offer(Some((2, SnapshotMeta { index: 9, term: 3, ..SnapshotMeta::default() })));
        assert!(log.snapshot(0, 3).is_err(), "it is for another replica");
        let given = log.snapshot(0, 2).map(|snapshot| snapshot.get_metadata().index);
        assert_eq!(given, Ok(9));
        assert!(log.snapshot(0, 2).is_err(), "given once");
    }

    #[test]
    fn a_log_forgets_and_begins_anew() {
        let mut log = log(Arc::new(Disk));
        log.append(&entries(1..=6, 1));
        log.evict(1, usize::MAX);
        log.forget(4);
        assert_eq!((log.first_index(), log.last_index(), log.term(4)), (Ok(5), Ok(6), Ok(1)));
        assert_eq!(log.bytes(), 2 * (ENTRY_OVERHEAD + 7));
        let gone = log.entries(4, 7, None, GetEntriesContext::empty(true));
        assert_eq!(gone, Err(StorageError::Compacted.into()));
        log.reset(90, 7);
        assert_eq!((log.first_index(), log.last_index(), log.term(90)), (Ok(91), Ok(90), Ok(7)));
        assert!(!log.append(&entries(91..=92, 8)));
        assert_eq!(log.bytes(), 2 * (ENTRY_OVERHEAD + 7));
    }

    #[test]
    fn where_a_budget_begins() {
        let mut log = log(Arc::new(NoLog));
        assert_eq!(log.keep_from(0, u64::MAX), 0);
        let large = |index| {
            let data = Bytes::from(vec![0; SIZE_STEP as usize]);
            convert::entry_to_raft(Entry { index, term: 1, data, ..Entry::default() })
        };
        (1..=10).for_each(|index| assert!(!log.append(&[large(index)])));
        assert_eq!(log.keep_from(u64::MAX, u64::MAX), 0);
        assert_eq!(log.keep_from(u64::MAX, 4), 6);
        let three = log.keep_from(3 * (SIZE_STEP + ENTRY_OVERHEAD as u64), u64::MAX);
        assert!((6..=7).contains(&three), "{three}");
        log.append(&[large(8)]);
        log.forget(5);
        assert_eq!(log.keep_from(0, u64::MAX), 8);
    }

    #[test]
    fn nobody_is_served_from_a_beginning_that_is_hidden() {
        let mut log = log(Arc::new(NoLog));
        log.append(&entries(1..=6, 1));
        log.hides_start = true;
        let read = |low, wait| log.entries(low, 7, None, GetEntriesContext::empty(wait));
        assert_eq!(read(1, true), Err(StorageError::Compacted.into()));
        assert_eq!(indices(read(1, false)), [1, 2, 3, 4, 5, 6], "raft itself reads what it applies");
        assert_eq!(indices(read(2, true)), [2, 3, 4, 5, 6]);
    }
}
