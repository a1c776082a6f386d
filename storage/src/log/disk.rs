//! What the log thread needs of a disk. Which bytes go where is decided above it, so that every driver writes the same.

use std::io;
use std::sync::Arc;

use throng_storage_core::log::Generation;

use super::files;
use super::fs::{LogFile, LogFs};
use super::make::Maker;
use super::prepare::Preparer;

/// A segment that is ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub generation: Generation,
    /// Its size in bytes.
    pub capacity: u64,
}

/// The disk under the log thread, which makes it and calls it, one call at a time. An error is final: nothing is called
/// after one.
pub trait LogDisk {
    /// Goes to the next segment, which is whole, zeroed and durable. Waits for it if it must.
    ///
    /// # Errors
    /// What the operating system says.
    fn next_segment(&mut self) -> io::Result<Segment>;

    /// Writes `commit`, whole blocks, at `offset` of the present segment and returns when it is durable. The disk may
    /// take the buffer while it writes, and puts it back: the next commit is encoded into it.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_and_sync(&mut self, offset: u64, commit: &mut Vec<u8>) -> io::Result<()>;

    /// The log durably begins at `begin`: segments before it may be recycled.
    fn release(&mut self, begin: Generation);
}

impl<D: LogDisk + ?Sized> LogDisk for Box<D> {
    fn next_segment(&mut self) -> io::Result<Segment> {
        (**self).next_segment()
    }

    fn write_and_sync(&mut self, offset: u64, commit: &mut Vec<u8>) -> io::Result<()> {
        (**self).write_and_sync(offset, commit)
    }

    fn release(&mut self, begin: Generation) {
        (**self).release(begin);
    }
}

/// The segment files under a driver: the present one, and the thread that makes the next.
pub(crate) struct SegmentFiles {
    fs: Arc<dyn LogFs>,
    file: Arc<dyn LogFile>,
    preparer: Preparer,
}

impl SegmentFiles {
    /// Goes on in segment `present`.
    pub(crate) fn new(present: Generation, maker: Maker) -> io::Result<Self> {
        let fs = Arc::clone(&maker.fs);
        let file = files::open(&*fs, present)?;
        Ok(Self { fs, file, preparer: Preparer::start(maker)? })
    }

    pub(crate) fn file(&self) -> &dyn LogFile {
        &*self.file
    }

    pub(crate) fn next(&mut self) -> io::Result<Segment> {
        let segment = self.preparer.next()?;
        self.file = files::open(&*self.fs, segment.generation)?;
        Ok(segment)
    }

    pub(crate) fn release(&mut self, begin: Generation) {
        self.preparer.release(begin);
    }
}

/// `pwrite` and `fdatasync` on the log thread.
pub(crate) struct PlainDisk(pub(crate) SegmentFiles);

impl LogDisk for PlainDisk {
    fn next_segment(&mut self) -> io::Result<Segment> {
        self.0.next()
    }

    fn write_and_sync(&mut self, offset: u64, commit: &mut Vec<u8>) -> io::Result<()> {
        self.0.file().write_at(commit, offset)?;
        self.0.file().sync()
    }

    fn release(&mut self, begin: Generation) {
        self.0.release(begin);
    }
}
