//! Soft state heals by asking again (design: "soft state heals by cursors").
//!
//! After a leader change or a broken link every session of the shard is registered again and every subscription
//! authorised again, in paced batches: a walk over both slabs that asks for whatever is not current. The walk begins
//! anew whenever something changes, so it needs no list of what is missing.

use std::collections::BTreeMap;

use throng_base::{Instant, Key};
use throng_wire::link::Op;
use throng_wire::{NodeId, ShardId};

use crate::gateway::Gateway;
use crate::hub::State;
use crate::limits::{RENEWAL_PACE, RENEWAL_RETRY, RENEWAL_SCAN};
use crate::pending::Purpose;
use crate::session::{Registration, session_ref};

/// Subscribe requests of one subscription under way above which it is not renewed; leaves 64 for its client in a u8.
const ASKING_MAX: u8 = 128;

/// Where the walk is.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    /// When the next step is due; `None` while nothing is known to be missing.
    due: Option<Instant>,
    /// Something behind the walk needs another one.
    again: bool,
    sessions_at: u32,
    channels_at: u32,
    subscriptions_at: u32,
}

impl Renewal {
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins a walk at once.
    pub(crate) fn start(&mut self, now: Instant) {
        *self = Self { due: Some(now), ..Self::default() };
    }

    /// Sees to it that another walk begins soon.
    pub(crate) fn retry(&mut self, now: Instant) {
        match self.due {
            Some(_) => self.again = true,
            None => *self = Self { due: Some(now + RENEWAL_RETRY), ..Self::default() },
        }
    }

    fn finish(&mut self, now: Instant) {
        let due = self.again.then(|| now + RENEWAL_RETRY);
        *self = Self { due, ..Self::default() };
    }
}

impl Gateway {
    /// The link to a node is up; its [`throng_wire::link::ToGateway::Leads`] follows.
    pub fn handle_router_up(&mut self, now: Instant, node: NodeId) {
        if self.routes.is_up(node) {
            self.handle_router_down(now, node); // the driver replaced a link
        }
        self.routes.link_up(node);
        self.renewal.start(now);
        self.renew_some(now);
    }

    /// The link to a node broke: what it held for this gateway is gone, and what was asked has no answer.
    pub fn handle_router_down(&mut self, now: Instant, node: NodeId) {
        self.routes.link_down(node);
        for pending in self.pending.take_all_of(node) {
            let key = pending.session;
            self.fail(now, pending, crate::request::unavailable());
            self.unpark(now, key);
        }
    }

    pub(crate) fn leads(&mut self, now: Instant, from: NodeId, shards: &[(ShardId, Option<NodeId>, u64)]) {
        let (mut is_news, mut moved) = (false, BTreeMap::new());
        for &(shard, leader, term) in shards {
            if self.routes.learn(from, shard, leader, term) {
                is_news = true;
                moved.extend(leader.map(|leader| (shard, leader)));
            }
        }
        if !moved.is_empty() {
            self.follow(now, &moved);
        }
        if is_news {
            self.renewal.start(now);
            self.renew_some(now);
        }
    }

    /// One step of the walk, if it is due.
    pub(crate) fn renew_some(&mut self, now: Instant) {
        if self.renewal.due.is_none_or(|due| due > now) {
            return;
        }
        let mut budget = RENEWAL_SCAN;
        if self.renew_sessions(now, &mut budget) && self.renew_channels(now, &mut budget) {
            self.renewal.finish(now);
        } else {
            self.renewal.due = Some(now + RENEWAL_PACE);
        }
    }

    /// Whether the walk over sessions is done.
    fn renew_sessions(&mut self, now: Instant, budget: &mut u32) -> bool {
        while self.renewal.sessions_at < self.sessions.index_end() {
            if *budget == 0 || !self.pending.may_renew() {
                return false;
            }
            *budget -= 1;
            if let Some(key) = self.sessions.key_at(self.renewal.sessions_at) {
                self.register(now, key, false);
            }
            self.renewal.sessions_at += 1;
        }
        true
    }

    /// Registers a session at its user's shard unless that is done or under way.
    pub(crate) fn register(&mut self, now: Instant, key: Key, first: bool) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let shard = self.routes.shard(session.user.slot());
        let generation = self.routes.generation(shard);
        if self.routes.leader(shard).is_none() || session.generation == generation {
            return; // the walk comes by again when there is a leader
        }
        session.generation = generation;
        session.registration = Registration::Asked;
        self.counters.renewals += u64::from(!first);
        self.submit(now, key, Purpose::Register { first }, Op::Register { session: session_ref(key) });
    }

    /// Whether the walk over channels is done.
    fn renew_channels(&mut self, now: Instant, budget: &mut u32) -> bool {
        while self.renewal.channels_at < self.hub.index_end() {
            if !self.renew_channel(now, self.renewal.channels_at, budget) {
                return false;
            }
            self.renewal.channels_at += 1;
            self.renewal.subscriptions_at = 0;
        }
        true
    }

    /// Whether the walk over one channel's subscriptions is done.
    fn renew_channel(&mut self, now: Instant, index: u32, budget: &mut u32) -> bool {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        let Some(channel) = self.hub.channel_mut(index) else { return true };
        let shard = self.routes.shard(channel.id.slot());
        channel.settle(self.routes.generation(shard));
        if channel.silent == 0 || self.routes.leader(shard).is_none() {
            return true;
        }
        loop {
            let at = self.renewal.subscriptions_at as usize;
            let Some(channel) = self.hub.channel_mut(index) else { return true };
            let Some(subscription) = channel.subscriptions.get(at) else {
                // One that moved to a place already passed is found by the next walk.
                self.renewal.again |= channel.silent > 0;
                return true;
            };
            if subscription.state == State::Silent && subscription.asking >= ASKING_MAX {
                self.renewal.again = true; // its answers come first
            } else if subscription.state == State::Silent {
                let (session, id, after) = (subscription.session, channel.id, channel.silent_since);
                if *budget == 0 || !self.pending.may_renew() {
                    return false;
                }
                channel.set_state(at, State::Asked);
                let key = self.sessions.key_at(session).expect("subscriptions end before their session");
                self.counters.renewals += 1;
                let op = Op::Subscribe { channel: id, after, epoch: self.config.epoch };
                self.submit(now, key, Purpose::Renew, op);
            }
            *budget = budget.saturating_sub(1);
            self.renewal.subscriptions_at += 1;
        }
    }
}
