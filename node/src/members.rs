//! `throng cluster nodes|leave|stay|move|balance`: who belongs to a cluster and where its shards are, asked of any node over
//! its operations port.
//!
//! A change is a command of the metadata group; the groups follow it, one membership change at a time. The commands wait
//! until they have: what counts is the members that the groups really have, not what the map says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use throng_router::{RouterHandle, RouterInput};
use throng_router_core::meta::{Meta, MetaCommand, MetaDone, MetaError, NodeState};
use throng_wire::{NodeId, ShardId};

use crate::cli::{ClusterBalanceArgs, ClusterLeaveArgs, ClusterMoveArgs, ClusterOpsArgs};
use crate::error::Failure;
use crate::status::{fetch, get, post};

/// How long the router loop and the metadata group may take with a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a group that is between leaders is asked again.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(15);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A change of the cluster, as the operations port takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Change {
    /// The node takes no shards any more; those it has go elsewhere with the next balance.
    Leave {
        /// Which.
        node: u64,
    },
    /// The node that was to leave stays.
    Stay {
        /// Which.
        node: u64,
    },
    /// The node is no member any more.
    Gone {
        /// Which.
        node: u64,
    },
    /// One replica should be elsewhere.
    Move {
        /// The shard.
        shard: u32,
        /// Who has it.
        from: u64,
        /// Who should.
        to: u64,
    },
    /// Lay shards out anew.
    Balance {
        /// Replicas from here on; 0 = as before.
        replicas: u8,
    },
}

impl Change {
    fn command(&self) -> MetaCommand {
        let state = |node, state| MetaCommand::SetState { node: NodeId(node), state };
        match *self {
            Self::Leave { node } => state(node, NodeState::Leaving),
            Self::Stay { node } => state(node, NodeState::Active),
            Self::Gone { node } => state(node, NodeState::Gone),
            Self::Move { shard, from, to } => {
                MetaCommand::Move { shard: ShardId(shard), from: NodeId(from), to: NodeId(to) }
            }
            Self::Balance { replicas } => MetaCommand::Balance { replicas },
        }
    }

    /// Carries the change to the metadata group and waits for what it came to.
    ///
    /// # Errors
    /// Why nothing changed.
    pub(crate) fn carry_out(&self, router: &RouterHandle) -> Result<String, String> {
        let deadline = Instant::now() + UNAVAILABLE_MAX;
        loop {
            let (reply, answer) = crossbeam_channel::bounded(1);
            router.send(RouterInput::Meta(Box::new(self.command()), reply));
            match answer.recv_timeout(COMMAND_TIMEOUT).map_err(|_| "the router loop does not answer")? {
                Ok(MetaDone::Changed(epoch)) => {
                    await_epoch(router, epoch);
                    return Ok(format!("changed, epoch {epoch} of the map\n"));
                }
                Ok(MetaDone::Unchanged | MetaDone::Registered(_)) => return Ok("it is so already\n".into()),
                Err(MetaError::Unavailable) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Another node may have applied the change before this one, which is asked next.
fn await_epoch(router: &RouterHandle, epoch: u64) {
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    while ClusterView::ask(router).is_some_and(|view| view.epoch < epoch) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The metadata as a node has applied it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClusterView {
    /// Rises with every change of the map; 0 = not founded yet.
    pub(crate) epoch: u64,
    /// The version of the replicated machines that is in use: what every node speaks.
    pub(crate) version: u8,
    /// All nodes that are not forgotten.
    pub(crate) nodes: Vec<NodeView>,
    /// By shard: the nodes that should have a replica.
    pub(crate) map: Vec<Vec<u64>>,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeView {
    /// Its number.
    pub(crate) node: u64,
    /// joining, active, leaving or gone.
    pub(crate) state: String,
    /// Where other nodes reach it.
    pub(crate) peer: SocketAddr,
    /// Where clients reach it.
    pub(crate) client: Option<SocketAddr>,
    /// Its operations port.
    pub(crate) ops: Option<SocketAddr>,
    /// What it shares a fate with.
    pub(crate) zone: String,
    /// The newest version of the replicated machines that it speaks.
    pub(crate) speaks: u8,
}

impl ClusterView {
    /// Asks the router loop; `None` if it does not answer or has no metadata.
    pub(crate) fn ask(router: &RouterHandle) -> Option<Self> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        router.try_send(RouterInput::Metadata(reply)).ok()?;
        answer.recv_timeout(COMMAND_TIMEOUT).ok().flatten().map(|meta| Self::of(&meta))
    }

    fn of(meta: &Meta) -> Self {
        let node = |row: &throng_router_core::meta::NodeRow| NodeView {
            node: row.id.0,
            state: match row.state {
                NodeState::Joining => "joining",
                NodeState::Active => "active",
                NodeState::Leaving => "leaving",
                NodeState::Gone => "gone",
            }
            .into(),
            peer: row.peer,
            client: row.client,
            ops: row.ops,
            zone: row.zone.clone(),
            speaks: row.speaks.newest,
        };
        let replicas = |shard| meta.replicas(ShardId(shard)).iter().map(|node| node.0).collect();
        Self {
            epoch: meta.epoch(),
            version: meta.version(),
            nodes: meta.nodes().map(node).collect(),
            map: (0..meta.shards()).map(replicas).collect(),
        }
    }

    fn fetch(ops: SocketAddr) -> Result<Self, Failure> {
        let body = get(ops, "/cluster")?;
        serde_json::from_str(&body)
            .map_err(|e| Failure::runtime(format!("{ops} answered something else than a cluster"), e))
    }

    fn shards_of(&self, node: u64) -> usize {
        self.map.iter().filter(|nodes| nodes.contains(&node)).count()
    }
}

/// What the nodes say of themselves: replicas and leaderships, by node; and the members and voters of each shard as its
/// leader has them.
struct Seen {
    replicas: BTreeMap<u64, (usize, usize)>,
    members: Vec<Option<[BTreeSet<u64>; 2]>>,
}

/// Asks all living nodes.
fn look(view: &ClusterView) -> Seen {
    let mut seen = Seen { replicas: BTreeMap::new(), members: vec![None; view.map.len()] };
    for node in view.nodes.iter().filter(|node| node.state != "gone") {
        let Some(router) = node.ops.and_then(|ops| fetch(ops).ok()).and_then(|status| status.router) else {
            continue;
        };
        seen.replicas.insert(node.node, (router.replicas, router.serving));
        for (shard, members) in router.shard_members.iter().enumerate() {
            let leader = router.shard_leader_term_applied.get(shard).map(|(leader, _, _)| *leader);
            if leader == Some(node.node)
                && let Some(place) = seen.members.get_mut(shard)
            {
                let voters = router.shard_voters.get(shard).into_iter().flatten();
                *place = Some([members.iter().copied().collect(), voters.copied().collect()]);
            }
        }
    }
    seen
}

/// Prints the nodes.
///
/// # Errors
/// [`Failure::Runtime`] if the node does not answer.
pub(crate) fn nodes(args: &ClusterOpsArgs) -> Result<(), Failure> {
    let view = ClusterView::fetch(args.ops)?;
    let seen = look(&view);
    println!("{} shards, epoch {} of the map, machine version {}", view.map.len(), view.epoch, view.version);
    println!(
        "node  state    should hold  replicas  leads  version  peers                  operations             zone"
    );
    for node in &view.nodes {
        let (replicas, leads) = match seen.replicas.get(&node.node) {
            Some((replicas, leads)) => (replicas.to_string(), leads.to_string()),
            None => ("?".into(), "?".into()),
        };
        let ops = node.ops.map(|ops| ops.to_string()).unwrap_or_default();
        println!(
            "{:<5} {:<8} {:>11}  {replicas:>8}  {leads:>5}  {:>7}  {:<21}  {ops:<21}  {}",
            node.node,
            node.state,
            view.shards_of(node.node),
            node.speaks,
            node.peer.to_string(),
            node.zone
        );
    }
    Ok(())
}

/// Takes a node out.
///
/// # Errors
/// [`Failure::Runtime`]: the cluster refuses, or the shards have not moved in time.
pub(crate) fn leave(args: &ClusterLeaveArgs) -> Result<(), Failure> {
    let ops = args.ops.ops;
    if fetch(ops)?.ready.node == args.node {
        return Err(Failure::Config(format!(
            "{ops} is node {} itself; name the operations address of another node",
            args.node
        )));
    }
    say(ops, &Change::Leave { node: args.node })?;
    say(ops, &Change::Balance { replicas: 0 })?;
    println!("node {} leaves; its shards move to others", args.node);
    settle(ops, args.wait.timeout)?;
    say(ops, &Change::Gone { node: args.node })?;
    println!("node {} is no member any more; its process can be stopped and its data removed", args.node);
    Ok(())
}

/// Takes a departure back, as long as the node is not gone.
///
/// # Errors
/// [`Failure::Runtime`]: the cluster refuses, or the shards have not moved in time.
pub(crate) fn stay(args: &ClusterLeaveArgs) -> Result<(), Failure> {
    let ops = args.ops.ops;
    say(ops, &Change::Stay { node: args.node })?;
    say(ops, &Change::Balance { replicas: 0 })?;
    println!("node {} stays; it takes shards again", args.node);
    settle(ops, args.wait.timeout)
}

/// Moves a replica.
///
/// # Errors
/// [`Failure::Runtime`]: the cluster refuses, or the replica has not moved in time.
pub(crate) fn move_replica(args: &ClusterMoveArgs) -> Result<(), Failure> {
    let ClusterMoveArgs { shard, from, to, .. } = *args;
    say(args.ops.ops, &Change::Move { shard, from, to })?;
    settle(args.ops.ops, args.wait.timeout)
}

/// Lays shards out.
///
/// # Errors
/// [`Failure::Runtime`]: the cluster refuses, or the replicas have not moved in time.
pub(crate) fn balance(args: &ClusterBalanceArgs) -> Result<(), Failure> {
    await_joining(args.ops.ops)?;
    say(args.ops.ops, &Change::Balance { replicas: args.replicas.unwrap_or(0) })?;
    settle(args.ops.ops, args.wait.timeout)
}

/// A node that has just joined takes shards within moments; one that does not is left out.
fn await_joining(ops: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + UNAVAILABLE_MAX;
    loop {
        let view = ClusterView::fetch(ops)?;
        let Some(joining) = view.nodes.iter().find(|node| node.state == "joining") else { return Ok(()) };
        if Instant::now() >= deadline {
            println!("node {} is still joining and gets no shards now", joining.node);
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn say(ops: SocketAddr, change: &Change) -> Result<(), Failure> {
    let body = serde_json::to_string(change).expect("plain fields always serialize");
    post(ops, "/cluster", &body, UNAVAILABLE_MAX + COMMAND_TIMEOUT).map(drop)
}

/// Waits until the groups have the members that the map wants, and says how far they are.
fn settle(ops: SocketAddr, timeout_s: u64) -> Result<(), Failure> {
    let (begun, mut said) = (Instant::now(), usize::MAX);
    loop {
        let view = ClusterView::fetch(ops)?;
        let seen = look(&view);
        // A replica without a vote is not there yet: a group must not lose another one before it has one.
        let is_so = |(wanted, seen): &(&Vec<u64>, &Option<[BTreeSet<u64>; 2]>)| {
            seen.as_ref().is_some_and(|sets| sets.iter().all(|set| set.iter().eq(wanted.iter())))
        };
        let open = view.map.iter().zip(&seen.members).filter(|pair| !is_so(pair)).count();
        if open == 0 {
            println!("all {} shards are where they should be, after {:.1?}", view.map.len(), begun.elapsed());
            return Ok(());
        }
        if open != said {
            println!("{open} of {} shards are not yet where they should be", view.map.len());
            said = open;
        }
        if begun.elapsed() > Duration::from_secs(timeout_s) {
            return Err(Failure::Runtime(format!(
                "{open} shards have not moved within {timeout_s} s; they go on (throng cluster nodes)"
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written_and_nothing_else_is() {
        for change in [
            Change::Leave { node: 3 },
            Change::Stay { node: 3 },
            Change::Gone { node: 3 },
            Change::Move { shard: 7, from: 1, to: 4 },
            Change::Balance { replicas: 3 },
        ] {
            let text = serde_json::to_string(&change).expect("serializes");
            assert_eq!(serde_json::from_str::<Change>(&text).expect("reads"), change);
        }
        for text in ["", "{}", r#"{"leave":{}}"#, r#"{"leave":{"node":1,"x":2}}"#, r#"{"explode":{}}"#] {
            assert!(serde_json::from_str::<Change>(text).is_err(), "{text}");
        }
    }
}
