//! `throng verify`: whether the replicas of every shard hold the same, and whether everything on disk can be read.
//!
//! Replicas are compared as of one entry that all of them have applied. Under load they are asked for an entry a little
//! ahead; whoever was past it already says how far it is, and all are asked again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::addresses;
use super::replica::ReplicaView;
use super::scrub::ScrubReport;
use crate::cli::VerifyArgs;
use crate::error::Failure;
use crate::ops::{RouterView, Status};
use crate::status;

/// How long a shard whose replicas are never at the same entry is asked again.
const COMPARE_MAX: Duration = Duration::from_secs(60);

/// Pause before a node is asked again that is busy: each checkpoint costs a batch, and only so many may wait to be flushed.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Entries that replicas are asked for beyond the newest, at most: a second of a busy shard.
const LEAD_MAX: u64 = 4_096;

/// Hashing a shard may take so long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(900);

/// A node that answers.
struct Asked {
    ops: SocketAddr,
    node: u64,
    status: Status,
}

/// How the replicas of one shard compare.
enum Compared {
    /// By node.
    Same(BTreeMap<u64, ReplicaView>),
    Different(BTreeMap<u64, ReplicaView>),
    /// Never at the same entry.
    Apart(BTreeMap<u64, ReplicaView>),
    /// A node did not answer.
    Silent(String),
}

/// Compares and scrubs.
///
/// # Errors
/// [`Failure::Runtime`] in one sentence if replicas differ, something on disk is damaged, or a node did not answer.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let nodes = ask_all(&addresses(&args.nodes)?)?;
    let shards =
        nodes.iter().filter_map(|node| node.status.router.as_ref()).map(|router| router.shards).max();
    let shards = shards.ok_or_else(|| Failure::Runtime("none of these nodes stores anything".into()))?;
    println!(
        "{:>7} {:>12}  {:<32}  {:<12} {:>9} {:>11}",
        "shard", "applied", "hash", "nodes", "channels", "events"
    );
    let (mut wrong, mut lead) = (0, 4);
    for shard in 0..shards {
        let compared = compare(&nodes, shard, applied(shard), &mut lead);
        wrong += usize::from(!show(&shard.to_string(), &compared));
    }
    // The metadata's group stands behind those of the shards.
    let seen = |router: &RouterView| Some(router.metadata_applied);
    let is_whole = show("meta", &compare(&nodes, shards, seen, &mut lead));
    let mut failures = Vec::new();
    if !is_whole {
        failures.push("the metadata is not the same and whole on all nodes that have it".to_owned());
    }
    if wrong > 0 {
        failures.push(format!("{wrong} of {shards} shards are not the same and whole on all nodes"));
    }
    let damaged = if args.no_scrub { 0 } else { scrub(&nodes, args) };
    if damaged > 0 {
        failures.push(format!("{damaged} of {} nodes have damage on disk or were not scrubbed", nodes.len()));
    }
    if failures.is_empty() {
        println!(
            "all replicas of {shards} shards and of the metadata on {} nodes hold the same",
            nodes.len()
        );
        return Ok(());
    }
    Err(Failure::Runtime(failures.join("; ")))
}

/// Asks every node how it is doing; all must answer and be of one cluster, or nothing is compared.
fn ask_all(addresses: &[SocketAddr]) -> Result<Vec<Asked>, Failure> {
    let mut nodes: Vec<Asked> = Vec::new();
    for ops in addresses {
        let status = status::fetch(*ops)?;
        if let Some(first) = nodes.first().filter(|first| first.status.cluster != status.cluster) {
            return Err(Failure::Runtime(format!("{} and {ops} are of different clusters", first.ops)));
        }
        nodes.push(Asked { ops: *ops, node: status.ready.node, status });
    }
    Ok(nodes)
}

/// Compares a group's replicas, beginning with the newest entry that is `applied` somewhere. `lead` is how many entries
/// ahead of the newest one they are asked for where they move on: twice as many each time one was past it, and fewer
/// where one was not reached.
fn compare(
    nodes: &[Asked],
    shard: usize,
    applied: impl Fn(&RouterView) -> Option<u64>,
    lead: &mut u64,
) -> Compared {
    let seen = |node: &Asked| node.status.router.as_ref().and_then(&applied);
    let mut index = nodes.iter().filter_map(seen).max().unwrap_or(0);
    let (begin, mut last) = (Instant::now(), BTreeMap::new());
    while begin.elapsed() < COMPARE_MAX {
        let views = match ask_replicas(nodes, shard, index) {
            Ok(views) => views,
            Err(reason) => return Compared::Silent(reason),
        };
        let there = || views.values().filter(|view| view.is_there);
        if there().all(|view| view.hash.is_some() || view.bad > 0) {
            let mut hashes = there().map(|view| (&view.hash, view.applied));
            let first = hashes.next();
            let is_same = first.is_some() && hashes.all(|hash| Some(hash) == first);
            let is_whole = there().all(|view| view.bad == 0);
            return if is_same && is_whole { Compared::Same(views) } else { Compared::Different(views) };
        }
        let highest = there().map(|view| view.applied).max().unwrap_or(0);
        let is_busy = there().any(|view| view.is_busy);
        if is_busy {
            std::thread::sleep(BUSY_PAUSE);
        }
        if highest > index {
            index = highest + *lead;
            *lead = (*lead * 2).min(LEAD_MAX);
        } else if !is_busy {
            index = highest;
            *lead = (*lead / 4).max(4);
        }
        last = views;
    }
    Compared::Apart(last)
}

/// Highest entry of a shard that a node has applied.
fn applied(shard: usize) -> impl Fn(&RouterView) -> Option<u64> {
    move |router| router.shard_leader_term_applied.get(shard).map(|(_, _, applied)| *applied)
}

/// Asks all nodes at the same time.
fn ask_replicas(nodes: &[Asked], shard: usize, index: u64) -> Result<BTreeMap<u64, ReplicaView>, String> {
    let ask = |node: &Asked| -> Result<(u64, ReplicaView), String> {
        let body = status::post(node.ops, "/verify", &format!("{shard} {index}"), CHECK_TIMEOUT)
            .map_err(|failure| failure.to_string())?;
        let view = serde_json::from_str(&body).map_err(|error| format!("{}: {error}", node.ops))?;
        Ok((node.node, view))
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| scope.spawn(move || ask(node))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it broke off".into()))).collect()
    })
}

/// Prints a shard's lines: one for all nodes that hold the same. Whether all is well.
fn show(shard: &str, compared: &Compared) -> bool {
    let (views, word) = match compared {
        Compared::Same(views) => (views, ""),
        Compared::Different(views) => (views, "  DIFFERENT"),
        Compared::Apart(views) => (views, "  NOT COMPARED: never at the same entry"),
        Compared::Silent(reason) => {
            println!("{shard:>7}  NOT COMPARED: {reason}");
            return false;
        }
    };
    let mut groups: BTreeMap<(u64, &str), Vec<(u64, &ReplicaView)>> = BTreeMap::new();
    for (node, view) in views.iter().filter(|(_, view)| view.is_there) {
        let hash = view.hash.as_deref().unwrap_or(if view.bad > 0 { "UNREADABLE" } else { "-" });
        groups.entry((view.applied, hash)).or_default().push((*node, view));
    }
    let is_split = groups.len() > 1;
    for ((applied, hash), members) in groups {
        let names: Vec<_> = members.iter().map(|(node, _)| node.to_string()).collect();
        let (names, view) = (names.join(" "), members[0].1);
        let word = if is_split || matches!(compared, Compared::Apart(_)) { word } else { "" };
        println!(
            "{shard:>7} {applied:>12}  {hash:<32}  {names:<12} {:>9} {:>11}{word}",
            view.channels, view.events
        );
        for (node, view) in members.iter().filter(|(_, view)| view.bad > 0) {
            for finding in &view.findings {
                println!("        node {node}: {finding}");
            }
            if view.bad > view.findings.len() as u64 {
                println!("        node {node}: {} more", view.bad - view.findings.len() as u64);
            }
        }
    }
    matches!(compared, Compared::Same(_))
}

/// Scrubs all nodes at the same time; how many are not whole.
fn scrub(nodes: &[Asked], args: &VerifyArgs) -> usize {
    let (pace, most) = (args.scrub_rate.to_string(), Duration::from_secs(args.timeout));
    let ask = |node: &Asked| -> Result<ScrubReport, String> {
        let body = status::post(node.ops, "/scrub", &pace, most).map_err(|failure| failure.to_string())?;
        serde_json::from_str(&body).map_err(|error| error.to_string())
    };
    let reports: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| scope.spawn(move || ask(node))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it broke off".into()))).collect()
    });
    let mut wrong = 0;
    for (node, report) in nodes.iter().zip(reports) {
        let is_whole = report.as_ref().is_ok_and(|report| report.bad == 0);
        wrong += usize::from(!is_whole);
        match report {
            Ok(report) if is_whole => {
                println!("node {}: {} bytes on disk are whole", node.node, report.bytes)
            }
            Ok(report) => {
                println!(
                    "node {}: {} DAMAGES in what was read, {} bytes",
                    node.node, report.bad, report.bytes
                );
                report.errors.iter().for_each(|error| println!("        {error}"));
            }
            Err(reason) => println!("node {}: NOT SCRUBBED: {reason}", node.node),
        }
    }
    wrong
}
