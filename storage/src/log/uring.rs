//! The same two calls through io_uring: the commit buffer is handed to the kernel with the write, and comes back.

use std::io;

use throng_storage_core::log::Generation;
use tokio_uring::Runtime;
use tokio_uring::fs::File;

use super::disk::{LogDisk, Segment, SegmentFiles};

/// Entries of the ring: one operation is in flight at a time, and closing a file is one more.
const RING_ENTRIES: u32 = 8;

/// `write_at` and `sync_data` of `tokio-uring`, on a runtime of the log thread's own. It lives and dies on that thread.
pub(crate) struct UringDisk {
    /// Declared before the runtime: a file that is dropped hands its closing to the runtime.
    file: Option<File>,
    runtime: Runtime,
    segments: SegmentFiles,
}

impl UringDisk {
    /// Goes on in the present segment. The segments come back if the kernel refuses io_uring (containers often forbid
    /// its system calls).
    pub(crate) fn new(segments: SegmentFiles) -> Result<Self, (SegmentFiles, io::Error)> {
        let mut builder = tokio_uring::builder();
        builder.entries(RING_ENTRIES);
        let runtime = match Runtime::new(&builder) {
            Ok(runtime) => runtime,
            Err(error) => return Err((segments, error)),
        };
        let mut disk = Self { file: None, runtime, segments };
        match disk.open() {
            Ok(()) => Ok(disk),
            Err(error) => Err((disk.segments, error)),
        }
    }

    fn open(&mut self) -> io::Result<()> {
        let Some(file) = self.segments.file().std() else {
            return Err(io::Error::other("io_uring needs files of the operating system"));
        };
        let file = file.try_clone()?;
        let closed = self.file.take();
        self.runtime.block_on(async {
            if let Some(closed) = closed {
                closed.close().await?;
            }
            self.file = Some(File::from_std(file));
            Ok(())
        })
    }
}

impl LogDisk for UringDisk {
    fn next_segment(&mut self) -> io::Result<Segment> {
        let segment = self.segments.next()?;
        self.open()?;
        Ok(segment)
    }

    fn write_and_sync(&mut self, offset: u64, commit: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("the segment is closed"))?;
        let bytes = std::mem::take(commit);
        let (outcome, bytes) = self.runtime.block_on(async {
            let (written, bytes) = file.write_all_at(bytes, offset).await;
            let outcome = match written {
                Ok(()) => file.sync_data().await,
                Err(error) => Err(error),
            };
            (outcome, bytes)
        });
        *commit = bytes;
        outcome
    }

    fn release(&mut self, begin: Generation) {
        self.segments.release(begin);
    }
}
