//! Result files of long runs, `docs/results/NAME.json`: what was measured, when, on which machine, by which command, at
//! which commit. They are committed, so that a figure in the documents can be traced to the run that gave it.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Result;
use crate::process::output_of;

/// Where they lie, in the repository's root.
const FOLDER: &str = "docs/results";

/// Writes `docs/results/NAME.json` with `results` and the circumstances of this run. It replaces what is there: the
/// repository keeps the history.
///
/// # Errors
/// The file cannot be written, or the commit cannot be found out.
pub(crate) fn write(name: &str, results: Value) -> Result<PathBuf> {
    let run = json!({
        "name": name,
        "date": date_utc(),
        "command": command_line(),
        "commit": commit()?,
        "machine": machine(),
        "results": results,
    });
    let path = PathBuf::from(FOLDER).join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&run).map_err(|error| error.to_string())?;
    fs::create_dir_all(FOLDER)
        .and_then(|()| fs::write(&path, text + "\n"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(path)
}

/// The commit that was built, with `-dirty` behind it if files differ from it (other results do not count).
///
/// # Errors
/// This is no git clone.
pub(crate) fn commit() -> Result<String> {
    let git = |args: &[&str]| output_of(Command::new("git").args(args));
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--", ".", &format!(":!{FOLDER}")])?;
    Ok(format!("{}{}", head.trim(), if changed.trim().is_empty() { "" } else { "-dirty" }))
}

/// What the run had: processor, cores, memory in MiB, kernel.
pub(crate) fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let memory_kib: u64 =
        field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
    json!({
        "cpu": field(&cpu, "model name").unwrap_or("unknown"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_mib": memory_kib / 1024,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

/// The command as it was typed.
fn command_line() -> String {
    std::iter::once("./x".to_owned()).chain(env::args().skip(1)).collect::<Vec<_>>().join(" ")
}

/// Now, as `2026-01-31T12:34:56Z`.
fn date_utc() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(day);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01.
fn civil(mut day: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_783, (2026, 11, 26)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(day), date, "day {day}");
        }
    }

    #[test]
    fn the_machine_is_known() {
        let machine = machine();
        assert!(machine["cores"].as_u64() > Some(0) && machine["memory_mib"].as_u64() > Some(0), "{machine}");
        assert_eq!(field("a : 1\nab\t: two words\n", "ab"), Some("two words"));
        assert_eq!(field("a : 1\n", "b"), None);
    }
}
