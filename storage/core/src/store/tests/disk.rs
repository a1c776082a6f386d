//! A disk that keeps what was written, atomically per group commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use throng_wire::ids::ShardId;

use crate::entry::{Entry, HardState, Record};
use crate::store::{LogRead, LogReadError};

/// What one group has durably on a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskGroup {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
}

impl DiskGroup {
    pub(super) fn write(&mut self, record: &Record) {
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        if let Some(first) = record.entries.first() {
            assert!(first.index <= self.entries.len() as u64 + 1, "a record leaves no gap");
            self.entries.truncate(first.index as usize - 1);
            self.entries.extend(record.entries.iter().cloned());
        }
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        match index {
            0 => Some(0),
            _ => self.entries.get(index as usize - 1).map(|entry| entry.term),
        }
    }
}

/// A disk, shared with the store that reads old entries back from it.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<BTreeMap<ShardId, DiskGroup>>>);

impl Disk {
    pub(super) fn groups(&self) -> MutexGuard<'_, BTreeMap<ShardId, DiskGroup>> {
        self.0.lock().expect("tests have one thread")
    }
}

impl LogRead for Disk {
    fn entries(&self, shard: ShardId, low: u64, high: u64, max: usize) -> Result<Vec<Entry>, LogReadError> {
        let groups = self.groups();
        let entries =
            groups.get(&shard).and_then(|group| group.entries.get(low as usize - 1..high as usize - 1));
        let entries = entries.ok_or_else(|| LogReadError("never written".into()))?;
        let fits = (max / 64).max(1).min(entries.len());
        Ok(entries[..fits].to_vec())
    }
}
