//! Whether RocksDB keeps up: it slows and stops writers when compaction lags, and the router must know before its
//! batches wait.

use rocksdb::properties;
use throng_storage_core::state::{StateError, TABLES};

use super::{RocksState, failed};

/// How far RocksDB lags behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// No write gets through.
    pub is_stopped: bool,
    /// Bytes a second that writers are slowed down to; 0 if they are not.
    pub delayed_rate: u64,
    /// Files that a read of any table may have to look into beside the sorted levels.
    pub level0_files: u64,
    /// Bytes that compaction has to write until all levels have their size.
    pub pending_compaction_bytes: u64,
    /// `level0_files` from which RocksDB slows writers down.
    slowdown_files: u64,
}

impl Pressure {
    /// Whether writers wait, or will after the next flush, which makes one file more.
    pub fn is_slow(&self) -> bool {
        self.is_stopped || self.delayed_rate > 0 || self.level0_files + 1 >= self.slowdown_files
    }
}

impl RocksState {
    /// How far RocksDB lags behind: a handful of counters, microseconds.
    ///
    /// # Errors
    /// [`StateError`]; the node stops.
    pub fn pressure(&self) -> Result<Pressure, StateError> {
        let db = &self.inner.db;
        let whole = |name| db.property_int_value(name).map(Option::unwrap_or_default).map_err(failed);
        let mut pressure = Pressure {
            is_stopped: whole(properties::IS_WRITE_STOPPED)? != 0,
            delayed_rate: whole(properties::ACTUAL_DELAYED_WRITE_RATE)?,
            slowdown_files: u64::from(self.inner.config.level0_slowdown_files),
            ..Pressure::default()
        };
        for table in TABLES {
            let table = self.table(table)?;
            let of = |name: &properties::PropName| {
                db.property_int_value_cf(&table, name).map(Option::unwrap_or_default).map_err(failed)
            };
            pressure.level0_files = pressure.level0_files.max(of(&properties::num_files_at_level(0))?);
            pressure.pending_compaction_bytes += of(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?;
        }
        Ok(pressure)
    }
}
