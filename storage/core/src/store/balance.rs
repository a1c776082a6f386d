//! Leadership finds its place: each group has a preferred node, so that every node leads its share. A leader whose
//! preferred node is alive, caught up and stable hands over, one group at a time.

use std::collections::BTreeMap;

use core::time::Duration;

use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};

use super::config::StoreConfig;
use super::group::Group;
use super::limits;

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
    /// By rising id.
    voters: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    /// A node not heard for this long counts as gone.
    silence: Duration,
    next: Instant,
}

impl Balance {
    pub(super) fn new(config: &StoreConfig, now: Instant) -> Self {
        let mut voters = config.voters.clone();
        voters.sort_unstable();
        let others = voters.iter().filter(|voter| **voter != config.node);
        Self {
            node: config.node,
            peers: others.map(|node| (*node, Peer::default())).collect(),
            voters,
            silence: config.tick * config.election_ticks as u32,
            next: now + limits::BALANCE_EVERY,
        }
    }

    /// Whether a node votes here and is not this one.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    pub(super) fn heard(&mut self, node: NodeId, now: Instant) {
        let silence = self.silence;
        if let Some(peer) = self.peers.get_mut(&node) {
            if peer.heard.is_none_or(|heard| now.since(heard) > silence) {
                peer.since = now;
            }
            peer.heard = Some(now);
        }
    }

    pub(super) fn down(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = None;
        }
    }

    /// How long a node has been alive.
    fn alive_for(&self, node: NodeId, now: Instant) -> Option<Duration> {
        let peer = self.peers.get(&node)?;
        let heard = peer.heard?;
        (now.since(heard) <= self.silence).then(|| now.since(peer.since))
    }

    /// The node that should lead a group.
    pub(super) fn preferred(&self, shard: ShardId) -> NodeId {
        self.voters[shard.0 as usize % self.voters.len()]
    }

    /// The living node that lacks the least of a group this node leads.
    pub(super) fn successor(&self, group: &Group, now: Instant) -> Option<NodeId> {
        let alive = self.peers.keys().filter(|node| self.alive_for(**node, now).is_some());
        alive.filter_map(|node| Some((group.lag(*node)?, *node))).min().map(|(_, node)| node)
    }

    /// The next leadership to hand over for balance, at most one per interval.
    pub(super) fn next_move(&mut self, groups: &[Group], now: Instant) -> Option<(ShardId, NodeId)> {
        if now < self.next {
            return None;
        }
        self.next = now + limits::BALANCE_EVERY;
        (0..groups.len() as u32).map(ShardId).find_map(|shard| {
            let to = self.preferred(shard);
            self.should_move(&groups[shard.0 as usize], to, now).then_some((shard, to))
        })
    }

    fn should_move(&self, group: &Group, to: NodeId, now: Instant) -> bool {
        let stable = |since: Duration| since >= limits::BALANCE_AFTER;
        to != self.node
            && group.is_serving()
            && !group.is_handing_over()
            && group.led_since().is_some_and(|since| stable(now.since(since)))
            && self.alive_for(to, now).is_some_and(stable)
            && group.lag(to).is_some_and(|lag| lag <= limits::BALANCE_LAG_MAX)
    }
}
