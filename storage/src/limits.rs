//! Limits of the drivers, with their arithmetic.

use std::time::Duration;

use throng_storage_core::log::limits as layout;
use throng_storage_core::store::limits as store;

/// Group commits queued for the log thread. The store has at most `PERSISTS_IN_FLIGHT_MAX` on their way, so a full
/// queue means a dead thread.
pub const LOG_QUEUE_MAX: usize = 4 * store::PERSISTS_IN_FLIGHT_MAX;

/// Bytes zeroed per write and sync while a segment is prepared, so that a commit's fdatasync waits for 1 MiB of them
/// (about 1 ms at 1 GB/s) and not for 64.
pub const ZERO_CHUNK: usize = 1 << 20;

/// After each of them the thread rests for so many times what it took, so that commits and flushes get eight ninths of
/// the disk, unless the log waits for the segment.
pub const ZERO_RESTS: u32 = 8;

/// … but no longer than this: 64 chunks on a busy disk (4 ms each) are done after a second, and a log that fills a segment
/// in less waits for it.
pub const ZERO_REST_MAX: Duration = Duration::from_millis(12);

/// What is added to the nice value of the threads that flush and prepare: it leaves them a third of another thread's share
/// of a core that both want. Enough to keep up on a busy machine, and a thread that wakes up for a client runs first.
pub const BACKGROUND_NICE: i32 = 5;

/// Segment files that wait to be recycled; more are removed. One is taken for every segment that fills, and a log
/// that shrinks gives its space back.
pub const FREE_SEGMENTS_KEPT: usize = 1;

/// While the disk is full: how often the next segment is tried.
pub const SEGMENT_RETRY: Duration = Duration::from_millis(100);

/// … and for how long, before a writer that waits for it is told. Room that can be had without anybody's help (the
/// disk reserve, a log that was truncated) comes within a fraction of it; the store hands leaderships over meanwhile.
pub const SEGMENT_PATIENCE: Duration = Duration::from_secs(2);

/// Size of the log beyond which it is reported as held by entries that are still needed: sixteen segments. At 128 MiB/s of
/// commits 8 s of log, at 1 MiB/s a quarter of an hour: how long a follower may be away and still be served from the
/// log.
pub const LOG_BUDGET_BYTES: u64 = 16 * layout::SEGMENT_BYTES;

/// … but no more than this part of the disk. Every start begins a new segment, so a node that is started again and again
/// would fill a small disk with segments that hold next to nothing.
pub const LOG_DISK_SHARE: u64 = 4;

/// The commit buffer is given back beyond this: one large commit must not hold its memory for ever.
pub const COMMIT_BUFFER_KEPT: usize = 2 * layout::COMMIT_BYTES_TARGET;

/// Segment files that the log's reader keeps open. Followers that are behind read forward, each in one segment.
pub const OPEN_SEGMENTS_MAX: usize = 8;

/// Entries that recovery gives a group beyond those that its state has not applied, so that followers that were away
/// as shortly as this node find them in memory.
pub const TAIL_ENTRIES: u64 = 64;

/// Flush batches queued for the flush thread.
pub const FLUSH_QUEUE_MAX: usize = 64;

/// Batches are flushed together once they have this many bytes: one large SST file instead of many small ones, each of
/// which costs three syncs and, merged with a whole level, many times its own bytes of compaction.
pub const FLUSH_BYTES: usize = 32 << 20;

/// … or once the oldest has waited this long. It bounds what a restart replays, not what it could lose.
pub const FLUSH_DELAY: Duration = Duration::from_secs(3);

/// How often pressure is looked at while it lasts and nothing is written.
pub const PRESSURE_POLL: Duration = Duration::from_millis(100);

/// Views of the state that may be open: each keeps RocksDB from giving back what it sees.
pub const VIEWS_MAX: usize = 4;

/// How long one may be open: a gigabyte of rows at 2 MB/s.
pub const VIEW_TIME_MAX: Duration = Duration::from_secs(600);

/// How often a scrub tries again to open files that flushes and merges are replacing,
pub const SCRUB_OPENS: u32 = 20;
/// and after how long.
pub const SCRUB_OPEN_PAUSE: Duration = Duration::from_millis(50);

/// How long somebody waits for the merge that gives dropped ranges back: some hundred megabytes.
pub const RECLAIM_MAX: Duration = Duration::from_secs(30);
/// … and how often it is looked at meanwhile.
pub const RECLAIM_POLL: Duration = Duration::from_millis(20);

/// How often free space is looked at: at 1 GB/s a quarter of a gigabyte is written meanwhile.
pub const SPACE_POLL: Duration = Duration::from_millis(250);

/// Least and most that clients leave free ([`crate::Space::reserve`]): room for what is under way when they are stopped,
/// and no more than a large disk would miss.
pub const SPACE_RESERVE_MIN: u64 = 48 << 20;
/// The most.
pub const SPACE_RESERVE_MAX: u64 = 256 << 20;

/// Room that the node keeps for itself as a file, a fortieth of the disk within these: enough for the flushes of what is
/// under way when clients are stopped, and less than what they leave free.
pub const RESERVE_BYTES_MIN: u64 = 16 << 20;
/// The most.
pub const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// A flush wants so much free, or the reserve is given up: what gathers between two of them, and its files' frames.
pub const FLUSH_ROOM: u64 = 48 << 20;

/// Opening the state wants so much free.
pub const OPEN_ROOM: u64 = 8 << 20;

/// Batches queued for the import thread: what may be under way of all snapshots that are received, and drops of copies.
pub const IMPORT_QUEUE_MAX: usize = 256;

/// RocksDB's cache of data, index and filter blocks.
pub const BLOCK_CACHE_BYTES: usize = 64 << 20;

/// Memtables of all tables together; RocksDB flushes (atomically) when they reach it.
pub const WRITE_BUFFERS_BYTES: usize = 144 << 20;

/// One table's memtable. Above [`FLUSH_BYTES`], so that the flush thread decides when to flush.
pub const WRITE_BUFFER_BYTES: usize = 64 << 20;

/// Files of the newest level at which they are merged into the next one, of [`LEVEL_BYTES`]: 8 × [`FLUSH_BYTES`] are
/// as much as that, so a merge writes twice what is new. (With 4 × 8 MiB it was nine times.)
pub const COMPACT_FILES: u32 = 8;

/// The first sorted level. See [`COMPACT_FILES`].
pub const LEVEL_BYTES: u64 = 256 << 20;

/// Files of the newest level at which writes are slowed down, then stopped: compaction runs only where a core is free,
/// so a busy stretch may leave this much of it behind: 24 × 32 MiB.
pub const SLOWDOWN_FILES: u32 = 24;
/// See [`SLOWDOWN_FILES`].
pub const STOP_FILES: u32 = 48;

/// Files that RocksDB keeps open: 512 × 32 MiB = 16 GiB of state without reopening. Sessions need the other
/// descriptors of the process.
pub const STATE_FILES_MAX: i32 = 512;

const _: () = assert!(SEGMENT_RETRY.as_millis() < SEGMENT_PATIENCE.as_millis());
const _: () = assert!(WRITE_BUFFER_BYTES > FLUSH_BYTES && WRITE_BUFFERS_BYTES > 2 * FLUSH_BYTES);
const _: () = assert!(COMPACT_FILES as u64 * FLUSH_BYTES as u64 >= LEVEL_BYTES);
const _: () = assert!(RESERVE_BYTES_MIN < SPACE_RESERVE_MIN && RESERVE_BYTES_MAX < SPACE_RESERVE_MAX);
const _: () = assert!(COMPACT_FILES < SLOWDOWN_FILES && SLOWDOWN_FILES < STOP_FILES);
// What raft hands out for one group at once fits into one commit, four times over for the entries' headers.
const _: () = assert!(layout::COMMIT_BYTES_MAX as u64 > 4 * store::UNCOMMITTED_BYTES_MAX);
