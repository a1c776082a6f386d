//! Leading shards: proposing what the desks gathered, and letting go when leadership goes.

use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::StateRead;
use throng_storage_core::store::{ProposalId, ProposeError, ReadId};
use throng_wire::code::Code;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::link::Refusal;

use super::desk::{Read, Waiter};
use super::{RETRY, Router};
use crate::limits::UNAVAILABLE_RETRY_MS;

impl<S: StateRead> Router<S> {
    /// Who leads a shard, as gateways are told: this node only when it serves.
    pub(super) fn leads(&self, shard: ShardId) -> (ShardId, Option<NodeId>, u64) {
        let desk = &self.desks[shard.0 as usize];
        let leader = desk.leader.filter(|&leader| leader != self.config.node || desk.is_serving);
        (shard, leader, desk.term)
    }

    /// Proposes and asks what the desks have gathered; true if anything was.
    pub(super) fn propose_all(&mut self) -> bool {
        let mut worked = false;
        for shard in core::mem::take(&mut self.busy) {
            worked |= self.propose(shard);
            worked |= self.ask(shard);
            // What waits still is looked at again when an entry is applied, or a read index is known, or then.
            if let Some(until) = self.desk(shard).gathers_until() {
                self.gathering.insert(shard);
                self.gather_at = Some(self.gather_at.map_or(until, |other| other.min(until)));
            }
        }
        worked
    }

    fn propose(&mut self, shard: ShardId) -> bool {
        let (now, wall) = (self.now, self.wall);
        let mut worked = false;
        while let Some(sealed) = self.desk(shard).next_entry(now, wall) {
            match self.store.propose(now, shard, sealed.payload.clone()) {
                Ok(id) => {
                    self.desk(shard).proposed(now, id, sealed.waiters);
                    worked = true;
                }
                Err(ProposeError::Busy) => {
                    self.desk(shard).put_back(sealed);
                    self.block(shard);
                    return worked;
                }
                Err(ProposeError::NotLeader { .. }) => {
                    self.desk(shard).put_back(sealed);
                    self.refuse_queued(shard);
                    return worked;
                }
            }
        }
        worked
    }

    fn ask(&mut self, shard: ShardId) -> bool {
        if !self.desk(shard).wants_round() {
            return false;
        }
        match self.store.read_index(self.now, shard) {
            Ok(id) => {
                self.desk(shard).asked(id);
                true
            }
            Err(ProposeError::Busy) => {
                self.block(shard);
                false
            }
            Err(ProposeError::NotLeader { .. }) => {
                self.refuse_queued(shard);
                false
            }
        }
    }

    /// The store has no room for this shard: it tries again a little later.
    fn block(&mut self, shard: ShardId) {
        self.blocked.insert(shard);
        self.retry_at.get_or_insert(self.now + RETRY);
    }

    /// Who leads, or whether this node serves, has changed.
    pub(super) fn role(&mut self, shard: ShardId, leader: Option<NodeId>, term: u64, serving: bool) {
        let desk = self.desk(shard);
        let before = (desk.is_serving, desk.term);
        (desk.leader, desk.term, desk.is_serving) = (leader, term, serving);
        if self.is_meta(shard) {
            return; // no gateway asks for it
        }
        if serving {
            let now = self.now;
            self.meta.unsettle(shard, now);
        }
        if leader.is_some() {
            self.meta.forget_hint(shard);
        }
        if before.0 && (!serving || before.1 != term) {
            self.fanout.forget_shard(shard);
            self.post.forget_shard(shard);
            self.desk(shard).post_at = None;
        }
        if !serving {
            self.refuse_queued(shard);
        }
        if serving && !is_planted(Bug::OutboxLostAtLeaderChange) {
            self.post_soon_unless_empty(shard);
        }
        let (shard, leader, term) = self.leads(shard);
        self.fanout.tell_all(shard, leader, term);
    }

    /// The outcome of these is open: whoever waits retries under the same id.
    pub(super) fn lost(&mut self, shard: ShardId, proposals: &[ProposalId], reads: &[ReadId]) {
        for id in proposals {
            for waiter in self.desk(shard).take_proposal(*id).unwrap_or_default() {
                self.abandon(&waiter, None);
            }
            self.busy.insert(shard);
        }
        for id in reads {
            let reads = self.desk(shard).take_round(*id);
            self.refuse_reads(shard, reads);
            self.busy.insert(shard);
        }
    }

    /// Nothing was proposed for these: whoever waits asks the leader.
    fn refuse_queued(&mut self, shard: ShardId) {
        let leader = self.other_leader(shard);
        for waiter in self.desk(shard).take_queued() {
            self.abandon(&waiter, leader);
        }
        let reads = self.desk(shard).take_reads();
        self.refuse_reads(shard, reads);
    }

    fn refuse_reads(&mut self, shard: ShardId, reads: Vec<Read>) {
        let leader = self.other_leader(shard);
        for read in reads {
            if let Read::Request { link, request } = read {
                self.fanout.reply(&link, request.id, Err(unavailable(leader)));
            }
        }
    }

    fn abandon(&mut self, waiter: &Waiter, leader: Option<NodeId>) {
        match waiter {
            Waiter::Request { link, id, flight } => {
                self.flights.end(flight);
                self.fanout.reply(link, *id, Err(unavailable(leader)));
            }
            // The sender repeats an update that nobody answers.
            Waiter::Inbox { .. } | Waiter::Clear { .. } => {}
            Waiter::Retention => self.retainer.settled(),
            Waiter::Operator { ask } => self.operated(*ask, Err(unavailable(leader))),
        }
    }

    /// The leader to send clients to, if it is another node.
    pub(super) fn other_leader(&self, shard: ShardId) -> Option<NodeId> {
        self.desks[shard.0 as usize].leader.filter(|&leader| leader != self.config.node)
    }
}

/// Nothing was proposed here if `leader` is named; otherwise the outcome is open.
pub(super) fn unavailable(leader: Option<NodeId>) -> Refusal {
    let retry_after_ms = if leader.is_some() { 0 } else { UNAVAILABLE_RETRY_MS };
    Refusal { code: Code::UNAVAILABLE, retry_after_ms, leader }
}
