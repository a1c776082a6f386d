//! `./x night learner`: what clients notice while a replica of about 1 GiB is copied to another node.
//!
//! ```text
//!  fill ─► load at a fixed rate ─► a fourth node joins ─► before │ catch-up │ rest, after ─► next round: copied on
//!                                                         same length, same load
//! ```
//!
//! Each round moves one follower of every shard to the node that has none: the log no longer holds what it needs, so the
//! leader sends a snapshot. Nodes and generator share the machine, so CPU time stands beside each window.

mod fill;
mod load;
mod table;
mod windows;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Programs;
use super::cluster::{Cluster, NODES, Shape};
use crate::bench::floor;
use crate::options::Options;
use crate::tally::Tally;
use crate::{Result, results};

use load::Load;
use windows::{Moment, Window};

/// The p99 of clients may be this much higher while a learner catches up.
const RATIO_MAX: f64 = 1.5;

/// What a move leaves to do (the old copy is dropped and merged away) belongs to no window.
const REST: Duration = Duration::from_secs(10);

/// A new connection, elections and caches.
const WARM_UP: Duration = Duration::from_secs(5);

/// What is asked for.
struct Plan {
    /// Bodies stored before, MiB.
    mib: u64,
    /// Messages a second beside the catch-up.
    rate: u64,
    rounds: usize,
    /// Least length of a window without catch-up.
    control: Duration,
    shards: usize,
}

/// One catch-up between two windows without.
struct Round {
    before: Window,
    during: Window,
    after: Window,
    moves: Vec<Move>,
    /// What the receiver has on disk then.
    state_bytes: u64,
}

/// One replica that moved.
struct Move {
    shard: usize,
    from: usize,
    to: usize,
    seconds: f64,
}

/// `./x night learner [--mib N] [--rate N] [--rounds N] [--control SECONDS] [--shards N]`.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let options = Options::read(args, &["--mib", "--rate", "--rounds", "--control", "--shards"])?;
    let plan = Plan {
        mib: options.get("--mib", 1024)?,
        rate: options.get("--rate", 2000)?,
        rounds: options.get("--rounds", 3)?,
        control: Duration::from_secs(options.get("--control", 60)?),
        shards: options.get("--shards", 1)?,
    };
    let programs = Programs::build()?;
    let mut floors = vec![floor(&programs.throng)?];
    let mut cluster =
        Cluster::start_with(&programs.throng, Shape { shards: plan.shards, ..Shape::default() })?;
    let filled = fill::fill(&programs.loadgen, &cluster, plan.mib)?;
    let load = Load::start(&programs.loadgen, &cluster, plan.rate)?;
    thread::sleep(WARM_UP);
    let (joining, rounds) = measure(&mut cluster, &load, &plan)?;
    let said = load.stop()?;
    floors.push(floor(&programs.throng)?);
    let verdict = table::Verdict::of(&joining, &rounds, &said);
    verdict.print(&plan, &filled);
    let state: Vec<u64> = filled.iter().map(|size| size.state).collect();
    let log: Vec<u64> = filled.iter().map(|size| size.log).collect();
    results::write(
        "learner",
        json!({
            "built_from": programs.commit, "mib": plan.mib, "shards": plan.shards, "body_bytes": load::BODY,
            "messages_per_s": plan.rate, "fill_body_bytes": fill::BODY, "state_bytes_by_node": state,
            "log_bytes_by_node": log, "fdatasync_floor": floors, "joining": verdict.joining,
            "rounds": verdict.rounds, "p99_ratio_median": verdict.ratio, "p99_ratio_max": RATIO_MAX,
            "generator": said.report["generator"], "acked": said.acked(), "met": verdict.is_met,
        }),
    )?;
    Ok(Tally::one(verdict.is_met))
}

/// The window in which the fourth node joins, and the rounds.
fn measure(cluster: &mut Cluster, load: &Load, plan: &Plan) -> Result<(Window, Vec<Round>)> {
    let from = Moment::now(cluster, load)?;
    let new = cluster.join()?;
    cluster.wait_active(0, new)?;
    let joining = Window { from, until: Moment::now(cluster, load)? };
    let (mut rounds, mut length) = (Vec::new(), plan.control);
    for number in 1..=plan.rounds {
        thread::sleep(REST);
        let before = rest(cluster, load, length)?;
        let (during, moves) = catch_up(cluster, load)?;
        // A control is never shorter than what it stands beside; before the first one that is not known.
        length = length.max(during.length());
        thread::sleep(REST);
        let after = rest(cluster, load, length)?;
        let receiver = moves.last().ok_or("nothing moved")?.to;
        let state_bytes = fill::Size::of(cluster, receiver).state;
        println!("round {number}: {} moved in {:.1} s", moves.len(), during.length().as_secs_f64());
        rounds.push(Round { before, during, after, moves, state_bytes });
    }
    Ok((joining, rounds))
}

/// A window in which nothing else happens.
fn rest(cluster: &Cluster, load: &Load, length: Duration) -> Result<Window> {
    let from = Moment::now(cluster, load)?;
    thread::sleep(length);
    Ok(Window { from, until: Moment::now(cluster, load)? })
}

/// Moves a follower of every shard to the node that has no replica of it, one after the other.
fn catch_up(cluster: &Cluster, load: &Load) -> Result<(Window, Vec<Move>)> {
    let (from, mut moves) = (Moment::now(cluster, load)?, Vec::new());
    for (shard, (leader, _)) in cluster.leaders().into_iter().enumerate() {
        let leader =
            (leader as usize).checked_sub(1).ok_or_else(|| format!("shard {shard} has no leader"))?;
        let view = cluster.status(leader).ok_or_else(|| format!("node {} does not answer", leader + 1))?;
        let members = &view["router"]["shard_members"][shard];
        let has = |node: &usize| holds(members, *node);
        let giver = cluster.running().find(|node| has(node) && *node != leader);
        let taker = cluster.running().find(|node| !has(node));
        let (Some(from), Some(to)) = (giver, taker) else {
            return Err(format!("shard {shard} has the members {members}: there is nothing to move"));
        };
        let begin = Instant::now();
        let words = [shard.to_string(), (from + 1).to_string(), (to + 1).to_string()];
        cluster.operate(leader, &["move", &words[0], &words[1], &words[2]])?;
        moves.push(Move { shard, from, to, seconds: begin.elapsed().as_secs_f64() });
    }
    Ok((Window { from, until: Moment::now(cluster, load)? }, moves))
}

fn holds(members: &Value, node: usize) -> bool {
    members.as_array().is_some_and(|members| members.contains(&json!(node + 1)))
}

const _: () = assert!(NODES == 3, "a fourth node is the only one without a replica");
