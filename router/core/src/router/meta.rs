//! The metadata group on a node: commands carried to its leader, and the members of the groups that this node leads
//! brought to what the map wants.
//!
//! ```text
//!   handle_meta ─┬─ this node leads ─────────────────► proposed ─► applied ─► MetaDone
//!                └─ another does ─► Meta(ticket) ══════► its handle_meta …  ══► MetaAnswer ─► MetaDone
//!
//!   every 200 ms   own row not as it should be ────► Register
//!                  leader of the group ───────────► Found, its own members, joining nodes that follow become active
//!                  leader of a shard, unsettled ──► placement::next_step: one membership change
//! ```
//!
//! Nothing here remembers a move: whoever leads compares what is with what should be and takes the next step.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use throng_base::Instant;
use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::StateRead;
use throng_storage_core::store::{ConfStep, ProposalId};
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::link::ToGateway;
use throng_wire::peer::RouterMessage;

use super::{Output, Router};
use crate::fatal::Fatal;
use crate::limits::{
    META_ANSWER_MAX, META_EVERY, META_SOON, META_WAITING_MAX, RECONCILE_MOVES_MAX, RECONCILE_SHARDS,
};
use crate::machines::Applied;
use crate::meta::placement::{NextStep, next_step};
use crate::meta::{
    Meta, MetaCommand, MetaDone, MetaError, NodeState, Registration, read_answer, read_entry, write_answer,
    write_entry,
};

/// Who waits for a command of the metadata group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    /// Whoever called [`Router::handle_meta`].
    Caller(u64),
    /// Another node.
    Node(NodeId, u64),
    /// Nobody: what is there is looked at again.
    Nobody,
}

/// What a node does about the metadata.
#[derive(Debug, Default)]
pub(super) struct MetaDesk {
    /// As leader: proposed commands, oldest first.
    proposed: VecDeque<(ProposalId, Waiter)>,
    /// As another: sent to the leader, by caller, with the time until which an answer is waited for.
    asked: BTreeMap<u64, Instant>,
    /// When to compare next.
    at: Instant,
    /// Shards that may not have the members that the map wants.
    unsettled: BTreeSet<ShardId>,
    /// Of these: shards that get a new replica.
    moving: BTreeSet<ShardId>,
    /// Where to look next.
    next: ShardId,
    /// The nodes that were told last.
    told: Vec<(NodeId, SocketAddr)>,
    /// The map that `unsettled` was filled for.
    epoch: u64,
    /// Leaders of shards that have no replica here, as other nodes said.
    hints: BTreeMap<ShardId, NodeId>,
}

impl MetaDesk {
    /// A shard's members or leadership changed: its next step is due soon.
    pub(super) fn unsettle(&mut self, shard: ShardId, now: Instant) {
        self.unsettled.insert(shard);
        self.at = self.at.min(now + META_SOON);
    }

    pub(super) fn hint(&self, shard: ShardId) -> Option<NodeId> {
        self.hints.get(&shard).copied()
    }

    pub(super) fn forget_hint(&mut self, shard: ShardId) {
        self.hints.remove(&shard);
    }

    fn has_room(&self) -> bool {
        self.proposed.len() + self.asked.len() < META_WAITING_MAX
    }
}

impl<S: StateRead> Router<S> {
    /// The group of the metadata, behind those of the shards; `None` without one.
    fn meta_shard(&self) -> Option<ShardId> {
        self.machines.meta().map(|_| ShardId(self.config.shards))
    }

    pub(super) fn is_meta(&self, shard: ShardId) -> bool {
        self.meta_shard() == Some(shard)
    }

    /// Whether commands of this version of the machines may be proposed: every node can apply them.
    pub(super) fn allows(&self, version: u8) -> bool {
        self.machines.meta().is_none_or(|meta| meta.is_open(version)) || is_planted(Bug::VersionNotAwaited)
    }

    /// Whether there is such a group: a shard's, or that of the metadata.
    pub(super) fn has_group(&self, shard: ShardId) -> bool {
        shard.0 < self.config.shards || self.is_meta(shard)
    }

    /// The peer address that was really bound, where the configuration left the port open.
    pub fn set_peer_address(&mut self, address: SocketAddr) {
        let node = self.config.node;
        let own = self.config.founders.iter_mut().filter(|(founder, _)| *founder == node);
        let mine = own.map(|(_, registration)| registration).chain(&mut self.config.me);
        mine.filter(|registration| registration.peer.port() == 0).for_each(|me| me.peer = address);
    }

    /// The nodes of the cluster with their peer addresses; empty before the founding.
    pub fn nodes(&self) -> Vec<(NodeId, SocketAddr)> {
        let members = self.machines.meta().into_iter().flat_map(Meta::members);
        members.map(|node| (node.id, node.peer)).collect()
    }

    /// Carries a command to the metadata group. [`Output::MetaDone`] with the ticket follows, within seconds.
    pub fn handle_meta(&mut self, now: Instant, ticket: u64, command: &MetaCommand) {
        self.advance(now);
        let unavailable = Output::MetaDone { ticket, result: Err(MetaError::Unavailable) };
        let Some(shard) = self.meta_shard().filter(|_| !self.is_stopped && self.meta.has_room()) else {
            return self.output(unavailable);
        };
        if self.serves(shard) {
            return self.propose_meta(shard, command, Waiter::Caller(ticket));
        }
        let Some(leader) = self.other_leader(shard) else { return self.output(unavailable) };
        self.meta.asked.insert(ticket, self.now + META_ANSWER_MAX);
        let command = write_entry(core::slice::from_ref(command), self.wall);
        self.send_router(leader, RouterMessage::Meta { ticket, command });
    }

    fn propose_meta(&mut self, shard: ShardId, command: &MetaCommand, waiter: Waiter) {
        let payload = write_entry(core::slice::from_ref(command), self.wall);
        match self.store.propose(self.now, shard, payload) {
            Ok(id) => self.meta.proposed.push_back((id, waiter)),
            Err(_) => self.answer_meta(waiter, Err(MetaError::Unavailable)),
        }
    }

    fn answer_meta(&mut self, waiter: Waiter, result: Result<MetaDone, MetaError>) {
        match waiter {
            Waiter::Caller(ticket) => self.output(Output::MetaDone { ticket, result }),
            Waiter::Node(node, ticket) => {
                let answer = write_answer(&result);
                self.send_router(node, RouterMessage::MetaAnswer { ticket, answer });
            }
            Waiter::Nobody => {}
        }
    }

    /// Another node's command, for the leader.
    pub(super) fn meta_asked(&mut self, node: NodeId, ticket: u64, command: &[u8]) {
        let waiter = Waiter::Node(node, ticket);
        let command = read_entry(command).ok().and_then(|(_, mut commands)| match commands.len() {
            1 => commands.pop(),
            _ => None,
        });
        match (command, self.meta_shard()) {
            (Some(command), Some(shard)) if self.serves(shard) && self.meta.has_room() => {
                self.propose_meta(shard, &command, waiter);
            }
            _ => self.answer_meta(waiter, Err(MetaError::Unavailable)),
        }
    }

    /// The leader's answer.
    pub(super) fn meta_answered(&mut self, ticket: u64, answer: &[u8]) {
        if let Some(result) = read_answer(answer)
            && self.meta.asked.remove(&ticket).is_some()
        {
            self.output(Output::MetaDone { ticket, result });
        }
    }

    /// A shard's leader is named by a node that got what was for it.
    pub(super) fn leader_is(&mut self, shard: ShardId, leader: NodeId) {
        if shard.0 < self.config.shards && leader != self.config.node && !self.serves(shard) {
            let is_news = self.meta.hints.insert(shard, leader) != Some(leader);
            if is_news {
                self.post_again(shard);
            }
        }
    }

    /// An entry of the metadata group is applied.
    pub(super) fn apply_meta(
        &mut self,
        at: Applied,
        payload: &bytes::Bytes,
        proposal: Option<ProposalId>,
    ) -> Result<(), Fatal> {
        let results = self.machines.apply_metadata(at, payload)?;
        let waiter = proposal.and_then(|id| {
            let place = self.meta.proposed.iter().position(|(known, _)| *known == id)?;
            self.meta.proposed.remove(place).map(|(_, waiter)| waiter)
        });
        if let (Some(waiter), Some(result)) = (waiter, results.first()) {
            self.answer_meta(waiter, result.map_err(MetaError::Refused));
        }
        self.meta_changed();
        Ok(())
    }

    /// The metadata may be another than before.
    pub(super) fn meta_changed(&mut self) {
        let Some(meta) = self.machines.meta().filter(|meta| meta.epoch() > 0) else { return };
        let speaks = self.config.me.as_ref().map(|me| me.speaks);
        if let Some(speaks) = speaks.filter(|speaks| !speaks.includes(meta.version())) {
            return self.stop(Fatal::Version { open: meta.version(), speaks });
        }
        self.meta.at = self.meta.at.min(self.now + META_SOON);
        if self.meta.epoch != meta.epoch() {
            self.meta.epoch = meta.epoch();
            self.meta.unsettled.extend((0..self.config.shards).map(ShardId));
        }
        let nodes = self.nodes();
        if self.meta.told != nodes {
            self.meta.told.clone_from(&nodes);
            self.fanout.tell_nodes(&nodes);
            self.output(Output::Nodes { nodes });
        }
    }

    /// The nodes as gateways are told on connect; nothing before the founding.
    pub(super) fn nodes_told(&self) -> Option<ToGateway> {
        let nodes = self.meta.told.clone();
        (!nodes.is_empty()).then_some(ToGateway::Nodes { nodes })
    }

    /// These proposals are lost: their outcome is open.
    pub(super) fn meta_lost(&mut self, proposals: &[ProposalId]) {
        let (lost, kept): (VecDeque<_>, VecDeque<_>) =
            core::mem::take(&mut self.meta.proposed).into_iter().partition(|(id, _)| proposals.contains(id));
        self.meta.proposed = kept;
        for (_, waiter) in lost {
            self.answer_meta(waiter, Err(MetaError::Unavailable));
        }
    }

    /// When [`Self::meta_due`] has something to do.
    pub(super) fn meta_timeout(&self) -> Option<Instant> {
        self.meta_shard().map(|_| self.meta.at)
    }

    /// Compares what is with what should be.
    pub(super) fn meta_due(&mut self) {
        let Some(shard) = self.meta_shard().filter(|_| self.meta.at <= self.now) else { return };
        self.meta.at = self.now + META_EVERY;
        let now = self.now;
        let late: Vec<u64> =
            self.meta.asked.iter().filter(|(_, until)| **until <= now).map(|(ticket, _)| *ticket).collect();
        for ticket in late {
            self.meta.asked.remove(&ticket);
            self.output(Output::MetaDone { ticket, result: Err(MetaError::Unavailable) });
        }
        if self.serves(shard) {
            self.lead_meta(shard);
            self.meta.moving.remove(&shard); // its copies are small
        }
        self.say_who_i_am(shard);
        self.reconcile_some();
    }

    /// What the leader of the group sees to: one thing at a time.
    fn lead_meta(&mut self, shard: ShardId) {
        if !self.meta.proposed.is_empty() {
            return;
        }
        let Some(meta) = self.machines.meta() else { return };
        if meta.epoch() == 0 {
            if !self.config.founders.is_empty() {
                let founding = MetaCommand::Found(self.config.founders.clone());
                self.propose_meta(shard, &founding, Waiter::Nobody);
            }
            return;
        }
        if let Some(version) = meta.version_spoken_by_all().filter(|version| !meta.is_open(*version)) {
            return self.propose_meta(shard, &MetaCommand::OpenVersion(version), Waiter::Nobody);
        }
        let (voters, followers) = meta.own_replicas();
        let conf = self.store.conf(shard);
        // A node takes shards once it follows: then it knows the others, and they know it.
        let joining = meta.members().filter(|node| node.state == NodeState::Joining);
        let follows = joining.map(|node| node.id).find(|node| {
            let mut peers = conf.members().map(throng_storage_core::entry::PeerId);
            peers.any(|peer| peer.node() == *node && self.store.keeps_up(shard, peer))
        });
        if let Some(node) = follows {
            let command = MetaCommand::SetState { node, state: NodeState::Active };
            return self.propose_meta(shard, &command, Waiter::Nobody);
        }
        self.take_step(shard, &voters, &followers, true);
    }

    /// A node's addresses may be others than when it was here last.
    fn say_who_i_am(&mut self, shard: ShardId) {
        let (Some(me), Some(meta)) = (&self.config.me, self.machines.meta()) else { return };
        let id = self.config.node;
        let Some(row) = meta.node(id).filter(|row| row.state != NodeState::Gone) else { return };
        if row.registration() == *me || !self.meta.has_room() {
            return;
        }
        let command = MetaCommand::Register { number: Some(id), node: me.clone() };
        if self.serves(shard) {
            if self.meta.proposed.is_empty() {
                self.propose_meta(shard, &command, Waiter::Nobody);
            }
        } else if let Some(leader) = self.other_leader(shard) {
            // Nobody waits for the answer: the row shows it.
            let command = write_entry(&[command], self.wall);
            self.send_router(leader, RouterMessage::Meta { ticket: u64::MAX, command });
        }
    }

    /// Brings shards that this node leads a step nearer to the map: some of them at a time, in turn.
    fn reconcile_some(&mut self) {
        let (unsettled, from) = (&self.meta.unsettled, self.meta.next);
        let turn: Vec<ShardId> =
            unsettled.range(from..).chain(unsettled.range(..from)).take(RECONCILE_SHARDS).copied().collect();
        for shard in turn {
            self.meta.next = ShardId(shard.0 + 1);
            if self.is_moving(shard) {
                self.meta.moving.insert(shard);
            }
            let may_add = self.meta.moving.len() < RECONCILE_MOVES_MAX || self.meta.moving.contains(&shard);
            let wanted = self.machines.meta().map(|meta| meta.replicas(shard).to_vec()).unwrap_or_default();
            if !self.serves(shard) || self.take_step(shard, &wanted, &[], may_add) {
                self.meta.unsettled.remove(&shard);
                self.meta.moving.remove(&shard);
            }
        }
    }

    /// Whether this node leads the shard and a new replica of it catches up.
    fn is_moving(&self, shard: ShardId) -> bool {
        self.serves(shard) && !self.store.conf(shard).learners.is_empty()
    }

    /// Takes the next step of a group that this node leads; true if there is none to take.
    fn take_step(&mut self, shard: ShardId, wanted: &[NodeId], followers: &[NodeId], may_add: bool) -> bool {
        let conf = self.store.conf(shard);
        let leader = self.store.peer(shard);
        match next_step(&conf, wanted, followers, leader, |peer| self.store.keeps_up(shard, peer)) {
            NextStep::Settled => return true,
            NextStep::Wait => {}
            NextStep::Propose(steps) => {
                let adds = steps.iter().any(|step| matches!(step, ConfStep::AddLearner(_)));
                // What is refused now is looked at again.
                let is_due = !adds || may_add;
                let is_proposed = is_due && self.store.propose_conf(self.now, shard, steps).is_ok();
                if adds && is_proposed {
                    self.meta.moving.insert(shard);
                }
            }
            NextStep::HandOver(node) => {
                // A node that cannot take it now is asked again.
                let _ = self.store.transfer_leader(self.now, shard, node);
            }
        }
        false
    }
}

impl crate::meta::NodeRow {
    /// The row as its node would say it.
    fn registration(&self) -> Registration {
        let Self { join, peer, client, ops, zone, certificate, speaks, .. } = self.clone();
        Registration { join, peer, client, ops, zone, certificate, speaks }
    }
}
