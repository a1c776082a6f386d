//! Applied state in RocksDB.
//!
//! The write-ahead log is off (the Raft log is the log), and flushes are atomic over all tables: what is on disk is
//! always all batches up to some point and nothing of those after it. RocksDB flushes on its own when its buffers are
//! full, never when it is closed: only [`StateWrite::flush`] promises anything.

mod options;
mod pressure;
mod reclaim;
mod scrub;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DBRawIteratorWithThreadMode, DBWithThreadMode, ErrorKind,
    FlushOptions, MultiThreaded, ReadOptions, WriteOptions,
};
use throng_storage_core::state::{Change, StateError, StateRead, StateWrite, TABLES, Table, WriteBatch};

pub use options::StateConfig;
pub use pressure::Pressure;
pub use scrub::Scrub;
pub use view::View;

use crate::background::with_low_priority;
use crate::limits::FLUSH_ROOM;
use crate::lock::DataLock;
use crate::reserve::Reserve;

type Db = DBWithThreadMode<MultiThreaded>;

/// The state store. Clones are handles to the same database; the last one closes it.
#[derive(Clone)]
pub struct RocksState {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    config: StateConfig,
    /// Views that are open.
    views: Arc<AtomicUsize>,
    /// Whether ranges were dropped.
    dropped: reclaim::Dropped,
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
        let mut state = Self::start(dir, true, None, StateConfig::default())?;
        state.flush()
    }

    /// Opens a database that is there.
    pub(crate) fn open(dir: &Path, lock: Arc<DataLock>, config: &StateConfig) -> Result<Self, StateError> {
        Self::start(dir, false, Some(lock), config.clone())
    }

    fn start(
        dir: &Path,
        create: bool,
        lock: Option<Arc<DataLock>>,
        config: StateConfig,
    ) -> Result<Self, StateError> {
        let cache = rocksdb::Cache::new_lru_cache(crate::limits::BLOCK_CACHE_BYTES);
        let tables = TABLES
            .map(|table| ColumnFamilyDescriptor::new(name(table), options::table(table, &cache, &config)));
        let options = options::database(create, &config)?;
        // RocksDB starts its threads here.
        let opened = with_low_priority(|| Db::open_cf_descriptors(&options, dir, tables));
        let db = opened.map_err(|error| StateError(error.to_string()))?.map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                db,
                config,
                views: Arc::default(),
                dropped: Default::default(),
                _lock: lock,
            }),
        })
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
        self.write_with(batch, false).map(drop)
    }

    /// Like [`RocksState::write_batch`], but returns false, with nothing written, where that would wait because RocksDB
    /// does not keep up.
    ///
    /// # Errors
    /// [`StateError`]; the node stops.
    pub fn try_write_batch(&self, batch: &WriteBatch) -> Result<bool, StateError> {
        self.write_with(batch, true)
    }

    fn write_with(&self, batch: &WriteBatch, is_hasty: bool) -> Result<bool, StateError> {
        let tables = [self.table(TABLES[0])?, self.table(TABLES[1])?, self.table(TABLES[2])?];
        let mut changes = rocksdb::WriteBatch::default();
        for change in batch {
            match change {
                Change::Put(table, key, value) => changes.put_cf(&tables[*table as usize], key, value),
                Change::Delete(table, key) => changes.delete_cf(&tables[*table as usize], key),
                // RocksDB refuses a range that ends before it begins.
                Change::DeleteRange(table, from, to) if from < to => {
                    changes.delete_range_cf(&tables[*table as usize], from, to);
                    self.inner.dropped.note();
                }
                Change::DeleteRange(..) => {}
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        options.set_no_slowdown(is_hasty);
        match self.inner.db.write_opt(changes, &options) {
            Err(error) if is_hasty && error.kind() == ErrorKind::Incomplete => Ok(false),
            other => other.map(|()| true).map_err(failed),
        }
    }

    /// Like [`StateWrite::flush`], through a shared handle. Blocks until the files are synced.
    ///
    /// # Errors
    /// [`StateError`]; the node stops.
    pub fn flush_all(&self) -> Result<(), StateError> {
        let tables = [self.table(TABLES[0])?, self.table(TABLES[1])?, self.table(TABLES[2])?];
        if let Some(dir) = self.inner.db.path().parent() {
            Reserve::of(dir).make_room(FLUSH_ROOM);
        }
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
        let table = self.table(table)?;
        scan_with(from, to, limit, ReadOptions::default(), |options| {
            self.inner.db.raw_iterator_cf_opt(&table, options)
        })
    }
}

/// Reads rows through the cursor that `open` makes.
fn scan_with<'a>(
    from: &[u8],
    to: &[u8],
    limit: usize,
    mut options: ReadOptions,
    open: impl FnOnce(ReadOptions) -> DBRawIteratorWithThreadMode<'a, Db>,
) -> Result<Vec<(Bytes, Bytes)>, StateError> {
    if from >= to || limit == 0 {
        return Ok(Vec::new());
    }
    options.set_iterate_upper_bound(to);
    // Prefix blooms serve a scan only within one object; across objects they would hide rows.
    if options::same_object(from, to) {
        options.set_prefix_same_as_start(true);
    } else {
        options.set_total_order_seek(true);
    }
    let mut rows = Vec::new();
    let mut cursor = open(options);
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
