//! What the log thread needs of a disk. Which bytes go where is decided above it, so that every driver writes the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use throng_storage_core::log::Generation;

use super::files;
use super::prepare::{Plan, Preparer};

/// A segment that is ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub generation: Generation,
    /// Its size in bytes.
    pub capacity: u64,
}

/// The disk under the log thread, which calls it from one thread, one call at a time. An error is final: nothing is
/// called after one.
pub trait LogDisk: Send {
    /// Goes to the next segment, which is whole, zeroed and durable. Waits for it if it must.
    ///
    /// # Errors
    /// What the operating system says.
    fn next_segment(&mut self) -> io::Result<Segment>;

    /// Writes `bytes`, whole blocks, at `offset` of the present segment and returns when they are durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_and_sync(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// `pwrite` and `fdatasync`.
pub struct PlainDisk {
    dir: PathBuf,
    file: File,
    preparer: Preparer,
}

impl PlainDisk {
    /// Goes on in segment `present`.
    pub(crate) fn new(present: Generation, plan: Plan) -> io::Result<Self> {
        let file = files::open(&plan.dir, present)?;
        Ok(Self { dir: plan.dir.clone(), file, preparer: Preparer::start(plan)? })
    }
}

impl LogDisk for PlainDisk {
    fn next_segment(&mut self) -> io::Result<Segment> {
        let segment = self.preparer.next()?;
        self.file = files::open(&self.dir, segment.generation)?;
        Ok(segment)
    }

    fn write_and_sync(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.file.sync_data()
    }
}
