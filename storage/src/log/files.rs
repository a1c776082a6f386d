//! Segment files: their names, their making.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use throng_storage_core::log::{BLOCK, Generation, LogId, SegmentHeader};

use crate::durable::{rename_synced, sync_dir};
use crate::limits::ZERO_CHUNK;

const SUFFIX: &str = ".log";
const TEMPORARY: &str = ".tmp";

/// The file of a segment.
pub(crate) fn path_of(dir: &Path, generation: Generation) -> PathBuf {
    dir.join(format!("{generation:010}{SUFFIX}", generation = generation.0))
}

/// Segments in a log directory, in order. Leftovers of segments that were never finished are not among them.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<Generation>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        found.extend(number.map(Generation));
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes what an interrupted [`create`] left.
pub(crate) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == &TEMPORARY[1..]) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Makes an empty segment: written in full under another name, then renamed, so that a segment with its real name is
/// always whole. `stopped` ends it early, with `Interrupted`.
pub(crate) fn create(
    dir: &Path,
    log: LogId,
    generation: Generation,
    capacity: u64,
    stopped: &dyn Fn() -> bool,
) -> io::Result<()> {
    let path = path_of(dir, generation);
    let unfinished = path.with_extension(&TEMPORARY[1..]);
    let file = File::options().write(true).create(true).truncate(true).open(&unfinished)?;
    let made = fill(&file, SegmentHeader { log, generation, capacity }, stopped);
    if made.is_err() {
        // A full disk must not stay full of this. If this fails too, the next start removes it.
        let _left_behind = fs::remove_file(&unfinished);
        return made;
    }
    rename_synced(&unfinished, &path)?;
    sync_dir(dir)
}

fn fill(file: &File, header: SegmentHeader, stopped: &dyn Fn() -> bool) -> io::Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, header.capacity)?;
    file.write_all_at(&header.encode(), 0)?;
    zero_fill(file, BLOCK as u64, header.capacity, stopped)?;
    file.sync_all()
}

/// Writes zeros to `from..to` and syncs them chunk by chunk. Blocks that were only allocated would be turned into
/// written ones by the first fdatasync of each commit, which costs a journal transaction every time.
pub(crate) fn zero_fill(file: &File, from: u64, to: u64, stopped: &dyn Fn() -> bool) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK];
    let mut at = from;
    while at < to {
        if stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = ((to - at) as usize).min(ZERO_CHUNK);
        file.write_all_at(&zeros[..len], at)?;
        file.sync_data()?;
        at += len as u64;
    }
    Ok(())
}

/// Opens a segment for writing.
pub(crate) fn open(dir: &Path, generation: Generation) -> io::Result<File> {
    File::options().read(true).write(true).open(path_of(dir, generation))
}
