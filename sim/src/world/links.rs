//! What travels between nodes: peer messages, and links between gateways and routers.

use core::time::Duration;

use bytes::BytesMut;
use throng_router_core::PeerMessage;
use throng_wire::PeerFrame;
use throng_wire::link::{GatewayId, ToGateway, ToRouter};

use super::{Event, World};

/// Pause before a link is tried again.
const LINK_RETRY: Duration = Duration::from_millis(50);

/// Delay on links inside a data centre, and to clients.
pub(crate) const STREAM_DELAY_MAX: Duration = Duration::from_millis(3);

/// A peer message as it would travel; the codec takes part in every run.
pub(crate) fn encode(message: &PeerMessage) -> Vec<u8> {
    let mut out = BytesMut::new();
    match message.clone() {
        PeerMessage::Raft(batch) => PeerFrame::Raft(batch),
        PeerMessage::Router(message) => PeerFrame::Router(message),
        PeerMessage::Snapshot(message) => PeerFrame::Snapshot(message),
    }
    .encode(&mut out);
    out.to_vec()
}

impl World {
    pub(crate) fn peer_send(&mut self, from: usize, to: usize, message: PeerMessage) {
        if let PeerMessage::Snapshot(message) = &message {
            self.note_snapshot(from, message);
        }
        if self.net.is_cut(from, to) {
            self.faults.partitioned += 1;
            return;
        }
        let (loss, replay, delay_max) = match self.calm {
            true => (0, 0, STREAM_DELAY_MAX),
            false => (self.scenario.plan.loss, self.scenario.plan.replay, self.scenario.plan.delay_max),
        };
        if self.rng.chance(loss) {
            self.faults.lost += 1;
            return;
        }
        let copies = if self.rng.chance(replay) { 2 } else { 1 };
        self.faults.replayed += copies - 1;
        for _ in 0..copies {
            let (at, overtakes) = self.net.arrival(self.now, (from, to), delay_max, &mut self.rng);
            self.faults.reordered += u64::from(overtakes);
            self.at(at, Event::Peer { from, to, message: message.clone() });
        }
    }

    pub(crate) fn peer_arrives(&mut self, from: usize, to: usize, message: PeerMessage) {
        if self.net.is_cut(from, to) {
            self.faults.partitioned += 1;
            return;
        }
        if let PeerMessage::Snapshot(message) = &message {
            self.note_answer(to, message);
        }
        let (now, life, sender) = (self.nodes[to].local(self.now), self.nodes[to].life, self.ids[from]);
        if let Some(process) = self.process(to, life) {
            process.router.handle_peer(now, sender, message);
            self.pump_node(to);
        }
    }

    pub(crate) fn try_link_soon(&mut self, gateway: usize, router: usize) {
        let epoch = self.links[gateway][router].epoch;
        let delay =
            if gateway == router { Duration::ZERO } else { Duration::from_millis(self.rng.between(1, 20)) };
        self.after(delay, Event::LinkTry { gateway, router, epoch });
    }

    pub(crate) fn link_try(&mut self, gateway: usize, router: usize, epoch: u64) {
        let link = &self.links[gateway][router];
        if link.up || link.epoch != epoch {
            return;
        }
        let both_up = self.nodes[gateway].process.is_some() && self.nodes[router].process.is_some();
        if !both_up {
            return; // whoever starts next tries again
        }
        if self.net.is_cut(gateway, router) || self.net.is_cut(router, gateway) {
            self.after(LINK_RETRY, Event::LinkTry { gateway, router, epoch });
            return;
        }
        let link = &mut self.links[gateway][router];
        link.up = true;
        link.epoch += 1;
        let router_id = self.ids[router];
        let (gateway_now, now) = (self.nodes[gateway].local(self.now), self.nodes[router].local(self.now));
        let Some(process) = &mut self.nodes[gateway].process else { return };
        let gateway_id = process.gateway_id;
        process.gateway.handle_router_up(gateway_now, router_id);
        if let Some(process) = &mut self.nodes[router].process {
            process.router.handle_gateway_up(now, gateway_id);
        }
        self.pump_node(gateway);
        if router != gateway {
            self.pump_node(router);
        }
    }

    /// A link breaks: both ends that still live are told; what was under way is lost.
    pub(crate) fn break_link(&mut self, gateway: usize, router: usize, gateway_id: Option<GatewayId>) {
        let link = &mut self.links[gateway][router];
        if !link.up {
            return;
        }
        link.up = false;
        link.epoch += 1;
        let router_id = self.ids[router];
        let (gateway_now, now) = (self.nodes[gateway].local(self.now), self.nodes[router].local(self.now));
        let gateway_id =
            self.nodes[gateway].process.as_ref().map(|process| process.gateway_id).or(gateway_id);
        if let Some(process) = &mut self.nodes[gateway].process {
            process.gateway.handle_router_down(gateway_now, router_id);
        }
        if let (Some(process), Some(gateway_id)) = (&mut self.nodes[router].process, gateway_id) {
            process.router.handle_gateway_down(now, gateway_id);
        }
        self.pump_node(gateway);
        self.pump_node(router);
        self.try_link_soon(gateway, router);
    }

    pub(crate) fn gateway_to_router(&mut self, gateway: usize, router: usize, message: ToRouter) {
        let now = self.now;
        let link = &mut self.links[gateway][router];
        if !link.up {
            return;
        }
        let epoch = link.epoch;
        let at = link.to_router.arrival(now, STREAM_DELAY_MAX, &mut self.rng);
        self.at(at, Event::ToRouter { gateway, router, epoch, message });
    }

    pub(crate) fn router_to_gateway(&mut self, router: usize, gateway_id: GatewayId, message: ToGateway) {
        let now = self.now;
        let at_node =
            |node: &crate::node::Node| node.process.as_ref().is_some_and(|p| p.gateway_id == gateway_id);
        let Some(gateway) = self.nodes.iter().position(at_node) else { return };
        let link = &mut self.links[gateway][router];
        if !link.up {
            return;
        }
        let epoch = link.epoch;
        let at = link.to_gateway.arrival(now, STREAM_DELAY_MAX, &mut self.rng);
        self.at(at, Event::ToGateway { gateway, router, epoch, message });
    }

    pub(crate) fn request_arrives(&mut self, gateway: usize, router: usize, epoch: u64, message: ToRouter) {
        if self.links[gateway][router].epoch != epoch {
            return;
        }
        let (now, life) = (self.nodes[router].local(self.now), self.nodes[router].life);
        let Some(gateway_id) = self.nodes[gateway].process.as_ref().map(|process| process.gateway_id) else {
            return;
        };
        if let Some(process) = self.process(router, life) {
            process.router.handle_gateway(now, gateway_id, message);
            self.pump_node(router);
        }
    }

    pub(crate) fn answer_arrives(&mut self, gateway: usize, router: usize, epoch: u64, message: ToGateway) {
        if self.links[gateway][router].epoch != epoch {
            return;
        }
        let now = self.nodes[gateway].local(self.now);
        let (life, router_id) = (self.nodes[gateway].life, self.ids[router]);
        if let Some(process) = self.process(gateway, life) {
            process.gateway.handle_router(now, router_id, message);
            self.pump_node(gateway);
        }
    }
}
