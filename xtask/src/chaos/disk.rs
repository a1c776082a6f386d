//! Full disks under load: the one of the node that leads most, of another node, of all. Held against: clients that write
//! are refused (BUSY, or a link that breaks) within a second after the disk is full; every shard takes
//! writes again within 5 s while a majority has space; reads go on even if nobody has; within 30 s after space came back
//! every shard takes writes, by no other hand than a supervisor's that starts ended processes; nothing is lost.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, NODES};
use super::disks::Disks;
use super::end::end;
use super::load::{END_MAX, Load, Plan, write_history};
use super::{Extent, Programs, Rng, space, unix_ms, wait};
use crate::Result;
use crate::tally::Tally;

/// How long a disk stays full, and the load's schedule in seconds: by night, and in the short form.
const LONG: (Duration, u64) = (Duration::from_secs(12), 40);
const SHORT: (Duration, u64) = (Duration::from_secs(8), 24);

/// Clients that write at a node whose disk is full are refused within this.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// Service within this while a majority has space, and after space came back.
const TAKEOVER_MAX_MS: u64 = 5_000;
const BACK_MAX_MS: u64 = 30_000;

/// A history that is read while disks are full.
const PAIRS: &str = "64";
const RUN_ID: &str = "disk";

/// Messages a second.
const RATE: u64 = 640;

/// Cycles with one cluster: each leaves more than a hundred MiB in a node's state, and nobody deletes anything.
const ROUND: usize = 6;

const KINDS: [&str; 3] = ["leader", "another", "all"];

struct Run {
    /// Which disk is the first to be full.
    seed: u64,
    full: Duration,
    /// Messages of a cycle, at [`RATE`].
    messages: u64,
    loadgen: std::path::PathBuf,
    rng: Rng,
    cycles: Vec<serde_json::Value>,
    tally: Tally,
}

/// `./x chaos disk`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    if let Some(outcome) = space::enter("disk", options) {
        return outcome;
    }
    let programs = Programs::build()?;
    println!("chaos: {} cycles, seed {}", options.count, options.seed);
    let begin = Instant::now();
    let (full, seconds) = if options.keeps { LONG } else { SHORT };
    let mut run = Run {
        seed: options.seed,
        full,
        messages: RATE * seconds,
        loadgen: programs.loadgen.clone(),
        rng: Rng(options.seed),
        cycles: Vec::new(),
        tally: Tally::default(),
    };
    let mut outcome = Ok(());
    while run.cycles.len() < options.count && outcome.is_ok() {
        outcome = run.round(&programs, options.count);
    }
    let figures = json!({ "cycles": run.cycles });
    end("disk", options, &programs, begin, outcome, run.tally, figures)
}

impl Run {
    /// Some cycles with a cluster that begins with empty disks.
    fn round(&mut self, programs: &Programs, count: usize) -> Result<()> {
        let mut cluster = Cluster::lay_out(&programs.throng, None)?;
        let disks = Disks::make(&mut cluster)?;
        cluster.launch()?;
        self.write_history(&cluster)?;
        for _ in 0..ROUND.min(count - self.cycles.len()) {
            self.cycle(&mut cluster, &disks)?;
        }
        Ok(())
    }

    fn write_history(&self, cluster: &Cluster) -> Result<()> {
        write_history(&self.loadgen, cluster, PAIRS, RUN_ID, &["--messages", "2000", "--rate", "500"])
    }

    fn cycle(&mut self, cluster: &mut Cluster, disks: &Disks) -> Result<()> {
        let number = self.cycles.len();
        let kind = (number + self.seed as usize) % KINDS.len();
        let plan = Plan { pairs: 1_000, messages: self.messages, rate: RATE, copies: (1, 2) };
        let mut load = Load::start_with(&self.loadgen, cluster, &plan, &["--body", "4096"])?;
        thread::sleep(Duration::from_secs(1));
        let leader = cluster.first_leader();
        let victims: Vec<usize> = match kind {
            0 => vec![leader],
            1 => vec![(leader + 1 + self.rng.below(NODES as u64 - 1) as usize) % NODES],
            _ => (0..NODES).collect(),
        };
        let full_ms = unix_ms();
        for victim in &victims {
            disks.fill(*victim)?;
        }
        let refused = wait("clients are refused", REFUSED_MAX, || {
            victims.iter().all(|victim| cluster.refuses(*victim))
        });
        load.timeline.watch(unix_ms() + 1);
        let acks = load.timeline.acks();
        let takeover = Duration::from_millis(TAKEOVER_MAX_MS);
        let mut ends = supervise(cluster, takeover, |_| false)?;
        let silent = load.timeline.silent();
        if kind != 2 && !silent.is_empty() {
            explain(cluster, &silent);
        }
        let (left, begin) = (self.full - takeover, Instant::now());
        let reads_ok = self.reads(cluster);
        let reads_ms = begin.elapsed().as_millis() as u64;
        ends.extend(supervise(cluster, left.saturating_sub(begin.elapsed()), |_| false)?);
        let while_full = load.timeline.back_ms().map(|back| back.saturating_sub(full_ms));
        // A majority has space unless all are full: then what counts is that nothing wrong is acknowledged.
        let takeover_ok = kind == 2 || while_full.is_some_and(|ms| ms <= TAKEOVER_MAX_MS);
        let acked = load.timeline.acks() - acks;
        for victim in &victims {
            disks.free(*victim)?;
        }
        let free_ms = unix_ms();
        load.timeline.watch(free_ms + 1);
        supervise(cluster, Duration::from_millis(BACK_MAX_MS), |_| load.timeline.back_ms().is_some())?;
        let back = load.timeline.back_ms().map(|back| back.saturating_sub(free_ms));
        let back_ok = back.is_some_and(|ms| ms <= BACK_MAX_MS);
        supervise(cluster, Duration::from_secs(30), |cluster| cluster.is_whole())?;
        // A flush that failed while the disk was full may end its node only now.
        let late = supervise(cluster, END_MAX, |_| !load.is_running())?;
        let verdict = load.finish()?;
        let checks = [
            ("refused", refused.as_ref().is_ok_and(|took| *took <= REFUSED_MAX)),
            ("writes while full", takeover_ok),
            ("reads", reads_ok),
            ("back", back_ok),
            ("nothing lost", verdict.is_good),
        ];
        for (_, is_good) in &checks {
            self.tally += Tally::one(*is_good);
        }
        let failed: Vec<_> = checks.iter().filter(|(_, is_good)| !is_good).map(|(name, _)| name).collect();
        println!(
            "chaos: cycle {:>3}, disk of {} full: refused after {refused:?}, writes at every shard after {while_full:?} ms ({acked} acks), \
             history read in {reads_ms} ms, {ends:?} ended, {late:?} later, back {back:?} ms after space, failed: {failed:?}",
            number + 1,
            KINDS[kind],
        );
        self.cycles.push(json!({
            "full": KINDS[kind], "refused_ms": refused.ok().map(|took| took.as_millis() as u64), "writes_while_full_ms": while_full, "acks_while_full": acked,
            "reads_ms": reads_ms, "failed": failed, "ended": ends, "ended_later": late, "back_ms": back, "outcome": verdict.report["outcome"], "checks": verdict.report["checks"],
        }));
        Ok(())
    }

    /// Whether the history can be read through a node that runs.
    fn reads(&self, cluster: &Cluster) -> bool {
        (0..NODES).filter(|node| cluster.status(*node).is_some()).any(|node| {
            let mut command = Command::new(&self.loadgen);
            command
                .args(["run", "readback", "--quiet", "--pairs", PAIRS, "--run-id", RUN_ID, "--within", "5s"]);
            command.args(["--target", &format!("ws://{}", cluster.nodes[node].client)]);
            command.arg("--key").arg(cluster.keys().join("token.pk8"));
            command.output().is_ok_and(|output| output.status.success())
        })
    }
}

/// Prints what the nodes say of shards that take no writes.
fn explain(cluster: &Cluster, shards: &[usize]) {
    for node in 0..NODES {
        let Some(status) = cluster.status(node) else { continue };
        let router = &status["router"];
        let seen = |shard: &usize| format!("{shard}: {}", router["shard_leader_term_applied"][*shard]);
        let seen: Vec<_> = shards.iter().map(seen).collect();
        println!(
            "chaos: node {}: {} BUSY, {} elections; leader, term, applied of silent shards: {}",
            node + 1,
            router["busy"],
            router["store"]["elections"],
            seen.join(", ")
        );
    }
}

/// Starts ended nodes again a second after they ended, until it is done or time is up; how each of them ended.
pub(super) fn supervise(
    cluster: &mut Cluster,
    most: Duration,
    mut done: impl FnMut(&Cluster) -> bool,
) -> Result<Vec<String>> {
    let (begin, mut ends) = (Instant::now(), Vec::new());
    let mut down: [Option<Instant>; NODES] = [None; NODES];
    while begin.elapsed() < most && !done(cluster) {
        for (node, since) in down.iter_mut().enumerate() {
            if let Some(status) = cluster.ended(node) {
                ends.push(format!("node {} {status}: {}", node + 1, cluster.last_words(node)));
                *since = Some(Instant::now());
            }
            if since.is_some_and(|since| since.elapsed() >= Duration::from_secs(1)) {
                cluster.spawn(node)?;
                *since = None;
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    for (node, since) in down.iter().enumerate() {
        if since.is_some() {
            cluster.spawn(node)?;
        }
    }
    Ok(ends)
}
