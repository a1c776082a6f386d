//! One process per data directory.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Doing, OpenError};

/// Name of the lock file.
pub(crate) const LOCK: &str = "LOCK";

/// Holds the lock of a data directory (`flock` on `DIR/LOCK`, which the kernel gives up when the process ends, however
/// it ends). Everything that touches the directory keeps a share of it, so it goes last.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Locks a directory that is there.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.doing("open", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { doing: "lock", path, source }),
        }
    }
}
