//! Segment files: their names, their making, their second life.
//!
//! ```text
//!  made anew   create N.tmp ─► zeros ─► header ─► sync ─► rename to N.log ─► sync names
//!  recycled    rename G.log to N.tmp ─► sync names ─┘ from here on the same
//! ```
//!
//! A name that ends in `.log` is a whole segment, zeroed but for its header and what the log thread wrote. Whatever a
//! crash leaves under another name is removed at the next start.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_storage_core::log::{BLOCK, Generation, SegmentHeader};

use super::fs::{LogFile, LogFs};
use crate::limits::ZERO_CHUNK;

const SUFFIX: &str = ".log";
const TEMPORARY: &str = ".tmp";

/// The file of a segment.
pub(crate) fn name_of(generation: Generation) -> String {
    format!("{:010}{SUFFIX}", generation.0)
}

fn unfinished_name(generation: Generation) -> String {
    format!("{:010}{TEMPORARY}", generation.0)
}

/// Segments in a log directory, in order. Leftovers of segments that were never finished are not among them.
pub(crate) fn list(fs: &dyn LogFs) -> io::Result<Vec<Generation>> {
    let names = fs.list()?;
    let mut found: Vec<Generation> =
        names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok().map(Generation)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Removes what an interrupted [`make`] left.
pub(crate) fn remove_unfinished(fs: &dyn LogFs) -> io::Result<()> {
    for name in fs.list()?.iter().filter(|name| name.ends_with(TEMPORARY)) {
        fs.remove(name)?;
    }
    Ok(())
}

/// Called between two chunks with what the first one took; rests if it wants to, and ends the making if it says true.
pub(crate) type Between<'a> = &'a dyn Fn(Duration) -> bool;

/// Makes an empty segment, out of the file of `old` if that is given. `between` may end it early, with `Interrupted`.
///
/// # Errors
/// What the file system says. What was made so far is removed, as far as that goes: a full disk must not stay full of
/// it.
pub(crate) fn make(
    fs: &dyn LogFs,
    old: Option<Generation>,
    header: SegmentHeader,
    between: Between<'_>,
) -> io::Result<()> {
    let unfinished = unfinished_name(header.generation);
    let file = match old {
        Some(old) => {
            fs.rename(&name_of(old), &unfinished)?;
            fs.sync_names()?;
            fs.open(&unfinished)?
        }
        None => fs.create(&unfinished, header.capacity).inspect_err(|_| {
            let _left_behind = fs.remove(&unfinished);
        })?,
    };
    let made = fill(&*file, &header, between);
    if made.is_err() {
        // If this fails too, the next start removes it.
        let _left_behind = fs.remove(&unfinished);
        return made;
    }
    fs.rename(&unfinished, &name_of(header.generation))?;
    fs.sync_names()
}

fn fill(file: &dyn LogFile, header: &SegmentHeader, between: Between<'_>) -> io::Result<()> {
    zero_fill(file, BLOCK as u64, header.capacity, between)?;
    file.write_at(&header.encode(), 0)?;
    file.sync()
}

/// Writes zeros to `from..to` and syncs them chunk by chunk. Blocks that were only allocated would be turned into
/// written ones by the first fdatasync of each commit, which costs a journal transaction every time; and what a
/// recycled file held before must not look like a torn write.
pub(crate) fn zero_fill(file: &dyn LogFile, from: u64, to: u64, between: Between<'_>) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let begin = Instant::now();
        let len = ((to - at) as usize).min(zeros.len());
        file.write_at(&zeros[..len], at)?;
        file.sync()?;
        at += len as u64;
        if at < to && between(begin.elapsed()) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

/// Opens a segment for reading and writing.
pub(crate) fn open(fs: &dyn LogFs, generation: Generation) -> io::Result<Arc<dyn LogFile>> {
    fs.open(&name_of(generation))
}
