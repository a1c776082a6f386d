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
use crate::limits::{LOG_BUDGET_BYTES, LOG_DISK_SHARE};
use crate::space::Space;

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
    /// warning). On a disk of less than four times this it is a quarter of the disk, two segments at least.
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
    /// The same with a budget that leaves most of a small disk to others: state, spare segments, reserve.
    pub(crate) fn fitted_to(&self, space: Space) -> Self {
        let most = (space.total / LOG_DISK_SHARE).max(2 * self.segment_bytes);
        Self { budget_bytes: self.budget_bytes.min(most), ..self.clone() }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_has_a_small_budget() {
        let config = LogConfig::default();
        let budget = |total| config.fitted_to(Space { total, free: 0 }).budget_bytes;
        assert_eq!(budget(1 << 40), LOG_BUDGET_BYTES);
        assert_eq!(budget(4 * LOG_BUDGET_BYTES - 4), LOG_BUDGET_BYTES - 1);
        assert_eq!(budget(0), 2 * config.segment_bytes);
        assert!(config.fitted_to(Space { total: 0, free: 0 }).check().is_ok());
    }
}
