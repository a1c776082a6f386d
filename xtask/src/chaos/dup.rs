//! Every message is sent two to five times while leaderships move: exactly one copy may be stored, and every copy must
//! be answered with the first one's number. Leaderships move because their node is killed (SIGKILL), told to stop
//! (SIGTERM: it hands over), or frozen for longer than an election takes (SIGSTOP: to the others it is cut off, and it
//! wakes as a leader of the past).

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::Cluster;
use super::load::{Load, Plan};
use super::{Options, Programs, Rng, wait};
use crate::Result;
use crate::results;
use crate::tally::Tally;

/// Messages for each leader change: 100,000 for 500.
const MESSAGES_PER_CHANGE: u64 = 200;

/// Leader changes in one run of the load generator.
const CHANGES_PER_ROUND: usize = 50;

/// A change and its aftermath take about this long; the load's schedule is made to last.
const SECONDS_PER_CHANGE: u64 = 4;

/// How long a frozen leader stays frozen: longer than any election.
const FREEZE: Duration = Duration::from_millis(2_500);

/// Another node leads within this.
const MOVED_MAX: Duration = Duration::from_secs(30);

const WAYS: [&str; 3] = ["SIGKILL", "SIGTERM", "SIGSTOP"];

#[derive(Default)]
struct Counts {
    /// Moments at which at least one shard changed its leader, by way.
    changes: [usize; 3],
    /// Shards that changed their leaders, over all.
    shards: usize,
    rounds: Vec<serde_json::Value>,
    tally: Tally,
}

/// `./x chaos dup`.
pub(super) fn run(options: &Options) -> Result<Tally> {
    let programs = Programs::build()?;
    println!("chaos: {} leader changes, seed {}", options.count, options.seed);
    let mut cluster = Cluster::start(&programs.throng)?;
    let (mut rng, mut counts) = (Rng(options.seed), Counts::default());
    let begin = Instant::now();
    let mut outcome = Ok(());
    while counts.done() < options.count && outcome.is_ok() {
        outcome = round(&mut cluster, &programs.loadgen, options, &mut rng, &mut counts);
    }
    if let Err(reason) = &outcome {
        println!("chaos: {reason}");
        counts.tally += Tally::FAIL;
    }
    println!("chaos: {} leader changes, {} shards' leaders moved", counts.done(), counts.shards);
    if options.keeps {
        let sum = |field: &str| -> u64 {
            counts.rounds.iter().filter_map(|round| round["checks"][field].as_u64()).sum()
        };
        let acked: u64 = counts.rounds.iter().filter_map(|round| round["acked"].as_u64()).sum();
        results::write(
            "dup",
            json!({
                "seed": options.seed, "built_from": programs.commit, "leader_changes": counts.done(), "shards_moved": counts.shards,
                "by_way": WAYS.iter().zip(counts.changes).collect::<Vec<_>>(), "messages": acked,
                "copies": sum("copies"), "copies_answered": sum("copies_answered"),
                "copies_given_up": sum("copies_given_up"), "stored_twice": sum("stored_twice"),
                "other_number": sum("ack_mismatches"), "lost": sum("lost"),
                "seconds": begin.elapsed().as_secs(), "rounds": counts.rounds, "ended_early": outcome.err(),
            }),
        )?;
    }
    Ok(counts.tally)
}

impl Counts {
    fn done(&self) -> usize {
        self.changes.iter().sum()
    }
}

fn round(
    cluster: &mut Cluster,
    loadgen: &std::path::Path,
    options: &Options,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<()> {
    let changes = (options.count - counts.done()).min(CHANGES_PER_ROUND);
    let messages = changes as u64 * MESSAGES_PER_CHANGE;
    let rate = MESSAGES_PER_CHANGE / SECONDS_PER_CHANGE;
    let mut load = Load::start(loadgen, cluster, &Plan { pairs: 300, messages, rate, copies: (2, 5) })?;
    let first = counts.done();
    for _ in 0..changes {
        thread::sleep(rng.pause(100, 500));
        if !load.is_running() {
            break;
        }
        change(cluster, rng, counts)?;
    }
    let verdict = load.finish()?;
    let checks = &verdict.report["checks"];
    // Given up is not answered: the bar says every time.
    let is_complete = checks["copies_given_up"].as_u64() == Some(0);
    counts.tally += Tally::one(verdict.is_good && is_complete);
    println!(
        "chaos: {} leader changes, {} messages, {} copies, {} answers to copies, {} given up: {}",
        counts.done() - first,
        verdict.report["phases"][0]["acked"],
        checks["copies"],
        checks["copies_answered"],
        checks["copies_given_up"],
        if verdict.is_good && is_complete { "one of each, under the first number" } else { "VIOLATED" }
    );
    counts.rounds.push(json!({
        "changes": counts.done() - first, "outcome": verdict.report["outcome"], "checks": checks,
        "acked": verdict.report["phases"][0]["acked"],
    }));
    Ok(())
}

/// Makes whoever leads most shards lose them, and brings it back.
fn change(cluster: &mut Cluster, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let (before, leader) = (cluster.leaders(), cluster.first_leader());
    let way = rng.below(WAYS.len() as u64) as usize;
    let begin = Instant::now();
    match way {
        0 => cluster.kill(&[leader])?,
        1 => drop(cluster.stop(leader)?),
        _ => cluster.signal(leader, "STOP")?,
    }
    let number = leader as u64 + 1;
    let others = |cluster: &Cluster| {
        let led: u64 = (0..cluster.nodes.len())
            .filter(|node| *node != leader)
            .filter_map(|node| cluster.status(node)?["router"]["serving"].as_u64())
            .sum();
        led == super::cluster::SHARDS as u64
    };
    wait("the others lead every shard", MOVED_MAX, || others(cluster))?;
    let moved_after = begin.elapsed();
    if way == 2 {
        thread::sleep(FREEZE.saturating_sub(begin.elapsed()));
        cluster.signal(leader, "CONT")?;
    } else {
        cluster.spawn(leader)?;
    }
    let after = cluster.leaders();
    let moved =
        before.iter().zip(&after).filter(|(old, new)| old.0 == number && new.0 != number && new.0 != 0);
    let moved = moved.count();
    counts.changes[way] += usize::from(moved > 0);
    counts.shards += moved;
    cluster.wait_whole()?;
    println!(
        "chaos: change {:>3} by {} of node {number}: {moved} shards moved within {} ms",
        counts.done(),
        WAYS[way],
        moved_after.as_millis()
    );
    Ok(())
}
