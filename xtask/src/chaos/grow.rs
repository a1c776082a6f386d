//! A cluster that is exchanged node by node under load: one joins, shards spread over it, another one leaves in order or
//! is killed and replaced. After a few cycles no node of the beginning is left. Nothing may be lost, doubled or skipped,
//! and in the end every shard must have its replicas where the map wants them.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, SHARDS};
use super::end::end;
use super::load::{Load, Plan};
use super::{Extent, Programs, Rng};
use crate::Result;
use crate::tally::Tally;

/// The load of one cycle: 40 seconds, or as long as the cycle takes.
const PLAN: Plan = Plan { pairs: 1_000, messages: 12_000, rate: 300, copies: (1, 2) };

/// `./x chaos grow`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    let programs = Programs::build()?;
    println!("chaos: {} nodes exchanged, seed {}", options.count, options.seed);
    let mut cluster = Cluster::start(&programs.throng)?;
    let (mut rng, mut tally, mut cycles) = (Rng(options.seed), Tally::default(), Vec::new());
    let (begin, mut outcome) = (Instant::now(), Ok(()));
    while cycles.len() < options.count && outcome.is_ok() {
        outcome = cycle(&mut cluster, &programs, &mut rng, &mut cycles).map(|good| tally += Tally::one(good));
    }
    let figures = json!({ "cycles": cycles });
    end("grow", options, &programs, begin, outcome, tally, figures)
}

fn cycle(
    cluster: &mut Cluster,
    programs: &Programs,
    rng: &mut Rng,
    cycles: &mut Vec<serde_json::Value>,
) -> Result<bool> {
    let load = Load::start(&programs.loadgen, cluster, &PLAN)?;
    let begin = Instant::now();
    let living: Vec<usize> = cluster.running().collect();
    let leaver = living[rng.below(living.len() as u64) as usize];
    let asked = living.into_iter().find(|node| *node != leaver).ok_or("nobody is left to ask")?;
    let is_killed = rng.below(2) == 0;
    if is_killed {
        cluster.kill(&[leaver])?;
    }
    let new = cluster.join()?;
    cluster.wait_active(asked, new)?;
    let joined = begin.elapsed();
    // One that leaves in order gives its shards away while it serves; one that is dead cannot.
    cluster.operate(asked, &["leave", &(leaver + 1).to_string()])?;
    let moved = begin.elapsed();
    if !is_killed {
        cluster.stop(leaver)?;
    }
    cluster.nodes[leaver].is_gone = true;
    cluster.operate(asked, &["balance"])?;
    thread::sleep(Duration::from_millis(500));
    let verdict = load.finish()?;
    cluster.wait_whole()?;
    let replicas: u64 =
        cluster.running().filter_map(|node| cluster.status(node)?["router"]["replicas"].as_u64()).sum();
    let is_complete = replicas == 3 * SHARDS as u64;
    println!(
        "chaos: node {} {}, node {} in its place: takes shards after {:.1} s, all moved after {:.1} s, {replicas} replicas; {}",
        leaver + 1,
        if is_killed { "killed" } else { "left" },
        new + 1,
        joined.as_secs_f64(),
        moved.as_secs_f64(),
        if verdict.is_good { "nothing lost, doubled or skipped" } else { "VIOLATED" }
    );
    cycles.push(json!({
        "left": leaver + 1, "killed": is_killed, "joined": new + 1, "active_ms": joined.as_millis() as u64,
        "moved_ms": moved.as_millis() as u64, "replicas": replicas,
        "outcome": verdict.report["outcome"], "acked": verdict.report["phases"][0]["acked"],
        "checks": verdict.report["checks"],
    }));
    Ok(verdict.is_good && is_complete)
}
