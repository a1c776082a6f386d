//! What goes to gateways: links, subscriptions, registered sessions. All of it is soft state: it goes with a link or
//! with leadership, and gateways renew it.

use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};

use throng_wire::code::Code;
use throng_wire::event::Event;
use throng_wire::ids::{ChannelId, NodeId, Seq, ShardId, UserId, UserSeq};
use throng_wire::link::{Answer, GatewayId, Refusal, Reply, SessionRef, ToGateway};

use super::output::Output;
use super::registry::Registry;
use crate::few::Few;
use crate::hash::{Keyed, Table};
use crate::limits::{GATEWAYS_MAX, SESSIONS_MAX, SUBSCRIPTIONS_MAX};
use crate::machines::Effects;

/// One connection of a gateway. Request ids are unique on a link, so answers must not cross over to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) gateway: GatewayId,
    number: u64,
}

/// A shard's ears.
#[derive(Debug)]
struct Ears {
    subscribers: Table<ChannelId, Few<GatewayId>>,
    registry: Registry,
}

/// All ears of this node, and what they are to hear.
#[derive(Debug)]
pub(super) struct Fanout {
    links: BTreeMap<GatewayId, u64>,
    next_link: u64,
    /// By shard. Invariant: empty unless this node serves the shard.
    ears: Vec<Ears>,
    subscriptions: usize,
    sessions: usize,
    pub(super) outputs: VecDeque<Output>,
}

impl Fanout {
    pub(super) fn new(shards: u32, keyed: Keyed) -> Self {
        let ears = || Ears { subscribers: Table::with_hasher(keyed), registry: Registry::new(keyed) };
        Self {
            links: BTreeMap::new(),
            next_link: 0,
            ears: (0..shards).map(|_| ears()).collect(),
            subscriptions: 0,
            sessions: 0,
            outputs: VecDeque::new(),
        }
    }

    // ---- links -------------------------------------------------------------------------------------------------------

    /// A gateway's link stands; false if there are too many.
    pub(super) fn link_up(&mut self, gateway: GatewayId) -> bool {
        self.link_down(gateway);
        if self.links.len() >= GATEWAYS_MAX {
            return false;
        }
        self.next_link += 1;
        self.links.insert(gateway, self.next_link);
        true
    }

    /// A gateway's link broke: what was registered through it is gone.
    pub(super) fn link_down(&mut self, gateway: GatewayId) {
        if self.links.remove(&gateway).is_none() {
            return;
        }
        for ears in &mut self.ears {
            self.sessions -= ears.registry.drop_gateway(gateway);
            // A table is walked here, but nothing sees the order.
            ears.subscribers.retain(|_, gateways| {
                self.subscriptions -= gateways.retain(|other| *other != gateway);
                !gateways.is_empty()
            });
        }
    }

    /// The link that a gateway has now.
    pub(super) fn link(&self, gateway: GatewayId) -> Option<Link> {
        self.links.get(&gateway).map(|&number| Link { gateway, number })
    }

    /// Whether a link still stands.
    pub(super) fn stands(&self, link: &Link) -> bool {
        self.links.get(&link.gateway) == Some(&link.number)
    }

    // ---- answers -----------------------------------------------------------------------------------------------------

    /// Sends to a gateway whose link stands.
    fn send(&mut self, gateway: GatewayId, message: ToGateway) {
        self.outputs.push_back(Output::ToGateway { gateway, message });
    }

    /// Answers a request, unless its link is gone.
    pub(super) fn reply(&mut self, link: &Link, id: u64, result: Result<Answer, Refusal>) {
        if self.stands(link) {
            self.send(link.gateway, ToGateway::Reply(Reply { id, result }));
        }
    }

    /// Refuses a request.
    pub(super) fn refuse(&mut self, link: &Link, id: u64, code: Code, retry_after_ms: u32) {
        self.reply(link, id, Err(Refusal { code, retry_after_ms, leader: None }));
    }

    /// Tells one gateway who leads.
    pub(super) fn tell_leads(&mut self, gateway: GatewayId, shards: Vec<(ShardId, Option<NodeId>, u64)>) {
        self.send(gateway, ToGateway::Leads { shards });
    }

    /// Tells a gateway something that is not for a session.
    pub(super) fn tell(&mut self, gateway: GatewayId, message: ToGateway) {
        self.send(gateway, message);
    }

    /// Tells all gateways who leads a shard.
    pub(super) fn tell_all(&mut self, shard: ShardId, leader: Option<NodeId>, term: u64) {
        let gateways = self.links.keys().map(|&gateway| Output::ToGateway {
            gateway,
            message: ToGateway::Leads { shards: vec![(shard, leader, term)] },
        });
        self.outputs.extend(gateways);
    }

    /// Tells all gateways which nodes there are.
    pub(super) fn tell_nodes(&mut self, nodes: &[(NodeId, SocketAddr)]) {
        let gateways = self.links.keys().map(|&gateway| Output::ToGateway {
            gateway,
            message: ToGateway::Nodes { nodes: nodes.to_vec() },
        });
        self.outputs.extend(gateways);
    }

    // ---- ears --------------------------------------------------------------------------------------------------------

    /// A gateway wants a channel's events from here on.
    pub(super) fn subscribe(
        &mut self,
        shard: ShardId,
        channel: ChannelId,
        gateway: GatewayId,
    ) -> Result<(), Code> {
        let subscribers = &mut self.ears[shard.0 as usize].subscribers;
        let known = subscribers.get_mut(&channel);
        if known.as_ref().is_some_and(|known| known.contains(&gateway)) {
            return Ok(());
        }
        if self.subscriptions >= SUBSCRIPTIONS_MAX {
            return Err(Code::BUSY);
        }
        self.subscriptions += 1;
        match known {
            Some(known) => known.add(gateway),
            None => {
                subscribers.insert(channel, Few::One(gateway));
            }
        }
        Ok(())
    }

    /// A gateway has no session left that wants the channel.
    pub(super) fn unsubscribe(&mut self, shard: ShardId, channel: &ChannelId, gateway: GatewayId) {
        let subscribers = &mut self.ears[shard.0 as usize].subscribers;
        let Some(known) = subscribers.get_mut(channel) else { return };
        self.subscriptions -= known.retain(|other| *other != gateway);
        if known.is_empty() {
            subscribers.remove(channel);
        }
    }

    /// A session wants hints on its user's inbox.
    pub(super) fn register(
        &mut self,
        shard: ShardId,
        user: UserId,
        gateway: GatewayId,
        session: SessionRef,
    ) -> Result<(), Code> {
        if self.sessions >= SESSIONS_MAX {
            return Err(Code::BUSY);
        }
        let added = self.ears[shard.0 as usize].registry.add(user, (gateway, session));
        self.sessions += usize::from(added.map_err(|_| Code::LIMIT)?);
        Ok(())
    }

    /// A session ended.
    pub(super) fn unregister(
        &mut self,
        shard: ShardId,
        user: &UserId,
        gateway: GatewayId,
        session: SessionRef,
    ) {
        let gone = self.ears[shard.0 as usize].registry.remove(user, (gateway, session));
        self.sessions -= usize::from(gone);
    }

    /// This node no longer serves the shard.
    pub(super) fn forget_shard(&mut self, shard: ShardId) {
        let ears = &mut self.ears[shard.0 as usize];
        self.sessions -= ears.registry.clear();
        let gone: usize = ears.subscribers.values().map(Few::len).sum();
        self.subscriptions -= gone;
        ears.subscribers.clear();
        ears.subscribers.shrink_to_fit();
    }

    /// Sessions registered here, and bytes their tables take.
    pub(super) fn sessions(&self) -> (usize, usize) {
        (self.sessions, self.ears.iter().map(|ears| ears.registry.table_bytes()).sum())
    }

    /// (gateway, channel) subscriptions here.
    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions
    }
}

impl Effects for Fanout {
    fn event(&mut self, shard: ShardId, channel: &ChannelId, event: &Event, sender: UserId) {
        let Some(gateways) = self.ears[shard.0 as usize].subscribers.get(channel) else { return };
        for &gateway in gateways.as_slice() {
            let message = ToGateway::Deliver { channel: *channel, event: event.clone(), sender };
            self.outputs.push_back(Output::ToGateway { gateway, message });
        }
    }

    fn moved(&mut self, shard: ShardId, user: &UserId, channel: &ChannelId, head: Seq, user_seq: UserSeq) {
        for &(gateway, session) in self.ears[shard.0 as usize].registry.of(user) {
            let message = ToGateway::Hint { session, channel: *channel, head, user_seq };
            self.outputs.push_back(Output::ToGateway { gateway, message });
        }
    }
}
