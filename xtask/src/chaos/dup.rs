//! Every message is sent two to five times while leaderships move: exactly one copy may be stored, and every copy must
//! be answered with the first one's number. Leaderships move because they are handed over one by one (`POST /transfer`,
//! most of the time, because it is quick), or because their node is killed (SIGKILL), told to stop (SIGTERM: it hands
//! over), frozen for longer than an election takes (SIGSTOP: it wakes as a leader of the past), or cut off from the
//! others while clients still reach it (partition).

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, NODES, SHARDS};
use super::end::end;
use super::load::{Load, Plan};
use super::space::{self, LINKS, Spaces};
use super::{Extent, Programs, Rng, wait};
use crate::Result;
use crate::tally::Tally;

/// Messages for each leader change: 100,000 for 500.
const MESSAGES_PER_CHANGE: u64 = 200;

/// Leader changes in one run of the load generator.
const CHANGES_PER_ROUND: usize = 50;

/// Messages a second: a change and its aftermath take a little more than a second, and the schedule is made to last.
const RATE: u64 = 150;

/// How long a frozen leader stays frozen: longer than any election.
const FREEZE: Duration = Duration::from_millis(2_500);

/// Another node leads within this.
const MOVED_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Transfer,
    Kill,
    Term,
    Stop,
    Partition,
}

use Way::{Kill, Partition, Stop, Term, Transfer};

/// What is drawn from: six of ten are transfers.
const DRAWN: [Way; 10] =
    [Transfer, Kill, Transfer, Term, Transfer, Stop, Transfer, Partition, Transfer, Transfer];

/// A leadership that is handed over has moved within this, or the leader keeps it.
const TRANSFER_MAX: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Counts {
    /// Moments at which at least one shard changed its leader, by way.
    changes: BTreeMap<&'static str, usize>,
    /// Shards that changed their leaders, over all.
    shards: usize,
    rounds: Vec<serde_json::Value>,
    tally: Tally,
}

/// `./x chaos dup`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    if let Some(outcome) = space::enter("dup", options) {
        return outcome;
    }
    let programs = Programs::build()?;
    println!("chaos: {} leader changes, seed {}", options.count, options.seed);
    let spaces = Spaces::make()?;
    let mut cluster = Cluster::start_in(&programs.throng, &spaces)?;
    let (mut rng, mut counts) = (Rng(options.seed), Counts::default());
    let begin = Instant::now();
    let mut outcome = Ok(());
    while counts.done() < options.count && outcome.is_ok() {
        outcome = round(&mut cluster, &spaces, &programs.loadgen, options, &mut rng, &mut counts);
    }
    let ways = &counts.changes;
    println!("chaos: {} leader changes ({ways:?}), {} shards' leaders moved", counts.done(), counts.shards);
    let sum = |field: &str| -> u64 {
        counts.rounds.iter().filter_map(|round| round["checks"][field].as_u64()).sum()
    };
    let acked: u64 = counts.rounds.iter().filter_map(|round| round["acked"].as_u64()).sum();
    let figures = json!({
        "leader_changes": counts.done(), "shards_moved": counts.shards, "by_way": ways, "messages": acked,
        "copies": sum("copies"), "copies_answered": sum("copies_answered"),
        "copies_given_up": sum("copies_given_up"), "stored_twice": sum("stored_twice"),
        "other_number": sum("ack_mismatches"), "lost": sum("lost"), "rounds": counts.rounds,
    });
    end("dup", options, &programs, begin, outcome, counts.tally, figures)
}

impl Counts {
    fn done(&self) -> usize {
        self.changes.values().sum()
    }
}

fn round(
    cluster: &mut Cluster,
    spaces: &Spaces,
    loadgen: &std::path::Path,
    options: &Extent,
    rng: &mut Rng,
    counts: &mut Counts,
) -> Result<()> {
    let changes = (options.count - counts.done()).min(CHANGES_PER_ROUND);
    let messages = changes as u64 * MESSAGES_PER_CHANGE;
    let mut load =
        Load::start(loadgen, cluster, &Plan { pairs: 1_000, messages, rate: RATE, copies: (2, 5) })?;
    let first = counts.done();
    for _ in 0..changes {
        thread::sleep(rng.pause(100, 500));
        if !load.is_running() {
            break;
        }
        change(cluster, spaces, rng, counts)?;
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
fn change(cluster: &mut Cluster, spaces: &Spaces, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let (before, leader) = (cluster.leaders(), cluster.first_leader());
    let way = DRAWN[rng.below(DRAWN.len() as u64) as usize];
    let (number, begin) = (leader as u64 + 1, Instant::now());
    let left = |cluster: &Cluster| led_by(cluster, |node| node == leader);
    match way {
        Transfer => {
            let orders = orders(&before, number);
            cluster.post(leader, "/transfer", &orders)?;
            // Some may stay: a hand-over that finds its heir behind is given up after a second.
            let _ = wait("it leads nothing", TRANSFER_MAX, || left(cluster) == 0);
        }
        Kill => cluster.kill(&[leader])?,
        Term => drop(cluster.stop(leader)?),
        Stop => cluster.signal(leader, "STOP")?,
        Partition => spaces.cut(links_of(leader))?,
    }
    if way != Transfer {
        let all = SHARDS as u64;
        wait("the others lead every shard", MOVED_MAX, || led_by(cluster, |node| node != leader) == all)?;
    }
    let moved_after = begin.elapsed();
    let after = cluster.leaders();
    match way {
        Transfer => {}
        Kill | Term => cluster.spawn(leader)?,
        Stop => {
            thread::sleep(FREEZE.saturating_sub(begin.elapsed()));
            cluster.signal(leader, "CONT")?;
        }
        Partition => spaces.cut(0)?,
    }
    let moved =
        before.iter().zip(&after).filter(|(old, new)| old.0 == number && new.0 != number && new.0 != 0);
    let moved = moved.count();
    *counts.changes.entry(name(way)).or_default() += usize::from(moved > 0);
    counts.shards += moved;
    cluster.wait_whole()?;
    println!(
        "chaos: change {:>3} by {} of node {number}: {moved} shards moved within {} ms, whole after {} ms",
        counts.done(),
        name(way),
        moved_after.as_millis(),
        begin.elapsed().as_millis()
    );
    Ok(())
}

fn name(way: Way) -> &'static str {
    match way {
        Transfer => "transfer",
        Kill => "SIGKILL",
        Term => "SIGTERM",
        Stop => "SIGSTOP",
        Partition => "partition",
    }
}

/// Shards that nodes serve as leaders, of those that are counted.
fn led_by(cluster: &Cluster, counts: impl Fn(usize) -> bool) -> u64 {
    let serving = |node: usize| cluster.status(node)?["router"]["serving"].as_u64();
    (0..NODES).filter(|node| counts(*node)).filter_map(serving).sum()
}

/// Everything that a node leads goes to the others in turn.
fn orders(leaders: &[(u64, u64)], from: u64) -> String {
    let others = (1..=NODES as u64).filter(|node| *node != from).cycle();
    let led = leaders.iter().enumerate().filter(|(_, (leader, _))| *leader == from);
    led.zip(others).map(|((shard, _), to)| format!("{shard} {to}\n")).collect()
}

/// All links from and to a node, as a pattern of cuts.
fn links_of(node: usize) -> u8 {
    let of = LINKS.iter().enumerate().filter(|(_, (from, to))| *from == node || *to == node);
    of.map(|(bit, _)| 1 << bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_cut_off_both_ways_and_gives_everything_away() {
        assert_eq!([links_of(0), links_of(1), links_of(2)], [0b01_0111, 0b10_1101, 0b11_1010]);
        assert_eq!(orders(&[(1, 5), (2, 5), (1, 5), (1, 6)], 1), "0 2\n2 3\n3 2\n");
    }
}
