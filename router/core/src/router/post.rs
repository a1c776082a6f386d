//! Carrying the outbox from channels' shards to users' shards.
//!
//! ```text
//!   channel shard's leader                        user shard's leader
//!   outbox row ─ linger ─► InboxUpdate(ticket) ──────► command ─► log ─► applied
//!   row cleared ◄─ applied ◄─ log ◄─ OutboxClear ◄──── InboxStored(ticket)
//! ```
//!
//! One ticket per pair of shards is under way. Tickets are soft state: an update without an answer is sent again, and a
//! new leader begins with the rows, which are replicated.

use std::collections::{BTreeMap, BTreeSet};

use throng_base::planted::{Bug, is_planted};
use throng_base::{Instant, Rng};
use throng_storage_core::state::StateRead;
use throng_wire::ids::{ChannelId, NodeId, Seq, ShardId};
use throng_wire::peer::{InboxRow, RouterMessage};

use super::desk::Waiter;
use super::output::{Output, PeerMessage};
use super::{RETRY, Router};
use crate::fatal::Fatal;
use crate::limits::{INBOX_UPDATE_ROWS_MAX, OUTBOX_BATCH_ROWS, OUTBOX_DRAINS_PER_TURN};
use crate::machines::Outgoing;

/// What is under way from one shard to another.
#[derive(Debug)]
struct Ticket {
    batch: u64,
    channels: Vec<(ChannelId, Seq)>,
    resend_at: Instant,
    is_clearing: bool,
}

/// One pair of shards.
#[derive(Debug, Default)]
struct Lane {
    /// The last channel that was sent; the next batch begins behind it.
    after: ChannelId,
    ticket: Option<Ticket>,
    /// Tickets in a row that nobody has stored.
    misses: u32,
}

/// All outgoing mail of this node.
#[derive(Debug)]
pub(super) struct Post {
    /// By (channels' shard, users' shard).
    lanes: BTreeMap<(ShardId, ShardId), Lane>,
    /// Shards by the time their outbox is looked at. Invariant: a shard is in it where its desk's `post_at` says.
    due: BTreeSet<(Instant, ShardId)>,
    /// Random from the start: an answer to a ticket of an earlier life must not clear another one's rows.
    next_batch: u64,
}

impl Post {
    pub(super) fn new(seed: u64) -> Self {
        let next_batch = Rng::new(seed).fork(u64::from_be_bytes(*b"tickets\0")).next_u64() >> 2;
        Self { lanes: BTreeMap::new(), due: BTreeSet::new(), next_batch }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// This node no longer serves the shard.
    pub(super) fn forget_shard(&mut self, shard: ShardId) {
        self.lanes.retain(|&(from, _), _| from != shard);
        self.due.retain(|&(_, due)| due != shard);
    }

    fn ticket(&mut self, from: ShardId, dest: ShardId, batch: u64) -> Option<&mut Ticket> {
        self.lanes.get_mut(&(from, dest))?.ticket.as_mut().filter(|ticket| ticket.batch == batch)
    }
}

impl<S: StateRead> Router<S> {
    /// New rows are in a shard's outbox: they are sent when others had time to join them.
    pub(super) fn post_soon(&mut self, shard: ShardId) {
        if self.machines.take_outbox_grown(shard) && self.serves(shard) {
            self.post_after_linger(shard);
        }
    }

    /// This node begins to serve a shard, or a lane is free: what is left goes soon.
    pub(super) fn post_soon_unless_empty(&mut self, shard: ShardId) {
        if !self.machines.shard(shard).outbox.is_empty() {
            self.post_after_linger(shard);
        }
    }

    fn post_after_linger(&mut self, shard: ShardId) {
        let linger = self.now + self.config.outbox_linger;
        let pause = self.desk(shard).posted_at.map_or(linger, |at| at + self.config.outbox_pause);
        self.post_at(shard, linger.max(pause));
    }

    /// Looks at a shard's outbox at this time, or earlier if that is planned.
    fn post_at(&mut self, shard: ShardId, at: Instant) {
        let desk = &mut self.desks[shard.0 as usize];
        if desk.post_at.is_some_and(|planned| planned <= at) {
            return;
        }
        if let Some(planned) = desk.post_at.replace(at) {
            self.post.due.remove(&(planned, shard));
        }
        self.post.due.insert((at, shard));
    }

    /// Looks at the outboxes whose time has come.
    pub(super) fn post_due(&mut self) {
        for _ in 0..OUTBOX_DRAINS_PER_TURN {
            let Some(&(at, shard)) = self.post.due.first() else { return };
            if at > self.now {
                return;
            }
            self.post.due.pop_first();
            self.desk(shard).post_at = None;
            if let Err(reason) = self.drain(shard) {
                return self.stop(reason);
            }
        }
    }

    fn drain(&mut self, from: ShardId) -> Result<(), Fatal> {
        if !self.serves(from) {
            return Ok(());
        }
        let dests: Vec<ShardId> = self.machines.shard(from).outbox.dests().collect();
        let mut again: Option<Instant> = None;
        for dest in dests {
            let at = self.drain_lane(from, dest)?;
            again = Some(again.map_or(at, |known| known.min(at)));
        }
        if let Some(at) = again {
            self.post_at(from, at);
        }
        Ok(())
    }

    /// Sends the next batch of a lane if it is free; returns when to look again.
    fn drain_lane(&mut self, from: ShardId, dest: ShardId) -> Result<Instant, Fatal> {
        let now = self.now;
        let lane = self.post.lanes.entry((from, dest)).or_default();
        if let Some(ticket) = lane.ticket.as_ref().filter(|ticket| ticket.resend_at > now) {
            return Ok(ticket.resend_at);
        }
        let was_missed = lane.ticket.take().is_some();
        lane.misses = lane.misses.wrapping_add(u32::from(was_missed));
        let (after, misses) = (lane.after, lane.misses);
        if was_missed {
            self.meta.forget_hint(dest);
        }
        let Some(node) = self.node_for(dest, misses) else {
            return Ok(now + self.config.outbox_linger + RETRY);
        };
        let Outgoing { rows, channels } = self.machines.outgoing(from, dest, after)?;
        let Some(&(last, _)) = channels.last() else { return Ok(now + self.config.outbox_resend) };
        // A full batch means a backlog: no pause behind it.
        self.desk(from).posted_at = Some(now).filter(|_| rows.len() < OUTBOX_BATCH_ROWS);
        let batch = self.post.next_batch;
        self.post.next_batch = (batch + 1) & (u64::MAX >> 2);
        let resend_at = now + self.config.outbox_resend;
        let ticket = Ticket { batch, channels, resend_at, is_clearing: false };
        self.post.lanes.insert((from, dest), Lane { after: last, ticket: Some(ticket), misses });
        self.send_router(node, RouterMessage::InboxUpdate { from_shard: from, to_shard: dest, batch, rows });
        Ok(resend_at)
    }

    /// The node that serves a shard, if one is known to: the one that somebody named, the one that this replica follows,
    /// or one that should hold the shard, another one at each try. Who does not lead names the leader. Now and then others
    /// than the supposed leader are tried: a node that lost its replica may be the last to learn of a new one.
    fn node_for(&self, shard: ShardId, misses: u32) -> Option<NodeId> {
        if self.serves(shard) {
            return Some(self.config.node);
        }
        let supposed = self.meta.hint(shard).or_else(|| self.other_leader(shard));
        let turn = if supposed.is_some() { misses / 4 } else { misses };
        supposed.filter(|_| misses % 4 != 3).or_else(|| {
            let meta = self.machines.meta()?;
            let holders = meta.replicas(shard);
            // Behind those that should hold it all others: in the middle of a move it is where it was.
            let rest = meta.members().map(|node| node.id).filter(|node| !holders.contains(node));
            let all: Vec<NodeId> =
                holders.iter().copied().chain(rest).filter(|node| *node != self.config.node).collect();
            all.get((turn as usize).checked_rem(all.len())?).copied()
        })
    }

    /// The leader of a shard is another one than was thought: what waits for it is sent again, soon and not at once,
    /// because two nodes that are both behind may name each other.
    pub(super) fn post_again(&mut self, dest: ShardId) {
        let lanes = self.post.lanes.iter_mut().filter(|((_, to), _)| *to == dest);
        let waiting =
            lanes.filter(|(_, lane)| lane.ticket.as_ref().is_some_and(|ticket| !ticket.is_clearing));
        let from: Vec<ShardId> = waiting
            .map(|((from, _), lane)| {
                (lane.ticket, lane.after) = (None, ChannelId::default());
                lane.misses = lane.misses.wrapping_add(1);
                *from
            })
            .collect();
        let at = self.now + self.config.outbox_linger;
        from.into_iter().for_each(|shard| self.post_at(shard, at));
    }

    /// Sends a message to a node, or takes it at once if that is this one.
    pub(super) fn send_router(&mut self, node: NodeId, message: RouterMessage) {
        if node == self.config.node {
            self.handle_router(node, message);
        } else {
            self.output(Output::ToPeer { node, message: PeerMessage::Router(message) });
        }
    }

    /// A message from the router of a node.
    pub(super) fn handle_router(&mut self, node: NodeId, message: RouterMessage) {
        match message {
            RouterMessage::InboxUpdate { from_shard, to_shard, batch, rows } => {
                self.inbox_update(node, from_shard, to_shard, batch, &rows);
            }
            RouterMessage::InboxStored { to_shard, from_shard, batch } => {
                self.inbox_stored(to_shard, from_shard, batch);
            }
            RouterMessage::LeaderIs { shard, leader } => self.leader_is(shard, leader),
            RouterMessage::Meta { ticket, command } => self.meta_asked(node, ticket, &command),
            RouterMessage::MetaAnswer { ticket, answer } => self.meta_answered(ticket, &answer),
        }
    }

    /// Rows for users of a shard that this node may lead. If it does not, or has no room, the sender repeats them.
    fn inbox_update(&mut self, node: NodeId, from: ShardId, to: ShardId, batch: u64, rows: &[InboxRow]) {
        let shards = self.config.shards;
        let known = from.0 < shards && to.0 < shards && rows.len() <= INBOX_UPDATE_ROWS_MAX;
        if known && self.serves(to) && self.desk(to).has_room() {
            if is_planted(Bug::InboxReportedEarly) {
                let stored = RouterMessage::InboxStored { to_shard: from, from_shard: to, batch };
                self.send_router(node, stored);
            }
            let waiter = Waiter::Inbox { node, channels: from, batch };
            self.push(to, waiter, |entry| entry.inbox_update(from, rows.iter().copied()));
        } else if known
            && !self.serves(to)
            && let Some(leader) = self.other_leader(to)
        {
            self.send_router(node, RouterMessage::LeaderIs { shard: to, leader });
        }
    }

    /// A user shard has stored a ticket's rows: they can be cleared.
    fn inbox_stored(&mut self, from: ShardId, dest: ShardId, batch: u64) {
        if from.0 >= self.config.shards || !self.serves(from) || !self.desk(from).has_room() {
            return;
        }
        let resend_at = self.now + self.config.outbox_resend;
        let Some(ticket) = self.post.ticket(from, dest, batch).filter(|ticket| !ticket.is_clearing) else {
            return;
        };
        ticket.is_clearing = true;
        ticket.resend_at = resend_at;
        let channels = core::mem::take(&mut ticket.channels);
        self.push(from, Waiter::Clear { dest, batch }, |entry| entry.outbox_clear(dest, &channels));
    }

    /// A ticket's rows are cleared: the lane is free.
    pub(super) fn post_cleared(&mut self, from: ShardId, dest: ShardId, batch: u64) {
        if self.post.ticket(from, dest, batch).is_none() {
            return;
        }
        if self.machines.shard(from).outbox.has(dest) {
            let lane = self.post.lanes.get_mut(&(from, dest)).expect("it has the ticket");
            (lane.ticket, lane.misses) = (None, 0);
        } else {
            self.post.lanes.remove(&(from, dest));
        }
        self.post_soon_unless_empty(from);
    }
}
