//! How RocksDB is set up. Whatever is not named here is its default on purpose: `paranoid_checks` and checksum
//! verification on every read are on.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, Env, InfoLogger, LogLevel, Options, SliceTransform,
};
use throng_storage_core::state::{StateError, Table};

use super::failed;
use crate::limits::{
    BLOCK_CACHE_BYTES, COMPACT_FILES, LEVEL_BYTES, SLOWDOWN_FILES, STATE_FILES_MAX, STOP_FILES,
    WRITE_BUFFER_BYTES, WRITE_BUFFERS_BYTES,
};

/// What an operator may set about RocksDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// One table's memtable, bytes.
    pub write_buffer_bytes: usize,
    /// Files beside the sorted levels from which RocksDB slows writers down,
    pub level0_slowdown_files: u32,
    /// and from which it stops them.
    pub level0_stop_files: u32,
    /// Bytes a second that flushes and compactions together may write; `None` for no limit.
    pub background_bytes_per_second: Option<u64>,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            write_buffer_bytes: WRITE_BUFFER_BYTES,
            level0_slowdown_files: SLOWDOWN_FILES,
            level0_stop_files: STOP_FILES,
            background_bytes_per_second: None,
        }
    }
}

/// `replica u32, slot u16, id [u8; 16]`: what all rows of one channel or user begin with.
const OBJECT_PREFIX: usize = 22;

/// Whether `from..to` lies within the rows of one object.
pub(super) fn same_object(from: &[u8], to: &[u8]) -> bool {
    from.len() >= OBJECT_PREFIX && to.len() >= OBJECT_PREFIX && from[..OBJECT_PREFIX] == to[..OBJECT_PREFIX]
}

/// Options of the whole database.
pub(super) fn database(create: bool, config: &StateConfig) -> Result<Options, StateError> {
    // Closing must not make durable what nobody flushed: after a failed flush nothing may be tried again. The crate
    // has no setter for this option.
    let string = "avoid_flush_during_shutdown=true";
    let mut options = Options::default().get_options_from_string(string).map_err(failed)?;
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_error_if_exists(create);
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(STATE_FILES_MAX);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    // One thread for flushes, one for compactions: the cores belong to the loops.
    options.set_max_background_jobs(2);
    // Nobody waits for a compaction, so it never takes a core from those that answer somebody.
    let mut env = Env::new().map_err(failed)?;
    env.lower_thread_pool_cpu_priority();
    env.lower_thread_pool_io_priority();
    options.set_env(&env);
    // Large files are written back while they are made, so that no fdatasync of the log waits for all of one.
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 << 20);
    options.set_keep_log_file_num(2);
    if let Some(bytes) = config.background_bytes_per_second {
        // Granted every tenth of a second, to flushes first; one time in ten to compactions.
        options.set_ratelimiter(i64::try_from(bytes).unwrap_or(i64::MAX), 100_000, 10);
    }
    Ok(options)
}

/// Options of a second, read-only handle on a database that is open: every file is opened at once and stays open,
/// so that it can be read after a compaction has removed it.
pub(super) fn scrub() -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_max_open_files(-1);
    // The info log is the first handle's: this one must not rotate it.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}

/// Options of one table.
pub(super) fn table(table: Table, cache: &Cache, config: &StateConfig) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(config.write_buffer_bytes);
    options.set_level_zero_slowdown_writes_trigger(config.level0_slowdown_files as i32);
    options.set_level_zero_stop_writes_trigger(config.level0_stop_files as i32);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(32 << 20);
    let compact_files = COMPACT_FILES.min(config.level0_slowdown_files);
    options.set_level_zero_file_num_compaction_trigger(compact_files as i32);
    options.set_max_bytes_for_level_base(LEVEL_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options.set_block_based_table_factory(&blocks(cache));
    match table {
        // A row per shard, found by key.
        Table::Meta => {}
        // Many reads are of rows that are not there (a device's first send): filters answer those from memory, also
        // for rows that are not flushed yet (2 % of a memtable).
        Table::Objects | Table::Events => {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(OBJECT_PREFIX));
            options.set_memtable_prefix_bloom_ratio(0.02);
            options.set_memtable_whole_key_filtering(table == Table::Objects);
        }
    }
    options
}

fn blocks(cache: &Cache) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(8 << 10);
    // 10 bits a key: 1 % false positives. Index and filters count against the cache, so memory has one bound.
    blocks.set_bloom_filter(10.0, false);
    blocks.set_whole_key_filtering(true);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_optimize_filters_for_memory(true);
    blocks
}

const _: () = assert!(WRITE_BUFFER_BYTES < WRITE_BUFFERS_BYTES && BLOCK_CACHE_BYTES >= 8 << 20);
