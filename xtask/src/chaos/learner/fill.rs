//! Storing what is to be copied.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::Result;
use crate::chaos::cluster::Cluster;
use crate::load::is_correct;
use crate::usage::{cpu_seconds, folder_bytes};

/// Bytes of a stored body. They are random, so that nothing compresses them.
pub(super) const BODY: u64 = 16 * 1024;

/// One message under way in each channel: 1 MiB in all, so that no limit refuses any.
const CHANNELS: &str = "64";

/// After it flushes and merges go on for a while.
const QUIET_CORES: f64 = 0.2;
const QUIET_MAX: Duration = Duration::from_secs(120);

/// What a node has on disk, bytes.
pub(super) struct Size {
    pub(super) state: u64,
    pub(super) log: u64,
}

impl Size {
    pub(super) fn of(cluster: &Cluster, node: usize) -> Self {
        let data = &cluster.nodes[node].data;
        Self { state: folder_bytes(&data.join("state")), log: folder_bytes(&data.join("log")) }
    }
}

/// Publishes so many MiB of bodies, waits until the nodes have nothing left to do, and says what each has on disk.
pub(super) fn fill(loadgen: &Path, cluster: &Cluster, mib: u64) -> Result<Vec<Size>> {
    let (begin, report) = (Instant::now(), cluster.folder.join("fill.json"));
    let messages = mib * (1 << 20) / BODY;
    let mut command = Command::new(loadgen);
    command.args(["run", "publish", "--quiet", "--warmup", "0s", "--duration", "2h", "--window", "1"]);
    command.args(["--channels", CHANNELS, "--sessions", CHANNELS]);
    command.args(["--messages", &messages.to_string(), "--body", &BODY.to_string()]);
    super::load::targets(&mut command, cluster);
    command.arg("--json").arg(&report).stdout(Stdio::null());
    let status = command.status().map_err(|error| format!("cannot start the load generator: {error}"))?;
    if !is_correct(status) {
        let text = fs::read_to_string(&report).unwrap_or_default();
        return Err(format!("the load generator could not fill the cluster ({status}): {text}"));
    }
    let stored = begin.elapsed();
    wait_quiet(cluster)?;
    let sizes: Vec<Size> = cluster.running().map(|node| Size::of(cluster, node)).collect();
    for (node, size) in sizes.iter().enumerate() {
        println!("node {}: state {} MiB, log {} MiB on disk", node + 1, size.state >> 20, size.log >> 20);
    }
    println!(
        "{mib} MiB of bodies stored in {:.0} s, quiet after {:.0} s",
        stored.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    Ok(sizes)
}

fn wait_quiet(cluster: &Cluster) -> Result<()> {
    let used = || -> Result<f64> {
        cluster.running().filter_map(|node| cluster.pid(node)).map(|pid| cpu_seconds(u64::from(pid))).sum()
    };
    let begin = Instant::now();
    let mut before = used()?;
    while begin.elapsed() < QUIET_MAX {
        thread::sleep(Duration::from_secs(3));
        let now = used()?;
        if (now - before) / 3.0 < QUIET_CORES {
            return Ok(());
        }
        before = now;
    }
    println!("the nodes are still busy after {QUIET_MAX:?}");
    Ok(())
}
