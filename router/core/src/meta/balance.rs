//! Where shards should go. Deterministic: it runs at apply, on every replica.
//!
//! Three steps, each of which moves no more than it has to:
//!
//! 1. Nodes that are not active lose their replicas, sets that are too large their most loaded ones.
//! 2. Sets that are too small get the least loaded nodes, in a zone that the shard is not in yet where there is one.
//! 3. While one node holds at least two more than another, one replica moves from the fullest to the emptiest. That is
//!    the least number of moves that evens the load out: every node ends with its fair share, rounded down or up.
//!
//! Step 3 never brings two replicas of a shard into one zone that were in two, so that with few zones the load may stay
//! uneven; it never brings more moves either, because every move makes the sum of squares of the loads smaller.

use std::collections::{BTreeMap, BTreeSet};

use throng_wire::ids::NodeId;

use super::{Meta, MetaDone, MetaRefused};
use crate::limits::META_REPLICAS_MAX;

/// A map in the making.
struct Plan<'a> {
    zone_by_node: BTreeMap<NodeId, &'a str>,
    map: Vec<BTreeSet<NodeId>>,
    /// Invariant: how many sets of `map` each usable node is in.
    load_by_node: BTreeMap<NodeId, usize>,
}

impl Meta {
    /// Lays the shards out anew over the active nodes, `replicas` of each (0 = as before).
    pub(super) fn balance(&mut self, replicas: usize) -> Result<MetaDone, MetaRefused> {
        if self.epoch == 0 {
            return Err(MetaRefused::Founding);
        }
        if replicas > META_REPLICAS_MAX {
            return Err(MetaRefused::Replicas);
        }
        if self.usable().next().is_none() {
            return Err(MetaRefused::NotActive);
        }
        if replicas > 0 && replicas != self.replicas {
            self.replicas = replicas;
            self.dirty.head = true;
        }
        let mut plan = Plan::new(self);
        let size = self.replicas.min(plan.load_by_node.len());
        plan.shrink(size);
        plan.fill(size);
        while plan.even_out() {}
        let changes = plan.map.into_iter().enumerate();
        let changes = changes.map(|(shard, nodes)| (shard as u32, nodes.into_iter().collect()));
        let changes: Vec<(u32, Vec<NodeId>)> = changes.collect();
        Ok(self.replace(changes))
    }
}

impl<'a> Plan<'a> {
    fn new(meta: &'a Meta) -> Self {
        let usable: BTreeSet<NodeId> = meta.usable().collect();
        let zone_by_node =
            meta.nodes.values().map(|row| (row.id, row.zone.as_str())).filter(|(id, _)| usable.contains(id));
        let map: Vec<BTreeSet<NodeId>> = meta
            .map
            .iter()
            .map(|nodes| nodes.iter().copied().filter(|node| usable.contains(node)).collect())
            .collect();
        let mut load_by_node: BTreeMap<NodeId, usize> = usable.iter().map(|node| (*node, 0)).collect();
        for node in map.iter().flatten() {
            *load_by_node.get_mut(node).expect("only usable nodes are left") += 1;
        }
        Self { zone_by_node: zone_by_node.collect(), map, load_by_node }
    }

    fn add(&mut self, shard: usize, node: NodeId) {
        assert!(self.map[shard].insert(node), "a node holds a shard once");
        *self.load_by_node.get_mut(&node).expect("usable") += 1;
    }

    fn remove(&mut self, shard: usize, node: NodeId) {
        assert!(self.map[shard].remove(&node), "it holds the shard");
        *self.load_by_node.get_mut(&node).expect("usable") -= 1;
    }

    /// Replicas of a shard that share a zone with another of it that is not `but`. Nodes without a zone share none.
    fn shares_zone(&self, shard: usize, node: NodeId, but: Option<NodeId>) -> bool {
        let zone = self.zone_by_node[&node];
        let others = self.map[shard].iter().filter(|other| **other != node && Some(**other) != but);
        !zone.is_empty() && others.into_iter().any(|other| self.zone_by_node[other] == zone)
    }

    fn shrink(&mut self, size: usize) {
        for shard in 0..self.map.len() {
            while self.map[shard].len() > size {
                let rank =
                    |node: &NodeId| (self.shares_zone(shard, *node, None), self.load_by_node[node], *node);
                let node = *self.map[shard].iter().max_by_key(|node| rank(node)).expect("it is not empty");
                self.remove(shard, node);
            }
        }
    }

    fn fill(&mut self, size: usize) {
        for shard in 0..self.map.len() {
            while self.map[shard].len() < size {
                let free = self.load_by_node.keys().filter(|node| !self.map[shard].contains(node));
                let rank =
                    |node: &NodeId| (self.shares_zone(shard, *node, None), self.load_by_node[node], *node);
                let node = *free.min_by_key(|node| rank(node)).expect("there are as many nodes as replicas");
                self.add(shard, node);
            }
        }
    }

    /// Moves one replica from a fuller node to an emptier one; `false` if no move helps.
    fn even_out(&mut self) -> bool {
        let mut nodes: Vec<NodeId> = self.load_by_node.keys().copied().collect();
        nodes.sort_by_key(|node| (self.load_by_node[node], *node));
        // The first pair is the emptiest and the fullest; the others matter only where zones forbid that move.
        for &to in &nodes {
            for &from in nodes.iter().rev() {
                if self.load_by_node[&from] < self.load_by_node[&to] + 2 {
                    break;
                }
                if let Some(shard) = (0..self.map.len()).find(|shard| self.is_good_move(*shard, from, to)) {
                    self.remove(shard, from);
                    self.add(shard, to);
                    return true;
                }
            }
        }
        false
    }

    fn is_good_move(&self, shard: usize, from: NodeId, to: NodeId) -> bool {
        let held = &self.map[shard];
        held.contains(&from)
            && !held.contains(&to)
            && (!self.shares_zone(shard, to, Some(from)) || self.shares_zone(shard, from, None))
    }
}
