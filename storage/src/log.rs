//! The log on disk: segment files, the thread that writes them, the reader of older entries.
//!
//! ```text
//!  submit ─► queue ─► log thread: everything queued → one commit → write → fdatasync → report the last token
//!                        ▲ LogDisk
//!      PlainDisk: pwrite + fdatasync      (an io_uring disk takes the same calls)
//!                        ▲ the next segment, zeroed and synced ahead
//!                     prepare thread
//! ```

pub mod disk;
pub(crate) mod files;
mod prepare;
mod reader;
mod recover;
mod writer;

pub use disk::{LogDisk, PlainDisk, Segment};
pub use reader::LogReader;
pub use recover::Log;
pub use writer::LogWriter;

use throng_storage_core::log::{BLOCK, limits};

use crate::error::OpenError;

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of new segment files: whole blocks.
    pub segment_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes: limits::SEGMENT_BYTES }
    }
}

impl LogConfig {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let range = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        if range.contains(&self.segment_bytes) && self.segment_bytes.is_multiple_of(BLOCK as u64) {
            return Ok(());
        }
        let (low, high) = (range.start(), range.end());
        Err(OpenError::Options(format!("log segments have {low} to {high} bytes in blocks of {BLOCK}")))
    }
}
