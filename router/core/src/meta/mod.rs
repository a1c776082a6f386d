//! The metadata machine: who belongs to the cluster, who should hold which shard, and which version all may speak.
//! Replicated like the channel and user machines, in a Raft group of its own that every node has a copy of.
//!
//! ```text
//!   MetaCommand ──► Meta::apply ──► MetaDone (epoch) or MetaRefused, the same on every replica
//!                      │
//!        registry: node number → addresses, zone, certificate, state, versions       (registry)
//!        map: shard → nodes that should hold it, epoch rising with every change      (map, balance)
//!        version: commands up to this one may be proposed                            (gates)
//!
//!   joining ──► active ──► leaving ──► gone          a number is given once and never again
//!      └──────────────────────┴────────► (only without shards)
//! ```
//!
//! The map says what should be. That a shard's Raft group becomes so, one membership change at a time, is the business of
//! the shard's leader ([`placement`]).
//!
//! What is absent: clocks, addresses being dialled, Raft.

mod answer;
mod balance;
mod command;
pub mod placement;
mod registry;
mod row;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use throng_wire::ids::{NodeId, ShardId};

pub use answer::{MetaError, read_answer, write_answer};
pub use command::{META_VERSION, MetaCommand, Registration, read_entry, write_entry};
pub use registry::{JoinId, NodeRow, NodeState, Versions};

use crate::limits::{META_NODES_MAX, META_REPLICAS_MAX};

/// The version of the channel and user machines that every program speaks.
const MACHINE_VERSION_FIRST: u8 = 1;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaDone {
    /// The node has this number, given to it just now or before.
    Registered(NodeId),
    /// The map or the registry changed; the epoch of the map is this.
    Changed(u64),
    /// It was so already.
    Unchanged,
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaRefused {
    /// The cluster has no nodes yet, or has some already.
    Founding,
    /// No node has this number.
    UnknownNode,
    /// The number was given before, or is not one.
    NumberTaken,
    /// No such shard.
    UnknownShard,
    /// The node may not take shards: it is not active.
    NotActive,
    /// The shard is to be moved from a node that does not hold it, or to one that does.
    NotThere,
    /// A node does not go from its state to that one.
    Transition,
    /// The node still holds shards; move them first (leaving, then balance).
    HoldsShards,
    /// The last active node cannot leave.
    LastNode,
    /// A shard must have between one and [`META_REPLICAS_MAX`] replicas, each on a node of its own.
    Replicas,
    /// A node does not speak the version.
    Version,
    /// The cluster has [`META_NODES_MAX`] nodes, or every number is used.
    Full,
}

/// The state. Every replica has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Invariant: no number above was ever given; every number at most this was, or was skipped, and is not given again.
    last_node: NodeId,
    /// Invariant: at most [`META_NODES_MAX`] that are not gone. Gone ones stay for a while, for whoever asks.
    nodes: BTreeMap<NodeId, NodeRow>,
    /// By shard: the nodes that should hold it, sorted. Invariant once founded: at least one, each active or leaving.
    map: Vec<Vec<NodeId>>,
    /// Rises with every change of the map; 0 before the founding.
    epoch: u64,
    /// Replicas that a shard should have, as far as there are nodes.
    replicas: usize,
    /// The newest version of the machines whose commands may be proposed.
    version: u8,
    dirty: Dirty,
}

/// What changed since the last batch was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Dirty {
    head: bool,
    nodes: BTreeSet<NodeId>,
    shards: BTreeSet<u32>,
}

impl Meta {
    /// A cluster of `shards` shards without nodes.
    pub fn empty(shards: u32) -> Self {
        Self {
            last_node: NodeId(0),
            nodes: BTreeMap::new(),
            map: vec![Vec::new(); shards as usize],
            epoch: 0,
            replicas: 0,
            version: MACHINE_VERSION_FIRST,
            dirty: Dirty::default(),
        }
    }

    /// Applies a command.
    ///
    /// # Errors
    /// [`MetaRefused`]; nothing changed.
    pub fn apply(&mut self, command: &MetaCommand) -> Result<MetaDone, MetaRefused> {
        let done = match command {
            MetaCommand::Found(nodes) => self.found(nodes),
            MetaCommand::Register { number, node } => self.register(*number, node),
            MetaCommand::SetState { node, state } => self.set_state(*node, *state),
            MetaCommand::Move { shard, from, to } => self.move_replica(*shard, *from, *to),
            MetaCommand::SetReplicas { shard, nodes } => self.set_replicas(*shard, nodes),
            MetaCommand::Balance { replicas } => self.balance((*replicas).into()),
            MetaCommand::OpenVersion(version) => self.open_version(*version),
        };
        debug_assert_eq!(self.check(), Ok(()));
        done
    }

    /// All nodes that are known, gone ones for a while.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values()
    }

    /// How many shards the cluster has.
    pub fn shards(&self) -> u32 {
        self.map.len() as u32
    }

    /// A node.
    pub fn node(&self, node: NodeId) -> Option<&NodeRow> {
        self.nodes.get(&node)
    }

    /// The nodes that should hold a shard, sorted; empty before the founding and for a shard that there is not.
    pub fn replicas(&self, shard: ShardId) -> &[NodeId] {
        self.map.get(shard.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Rises with every change of the map; 0 = not founded.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest version of the machines whose commands may be proposed.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Whether commands of a version may be proposed: every node speaks it, and will go on to.
    pub fn is_open(&self, version: u8) -> bool {
        version <= self.version
    }

    /// The newest version that every node speaks: what [`MetaCommand::OpenVersion`] may open. `None` without nodes.
    pub fn version_spoken_by_all(&self) -> Option<u8> {
        self.members().map(|node| node.speaks.newest).min()
    }

    /// Who should vote in the metadata group itself, and who should follow it without a vote: an odd number of active
    /// nodes, at most five, the lowest numbers first; everybody else that is a member follows.
    pub fn own_replicas(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        const VOTERS_MAX: usize = 5;
        let active: Vec<NodeId> = self.usable().collect();
        let count = active.len().min(VOTERS_MAX);
        let voters = active[..count - usize::from(count > 0 && count.is_multiple_of(2))].to_vec();
        let learners = self.members().map(|node| node.id).filter(|id| !voters.contains(id)).collect();
        (voters, learners)
    }

    /// Nodes that are not gone.
    pub fn members(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values().filter(|node| node.state != NodeState::Gone)
    }

    /// Nodes that shards may be put on.
    fn usable(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.values().filter(|node| node.state == NodeState::Active).map(|node| node.id)
    }

    fn holds_shards(&self, node: NodeId) -> bool {
        self.map.iter().any(|replicas| replicas.contains(&node))
    }

    fn open_version(&mut self, version: u8) -> Result<MetaDone, MetaRefused> {
        if version <= self.version {
            return Ok(MetaDone::Unchanged);
        }
        if self.epoch == 0 || !self.members().all(|node| node.speaks.includes(version)) {
            return Err(MetaRefused::Version);
        }
        self.version = version;
        self.dirty.head = true;
        Ok(MetaDone::Changed(self.epoch))
    }

    fn move_replica(&mut self, shard: ShardId, from: NodeId, to: NodeId) -> Result<MetaDone, MetaRefused> {
        let replicas = self.map.get(shard.0 as usize).ok_or(MetaRefused::UnknownShard)?;
        match (replicas.contains(&from), replicas.contains(&to)) {
            (true, false) => {}
            (false, true) => return Ok(MetaDone::Unchanged),
            _ => return Err(MetaRefused::NotThere),
        }
        let nodes: Vec<NodeId> = replicas.iter().map(|node| if *node == from { to } else { *node }).collect();
        self.set_replicas(shard, &nodes)
    }

    fn set_replicas(&mut self, shard: ShardId, nodes: &[NodeId]) -> Result<MetaDone, MetaRefused> {
        let before = self.map.get(shard.0 as usize).ok_or(MetaRefused::UnknownShard)?;
        let wanted: BTreeSet<NodeId> = nodes.iter().copied().collect();
        if wanted.is_empty() || wanted.len() != nodes.len() || wanted.len() > META_REPLICAS_MAX {
            return Err(MetaRefused::Replicas);
        }
        for node in &wanted {
            let row = self.nodes.get(node).ok_or(MetaRefused::UnknownNode)?;
            if row.state != NodeState::Active && !before.contains(node) {
                return Err(MetaRefused::NotActive);
            }
        }
        Ok(self.replace(vec![(shard.0, wanted.into_iter().collect())]))
    }

    /// Puts new replica sets in place: one step of the epoch for all of them.
    fn replace(&mut self, changes: Vec<(u32, Vec<NodeId>)>) -> MetaDone {
        let mut is_changed = false;
        for (shard, nodes) in changes {
            let place = &mut self.map[shard as usize];
            if *place != nodes {
                *place = nodes;
                self.dirty.shards.insert(shard);
                is_changed = true;
            }
        }
        if !is_changed {
            return MetaDone::Unchanged;
        }
        self.epoch += 1;
        self.dirty.head = true;
        MetaDone::Changed(self.epoch)
    }

    /// The invariants, in one place: after every command in tests, and of rows that are loaded.
    fn check(&self) -> Result<(), &'static str> {
        if self.nodes.keys().next_back().is_some_and(|newest| *newest > self.last_node) {
            return Err("a number above the last one that was given");
        }
        if self.members().count() > META_NODES_MAX {
            return Err("too many nodes");
        }
        for replicas in &self.map {
            let is_sorted = replicas.windows(2).all(|pair| pair[0] < pair[1]);
            let are_members = replicas.iter().all(|node| {
                let state = self.nodes.get(node).map(|row| row.state);
                matches!(state, Some(NodeState::Active | NodeState::Leaving))
            });
            if !is_sorted || !are_members || replicas.is_empty() != (self.epoch == 0) {
                return Err("a shard's replicas");
            }
        }
        Ok(())
    }
}

impl core::fmt::Display for MetaRefused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Founding => "the cluster is not founded yet, or was founded already",
            Self::UnknownNode => "there is no such node",
            Self::NumberTaken => "that number was given to a node before",
            Self::UnknownShard => "there is no such shard",
            Self::NotActive => "the node is not active and takes no shards",
            Self::NotThere => "the shard is not on the first node, or is on the second already",
            Self::Transition => "the node cannot go from its state to that one",
            Self::HoldsShards => {
                "the node still holds shards; let it leave, balance, and wait until they have moved"
            }
            Self::LastNode => "the last active node cannot leave",
            Self::Replicas => "a shard has between one and seven replicas, each on a node of its own",
            Self::Version => "a node does not know the version of the machines that this needs; upgrade it",
            Self::Full => "the cluster has as many nodes as it may have",
        })
    }
}

impl std::error::Error for MetaRefused {}
