//! Nodes: numbers, where they are reached, and whether they take part.

use core::net::SocketAddr;

use throng_wire::ids::{NodeId, ShardId};

use super::{Meta, MetaDone, MetaRefused, Registration};
use crate::limits::{META_GONE_KEPT, META_NODES_MAX, META_REPLICAS_MAX, NODE_ID_MAX};

/// Drawn by a node that wants to join, so that asking again gets the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JoinId(pub [u8; 16]);

/// Whether a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Has a number; follows the metadata group and holds no shards yet.
    Joining,
    /// Holds shards.
    Active,
    /// Its shards are to move elsewhere.
    Leaving,
    /// Was a node. Its number is not given again.
    Gone,
}

/// Versions of the replicated machines that a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u8,
    /// The newest.
    pub newest: u8,
}

/// A node in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number.
    pub id: NodeId,
    /// What it joined under.
    pub join: JoinId,
    /// Where other nodes and gateways reach it.
    pub peer: SocketAddr,
    /// Where clients reach it, if it has gateways.
    pub client: Option<SocketAddr>,
    /// Its operations port.
    pub ops: Option<SocketAddr>,
    /// What it shares a fate with (rack, room); replicas of a shard are kept in different ones.
    pub zone: String,
    /// The name in its peer certificate; empty without TLS.
    pub certificate: String,
    /// What it speaks.
    pub speaks: Versions,
    /// Whether it takes part.
    pub state: NodeState,
}

impl Versions {
    /// Whether a version is among them.
    pub fn includes(self, version: u8) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl NodeState {
    /// Whether a node may go from here to there.
    ///
    /// ```text
    ///   joining ──► active ◄──► leaving ──► gone
    ///      └────────────────────────────────►┘
    /// ```
    fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Joining, Self::Active | Self::Gone)
                | (Self::Active, Self::Leaving)
                | (Self::Leaving, Self::Active | Self::Gone)
        )
    }
}

impl NodeRow {
    fn new(id: NodeId, node: &Registration, state: NodeState) -> Self {
        let Registration { join, peer, client, ops, zone, certificate, speaks } = node.clone();
        Self { id, join, peer, client, ops, zone, certificate, speaks, state }
    }
}

impl Meta {
    /// The nodes that the cluster was formatted with: each holds every shard. Once only.
    pub(super) fn found(&mut self, nodes: &[(NodeId, Registration)]) -> Result<MetaDone, MetaRefused> {
        if self.epoch > 0 {
            let is_same = nodes.iter().all(|(id, _)| self.nodes.contains_key(id));
            return if is_same { Ok(MetaDone::Unchanged) } else { Err(MetaRefused::Founding) };
        }
        let in_order = nodes.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let numbers = nodes.iter().all(|(id, _)| (1..=NODE_ID_MAX).contains(&id.0));
        if nodes.is_empty() || !in_order || !numbers || nodes.len() > META_REPLICAS_MAX {
            return Err(MetaRefused::Replicas);
        }
        if !nodes.iter().all(|(_, node)| node.speaks.includes(self.version)) {
            return Err(MetaRefused::Version);
        }
        for (id, node) in nodes {
            self.put(NodeRow::new(*id, node, NodeState::Active));
        }
        self.replicas = nodes.len();
        let all: Vec<NodeId> = nodes.iter().map(|(id, _)| *id).collect();
        let shards = 0..self.map.len() as u32;
        Ok(self.replace(shards.map(|shard| (shard, all.clone())).collect()))
    }

    /// Gives a node its number, or brings what is known of it up to date. The same join id gets the same number.
    pub(super) fn register(
        &mut self,
        number: Option<NodeId>,
        node: &Registration,
    ) -> Result<MetaDone, MetaRefused> {
        if self.epoch == 0 {
            return Err(MetaRefused::Founding);
        }
        if !node.speaks.includes(self.version) {
            return Err(MetaRefused::Version);
        }
        let known = self.nodes.values().find(|known| known.join == node.join);
        if let Some((id, state)) = known.map(|known| (known.id, known.state)) {
            if state == NodeState::Gone || number.is_some_and(|number| number != id) {
                return Err(MetaRefused::NumberTaken);
            }
            self.put(NodeRow::new(id, node, state));
            return Ok(MetaDone::Registered(id));
        }
        if self.members().count() >= META_NODES_MAX || self.last_node.0 >= NODE_ID_MAX {
            return Err(MetaRefused::Full);
        }
        let id = number.unwrap_or(NodeId(self.last_node.0 + 1));
        if id <= self.last_node || id.0 > NODE_ID_MAX {
            return Err(MetaRefused::NumberTaken);
        }
        self.put(NodeRow::new(id, node, NodeState::Joining));
        Ok(MetaDone::Registered(id))
    }

    pub(super) fn set_state(&mut self, node: NodeId, state: NodeState) -> Result<MetaDone, MetaRefused> {
        let before = self.nodes.get(&node).ok_or(MetaRefused::UnknownNode)?.state;
        if before == state {
            return Ok(MetaDone::Unchanged);
        }
        if !before.may_become(state) {
            return Err(MetaRefused::Transition);
        }
        if state == NodeState::Gone && self.holds_shards(node) {
            return Err(MetaRefused::HoldsShards);
        }
        if before == NodeState::Active && self.usable().count() == 1 {
            return Err(MetaRefused::LastNode);
        }
        self.nodes.get_mut(&node).expect("seen above").state = state;
        self.dirty.nodes.insert(node);
        self.forget_gone();
        Ok(MetaDone::Changed(self.epoch))
    }

    fn put(&mut self, row: NodeRow) {
        self.dirty.head |= row.id > self.last_node;
        self.last_node = self.last_node.max(row.id);
        self.dirty.nodes.insert(row.id);
        self.nodes.insert(row.id, row);
    }

    /// Rows of gone nodes make room for younger ones; their numbers stay given.
    fn forget_gone(&mut self) {
        let gone: Vec<NodeId> =
            self.nodes.values().filter(|row| row.state == NodeState::Gone).map(|row| row.id).collect();
        for id in gone.iter().take(gone.len().saturating_sub(META_GONE_KEPT)) {
            self.nodes.remove(id);
            self.dirty.nodes.insert(*id);
        }
    }

    /// Shards that a node should hold.
    pub fn shards_of(&self, node: NodeId) -> impl Iterator<Item = ShardId> {
        let shards = self.map.iter().enumerate();
        shards.filter(move |(_, nodes)| nodes.contains(&node)).map(|(shard, _)| ShardId(shard as u32))
    }
}
