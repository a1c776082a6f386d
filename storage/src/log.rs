//! The log on disk: segment files, the thread that writes them, the reader of older entries.
//!
//! ```text
//!  submit ─► queue ─► log thread: everything queued → one commit → write → fdatasync → report the last token
//!  truncate ─┘           │ ▲ LogDisk: pwrite + fdatasync, or io_uring
//!                        │ └── the next segment, zeroed and synced ahead ── prepare thread
//!                        └──── the log begins later: old segments ────────►  (recycles them)
//! ```

mod committer;
pub mod disk;
pub(crate) mod files;
pub(crate) mod fs;
#[cfg(test)]
mod kill_tests;
mod make;
mod prepare;
mod reader;
mod recover;
mod scrub;
mod uring;
mod writer;

pub use disk::{LogDisk, Segment};
pub use reader::LogReader;
pub use recover::Log;
pub use scrub::LogScrub;
pub use writer::LogWriter;

use throng_storage_core::log::{BLOCK, limits};

use crate::error::OpenError;
use crate::limits::LOG_BUDGET_BYTES;

/// How commits reach the disk. Both write the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogDriver {
    /// `pwrite` and `fdatasync` on the log thread.
    #[default]
    Thread,
    /// `tokio-uring` on the log thread. Where the kernel refuses io_uring the log says so and goes on as [`Self::Thread`].
    Uring,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of new segment files: whole blocks.
    pub segment_bytes: u64,
    /// Size of the log beyond which it is held by entries that are still needed ([`LogReader::bytes_over_budget`], and a
    /// warning).
    pub budget_bytes: u64,
    /// How commits reach the disk.
    pub driver: LogDriver,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            budget_bytes: LOG_BUDGET_BYTES,
            driver: LogDriver::default(),
        }
    }
}

impl LogConfig {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let range = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        if !range.contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(BLOCK as u64) {
            let (low, high) = (range.start(), range.end());
            return Err(OpenError::Options(format!(
                "log segments have {low} to {high} bytes in blocks of {BLOCK}"
            )));
        }
        // The active segment and one more: with less it would be over as soon as anything was written.
        if self.budget_bytes < 2 * self.segment_bytes {
            return Err(OpenError::Options("the log's budget holds two segments at least".to_owned()));
        }
        Ok(())
    }
}
