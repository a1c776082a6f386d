//! Limits of the log, with their arithmetic.

use super::layout::{BLOCK, COMMIT_HEADER};

/// Size of a segment file unless configured: at one 4 KiB block per commit and 10,000 commits a second a segment lasts
/// 1.6 s, at 100 commits a second 164 s; two segments (the active one and the prepared one) are 128 MiB of disk.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Smallest segment: its header, and one block to write.
pub const SEGMENT_BYTES_MIN: u64 = 2 * BLOCK as u64;

/// Largest segment: places of entries are 32-bit offsets, and recovery holds one segment in memory.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Largest commit, padding included, in a segment of the usual size: everything but the segment's header. A group's
/// record is limited by what raft hands out at once, 8 MiB of uncommitted entries per group; records that are too
/// many for one commit go into several.
pub const COMMIT_BYTES_MAX: usize = SEGMENT_BYTES as usize - BLOCK;

/// The writer stops merging queued records into one commit beyond this: 1 MiB is about 1 ms of a disk that writes
/// 1 GB/s, so that a small record never waits long behind a large commit.
pub const COMMIT_BYTES_TARGET: usize = 1 << 20;

/// Most groups one log serves: as many as there are slots.
pub const SHARDS_MAX: u32 = throng_wire::ids::SLOTS;

const _: () = assert!(COMMIT_BYTES_MAX.is_multiple_of(BLOCK) && COMMIT_BYTES_TARGET < COMMIT_BYTES_MAX);
const _: () = assert!(COMMIT_HEADER < BLOCK && SEGMENT_BYTES.is_multiple_of(BLOCK as u64));
const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES && SEGMENT_BYTES <= SEGMENT_BYTES_MAX);
