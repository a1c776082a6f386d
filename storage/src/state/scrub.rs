//! Reading every block that rests on disk, to find damage before somebody needs what it hit.
//!
//! RocksDB checks a block's checksum when it reads the block from its file, not when the block is in its cache. So a
//! scrub reads through a second, read-only handle with a cache of its own.

use std::path::Path;

use rocksdb::ReadOptions;
use throng_storage_core::state::{StateError, TABLES};

use super::{Db, RocksState, failed, name, options};
use crate::limits::{SCRUB_OPEN_PAUSE, SCRUB_OPENS};

/// A scrub under way. It sees the files as of its begin: what was flushed by then.
pub struct Scrub {
    db: Db,
    table: usize,
    from: Vec<u8>,
    rows: u64,
    bytes: u64,
}

impl RocksState {
    /// Begins a scrub. Opening it checks what RocksDB keeps beside its tables.
    ///
    /// # Errors
    /// [`StateError`] names the damaged file; the node must not go on with this copy.
    pub fn scrub(&self) -> Result<Scrub, StateError> {
        // Files that the first handle removes between the reading of MANIFEST and their opening look like lost ones. What
        // is really lost stays so.
        let mut opened = Scrub::open(self.inner.db.path());
        for _ in 0..SCRUB_OPENS {
            match &opened {
                Err(error) if error.0.contains("No such file") => {
                    std::thread::sleep(SCRUB_OPEN_PAUSE);
                    opened = Scrub::open(self.inner.db.path());
                }
                _ => break,
            }
        }
        opened
    }
}

impl Scrub {
    fn open(dir: &Path) -> Result<Self, StateError> {
        let cache = rocksdb::Cache::new_lru_cache(4 << 20);
        let tables = TABLES.map(|table| {
            let options = options::table(table, &cache, &super::StateConfig::default());
            rocksdb::ColumnFamilyDescriptor::new(name(table), options)
        });
        let db = Db::open_cf_descriptors_read_only(&options::scrub(), dir, tables, false).map_err(failed)?;
        Ok(Self { db, table: 0, from: Vec::new(), rows: 0, bytes: 0 })
    }

    /// Reads about `bytes` bytes of rows; true when everything was read.
    ///
    /// # Errors
    /// [`StateError`] names the damaged file; the node must not go on with this copy.
    pub fn step(&mut self, bytes: u64) -> Result<bool, StateError> {
        let until = self.bytes.saturating_add(bytes);
        while let Some(table) = TABLES.get(self.table) {
            let mut options = ReadOptions::default();
            options.set_verify_checksums(true);
            options.set_total_order_seek(true);
            options.set_readahead_size(1 << 20);
            let handle = self.db.cf_handle(name(*table));
            let handle = handle.ok_or_else(|| StateError(format!("table {} is missing", name(*table))))?;
            let mut cursor = self.db.raw_iterator_cf_opt(&handle, options);
            cursor.seek(&self.from);
            while let Some((key, value)) = cursor.item() {
                if self.bytes >= until {
                    self.from.clear();
                    self.from.extend_from_slice(key);
                    return Ok(false);
                }
                self.rows += 1;
                self.bytes += (key.len() + value.len()) as u64;
                cursor.next();
            }
            cursor.status().map_err(failed)?;
            drop(cursor);
            self.table += 1;
            self.from.clear();
        }
        Ok(true)
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of rows read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
