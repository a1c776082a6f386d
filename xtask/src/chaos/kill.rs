//! SIGKILL of real processes under load: half of the time whoever leads most shards, a tenth of the time all nodes at
//! once, otherwise one of the others. Nothing acknowledged may be lost, doubled or skipped, and service must be back
//! soon.
//!
//! Service is back when **every shard** has acknowledged a message that was due after the victims were dead, seen at a
//! client; the time counts from just before the kill to the latest of these first acks. A supervisor starts a dead node
//! again [`RESTART_AFTER`] later, as systemd does by default.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, NODES};
use super::end::end;
use super::load::{Load, Plan};
use super::recovery::Recovery;
use super::{Extent, Programs, Rng, unix_ms, wait};
use crate::Result;
use crate::tally::Tally;

/// systemd's `RestartSec`.
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// Service that is not back within this ends the campaign.
const BACK_MAX: Duration = Duration::from_secs(60);

/// One run of the load generator: two minutes of 10 messages a second and shard, so a shard's return shows within
/// about 100 ms.
const PLAN: Plan = Plan { pairs: 1_000, messages: 76_800, rate: 640, copies: (1, 2) };

/// What is broken and how long it took, over all rounds.
struct Counts {
    kills: [usize; 3],
    rounds: Vec<serde_json::Value>,
    tally: Tally,
    service: [Recovery; 3],
    all: Recovery,
}

/// `./x chaos kill`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    let programs = Programs::build()?;
    println!("chaos: {} kills, seed {}", options.count, options.seed);
    let mut cluster = Cluster::start(&programs.throng)?;
    let mut rng = Rng(options.seed);
    let mut counts = Counts {
        kills: [0; 3],
        rounds: Vec::new(),
        tally: Tally::default(),
        service: [Recovery::new("leader"), Recovery::new("all at once"), Recovery::new("another")],
        all: Recovery::new("service back"),
    };
    let begin = Instant::now();
    let mut outcome = Ok(());
    while counts.done() < options.count && outcome.is_ok() {
        outcome = round(&mut cluster, &programs.loadgen, options, &mut rng, &mut counts);
    }
    counts.service.iter().for_each(Recovery::print);
    counts.all.print();
    counts.tally += counts.all.check(options);
    let [leader, all, other] = counts.kills;
    let figures = json!({
        "kills": { "leader": leader, "all": all, "other": other }, "service_back": counts.all.json(),
        "by_victim": counts.service.iter().map(Recovery::json).collect::<Vec<_>>(), "rounds": counts.rounds,
    });
    end("kill", options, &programs, begin, outcome, counts.tally, figures)
}

impl Counts {
    fn done(&self) -> usize {
        self.kills.iter().sum()
    }
}

/// One run of the load generator with as many kills as fit into it.
fn round(
    cluster: &mut Cluster,
    loadgen: &std::path::Path,
    options: &Extent,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<()> {
    let left = (options.count - counts.done()) as u64;
    // A kill takes about two seconds; a short campaign needs no two minutes.
    let messages = PLAN.messages.min(PLAN.rate * (10 + left * 5 / 2));
    let mut load = Load::start(loadgen, cluster, &Plan { messages, ..PLAN })?;
    let (begin, first) = (Instant::now(), counts.done());
    while counts.done() < options.count && begin.elapsed() + Duration::from_secs(4) < load.schedule() {
        if !load.is_running() {
            break;
        }
        thread::sleep(rng.pause(200, 700));
        strike(cluster, &load, rng, counts)?;
    }
    let verdict = load.finish()?;
    counts.tally += Tally::one(verdict.is_good);
    let (kills, checks) = (counts.done() - first, &verdict.report["checks"]);
    println!(
        "chaos: {kills} kills under {} messages: {}",
        verdict.report["phases"][0]["acked"],
        if verdict.is_good { "nothing lost, doubled or skipped" } else { "VIOLATED" }
    );
    counts.rounds.push(json!({
        "kills": kills, "outcome": verdict.report["outcome"], "checks": checks,
        "acked": verdict.report["phases"][0]["acked"], "ack": verdict.report["phases"][0]["ack"]["corrected"],
    }));
    Ok(())
}

fn strike(cluster: &mut Cluster, load: &Load, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let leader = cluster.first_leader();
    let (kind, victims) = match rng.below(10) {
        0..5 => (0, vec![leader]),
        5 => (1, (0..NODES).collect()),
        _ => (2, vec![(leader + 1 + rng.below(NODES as u64 - 1) as usize) % NODES]),
    };
    let begin_ms = unix_ms();
    cluster.kill(&victims)?;
    load.timeline.watch(unix_ms() + 1);
    thread::sleep(RESTART_AFTER);
    for victim in &victims {
        cluster.spawn(*victim)?;
    }
    let back = wait("every shard takes writes", BACK_MAX, || load.timeline.back_ms().is_some());
    back.map_err(|reason| format!("{reason}; silent shards {:?}", load.timeline.silent()))?;
    let took = load.timeline.back_ms().map_or(0, |back| back.saturating_sub(begin_ms));
    counts.kills[kind] += 1;
    counts.service[kind].record(took);
    counts.all.record(took);
    let whole = cluster.wait_whole()?;
    println!(
        "chaos: kill {:>4} of {:<12} service back after {took:>5} ms, whole {} ms later",
        counts.done(),
        match victims.as_slice() {
            [one] if kind == 0 => format!("{} (leader)", one + 1),
            [one] => format!("{}", one + 1),
            _ => "all".into(),
        },
        whole.as_millis()
    );
    Ok(())
}
