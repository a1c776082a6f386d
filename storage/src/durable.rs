//! Files that are there after a crash, or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes names in a directory durable: creations, renames and removals.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a new file and syncs it; its name becomes durable with [`sync_dir`].
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames within a directory, durably.
pub(crate) fn rename_synced(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_dir)
}
