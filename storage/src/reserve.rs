//! Room on the disk that belongs to this node: a file that is given up when the disk is full, so that what is under way
//! can still be stored, the state opens at the next start, and reads go on while nothing can be written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::limits::{RESERVE_BYTES_MAX, RESERVE_BYTES_MIN};
use crate::space::Space;

/// Its name in the data directory.
pub(crate) const RESERVE: &str = "RESERVE";

/// The file, whether it is there or not.
#[derive(Clone, Debug)]
pub(crate) struct Reserve {
    dir: PathBuf,
}

impl Reserve {
    /// The reserve of a data directory.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Gives the reserve up if less than `need` bytes are free.
    pub(crate) fn make_room(&self, need: u64) {
        // A file system that does not answer is the business of whoever writes to it.
        if Space::of(&self.dir).is_ok_and(|space| space.free < need)
            && fs::remove_file(self.dir.join(RESERVE)).is_ok()
        {
            tracing::warn!("the disk is full: its reserve is given up");
        }
    }

    /// Makes it again where there is plenty of room. Whoever has none goes without.
    pub(crate) fn restore(&self, space: Space) {
        let bytes = (space.total / 40).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX);
        let path = self.dir.join(RESERVE);
        if space.free < 2 * space.reserve() + bytes || path.exists() {
            return;
        }
        if let Err(error) = make(&path, bytes) {
            tracing::debug!(%error, "no reserve on the disk");
            // What is left of it must not count as one.
            let _ = fs::remove_file(&path);
        }
    }
}

fn make(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_where_there_is_room_and_given_up_where_there_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let (reserve, path) = (Reserve::of(dir.path()), dir.path().join(RESERVE));
        let total = 40 * RESERVE_BYTES_MIN;
        reserve.restore(Space { total, free: total / 20 });
        assert!(!path.exists(), "no room");
        reserve.restore(Space { total, free: total });
        assert_eq!(path.metadata().expect("made").len(), RESERVE_BYTES_MIN);
        reserve.make_room(1);
        assert!(path.exists(), "there is room");
        reserve.make_room(u64::MAX);
        assert!(!path.exists());
        reserve.make_room(u64::MAX);
    }
}
