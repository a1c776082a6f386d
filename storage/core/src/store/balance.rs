//! Leadership finds its place: each group has a preferred node, so that every node leads its share. A leader whose
//! preferred node is alive, caught up and stable hands over, one group at a time.

use std::collections::BTreeMap;

use core::time::Duration;

use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};

use super::config::StoreConfig;
use super::group::Group;
use super::limits;
use crate::entry::PeerId;

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// When it was last heard, `None` while its link is down.
    heard: Option<Instant>,
    /// Since when it has been heard without a pause.
    since: Instant,
}

/// What a node knows of the others, and when it last moved a leadership.
#[derive(Debug)]
pub(super) struct Balance {
    node: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    /// A node not heard for this long counts as gone.
    silence: Duration,
    next: Instant,
    /// The last move, until it is known how it ended.
    moving: Option<(ShardId, NodeId, Instant)>,
    /// Nodes that did not take a leadership over, and until when they are offered none.
    avoided: BTreeMap<NodeId, Instant>,
}

impl Balance {
    pub(super) fn new(config: &StoreConfig, now: Instant) -> Self {
        Self {
            node: config.node,
            peers: BTreeMap::new(),
            silence: config.tick * config.election_ticks as u32,
            next: now + limits::BALANCE_EVERY,
            moving: None,
            avoided: BTreeMap::new(),
        }
    }

    /// Notes a sign of life. False if it cannot be one of another node.
    pub(super) fn heard(&mut self, node: NodeId, now: Instant) -> bool {
        let fits = node != self.node && PeerId::new(node, 0).is_some();
        if !fits || !self.peers.contains_key(&node) && self.peers.len() >= limits::NODES_MAX {
            return false;
        }
        let silence = self.silence;
        let peer = self.peers.entry(node).or_default();
        if peer.heard.is_none_or(|heard| now.since(heard) > silence) {
            peer.since = now;
        }
        peer.heard = Some(now);
        true
    }

    pub(super) fn down(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = None;
        }
    }

    /// Whether a node was heard since its link last broke or fell silent.
    pub(super) fn talks(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.heard.is_some())
    }

    /// How long a node has been alive.
    fn alive_for(&self, node: NodeId, now: Instant) -> Option<Duration> {
        let peer = self.peers.get(&node)?;
        let heard = peer.heard?;
        (now.since(heard) <= self.silence).then(|| now.since(peer.since))
    }

    /// The living node that lacks the least of a group this node leads.
    pub(super) fn successor(&self, group: &Group, now: Instant) -> Option<NodeId> {
        let others = group.members().voter_nodes().into_iter().filter(|node| *node != self.node);
        let alive = others.filter(|node| self.alive_for(*node, now).is_some());
        alive.filter_map(|node| Some((group.lag(node)?, node))).min().map(|(_, node)| node)
    }

    /// The next leadership to hand over for balance, at most one per interval.
    pub(super) fn next_move(&mut self, groups: &[Group], now: Instant) -> Option<(ShardId, NodeId)> {
        if now < self.next {
            return None;
        }
        self.next = now + limits::BALANCE_EVERY;
        if self.is_moving(groups, now) {
            return None;
        }
        self.avoided.retain(|_, until| *until > now);
        let found = (0..groups.len() as u32).map(ShardId).find_map(|shard| {
            let group = &groups[shard.0 as usize];
            let to = preferred(shard, &group.members().voter_nodes())?;
            self.should_move(group, to, now).then_some((shard, to))
        });
        self.moving = found.map(|(shard, to)| (shard, to, now + limits::BALANCE_MOVED));
        found
    }

    /// Whether it is not known yet how the last move ended. A node that did not take it over is avoided for a while: it
    /// may have reasons, and every offer keeps writers of a shard waiting.
    fn is_moving(&mut self, groups: &[Group], now: Instant) -> bool {
        let Some((shard, to, until)) = self.moving else { return false };
        if groups[shard.0 as usize].is_leader() && now < until {
            return true;
        }
        if groups[shard.0 as usize].is_leader() {
            self.avoided.insert(to, now + limits::BALANCE_AVOID);
        }
        self.moving = None;
        false
    }

    fn should_move(&self, group: &Group, to: NodeId, now: Instant) -> bool {
        let stable = |since: Duration| since >= limits::BALANCE_AFTER;
        to != self.node
            && !self.avoided.contains_key(&to)
            && group.is_serving()
            && !group.is_handing_over()
            && group.led_since().is_some_and(|since| stable(now.since(since)))
            && self.alive_for(to, now).is_some_and(stable)
            && group.lag(to).is_some_and(|lag| lag <= limits::BALANCE_LAG_MAX)
    }
}

/// The node that should lead a group: each of its voters has its turn as the shards go by.
fn preferred(shard: ShardId, voters: &[NodeId]) -> Option<NodeId> {
    voters.get(shard.0 as usize % voters.len().max(1)).copied()
}
