//! Many seeds.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use throng_sim::{FaultCounts, Scenario};

use crate::args::Args;

/// What a batch came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    /// Seeds that were run twice, and those among them with another trace.
    twice: u64,
    differed: u64,
    acked: u64,
    deliveries: u64,
    events: u64,
    virtual_time: Duration,
    counts: FaultCounts,
}

fn run_seed(seed: u64, twice: bool, sum: &mut Sum) {
    let outcome = throng_sim::run(&Scenario::draw(seed));
    sum.seeds += 1;
    sum.counts.add(&outcome.faults);
    sum.acked += outcome.acked as u64;
    sum.deliveries += outcome.deliveries;
    sum.events += outcome.events;
    sum.virtual_time += outcome.virtual_time;
    if !outcome.violations.is_empty() {
        sum.failed.push(seed);
        println!("seed {seed} FAILED; replay it with: ./x sim --seed {seed}");
        outcome.violations.iter().take(5).for_each(|violation| println!("  {violation}"));
    }
    if twice {
        sum.twice += 1;
        if throng_sim::run(&Scenario::draw(seed)).trace != outcome.trace {
            sum.differed += 1;
            println!("seed {seed} NOT REPRODUCED");
        }
    }
}

/// Runs seeds until their number or time is up; true if none failed.
pub(crate) fn run(args: &Args) -> bool {
    let begin = Instant::now();
    let mut sum = Sum::default();
    for seed in args.from..args.from.saturating_add(args.seeds) {
        if args.seconds.is_some_and(|limit| begin.elapsed().as_secs() >= limit) {
            break;
        }
        run_seed(seed, args.twice, &mut sum);
    }
    report(&sum, begin.elapsed());
    let idle = idle_kinds(&sum);
    if !idle.is_empty() {
        println!("FAILED: these faults never struck: {}", idle.join(", "));
    }
    let bad = sum.failed.len() as u64 + sum.differed + u64::from(!idle.is_empty());
    if let Some(path) = &args.json
        && let Err(error) = std::fs::write(path, json(&sum, begin.elapsed(), args.from))
    {
        println!("cannot write {}: {error}", path.display());
        return false;
    }
    println!("{} passed, {bad} failed", sum.seeds - sum.failed.len() as u64);
    bad == 0 && sum.seeds > 0
}

/// A kind of fault that never struck tests nothing. With few seeds it may be chance.
fn idle_kinds(sum: &Sum) -> Vec<&'static str> {
    let enough = sum.seeds >= 100;
    sum.counts.named().into_iter().filter(|(_, count)| enough && *count == 0).map(|(name, _)| name).collect()
}

fn report(sum: &Sum, took: Duration) {
    let hours = sum.virtual_time.as_secs_f64() / 3600.0;
    println!(
        "{} seeds, {} sends acknowledged, {} deliveries, {} faults ({} beside single messages), {hours:.1} virtual hours in \
         {:.1} s",
        sum.seeds,
        sum.acked,
        sum.deliveries,
        sum.counts.total(),
        sum.counts.beside_messages(),
        took.as_secs_f64()
    );
    if sum.twice > 0 {
        println!("{} of {} seeds reproduced their trace", sum.twice - sum.differed, sum.twice);
    }
    let named = sum.counts.named();
    let named: Vec<_> = named.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("faults: {}", named.join(", "));
}

fn json(sum: &Sum, took: Duration, from: u64) -> String {
    let mut faults = String::new();
    for (name, count) in sum.counts.named() {
        let comma = if faults.is_empty() { "" } else { ", " };
        let _ = write!(faults, "{comma}\"{name}\": {count}");
    }
    format!(
        "{{\"from\": {from}, \"seeds\": {}, \"failed\": {:?}, \"reproduced\": {}, \"run_twice\": {}, \"acked\": {}, \
         \"deliveries\": {}, \"events\": {}, \"virtual_seconds\": {}, \"seconds\": {:.1}, \"faults_total\": {}, \
         \"faults_beside_messages\": {}, \
         \"faults\": {{{faults}}}}}\n",
        sum.seeds,
        sum.failed,
        sum.twice - sum.differed,
        sum.twice,
        sum.acked,
        sum.deliveries,
        sum.events,
        sum.virtual_time.as_secs(),
        took.as_secs_f64(),
        sum.counts.total(),
        sum.counts.beside_messages(),
    )
}

/// One line a seed with the hash of its trace.
pub(crate) fn hashes(args: &Args) -> bool {
    for seed in args.from..args.from.saturating_add(args.seeds) {
        println!("{seed} {:016x}", throng_sim::run(&Scenario::draw(seed)).trace);
    }
    true
}
