//! Giving back what retention dropped, where nothing more is written.
//!
//! Dropped ranges are marks in the newest files; the space comes back when those are merged with the older ones, which
//! RocksDB does after a few more flushes. A store that goes on being written needs nothing else. Where writing ends after
//! a drop, somebody has to ask once. Asking means to let RocksDB merge its newest files now, few as they are: in its own
//! background thread, with its own priority, and at the cost of one merge with the first sorted level.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use throng_storage_core::state::{StateError, Table};

use super::{RocksState, failed};
use crate::limits::{COMPACT_FILES, RECLAIM_MAX, RECLAIM_POLL};

const NEWEST_FILES: &str = "rocksdb.num-files-at-level0";
const TRIGGER: &str = "level0_file_num_compaction_trigger";

/// When a range was dropped last, if that was not followed up.
#[derive(Debug, Default)]
pub(super) struct Dropped(Mutex<Option<Instant>>);

impl Dropped {
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether something was dropped and nothing since for so long; it counts as followed up then.
    fn take_if_quiet(&self, quiet: Duration) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.take_if(|at| at.elapsed() >= quiet).is_some()
    }
}

impl RocksState {
    /// Gives back what was dropped by range, if no range was for `quiet` (long enough that all are flushed). False if
    /// there is nothing to do. Waits for the merge up to [`RECLAIM_MAX`], or until `stop` says so.
    ///
    /// # Errors
    /// [`StateError`] if RocksDB does not take the setting; the node goes on, with less space.
    pub fn reclaim(&self, quiet: Duration, stop: &dyn Fn() -> bool) -> Result<bool, StateError> {
        if self.pressure()?.is_slow() || !self.inner.dropped.take_if_quiet(quiet) {
            return Ok(false);
        }
        if self.newest_files()? == 0 {
            return Ok(false);
        }
        self.merge_at(1)?;
        let begin = Instant::now();
        let mut waited = Ok(());
        while begin.elapsed() < RECLAIM_MAX && !stop() {
            match self.newest_files() {
                Ok(0) => break,
                Ok(_) => std::thread::sleep(RECLAIM_POLL),
                Err(error) => {
                    waited = Err(error);
                    break;
                }
            }
        }
        self.merge_at(COMPACT_FILES.min(self.inner.config.level0_slowdown_files))?;
        waited.map(|()| true)
    }

    fn newest_files(&self) -> Result<u64, StateError> {
        let files = self.inner.db.property_int_value_cf(&self.table(Table::Events)?, NEWEST_FILES);
        Ok(files.map_err(failed)?.unwrap_or(0))
    }

    fn merge_at(&self, files: u32) -> Result<(), StateError> {
        let table = self.table(Table::Events)?;
        self.inner.db.set_options_cf(&table, &[(TRIGGER, &files.to_string())]).map_err(failed)
    }
}
