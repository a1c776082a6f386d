//! The file operations of the log, so that a test can stop each of them: names in one directory, reads, writes, syncs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::space::Space;

/// One directory of segment files.
pub(crate) trait LogFs: Send + Sync {
    /// All names in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file of `bytes` allocated bytes, in place of one that may be there.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn LogFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// Renames; the target is not there. Durable with [`LogFs::sync_names`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes. Durable with [`LogFs::sync_names`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Free bytes of its file system; `None` if that is not known.
    fn free(&self) -> Option<u64> {
        None
    }
}

/// One segment file.
pub(crate) trait LogFile: Send + Sync {
    /// Its size.
    fn size(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes`; durable with [`LogFile::sync`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, with the size.
    fn sync(&self) -> io::Result<()>;
    /// The file itself, for drivers that do not write through this trait.
    fn std(&self) -> Option<&File>;
}

/// A directory of the operating system.
pub(crate) struct OsFs(pub(crate) PathBuf);

impl LogFs for OsFs {
    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn LogFile>> {
        let path = self.0.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(File::options().read(true).write(true).open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        crate::durable::sync_dir(&self.0)
    }

    fn free(&self) -> Option<u64> {
        Space::of(&self.0).ok().map(|space| space.free)
    }
}

impl LogFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn std(&self) -> Option<&File> {
        Some(self)
    }
}
