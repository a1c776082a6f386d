//! Reads entries that have left memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use throng_storage_core::entry::{Entry, HardState, Mark};
use throng_storage_core::log::{Contents, Generation, LogId, Place, Recovered, Segments, Tail, record};
use throng_storage_core::store::{LogRead, LogReadError, RecoveredGroup, TermRun};
use throng_wire::ids::ShardId;

use super::files;
use super::fs::{LogFile, LogFs};
use crate::limits::{OPEN_SEGMENTS_MAX, TAIL_ENTRIES};

/// Reads entries by index while the log thread writes. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

struct Shared {
    fs: Arc<dyn LogFs>,
    log: LogId,
    contents: RwLock<Contents>,
    segments: Mutex<Segments>,
    /// Whether the log was found with a torn tail.
    is_suspect: bool,
    budget_bytes: u64,
    /// Segments that are open for reading. Never one before the log's begin: its file is another segment's soon.
    files: Mutex<BTreeMap<Generation, Arc<dyn LogFile>>>,
}

impl LogReader {
    pub(crate) fn new(
        fs: Arc<dyn LogFs>,
        log: LogId,
        contents: Contents,
        recovered: &Recovered,
        budget_bytes: u64,
    ) -> Self {
        let (contents, segments) = (RwLock::new(contents), Mutex::new(recovered.segments.clone()));
        let is_suspect = recovered.tail != Tail::Clean;
        Self {
            shared: Arc::new(Shared {
                fs,
                log,
                contents,
                segments,
                is_suspect,
                budget_bytes,
                files: Mutex::default(),
            }),
        }
    }

    /// The log's segments are these; for the log thread, before it releases those that are gone.
    pub(crate) fn note_segments(&self, segments: Segments) {
        let begin = segments.begin().generation;
        *self.segments() = segments;
        self.files().retain(|generation, _| *generation >= begin);
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.shared.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<Generation, Arc<dyn LogFile>>> {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs with the log's contents; the log thread waits for it, so it should be short.
    pub(crate) fn with_contents<R>(&self, read: impl FnOnce(&Contents) -> R) -> R {
        read(&self.shared.contents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the log's contents; for the log thread.
    pub(crate) fn update_contents<R>(&self, write: impl FnOnce(&mut Contents) -> R) -> R {
        write(&mut self.shared.contents.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A group's last hard state in the log.
    pub fn hard_state(&self, shard: ShardId) -> HardState {
        self.with_contents(|contents| contents.hard_state(shard))
    }

    /// The term of an entry, if the log has it.
    pub fn term(&self, shard: ShardId, index: u64) -> Option<u64> {
        self.with_contents(|contents| contents.places(shard)?.get(index)).map(|place| place.term)
    }

    /// A group's newest mark: where its log begins. `None` for one that was formatted here and never truncated.
    pub fn mark(&self, shard: ShardId) -> Option<Mark> {
        self.with_contents(|contents| contents.mark(shard).cloned())
    }

    /// Bytes on disk from the log's begin to the end of its active segment. The spare and one recycled file come on top.
    pub fn live_bytes(&self) -> u64 {
        self.segments().live_bytes()
    }

    /// How many bytes the log is beyond its budget, 0 within it. It grows on all the same: nothing that is needed is ever
    /// cut. What ends it is to flush, then truncate the groups that [`LogReader::oldest_pins`] names, and to send
    /// followers a snapshot that need what is older.
    pub fn bytes_over_budget(&self) -> u64 {
        self.live_bytes().saturating_sub(self.shared.budget_bytes)
    }

    /// The groups that keep entries in the oldest segment, each with its first index: the log begins later as soon as
    /// all of them are truncated.
    pub fn oldest_pins(&self) -> Vec<(ShardId, u64)> {
        let oldest = self.segments().begin().generation;
        self.with_contents(|contents| contents.pins(oldest))
    }

    /// What a group's `Store` starts from, given how far its state has applied the log: the entries above that in
    /// memory, and a few below it, the terms of all others.
    ///
    /// # Errors
    /// [`LogReadError`] if an entry cannot be read; the node must not start then.
    pub fn recovered_group(
        &self,
        shard: ShardId,
        applied: u64,
        applied_term: u64,
    ) -> Result<RecoveredGroup, LogReadError> {
        let (hard_state, mark, (first_index, next)) = self.with_contents(|contents| {
            (contents.hard_state(shard), contents.mark(shard).cloned(), contents.bounds(shard))
        });
        let tail_first = (applied.saturating_add(1)).min(next.saturating_sub(TAIL_ENTRIES)).max(first_index);
        let terms = self.with_contents(|contents| {
            contents.places(shard).map(|places| places.term_runs(tail_first)).unwrap_or_default()
        });
        let terms = terms.into_iter().map(|(first_index, term)| TermRun { first_index, term }).collect();
        let entries =
            if tail_first < next { self.entries(shard, tail_first, next, usize::MAX)? } else { Vec::new() };
        Ok(RecoveredGroup {
            hard_state,
            mark,
            is_suspect: self.shared.is_suspect,
            first_index,
            terms,
            entries,
            applied,
            applied_term,
            ..RecoveredGroup::empty(shard)
        })
    }

    fn read(&self, shard: ShardId, index: u64, place: &Place) -> Result<Entry, LogReadError> {
        let failed = |why: &dyn std::fmt::Display| {
            let (generation, offset) = (place.generation(), place.offset);
            LogReadError(format!(
                "entry {index} of shard {shard} in segment {generation} at byte {offset}: {why}"
            ))
        };
        let mut bytes = vec![0; place.len as usize];
        let file = self.file(place.generation()).map_err(|error| failed(&error))?;
        file.read_at(&mut bytes, u64::from(place.offset)).map_err(|error| failed(&error))?;
        let entry = record::decode_entry(&mut &bytes[..], &mut 0, shard, self.shared.log)
            .map_err(|error| failed(&error))?;
        if entry.index != index || entry.term != place.term || entry.len != bytes.len() {
            return Err(failed(&"another entry lies there"));
        }
        Ok(entry.to_entry())
    }

    fn file(&self, generation: Generation) -> io::Result<Arc<dyn LogFile>> {
        let mut files = self.files();
        if let Some(file) = files.get(&generation) {
            return Ok(Arc::clone(file));
        }
        let file = files::open(&*self.shared.fs, generation)?;
        if files.len() >= OPEN_SEGMENTS_MAX {
            // Followers read forward: the lowest is the first that nobody needs.
            files.pop_first();
        }
        files.insert(generation, Arc::clone(&file));
        Ok(file)
    }
}

impl LogRead for LogReader {
    fn entries(
        &self,
        shard: ShardId,
        low: u64,
        high: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogReadError> {
        let places = self.with_contents(|contents| {
            let all = contents.places(shard)?;
            Some(within(all.range(low, high.min(all.next()))?, max_bytes))
        });
        let places = places.filter(|places| !places.is_empty());
        let places =
            places.ok_or_else(|| LogReadError(format!("entry {low} of shard {shard} is not in the log")))?;
        (low..).zip(&places).map(|(index, place)| self.read(shard, index, place)).collect()
    }
}

/// As many places as fit `max_bytes`, at least one.
fn within(places: impl Iterator<Item = Place>, max_bytes: usize) -> Vec<Place> {
    let mut bytes = 0usize;
    let mut fitting = Vec::new();
    for place in places {
        bytes = bytes.saturating_add(place.len as usize);
        if bytes > max_bytes && !fitting.is_empty() {
            break;
        }
        fitting.push(place);
    }
    fitting
}
