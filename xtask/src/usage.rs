//! What processes and folders take of the machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Result;

/// Clock ticks per second of `/proc/PID/stat`; 100 on every Linux that is not configured by hand.
const TICKS_PER_S: f64 = 100.0;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        assert!(cpu_seconds(u64::from(std::process::id())).is_ok() && cpu_seconds(u64::MAX).is_err());
        assert!(folder_bytes(Path::new("src")) > 4096 && folder_bytes(Path::new("/nowhere")) == 0);
    }
}
