//! What processes and folders take of the machine, and what its disk takes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::bench::table::median;

/// Clock ticks per second of `/proc/PID/stat`; 100 on every Linux that is not configured by hand.
const TICKS_PER_S: f64 = 100.0;

/// 2 ms of a fast disk, 200 ms of a slow one.
const FLOOR_SAMPLES: usize = 50;

/// CPU time of a process so far, user and system.
///
/// # Errors
/// It does not run.
pub(crate) fn cpu_seconds(pid: u64) -> Result<f64> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| format!("process {pid}: {error}"))?;
    // The name in parentheses may hold anything; fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(11), ticks(12));
    Ok((user.ok_or("no utime")? + system.ok_or("no stime")?) / TICKS_PER_S)
}

/// Bytes that the loopback interface has carried, of all processes.
pub(crate) fn loopback_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes that a folder takes on disk, with all below it. Files that vanish meanwhile do not count.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// What a synced block of 4 KiB takes in a folder just now, in microseconds: the median of a few. Where others
/// use disk or cores it changes within seconds, and what was measured beside different floors does not compare.
///
/// # Errors
/// What the operating system says.
pub(crate) fn sync_floor_us(folder: &Path) -> Result<f64> {
    let path = folder.join("sync-floor");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::create(&path).map_err(failed)?;
    let (block, mut taken) = ([0x5a; 4096], Vec::new());
    // The first one allocates the block.
    for _ in 0..=FLOOR_SAMPLES {
        let begin = Instant::now();
        file.write_all_at(&block, 0).and_then(|()| file.sync_data()).map_err(failed)?;
        taken.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(&path).map_err(failed)?;
    Ok(median(taken.into_iter().skip(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        assert!(cpu_seconds(u64::from(std::process::id())).is_ok() && cpu_seconds(u64::MAX).is_err());
        assert!(sync_floor_us(&std::env::temp_dir()).is_ok_and(|floor| floor > 0.0));
        assert!(folder_bytes(Path::new("src")) > 4096 && folder_bytes(Path::new("/nowhere")) == 0);
    }
}
