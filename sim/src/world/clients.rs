//! Users: their connections, what they send, what they are told.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use bytes::Bytes;
use throng_base::{Instant, Key};
use throng_client_core::{ClientEvent, Output, Request};
use throng_gateway_core::Transport;
use throng_wire::frame::ChannelClass;
use throng_wire::{ChannelId, Event as ChannelEvent, EventKind, RequestId, UserId};

use super::links::STREAM_DELAY_MAX;
use super::{Event, World};
use crate::actor::{Asked, Connection, Guest, Stage, node_of};
use crate::net::Ordered;

impl World {
    /// Draws channels with members; the first member creates each.
    pub(crate) fn make_channels(&mut self) {
        for number in 0..self.scenario.channels {
            let mut id = [0u8; 16];
            id[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
            id[8..].copy_from_slice(&self.rng.next_u64().to_be_bytes());
            let channel = ChannelId::group(id);
            let size = self.rng.between(2, 5).min(self.scenario.clients as u64) as usize;
            let first = self.rng.below(self.scenario.clients as u64) as usize;
            let members: Vec<usize> = (0..size).map(|i| (first + i) % self.scenario.clients).collect();
            for actor in &members {
                self.actors[*actor].channels.push((number, channel));
            }
            let guest = (first + size) % self.scenario.clients;
            let visits = !members.contains(&guest) && self.rng.chance(500_000);
            self.guests.push(visits.then_some(Guest { actor: guest, stage: Stage::Outside }));
            self.channels.push((channel, members, false));
            self.create(number);
        }
    }

    pub(crate) fn create(&mut self, number: usize) {
        let (channel, members, _) = self.channels[number].clone();
        let users: Vec<UserId> = members[1..].iter().map(|actor| self.actors[*actor].user).collect();
        let creator = members[0];
        let request = Request::Create { channel, class: ChannelClass::Group, members: users };
        self.ask(creator, request, Asked::Create(number));
    }

    /// Makes a request; tries again later if too many are open.
    pub(crate) fn ask(&mut self, actor: usize, request: Request, asked: Asked) -> Option<RequestId> {
        let now = self.now;
        let id = self.actors[actor].machine.request(now, request).ok();
        match (id, asked) {
            (Some(id), asked) => {
                self.actors[actor].asked.insert(id, asked);
            }
            (None, Asked::Create(_) | Asked::Read) => {}
            (None, Asked::Join(number) | Asked::Leave(number)) => self.visit_soon(number),
        }
        self.pump_actor(actor);
        id
    }

    pub(crate) fn actor_timer(&mut self, actor: usize, at: Instant) {
        let now = self.now;
        let state = &mut self.actors[actor];
        if state.timer_at != Some(at) {
            return;
        }
        state.timer_at = None;
        if state.machine.poll_timeout().is_some_and(|at| at <= now) {
            state.machine.handle_timeout(now);
        }
        self.pump_actor(actor);
    }

    /// Carries out all effects of a client and sets its timer.
    pub(crate) fn pump_actor(&mut self, actor: usize) {
        while let Some(output) = self.actors[actor].machine.poll_output() {
            match output {
                Output::Connect { endpoint } => self.connect(actor, node_of(&endpoint)),
                Output::Write => self.client_sends(actor),
                Output::Disconnect => {
                    self.client_sends(actor);
                    self.client_leaves(actor);
                }
                Output::Event(event) => self.client_event(actor, event),
            }
        }
        let now = self.now;
        let state = &mut self.actors[actor];
        if let Some(at) = state.machine.poll_timeout().map(|at| at.max(now + Duration::from_nanos(1)))
            && state.timer_at.is_none_or(|set| at < set)
        {
            state.timer_at = Some(at);
            self.at(at, Event::ActorTimer { actor, at });
        }
    }

    fn connect(&mut self, actor: usize, node: usize) {
        let id = self.rng.next_u64();
        let mut to_server = Ordered::default();
        let at = to_server.arrival(self.now, STREAM_DELAY_MAX, &mut self.rng);
        let to_client = Ordered::default();
        self.actors[actor].connection = Some(Connection { id, node, session: None, to_server, to_client });
        self.at(at, Event::Accept { actor, connection: id });
    }

    fn connection(&mut self, actor: usize, id: u64) -> Option<&mut Connection> {
        self.actors[actor].connection.as_mut().filter(|connection| connection.id == id)
    }

    pub(crate) fn accept(&mut self, actor: usize, id: u64) {
        let (now, websocket) = (self.now, actor.is_multiple_of(2));
        let Some(node) = self.connection(actor, id).map(|connection| connection.node) else { return };
        let node_now = self.nodes[node].local(now);
        let transport = if websocket { Transport::WebSocket } else { Transport::Stream };
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, actor as u8));
        let accepted = self.nodes[node]
            .process
            .as_mut()
            .and_then(|p| p.gateway.handle_connect(node_now, transport, address).ok());
        let event = match accepted {
            Some(session) => {
                self.sessions[node].insert(session, (actor, id));
                if let Some(connection) = self.connection(actor, id) {
                    connection.session = Some(session);
                }
                Event::Connected { actor, connection: id }
            }
            None => Event::Broken { actor, connection: id },
        };
        let mut path = self.connection(actor, id).map(|connection| connection.to_client).unwrap_or_default();
        let at = path.arrival(now, STREAM_DELAY_MAX, &mut self.rng);
        if let Some(connection) = self.connection(actor, id) {
            connection.to_client = path;
        }
        self.at(at, event);
        self.pump_node(node);
    }

    pub(crate) fn connected(&mut self, actor: usize, id: u64) {
        let now = self.now;
        if self.connection(actor, id).is_some() {
            self.actors[actor].machine.handle_connected(now);
            self.pump_actor(actor);
        }
    }

    fn client_sends(&mut self, actor: usize) {
        let now = self.now;
        let state = &mut self.actors[actor];
        let bytes = state.machine.outgoing().to_vec();
        if bytes.is_empty() {
            return;
        }
        state.machine.sent(now, bytes.len());
        let Some(connection) = &mut state.connection else { return };
        let at = connection.to_server.arrival(now, STREAM_DELAY_MAX, &mut self.rng);
        let id = connection.id;
        // Streams arrive in pieces; the cut is anywhere.
        let cut = self.rng.below(bytes.len() as u64) as usize;
        for piece in [&bytes[..cut], &bytes[cut..]] {
            if !piece.is_empty() {
                self.at(at, Event::ToServer { actor, connection: id, bytes: piece.to_vec() });
            }
        }
    }

    pub(crate) fn server_reads(&mut self, actor: usize, id: u64, mut bytes: Vec<u8>) {
        let Some(connection) = self.connection(actor, id) else { return };
        let (node, Some(session)) = (connection.node, connection.session) else { return };
        let (now, life) = (self.nodes[node].local(self.now), self.nodes[node].life);
        if !self.sessions[node].contains_key(&session) {
            return;
        }
        if let Some(process) = self.process(node, life) {
            process.gateway.handle_bytes(now, session, &mut bytes);
            self.pump_node(node);
        }
    }

    /// Bytes of a session, or its end, go to the client.
    pub(crate) fn stream_to_client(&mut self, node: usize, session: Key, bytes: Option<Vec<u8>>) {
        let now = self.now;
        let Some((actor, id)) = self.sessions[node].get(&session).copied() else { return };
        let Some(connection) = self.actors[actor].connection.as_mut().filter(|c| c.id == id) else { return };
        let at = connection.to_client.arrival(now, STREAM_DELAY_MAX, &mut self.rng);
        self.at(
            at,
            match bytes {
                Some(bytes) => Event::ToClient { actor, connection: id, bytes },
                None => Event::Broken { actor, connection: id },
            },
        );
    }

    pub(crate) fn client_reads(&mut self, actor: usize, id: u64, mut bytes: Vec<u8>) {
        let now = self.now;
        if self.connection(actor, id).is_some() {
            self.actors[actor].machine.handle_bytes(now, &mut bytes);
            self.pump_actor(actor);
        }
    }

    /// The client learns that its connection is gone.
    pub(crate) fn broken(&mut self, actor: usize, id: u64) {
        let now = self.now;
        if self.connection(actor, id).is_some() {
            self.actors[actor].connection = None;
            self.actors[actor].machine.handle_disconnected(now, "reset");
            self.pump_actor(actor);
        }
    }

    /// The client ends its connection; the gateway learns of it.
    fn client_leaves(&mut self, actor: usize) {
        let Some(connection) = self.actors[actor].connection.take() else { return };
        if let Some(session) = connection.session {
            let (node, life) = (connection.node, self.nodes[connection.node].life);
            self.after(STREAM_DELAY_MAX, Event::Left { node, life, session });
        }
    }

    pub(crate) fn left(&mut self, node: usize, life: u32, session: Key) {
        let now = self.nodes[node].local(self.now);
        if self.nodes[node].life == life && self.sessions[node].remove(&session).is_some() {
            if let Some(process) = &mut self.nodes[node].process {
                process.gateway.handle_disconnect(now, session);
            }
            self.pump_node(node);
        }
    }

    /// A fault: the connection breaks, each side learns of it on its own.
    pub(crate) fn cut_actor(&mut self, actor: usize) {
        let Some(connection) = &self.actors[actor].connection else { return };
        let (id, node, session) = (connection.id, connection.node, connection.session);
        self.faults.cuts += 1;
        if let Some(session) = session {
            let life = self.nodes[node].life;
            let notices = Duration::from_millis(self.rng.between(1, 2_000));
            self.after(notices, Event::Left { node, life, session });
        }
        self.broken(actor, id);
    }

    pub(crate) fn schedule_send(&mut self, actor: usize) {
        let mean = self.scenario.plan.duration.as_nanos() as u64 / self.scenario.sends;
        let delay = Duration::from_nanos(self.rng.below(2 * mean + 1));
        self.after(delay, Event::Send { actor });
    }

    pub(crate) fn send(&mut self, actor: usize) {
        if self.actors[actor].sent >= self.scenario.sends || self.actors[actor].channels.is_empty() {
            self.actors[actor].sent = self.scenario.sends;
            return;
        }
        let now = self.now;
        let choices = self.actors[actor].channels.clone();
        let (number, channel) = choices[self.rng.below(choices.len() as u64) as usize];
        if self.channels[number].2 {
            let body = format!("{actor}/{}", self.actors[actor].sent).into_bytes();
            if let Ok(id) = self.actors[actor].machine.publish(now, channel, Bytes::from(body.clone())) {
                self.actors[actor].sent += 1;
                self.model.sent(actor, number, &body);
                self.actors[actor].bodies.insert((channel, id), body);
            }
            self.pump_actor(actor);
        }
        self.schedule_send(actor);
    }

    fn client_event(&mut self, actor: usize, event: ClientEvent) {
        match event {
            ClientEvent::Acked { channel, client_msg_id, seq, .. } => {
                let body = self.actors[actor].bodies[&(channel, client_msg_id)].clone();
                self.model.acked(&body, seq.0);
                // Now and then a device that lost the answer asks again.
                if self.rng.chance(100_000) {
                    let now = self.now;
                    self.actors[actor].machine.repeat(now, channel, client_msg_id, &body);
                }
            }
            ClientEvent::RepeatAcked { channel, client_msg_id, seq } => {
                let body = self.actors[actor].bodies[&(channel, client_msg_id)].clone();
                self.model.acked(&body, seq.0);
            }
            ClientEvent::SendFailed { channel, client_msg_id, code } => {
                let body = self.actors[actor].bodies[&(channel, client_msg_id)].clone();
                self.model.refused(&body, &code.to_string());
            }
            ClientEvent::Delivered { channel, event } => self.delivered(actor, channel, &event),
            ClientEvent::SubscriptionEnded { channel, code } if !self.may_end(actor, channel) => {
                let text = format!("client {actor}'s subscription of {channel} ended with {code}");
                self.model.violations.push(text);
            }
            ClientEvent::Reset { channel, floor, head, .. } => {
                let (number, may_end) = (self.number_of(channel), self.may_end(actor, channel));
                self.model.reset(actor, number, floor.0, head.0, may_end);
            }
            ClientEvent::Answered { request, result } => self.answered(actor, request, result),
            ClientEvent::Inbox(entry) => self.inbox(actor, entry.channel, entry.head.0),
            ClientEvent::Moved { channel, head } => self.inbox(actor, channel, head.0),
            ClientEvent::InboxReset { .. } => {
                self.model.violations.push(format!("C5: client {actor}'s inbox was reset"));
            }
            ClientEvent::TokenRefused { code } => {
                self.model.violations.push(format!("client {actor}'s token was refused with {code}"));
            }
            ClientEvent::Closed { reason } => {
                self.model.violations.push(format!("client {actor} gave up: {reason}"));
            }
            ClientEvent::Connected(_)
            | ClientEvent::Disconnected { .. }
            | ClientEvent::Subscribed { .. }
            | ClientEvent::SubscriptionEnded { .. }
            | ClientEvent::ServerError { .. } => {}
        }
    }

    pub(crate) fn number_of(&self, channel: ChannelId) -> usize {
        self.channels.iter().position(|(id, _, _)| *id == channel).expect("only these channels exist")
    }

    fn delivered(&mut self, actor: usize, channel: ChannelId, event: &ChannelEvent) {
        let number = self.number_of(channel);
        let body = content_of(event);
        self.note_membership(number, event);
        self.model.delivered(actor, number, event.seq.0, event.ts.0, &body);
    }
}

/// The content of an event, as the model knows it.
pub(crate) fn content_of(event: &ChannelEvent) -> Vec<u8> {
    match event.kind {
        EventKind::MESSAGE => event.body.to_vec(),
        EventKind(kind) => [b"kind ", &[kind][..], &event.body].concat(),
    }
}
