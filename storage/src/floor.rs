//! What the disk itself costs: the floor that stands beside every commit figure.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use throng_storage_core::log::BLOCK;

use crate::log::files::zero_fill;

/// Blocks of the probe's file, written in turn.
const BLOCKS: u64 = 256;

/// Latency of one 4 KiB block written and synced, in a preallocated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// How many were timed.
    pub samples: usize,
    /// Half were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

/// Writes and syncs single blocks in a file of its own in `dir`, which it removes. Takes `samples` × 50 µs on a fast
/// disk and × 10 ms on a slow one; at most 5 s in all. A virtual disk may answer from its host's cache: this says
/// nothing about power loss.
///
/// # Errors
/// What the operating system says.
pub fn fsync_floor(dir: &Path, samples: usize) -> io::Result<Floor> {
    let path = dir.join(format!("fsync-floor.{}.tmp", std::process::id()));
    let outcome = probe(&path, samples.max(1));
    fs::remove_file(&path)?;
    outcome
}

fn probe(path: &Path, samples: usize) -> io::Result<Floor> {
    let file = File::options().write(true).create(true).truncate(true).open(path)?;
    zero_fill(&file, 0, BLOCKS * BLOCK as u64, &|_| false)?;
    let block = [0x5a; BLOCK];
    let (mut taken, begin) = (Vec::with_capacity(samples), Instant::now());
    for n in 0..samples as u64 {
        let start = Instant::now();
        file.write_all_at(&block, n % BLOCKS * BLOCK as u64)?;
        file.sync_data()?;
        taken.push(start.elapsed());
        if begin.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    taken.sort_unstable();
    let at = |per_mille: usize| taken[(taken.len() * per_mille / 1000).min(taken.len() - 1)];
    Ok(Floor { samples: taken.len(), p50: at(500), p99: at(990), max: at(1000) })
}
