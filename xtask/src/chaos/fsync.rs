//! Disks that fail or hang under the node that leads most shards. Failing: libfiu makes its syncs fail with a
//! probability of 1 to 10 %, from one instant on; it must stop acknowledging and leave by itself. Hung: its file system
//! is frozen, so that writes and syncs never return; its leaderships must move within 5 s. Either way every shard takes
//! writes again within 5 s, and nothing is lost.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, NODES};
use super::disk::supervise;
use super::disks::Disks;
use super::end::end;
use super::load::{Load, Plan};
use super::recovery::Recovery;
use super::{Extent, Programs, Rng, space, unix_ms, wait};
use crate::Result;
use crate::process;
use crate::tally::Tally;

/// Writes at every shard within this.
const MOVED_MAX_MS: u64 = 5_000;

/// A node whose syncs fail has left within this.
const LEFT_MAX: Duration = Duration::from_secs(20);

/// How long a disk hangs.
const HUNG: Duration = Duration::from_secs(8);

/// One run in so many hangs the disk.
const HANGS: u64 = 5;

/// Runs under one load.
const ROUND: usize = 20;

struct Counts {
    failing: Recovery,
    hung: Recovery,
    late: usize,
    stayed: usize,
    runs: Vec<serde_json::Value>,
    rounds: Vec<serde_json::Value>,
    tally: Tally,
}

/// `./x chaos fsync`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    if let Some(outcome) = space::enter("fsync", options) {
        return outcome;
    }
    let programs = Programs::build()?;
    println!("chaos: {} runs, seed {}", options.count, options.seed);
    let mut cluster = Cluster::lay_out(&programs.throng, None)?;
    let disks = Disks::make(&mut cluster)?;
    for node in 0..NODES {
        preload(&mut cluster, node);
    }
    cluster.launch()?;
    let (mut rng, begin) = (Rng(options.seed), Instant::now());
    let mut counts = Counts {
        failing: Recovery::new("writes at every shard after syncs began to fail"),
        hung: Recovery::new("writes at every shard after the disk hung"),
        late: 0,
        stayed: 0,
        runs: Vec::new(),
        rounds: Vec::new(),
        tally: Tally::default(),
    };
    let mut outcome = Ok(());
    while counts.runs.len() < options.count && outcome.is_ok() {
        outcome = round(&mut cluster, &disks, &programs.loadgen, options, &mut rng, &mut counts);
    }
    counts.failing.print();
    counts.hung.print();
    println!("chaos: {} too late, {} nodes stayed although syncs failed", counts.late, counts.stayed);
    counts.tally += Tally::one(counts.late == 0);
    counts.tally += Tally::one(counts.stayed == 0);
    let figures = json!({
        "failing": counts.failing.json(), "hung": counts.hung.json(), "late": counts.late, "stayed": counts.stayed,
        "runs": counts.runs, "rounds": counts.rounds,
    });
    end("fsync", options, &programs, begin, outcome, counts.tally, figures)
}

/// libfiu in front of the C library, told what to do through a pipe.
fn preload(cluster: &mut Cluster, node: usize) {
    let pipe = cluster.folder.join(format!("fiu-{}", node + 1)).display().to_string();
    let libraries = "/usr/lib/fiu/fiu_run_preload.so /usr/lib/fiu/fiu_posix_preload.so";
    let env = [("LD_PRELOAD", libraries.to_owned()), ("FIU_CTRL_FIFO", pipe)];
    cluster.nodes[node].env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
}

/// Makes the syncs of a running node fail now and then.
fn fail_syncs(cluster: &Cluster, node: usize, per_cent: u64) -> Result<()> {
    let pid = cluster.pid(node).ok_or_else(|| format!("node {} does not run", node + 1))?;
    let mut command = Command::new("fiu-ctrl");
    command.arg("-f").arg(cluster.folder.join(format!("fiu-{}", node + 1)));
    for point in ["fsync", "fdatasync"] {
        let order = format!("enable_random name=posix/io/sync/{point},probability=0.{per_cent:02}");
        command.args(["-c", &order]);
    }
    process::run(command.arg(pid.to_string()))
}

fn round(
    cluster: &mut Cluster,
    disks: &Disks,
    loadgen: &std::path::Path,
    options: &Extent,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<()> {
    let runs = (options.count - counts.runs.len()).min(ROUND);
    let plan = Plan { pairs: 1_000, messages: 640 * (7 * runs as u64 + 6), rate: 640, copies: (1, 2) };
    let mut load = Load::start(loadgen, cluster, &plan)?;
    for _ in 0..runs {
        if !load.is_running() {
            break;
        }
        thread::sleep(rng.pause(200, 800));
        match rng.below(HANGS) {
            0 => hang(cluster, disks, &load, counts)?,
            _ => fail(cluster, &load, 1 + rng.below(10), counts)?,
        }
        supervise(cluster, Duration::from_secs(30), |cluster| cluster.is_whole())?;
    }
    let verdict = load.finish()?;
    counts.tally += Tally::one(verdict.is_good);
    counts.rounds.push(json!({
        "runs": runs, "outcome": verdict.report["outcome"], "checks": verdict.report["checks"],
        "acked": verdict.report["phases"][0]["acked"],
    }));
    Ok(())
}

fn fail(cluster: &mut Cluster, load: &Load, per_cent: u64, counts: &mut Counts) -> Result<()> {
    let leader = cluster.first_leader();
    let begin_ms = unix_ms();
    fail_syncs(cluster, leader, per_cent)?;
    let mut status = None;
    let left = wait("the node leaves", LEFT_MAX, || {
        status = cluster.ended(leader);
        status.is_some()
    });
    load.timeline.watch(unix_ms() + 1);
    // Acks count from the node's end; before it the others may still have been waiting for it.
    let back = wait("writes", Duration::from_millis(4 * MOVED_MAX_MS), || load.timeline.back_ms().is_some());
    let took = load.timeline.back_ms().map(|back| back.saturating_sub(begin_ms));
    counts.stayed += usize::from(left.is_err());
    counts.late += usize::from(left.is_ok() && took.is_none_or(|took| took > MOVED_MAX_MS));
    if let Some(took) = took {
        counts.failing.record(took);
    }
    let words = cluster.last_words(leader);
    println!(
        "chaos: run {:>3}: {per_cent:>2} % of node {}'s syncs fail: left {status:?} ({words}), writes after {took:?} ms",
        counts.runs.len() + 1,
        leader + 1
    );
    counts.runs.push(json!({
        "fault": "failing", "per_cent": per_cent, "left": status.map(|status| status.to_string()), "words": words,
        "writes_ms": took,
    }));
    if left.is_err() {
        cluster.kill(&[leader])?;
    }
    if status.is_some() || left.is_err() {
        cluster.spawn(leader)?;
    }
    back.map(drop)
}

fn hang(cluster: &mut Cluster, disks: &Disks, load: &Load, counts: &mut Counts) -> Result<()> {
    let leader = cluster.first_leader();
    let begin_ms = unix_ms();
    disks.freeze(leader)?;
    load.timeline.watch(unix_ms() + 1);
    let begin = Instant::now();
    let _ = wait("writes", HUNG, || load.timeline.back_ms().is_some());
    let took = load.timeline.back_ms().map(|back| back.saturating_sub(begin_ms));
    thread::sleep(HUNG.saturating_sub(begin.elapsed()));
    disks.thaw(leader)?;
    counts.late += usize::from(took.is_none_or(|took| took > MOVED_MAX_MS));
    if let Some(took) = took {
        counts.hung.record(took);
    }
    println!(
        "chaos: run {:>3}: node {}'s disk hung: writes after {took:?} ms",
        counts.runs.len() + 1,
        leader + 1
    );
    counts.runs.push(json!({ "fault": "hung", "writes_ms": took }));
    wait("writes", Duration::from_secs(60), || load.timeline.back_ms().is_some()).map(drop)
}
