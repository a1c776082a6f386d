//! Segments that are there before the clock starts, with a past of our choosing.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use throng_storage::log::{LogDisk, Segment};
use throng_storage_core::log::{BLOCK, Generation, limits::SEGMENT_BYTES};

/// Segments of a pool: half a gigabyte.
pub(crate) const SEGMENTS: usize = 8;

/// Bytes written and synced at a time while they are made.
const CHUNK: usize = 1 << 20;

/// What a segment's blocks were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Zeros were written over them, as the product does.
    Zeroed,
    /// Something was written to them; nobody zeroed them.
    Used,
    /// They were allocated and never written.
    Allocated,
}

/// `pwrite` and `fdatasync`, like the plain driver, with nothing in the background.
pub(crate) struct Pool {
    files: VecDeque<File>,
    present: File,
    generation: Generation,
    /// Where [`Pool::write`] goes on.
    at: u64,
}

impl Pool {
    pub(crate) fn make(dir: &Path, past: Past) -> io::Result<Self> {
        let make = |number| {
            let path = dir.join(format!("pool-{number}"));
            let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT_BYTES)?;
            let byte = match past {
                Past::Allocated => None,
                Past::Zeroed => Some(0),
                Past::Used => Some(0x5a),
            };
            if let Some(byte) = byte {
                let chunk = vec![byte; CHUNK];
                for at in (0..SEGMENT_BYTES).step_by(CHUNK) {
                    file.write_all_at(&chunk, at)?;
                }
            }
            file.sync_all()?;
            Ok(file)
        };
        let mut files = (0..SEGMENTS).map(make).collect::<io::Result<VecDeque<_>>>()?;
        let present = files.pop_front().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { files, present, generation: Generation::FIRST, at: BLOCK as u64 })
    }

    /// Writes and syncs at the end of what was written; says whether there was room.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.at + bytes.len() as u64 > SEGMENT_BYTES {
            if self.files.is_empty() {
                return Ok(false);
            }
            self.next_segment()?;
            self.at = BLOCK as u64;
        }
        self.present.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.present.sync_data().map(|()| true)
    }
}

impl LogDisk for Pool {
    fn next_segment(&mut self) -> io::Result<Segment> {
        let none = || io::Error::other("the pool is used up");
        self.present = self.files.pop_front().ok_or_else(none)?;
        self.generation = self.generation.next();
        Ok(Segment { generation: self.generation, capacity: SEGMENT_BYTES })
    }

    fn write_and_sync(&mut self, offset: u64, commit: &mut Vec<u8>) -> io::Result<()> {
        self.present.write_all_at(commit, offset)?;
        self.present.sync_data()
    }

    fn release(&mut self, _: Generation) {}
}
