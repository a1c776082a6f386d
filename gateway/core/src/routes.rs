//! Which node leads which shard, and which nodes can be reached.

use std::collections::BTreeSet;

use throng_wire::{NodeId, ShardId, Slot};

use crate::limits::NODES_MAX;

/// The shard map as the routers tell it.
#[derive(Debug)]
pub(crate) struct Routes {
    shards: Vec<Route>,
    links: BTreeSet<NodeId>,
}

/// What is known of one shard.
#[derive(Clone, Copy, Debug)]
struct Route {
    leader: Option<NodeId>,
    /// The term of the newest leader.
    term: u64,
    /// Rises whenever soft state at the shard's leader may be gone: another leader or term, or a broken link. What
    /// was registered under an older generation has to be registered again. 0 is never current.
    generation: u32,
}

impl Routes {
    pub(crate) fn new(shards: u32) -> Self {
        let unknown = Route { leader: None, term: 0, generation: 1 };
        Self { shards: vec![unknown; shards as usize], links: BTreeSet::new() }
    }

    /// The shard of a slot.
    pub(crate) fn shard(&self, slot: Slot) -> ShardId {
        ShardId::of_slot(slot, self.shards.len() as u32)
    }

    /// The shard's leader, if it is known and its link is up.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.shards[shard.0 as usize].leader.filter(|leader| self.links.contains(leader))
    }

    /// See [`Route::generation`].
    pub(crate) fn generation(&self, shard: ShardId) -> u32 {
        self.shards[shard.0 as usize].generation
    }

    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        self.links.contains(&node)
    }

    /// Takes what `from` says of a shard; whether something changed. The leader of the newest term wins, and only the leader
    /// itself can say that it no longer leads. That somebody knows of a newer term without a leader says nothing: a
    /// replica that was removed may count its own elections for ever.
    pub(crate) fn learn(&mut self, from: NodeId, shard: ShardId, leader: Option<NodeId>, term: u64) -> bool {
        let Some(route) = self.shards.get_mut(shard.0 as usize) else { return false };
        let is_news = match leader {
            Some(_) => term > route.term || (term == route.term && route.leader.is_none()),
            None => term >= route.term && route.leader == Some(from),
        };
        if !is_news {
            return false;
        }
        route.leader = leader;
        if leader.is_some() {
            route.term = term;
        }
        route.renew();
        true
    }

    /// A link is up.
    pub(crate) fn link_up(&mut self, node: NodeId) {
        if self.links.len() < NODES_MAX {
            self.links.insert(node);
        }
    }

    /// A link is down: what its node held for this gateway is gone.
    pub(crate) fn link_down(&mut self, node: NodeId) {
        self.links.remove(&node);
        for route in &mut self.shards {
            if route.leader == Some(node) {
                route.renew();
            }
        }
    }
}

impl Route {
    fn renew(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn the_newest_term_wins_and_only_the_leader_resigns_within_a_term() {
        let mut routes = Routes::new(4);
        routes.link_up(A);
        routes.link_up(B);
        assert!(routes.learn(B, SHARD, Some(A), 5));
        assert!(!routes.learn(A, SHARD, Some(A), 5));
        assert!(!routes.learn(B, SHARD, Some(B), 4));
        assert!(!routes.learn(B, SHARD, None, 5));
        assert_eq!(routes.leader(SHARD), Some(A));
        assert!(routes.learn(A, SHARD, None, 5));
        assert_eq!(routes.leader(SHARD), None);
        assert!(routes.learn(B, SHARD, Some(B), 6));
        assert_eq!(routes.leader(SHARD), Some(B));
        assert!(!routes.learn(B, ShardId(4), Some(B), 9), "no such shard");
    }

    #[test]
    fn a_term_without_a_leader_hides_none() {
        let mut routes = Routes::new(4);
        routes.link_up(A);
        routes.link_up(B);
        assert!(routes.learn(A, SHARD, Some(A), 2));
        assert!(!routes.learn(B, SHARD, None, 7), "it was removed, and asks for votes that nobody gives");
        assert_eq!(routes.leader(SHARD), Some(A));
        assert!(routes.learn(A, SHARD, None, 7), "it let go, because of that election or another");
        assert!(routes.learn(B, SHARD, Some(B), 3));
        assert_eq!(routes.leader(SHARD), Some(B));
    }

    #[test]
    fn every_loss_of_soft_state_raises_the_generation() {
        let mut routes = Routes::new(4);
        routes.link_up(A);
        routes.learn(A, SHARD, Some(A), 5);
        let first = routes.generation(SHARD);
        routes.link_down(A);
        assert_eq!((routes.leader(SHARD), routes.generation(SHARD)), (None, first + 1));
        routes.link_up(A);
        assert_eq!((routes.leader(SHARD), routes.generation(SHARD)), (Some(A), first + 1));
        routes.learn(A, SHARD, Some(A), 6);
        assert_eq!(routes.generation(SHARD), first + 2);
        assert_eq!(routes.generation(ShardId(0)), 1);
    }
}
