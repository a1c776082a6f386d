//! `./x bench cost-curve`: commits per second of three nodes on this machine by number of shards and of channels, and
//! what a cluster of 1,024 groups costs that nobody uses.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::floor;
use super::generator;
use super::table::{grouped, markdown};
use crate::Result;
use crate::options::Options;
use crate::programs::{LOADGEN, THRONG};
use crate::results;
use crate::tally::Tally;
use crate::usage::cpu_seconds;

const NODES: usize = 3;

/// Shards, each with the same channels.
const BY_SHARDS: &[(u32, usize)] = &[(1, 1_024), (8, 1_024), (64, 1_024), (1_024, 1_024)];
/// Channels on the default number of shards.
const BY_CHANNELS: &[(u32, usize)] =
    &[(64, 10), (64, 100), (64, 1_000), (64, 10_000), (64, 100_000), (64, 1_000_000)];

/// Groups of the idle cluster, and the CPU time that a node may take for them.
const IDLE_GROUPS: u32 = 1_024;
const IDLE_CORE_MAX: f64 = 0.05;
const IDLE_FOR: Duration = Duration::from_secs(10);

/// Measures both curves and the idle cluster; passes if the idle cluster stays within its bar.
pub(super) fn run(args: &[String]) -> Result<Tally> {
    let seconds: u32 = Options::read(args, &["--seconds"])?.get("--seconds", 8)?;
    let (throng, loadgen) = (THRONG.build()?, LOADGEN.build()?);
    let floor = floor(&throng)?;
    let (mut rows, mut points) = (Vec::new(), Vec::new());
    for &(shards, channels) in BY_SHARDS.iter().chain(BY_CHANNELS) {
        let report = point(&throng, &loadgen, shards, channels, seconds)?;
        let max = generator::phase(&report, "max")?;
        println!("{shards} shards, {channels} channels: {}/s", grouped(max.per_s));
        rows.push(vec![
            grouped(f64::from(shards)),
            grouped(channels as f64),
            grouped(max.per_s),
            format!("{:.1}", max.p50_ms),
            format!("{:.1}", max.p99_ms),
        ]);
        points.push(json!({
            "shards": shards, "channels": channels, "commits_per_s": max.per_s,
            "ack_p50_ms": max.p50_ms, "ack_p99_ms": max.p99_ms,
        }));
    }
    let idle = idle_cores(&throng)?;
    let most = idle.iter().copied().fold(0.0, f64::max);
    println!("\n{}", markdown(&["shards", "channels", "commits/s", "ack p50, ms", "ack p99, ms"], &rows));
    println!(
        "idle with {IDLE_GROUPS} groups: {:.1} % of a core for the busiest of {NODES} nodes",
        most * 100.0
    );
    let result = json!({
        "fdatasync_floor": floor, "points": points, "idle_groups": IDLE_GROUPS, "idle_cores_by_node": idle,
    });
    results::write("cost-curve", result)?;
    Ok(Tally::one(most <= IDLE_CORE_MAX))
}

/// Up to 16 messages under way per channel, as many as 64 sessions may have open.
fn point(throng: &Path, loadgen: &Path, shards: u32, channels: usize, seconds: u32) -> Result<Value> {
    let cluster = Cluster::start(throng, NODES, shards)?;
    let mut args: Vec<String> = ["publish", "--quiet", "--duration"].map(str::to_owned).to_vec();
    args.extend([format!("{seconds}s"), "--channels".to_owned(), channels.to_string(), "--key".to_owned()]);
    args.push(cluster.key().display().to_string());
    generator::report(loadgen, &args, &cluster.targets())
}

/// Cores that each node of a cluster takes while nobody uses it.
fn idle_cores(throng: &Path) -> Result<Vec<f64>> {
    let cluster = Cluster::start(throng, NODES, IDLE_GROUPS)?;
    let pids = cluster.pids();
    let used = || pids.iter().map(|&pid| cpu_seconds(pid)).collect::<Result<Vec<f64>>>();
    thread::sleep(Duration::from_secs(3)); // what the start left to do
    let before = used()?;
    thread::sleep(IDLE_FOR);
    let after = used()?;
    Ok(after.iter().zip(before).map(|(after, before)| (after - before) / IDLE_FOR.as_secs_f64()).collect())
}
