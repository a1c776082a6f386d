//! Applied state in RocksDB.
//!
//! The write-ahead log is off (the Raft log is the log), and flushes are atomic over all tables: what is on disk is
//! always all batches up to some point and nothing of those after it. RocksDB flushes on its own when its buffers are
//! full, never when it is closed: only [`StateWrite::flush`] promises anything.

mod options;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DBWithThreadMode, FlushOptions, MultiThreaded, ReadOptions,
    WriteOptions,
};
use throng_storage_core::state::{Change, StateError, StateRead, StateWrite, TABLES, Table, WriteBatch};

use crate::lock::DataLock;

type Db = DBWithThreadMode<MultiThreaded>;

/// The state store. Clones are handles to the same database; the last one closes it.
#[derive(Clone)]
pub struct RocksState {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    _lock: Option<Arc<DataLock>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Background threads must be done before the handles go (reliability: the wrapper crashes at exit otherwise).
        self.db.cancel_all_background_work(true);
    }
}

impl RocksState {
    /// Makes an empty database.
    pub(crate) fn create(dir: &Path) -> Result<(), StateError> {
        let mut state = Self::start(dir, true, None)?;
        state.flush()
    }

    /// Opens a database that is there.
    pub(crate) fn open(dir: &Path, lock: Arc<DataLock>) -> Result<Self, StateError> {
        Self::start(dir, false, Some(lock))
    }

    fn start(dir: &Path, create: bool, lock: Option<Arc<DataLock>>) -> Result<Self, StateError> {
        let cache = rocksdb::Cache::new_lru_cache(crate::limits::BLOCK_CACHE_BYTES);
        let tables =
            TABLES.map(|table| ColumnFamilyDescriptor::new(name(table), options::table(table, &cache)));
        let db = Db::open_cf_descriptors(&options::database(create)?, dir, tables).map_err(failed)?;
        Ok(Self { inner: Arc::new(Inner { db, _lock: lock }) })
    }

    fn table(&self, table: Table) -> Result<Arc<BoundColumnFamily<'_>>, StateError> {
        self.inner
            .db
            .cf_handle(name(table))
            .ok_or_else(|| StateError(format!("table {} is missing", name(table))))
    }

    /// Like [`StateWrite::write`], through a shared handle: RocksDB orders writers itself.
    ///
    /// # Errors
    /// [`StateError`]; the node stops.
    pub fn write_batch(&self, batch: &WriteBatch) -> Result<(), StateError> {
        let tables = [self.table(TABLES[0])?, self.table(TABLES[1])?, self.table(TABLES[2])?];
        let mut changes = rocksdb::WriteBatch::default();
        for change in batch {
            match change {
                Change::Put(table, key, value) => changes.put_cf(&tables[*table as usize], key, value),
                Change::Delete(table, key) => changes.delete_cf(&tables[*table as usize], key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.inner.db.write_opt(changes, &options).map_err(failed)
    }

    /// Like [`StateWrite::flush`], through a shared handle. Blocks until the files are synced.
    ///
    /// # Errors
    /// [`StateError`]; the node stops.
    pub fn flush_all(&self) -> Result<(), StateError> {
        let tables = [self.table(TABLES[0])?, self.table(TABLES[1])?, self.table(TABLES[2])?];
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.inner.db.flush_cfs_opt(&tables.each_ref(), &options).map_err(failed)
    }
}

impl StateRead for RocksState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.inner.db.get_cf(&self.table(table)?, key).map(|value| value.map(Bytes::from)).map_err(failed)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        // Prefix blooms serve a scan only within one object; across objects they would hide rows.
        if options::same_object(from, to) {
            options.set_prefix_same_as_start(true);
        } else {
            options.set_total_order_seek(true);
        }
        let mut rows = Vec::new();
        let mut cursor = self.inner.db.raw_iterator_cf_opt(&self.table(table)?, options);
        cursor.seek(from);
        while let Some((key, value)) = cursor.item() {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if rows.len() == limit {
                return Ok(rows);
            }
            cursor.next();
        }
        // An iterator also ends at an error.
        cursor.status().map_err(failed)?;
        Ok(rows)
    }
}

impl StateWrite for RocksState {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StateError> {
        self.write_batch(batch)
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.flush_all()
    }
}

fn name(table: Table) -> &'static str {
    match table {
        Table::Meta => "meta",
        Table::Objects => "objects",
        Table::Events => "events",
    }
}

fn failed(error: rocksdb::Error) -> StateError {
    StateError(error.into_string())
}

const _: () = assert!(TABLES[0] as usize == 0 && TABLES[1] as usize == 1 && TABLES[2] as usize == 2);
