//! The simulated log as its readers see it: entries that left memory, and what a start begins from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use throng_storage_core::entry::{Entry, Mark};
use throng_storage_core::log::{Contents, record};
use throng_storage_core::store::{LogRead, LogReadError, RecoveredGroup, TermRun};
use throng_wire::ids::ShardId;

use super::log::LogDisk;
use super::platter::Platter;

/// Entries below the applied index that a restart keeps in memory.
const TAIL_ENTRIES: u64 = 4;

/// What readers and the writer share. A mutex only because readers must be `Send`; nobody else is there.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) platter: Platter,
    pub(super) contents: Contents,
    /// A read failed: as final as a failed write.
    pub(super) is_unreadable: bool,
}

/// The log as the store reads it.
#[derive(Clone, Debug)]
pub(crate) struct SharedLog(pub(super) Arc<Mutex<Shared>>);

impl LogDisk {
    /// A group's newest mark.
    pub(crate) fn mark(&self, shard: ShardId) -> Option<Mark> {
        self.shared.lock().contents.mark(shard).cloned()
    }

    /// What the store starts from, after [`LogDisk::recover`].
    pub(crate) fn recovered(&self, shard: ShardId, applied: u64, applied_term: u64) -> RecoveredGroup {
        let shared = self.shared.lock();
        let hard_state = shared.contents.hard_state(shard);
        let (first_index, next) = shared.contents.bounds(shard);
        let tail_first = (applied + 1).min(next.saturating_sub(TAIL_ENTRIES)).max(first_index);
        let places = shared.contents.places(shard);
        let runs = places.map(|places| places.term_runs(tail_first)).unwrap_or_default();
        let mark = shared.contents.mark(shard).cloned();
        drop(shared);
        let terms = runs.into_iter().map(|(first_index, term)| TermRun { first_index, term }).collect();
        let entries = match tail_first < next {
            true => self.shared.entries(shard, tail_first, next, usize::MAX).expect("recovery has read them"),
            false => Vec::new(),
        };
        RecoveredGroup {
            hard_state,
            mark,
            is_suspect: self.is_suspect,
            first_index,
            terms,
            entries,
            applied,
            applied_term,
            ..RecoveredGroup::empty(shard)
        }
    }
}

impl SharedLog {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy that the dead process does not share.
    pub(super) fn fork(&self) -> Shared {
        let shared = self.lock();
        Shared { platter: shared.platter.clone(), contents: shared.contents.clone(), is_unreadable: false }
    }
}

impl LogRead for SharedLog {
    fn entries(
        &self,
        shard: ShardId,
        low: u64,
        high: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogReadError> {
        let mut shared = self.lock();
        let read = read(&shared, shard, (low, high), max_bytes);
        shared.is_unreadable |= read.is_err();
        read
    }
}

/// Reads entries `low..high`.
fn read(
    shared: &Shared,
    shard: ShardId,
    (low, high): (u64, u64),
    max_bytes: usize,
) -> Result<Vec<Entry>, LogReadError> {
    let missing = || LogReadError(format!("entry {low} of shard {shard} is not in the log"));
    let (_, end) = shared.contents.bounds(shard);
    let places = shared.contents.places(shard).and_then(|places| places.range(low, high.min(end)));
    let places = places.ok_or_else(missing)?;
    let (mut bytes, mut found) = (0, Vec::new());
    for (place, at) in places.zip(low..) {
        bytes += place.len as usize;
        if !found.is_empty() && bytes > max_bytes {
            break;
        }
        let segment = shared.platter.segments.get(&place.generation()).ok_or_else(missing)?;
        let from = place.offset as usize;
        let entry = record::decode_entry(
            &mut &segment[from..from + place.len as usize],
            &mut 0,
            shard,
            shared.platter.log,
        )
        .map_err(|error| LogReadError(error.to_string()))?;
        if entry.index != at || entry.term != place.term {
            return Err(LogReadError(format!("another entry lies at {at} of shard {shard}")));
        }
        found.push(entry.to_entry());
    }
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}
