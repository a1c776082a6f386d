//! One round of `./x night drivers`: the log's drivers, and segments of different pasts, beside the bare disk.
//!
//! ```text
//! cargo run --release -p throng-storage --example log_drivers DIR SECONDS TURN
//! ```
//!
//! Each contender commits groups of 4, 64 and 256 KiB below DIR, one and eight in flight, for SECONDS or until its
//! segments are used up; TURN says who begins. A line of JSON for each says groups and commits per second (queued
//! groups share a commit), the latency from submit to report, and what a synced block took just before, in
//! microseconds.

mod drive;
mod pool;

use std::path::{Path, PathBuf};
use std::time::Duration;

use throng_storage::LogDriver;

use drive::{Cell, Measured};
use pool::Past;

/// Bytes of a group's commit, padding included.
const GROUPS: [usize; 3] = [4 << 10, 64 << 10, 256 << 10];
const IN_FLIGHT: [usize; 2] = [1, 8];

/// Who commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The product: segments are zeroed while the one before them fills.
    Driver(LogDriver),
    /// The same on the plain thread, and the log is truncated as it goes: segments are zeroed again and used again.
    Recycling,
    /// The plain thread's calls on segments that were made before the clock started.
    Ahead(Past),
    /// Nothing but `pwrite` and `fdatasync` of a group's bytes, on one thread, in zeroed segments.
    Bare,
}

const CONTENDERS: [(&str, Contender); 7] = [
    ("thread", Contender::Driver(LogDriver::Thread)),
    ("uring", Contender::Driver(LogDriver::Uring)),
    ("thread-recycling", Contender::Recycling),
    ("ahead-zeroed", Contender::Ahead(Past::Zeroed)),
    ("ahead-used", Contender::Ahead(Past::Used)),
    ("ahead-allocated", Contender::Ahead(Past::Allocated)),
    ("bare", Contender::Bare),
];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seconds, turn] = args.as_slice() else {
        return Err("usage: log_drivers DIR SECONDS TURN".into());
    };
    let (dir, turn): (PathBuf, usize) = (dir.into(), turn.parse()?);
    let time = Duration::from_secs_f64(seconds.parse()?);
    // The log would say so and go on as the plain thread: the figures would be another's.
    let has_uring = tokio_uring::Runtime::new(&tokio_uring::builder()).map(drop);
    if let Err(error) = &has_uring {
        eprintln!("io_uring is refused, so that driver is left out: {error}");
    }
    for bytes in GROUPS {
        for in_flight in IN_FLIGHT {
            for place in 0..CONTENDERS.len() {
                let (name, contender) = CONTENDERS[(place + turn) % CONTENDERS.len()];
                let is_void = contender == Contender::Driver(LogDriver::Uring) && has_uring.is_err();
                // The bare disk has one write under way, whatever waits.
                if is_void || (contender == Contender::Bare && in_flight > 1) {
                    continue;
                }
                let cell = Cell { bytes, in_flight, time };
                print(name, cell, &in_folder(&dir, contender, cell)?);
            }
        }
    }
    Ok(())
}

/// Measures in a fresh folder, and removes it.
fn in_folder(dir: &Path, contender: Contender, cell: Cell) -> Result<Measured> {
    let dir = dir.join(format!("log-drivers.{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = drive::measure(&dir, contender, cell);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn print(name: &str, cell: Cell, measured: &Measured) {
    let Cell { bytes, in_flight, .. } = cell;
    let Measured { latencies, elapsed, commits, floor } = measured;
    let seconds = elapsed.as_secs_f64();
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000].as_secs_f64() * 1e6;
    println!(
        "{{\"contender\":\"{name}\",\"group_bytes\":{bytes},\"in_flight\":{in_flight},\"groups_per_s\":{:.1},\
         \"commits_per_s\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1},\"floor_us\":{:.1},\"seconds\":{seconds:.2}}}",
        latencies.len() as f64 / seconds,
        *commits as f64 / seconds,
        at(500),
        at(990),
        at(1000),
        floor.as_secs_f64() * 1e6,
    );
}
