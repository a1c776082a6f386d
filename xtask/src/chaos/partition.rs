//! All 64 patterns of directed cuts between three real nodes: each of the six links is cut or not. Nothing may be lost,
//! doubled or skipped under any of them. Where some node has two-way links to a majority, every shard must take writes
//! again soon, counted like in `kill`: from just before the cut until every shard has acknowledged a message that was due
//! after it. A node that rejoins must cause no election.
//!
//! An election counts as caused by rejoining if within [`REJOIN`] of the healing a shard that took writes has a higher
//! term, unless the rise is one leadership handed to the shard's preferred node (balance among nodes that saw each other
//! all the time; it waits for two stable seconds, longer than the window, before it turns to a node that was away).

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, NODES};
use super::load::{Load, Plan};
use super::recovery::Recovery;
use super::space::{self, LINKS, Spaces};
use super::{Extent, Programs, Rng, unix_ms, wait};
use crate::Result;
use crate::results;
use crate::tally::Tally;

/// How long a pattern lasts at least.
const HOLD: Duration = Duration::from_secs(4);

/// Service that is not back within this counts as lost under a pattern.
const BACK_MAX: Duration = Duration::from_secs(15);

/// After healing, service is back within this or the campaign ends.
const HEAL_MAX: Duration = Duration::from_secs(60);

/// Balance moves nothing to a node that was away for less than two seconds.
const REJOIN: Duration = Duration::from_millis(1_800);

/// Leaderships are back at their preferred nodes within this: two seconds of rest, then four a second and node.
const HOME_MAX: Duration = Duration::from_secs(60);

/// Patterns under one run of the load generator.
const ROUND: usize = 16;

struct Counts {
    service: Recovery,
    healed: Recovery,
    never_back: Vec<u8>,
    rejoin_elections: usize,
    patterns: Vec<serde_json::Value>,
    rounds: Vec<serde_json::Value>,
    tally: Tally,
}

/// `./x chaos partition`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    if let Some(outcome) = space::enter("partition", options) {
        return outcome;
    }
    let programs = Programs::build()?;
    let patterns = draw(options);
    println!("chaos: {} patterns, seed {}", patterns.len(), options.seed);
    let spaces = Spaces::make()?;
    let mut cluster = Cluster::start_in(&programs.throng, &spaces)?;
    let mut counts = Counts {
        service: Recovery::new("writes again under a pattern with a majority"),
        healed: Recovery::new("writes again after healing (no bar)"),
        never_back: Vec::new(),
        rejoin_elections: 0,
        patterns: Vec::new(),
        rounds: Vec::new(),
        tally: Tally::default(),
    };
    let begin = Instant::now();
    let mut outcome = Ok(());
    for part in patterns.chunks(ROUND) {
        if outcome.is_ok() {
            outcome = round(&mut cluster, &spaces, &programs.loadgen, part, &mut counts);
        }
    }
    counts.service.print();
    counts.healed.print();
    println!("chaos: {} elections after rejoining", counts.rejoin_elections);
    counts.tally += counts.service.check(options);
    counts.tally += Tally::one(counts.rejoin_elections == 0);
    counts.tally += Tally::one(counts.never_back.is_empty());
    if let Err(reason) = &outcome {
        println!("chaos: {reason}");
        counts.tally += Tally::FAIL;
    }
    if options.keeps {
        results::write(
            "partition",
            json!({
                "seed": options.seed, "built_from": programs.commit, "patterns": counts.patterns, "seconds": begin.elapsed().as_secs(),
                "writes_again": counts.service.json(), "after_healing": counts.healed.json(),
                "never_back": counts.never_back, "elections_after_rejoining": counts.rejoin_elections,
                "rounds": counts.rounds, "ended_early": outcome.err(),
            }),
        )?;
    }
    Ok(counts.tally)
}

/// As many different patterns as asked for, in the seed's order.
fn draw(options: &Extent) -> Vec<u8> {
    let mut rng = Rng(options.seed);
    let mut all: Vec<u8> = (0..64).collect();
    for at in (1..all.len()).rev() {
        all.swap(at, rng.below(at as u64 + 1) as usize);
    }
    all.truncate(options.count.min(64));
    all
}

/// Whether some node has two-way links to a majority, itself counted.
fn has_majority(pattern: u8) -> bool {
    let is_cut = |link: (usize, usize)| {
        LINKS.iter().position(|known| *known == link).is_some_and(|bit| pattern & (1 << bit) != 0)
    };
    (0..NODES).any(|a| {
        let both_ways = (0..NODES).filter(|b| a == *b || !(is_cut((a, *b)) || is_cut((*b, a)))).count();
        both_ways > NODES / 2
    })
}

/// `1>2 3>1`
fn name(pattern: u8) -> String {
    let cut = LINKS.iter().enumerate().filter(|(bit, _)| pattern & (1 << bit) != 0);
    let names: Vec<_> = cut.map(|(_, (from, to))| format!("{}>{}", from + 1, to + 1)).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

fn round(
    cluster: &mut Cluster,
    spaces: &Spaces,
    loadgen: &std::path::Path,
    patterns: &[u8],
    counts: &mut Counts,
) -> Result<()> {
    let messages = 640 * (20 * patterns.len() as u64 + 20);
    let mut load =
        Load::start(loadgen, cluster, &Plan { pairs: 1_000, messages, rate: 640, copies: (1, 2) })?;
    for pattern in patterns {
        // Leaderships on their way home would be counted as part of what the pattern does.
        wait("leaderships at home", HOME_MAX, || is_home(&cluster.leaders()))?;
        thread::sleep(Duration::from_millis(500));
        if !load.is_running() {
            return Err("the load ended before the patterns did".into());
        }
        one(cluster, spaces, &load, *pattern, counts)?;
    }
    let verdict = load.finish()?;
    counts.tally += Tally::one(verdict.is_good);
    counts.rounds.push(json!({
        "patterns": patterns.len(), "outcome": verdict.report["outcome"], "checks": verdict.report["checks"],
        "acked": verdict.report["phases"][0]["acked"],
    }));
    Ok(())
}

fn one(cluster: &mut Cluster, spaces: &Spaces, load: &Load, pattern: u8, counts: &mut Counts) -> Result<()> {
    let intact = cluster.leaders();
    let begin_ms = unix_ms();
    spaces.cut(pattern)?;
    let cut_ms = unix_ms() - begin_ms;
    load.timeline.watch(unix_ms() + 1);
    let must = has_majority(pattern);
    let begin = Instant::now();
    let mut took = None;
    if must {
        match wait("writes", BACK_MAX, || load.timeline.back_ms().is_some()) {
            Ok(_) => took = load.timeline.back_ms().map(|back| back.saturating_sub(begin_ms)),
            Err(_) => {
                println!("chaos: no writes at shards {:?} under {}", load.timeline.silent(), name(pattern));
                counts.never_back.push(pattern);
            }
        }
    }
    if let Some(took) = took {
        counts.service.record(took);
    }
    let by_shard = load.timeline.by_shard(begin_ms);
    thread::sleep(HOLD.saturating_sub(begin.elapsed()));
    let before = cluster.leaders();
    let heal_ms = unix_ms();
    spaces.cut(0)?;
    load.timeline.watch(unix_ms() + 1);
    let healed = Instant::now();
    let back = wait("writes after healing", HEAL_MAX, || load.timeline.back_ms().is_some());
    back.map_err(|reason| {
        format!("{reason}; pattern {}, shards {:?}", name(pattern), load.timeline.silent())
    })?;
    let healed_ms = load.timeline.back_ms().map_or(0, |back| back.saturating_sub(heal_ms));
    counts.healed.record(healed_ms);
    thread::sleep(REJOIN.saturating_sub(healed.elapsed()));
    let after = cluster.leaders();
    let elections = if took.is_some() { elections_between(&before, &after) } else { 0 };
    counts.rejoin_elections += elections;
    let moved = elections_between(&intact, &before);
    let at = |part: usize| by_shard.get(by_shard.len() * part / 10).copied().unwrap_or(0);
    println!(
        "chaos: pattern {pattern:>2} cut {:<24} {} (half of the shards {}, 80 % {}; {moved} elections), healed after {healed_ms} ms, {elections} elections by rejoining",
        name(pattern),
        match (must, took) {
            (true, Some(took)) => format!("writes again after {took} ms"),
            (true, None) => "NO WRITES".into(),
            (false, _) => "no majority".into(),
        },
        at(5),
        at(8),
    );
    counts.patterns.push(json!({
        "pattern": pattern, "cut": name(pattern), "majority": must, "writes_again_ms": took,
        "cut_took_ms": cut_ms, "elections_under_it": moved, "by_shard_ms": by_shard,
        "healed_ms": healed_ms, "elections": elections,
    }));
    cluster.wait_whole().map(drop)
}

/// Whether every shard is led by its preferred node.
fn is_home(leaders: &[(u64, u64)]) -> bool {
    leaders.iter().zip(0u64..).all(|((leader, _), shard)| *leader == shard % NODES as u64 + 1)
}

/// Shards that were led anew, apart from one leadership handed to the preferred node.
fn elections_between(before: &[(u64, u64)], after: &[(u64, u64)]) -> usize {
    let rose = |shard: usize| {
        let ((old, old_term), (new, new_term)) = (before[shard], after[shard]);
        let is_balance = new_term == old_term + 1 && new != old && new == shard as u64 % NODES as u64 + 1;
        new_term > old_term && !is_balance
    };
    (0..before.len()).filter(|shard| rose(*shard)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_all_different_and_the_seed_orders_them() {
        let options = |count, seed| Extent { count, seed, keeps: false };
        let mut all = draw(&options(64, 3));
        assert_ne!(all, draw(&options(64, 4)));
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<u8>>());
        assert_eq!(draw(&options(16, 3)).len(), 16);
    }

    #[test]
    fn a_majority_needs_one_pair_that_hears_each_other() {
        assert!(has_majority(0) && !has_majority(63));
        // One way out of each pair is cut: nobody has a two-way link.
        let bit = |link: (usize, usize)| 1 << LINKS.iter().position(|known| *known == link).expect("a link");
        let ring = bit((0, 1)) | bit((1, 2)) | bit((2, 0));
        assert!(!has_majority(ring) && has_majority(ring & !bit((0, 1))));
        assert_eq!((name(bit((2, 0))).as_str(), name(0).as_str()), ("3>1", "none"));
        assert_eq!((0..64).filter(|pattern| has_majority(*pattern)).count(), 64 - 27);
    }

    #[test]
    fn a_rise_is_an_election_unless_it_is_a_hand_over_to_the_preferred_node() {
        let before = [(2, 5), (2, 5), (2, 5), (2, 5)];
        let after = [(1, 6), (2, 6), (3, 7), (2, 5)];
        assert_eq!(elections_between(&before, &after), 2);
    }
}
