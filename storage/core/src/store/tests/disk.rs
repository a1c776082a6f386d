//! A disk that keeps what was written, atomically per group commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use throng_wire::ids::ShardId;

use crate::entry::{Entry, HardState, Mark, Record};
use crate::store::{LogRead, LogReadError};

/// What one group has durably on a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskGroup {
    pub(super) hard_state: HardState,
    pub(super) mark: Option<Mark>,
    pub(super) entries: Vec<Entry>,
}

impl DiskGroup {
    pub(super) fn write(&mut self, record: &Record) {
        let old = self.mark.clone().unwrap_or_default();
        if let Some(mark) = &record.mark {
            self.mark(mark);
        }
        if let Some(state) = record.hard_state {
            let (held, is_new) = (self.hard_state, self.peer() != old.peer && self.mark.is_some());
            assert!(
                is_new || state.term >= held.term && state.commit >= held.commit,
                "{state:?} after {held:?}"
            );
            self.hard_state = state;
        }
        if let Some(first) = record.entries.first() {
            assert!(
                first.index > self.base() && first.index <= self.last_index() + 1,
                "a record leaves no gap"
            );
            self.entries.truncate((first.index - self.base()) as usize - 1);
            self.entries.extend(record.entries.iter().cloned());
        }
    }

    /// Takes a mark from a record or a truncation.
    pub(super) fn mark(&mut self, mark: &Mark) {
        if mark.reset {
            self.entries.clear();
        } else if let Some(ours) = self.mark.as_mut().filter(|ours| ours.index > mark.index) {
            // The log begins later by now; what the mark says of this replica counts.
            ours.is_suspect = mark.is_suspect;
            return;
        } else {
            assert_eq!(self.term(mark.index), Some(mark.term), "it holds the entry it is to begin after");
            self.entries.drain(..(mark.index - self.base()) as usize);
        }
        self.mark = Some(mark.clone());
    }

    fn peer(&self) -> u64 {
        self.mark.as_ref().map_or(0, |mark| mark.peer)
    }

    pub(super) fn base(&self) -> u64 {
        self.mark.as_ref().map_or(0, |mark| mark.index)
    }

    pub(super) fn last_index(&self) -> u64 {
        self.base() + self.entries.len() as u64
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base() {
            return Some(self.mark.as_ref().map_or(0, |mark| mark.term));
        }
        let place = index.checked_sub(self.base() + 1)?;
        self.entries.get(place as usize).map(|entry| entry.term)
    }
}

/// A disk, shared with the store that reads old entries back from it.
#[derive(Clone, Default)]
pub(super) struct Disk {
    groups: Arc<Mutex<BTreeMap<ShardId, DiskGroup>>>,
    /// What it held before the newest group commit.
    before: BTreeMap<ShardId, DiskGroup>,
}

impl Disk {
    pub(super) fn groups(&self) -> MutexGuard<'_, BTreeMap<ShardId, DiskGroup>> {
        self.groups.lock().expect("tests have one thread")
    }

    /// Writes a group commit.
    pub(super) fn write(&mut self, records: &[Record]) {
        let before = self.groups().clone();
        self.before = before;
        for record in records {
            self.groups().entry(record.shard).or_default().write(record);
        }
    }

    /// Loses the newest group commit.
    pub(super) fn lose_newest(&mut self) {
        let before = self.before.clone();
        *self.groups() = before;
    }

    /// From here on an entry is not the one that was written.
    pub(super) fn spoil(&self, shard: ShardId, index: u64) {
        let mut groups = self.groups();
        let group = groups.get_mut(&shard).expect("it holds the shard");
        let place = (index - group.base()) as usize - 1;
        group.entries[place].term += 1000;
    }

    pub(super) fn group(&self, shard: ShardId) -> DiskGroup {
        self.groups().get(&shard).cloned().unwrap_or_default()
    }
}

impl LogRead for Disk {
    fn entries(&self, shard: ShardId, low: u64, high: u64, max: usize) -> Result<Vec<Entry>, LogReadError> {
        let group = self.group(shard);
        let place = |index: u64| index.checked_sub(group.base() + 1).map(|place| place as usize);
        let range = place(low).zip(place(high)).and_then(|(from, to)| group.entries.get(from..to));
        let entries = range.ok_or_else(|| LogReadError("it is not there".into()))?;
        let fits = (max / 64).max(1).min(entries.len());
        Ok(entries[..fits].to_vec())
    }
}
