//! Reads entries that have left memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use throng_storage_core::entry::{Entry, HardState};
use throng_storage_core::log::{Contents, Generation, LogId, Place, record};
use throng_storage_core::store::{LogRead, LogReadError, RecoveredGroup, TermRun};
use throng_wire::ids::ShardId;

use super::files;
use crate::limits::{OPEN_SEGMENTS_MAX, TAIL_ENTRIES};

/// Reads entries by index while the log thread writes. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    log: LogId,
    contents: RwLock<Contents>,
    files: Mutex<BTreeMap<Generation, Arc<File>>>,
}

impl LogReader {
    pub(crate) fn new(dir: PathBuf, log: LogId, contents: Contents) -> Self {
        let files = Mutex::new(BTreeMap::new());
        Self { shared: Arc::new(Shared { dir, log, contents: RwLock::new(contents), files }) }
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
        self.with_contents(|contents| contents.index().place(shard, index)).map(|place| place.term)
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
        let (hard_state, (first_index, next)) =
            self.with_contents(|contents| (contents.hard_state(shard), contents.index().bounds(shard)));
        let tail_first = (applied.saturating_add(1)).min(next.saturating_sub(TAIL_ENTRIES)).max(first_index);
        let terms = self.with_contents(|contents| contents.index().term_runs(shard, tail_first));
        let terms = terms.into_iter().map(|(first_index, term)| TermRun { first_index, term }).collect();
        let entries =
            if tail_first < next { self.entries(shard, tail_first, next, usize::MAX)? } else { Vec::new() };
        Ok(RecoveredGroup {
            hard_state,
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
        file.read_exact_at(&mut bytes, u64::from(place.offset)).map_err(|error| failed(&error))?;
        let entry = record::decode_entry(&mut &bytes[..], &mut 0, shard, self.shared.log)
            .map_err(|error| failed(&error))?;
        if entry.index != index || entry.term != place.term || entry.len != bytes.len() {
            return Err(failed(&"another entry lies there"));
        }
        Ok(entry.to_entry())
    }

    fn file(&self, generation: Generation) -> io::Result<Arc<File>> {
        let mut files = self.shared.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&generation) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(files::path_of(&self.shared.dir, generation))?);
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
            let high = high.min(contents.index().bounds(shard).1);
            contents.index().range(shard, low, high).map(|places| within(places, max_bytes).to_vec())
        });
        let places = places.filter(|places| !places.is_empty());
        let places =
            places.ok_or_else(|| LogReadError(format!("entry {low} of shard {shard} is not in the log")))?;
        (low..).zip(&places).map(|(index, place)| self.read(shard, index, place)).collect()
    }
}

/// As many places as fit `max_bytes`, at least one.
fn within(places: &[Place], max_bytes: usize) -> &[Place] {
    let mut bytes = 0usize;
    let fitting = places.iter().take_while(|place| {
        bytes = bytes.saturating_add(place.len as usize);
        bytes <= max_bytes
    });
    &places[..fitting.count().max(1).min(places.len())]
}
