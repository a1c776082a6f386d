//! From a client's frame to a request at the shard that serves it.

use std::collections::BTreeMap;

use bytes::Bytes;
use throng_base::{Instant, Key};
use throng_wire::event::EventKind;
use throng_wire::frame::{
    ChannelClass, Create, ErrorFrame, ErrorScope, Frame, Freshness, Open, Publish, Subscribe,
};
use throng_wire::link::{Op, Refusal, Request, ToRouter};
use throng_wire::{ChannelId, Code, NodeId, ShardId, UserId};

use crate::Output;
use crate::gateway::Gateway;
use crate::limits::{
    BUSY_RETRY_MS, OUTBOX_SLACK, PENDING_PER_SESSION, REQUEST_TIMEOUT, REROUTES_MAX, SMALL_ANSWER,
    SUBSCRIPTIONS_PER_SESSION, UNAVAILABLE_RETRY_MS,
};
use crate::pending::{Pending, Purpose, answer_size};
use crate::session::Session;

impl Gateway {
    /// A request, PUBLISH or UNSUBSCRIBE of an authenticated session.
    pub(crate) fn operation(&mut self, now: Instant, key: Key, frame: Frame<'_>) {
        let Some(user) = self.sessions.get(key).map(|session| session.user) else { return };
        let (request, op) = match frame {
            Frame::Unsubscribe(unsubscribe) => {
                if let Some(index) = self.hub.find(&unsubscribe.channel) {
                    self.unsubscribe(key, index);
                }
                return;
            }
            Frame::Publish(publish) => return self.publish(now, key, &publish),
            Frame::Subscribe(subscribe) => return self.subscribe(now, key, subscribe),
            Frame::Create(create) => return self.create(now, key, create),
            Frame::Fetch(f) => {
                let (channel, after, epoch) = (f.channel, f.after, f.epoch);
                (f.request, Op::Fetch { channel, after, epoch, limit: f.limit, freshness: f.freshness })
            }
            Frame::Sync(f) => (f.request, Op::Sync { after: f.after, epoch: f.epoch, limit: f.limit }),
            Frame::Open(open) => (open.request, open_op(user, open)),
            Frame::Join(f) => (f.request, Op::Join { channel: f.channel, user: named(f.user, user) }),
            Frame::Leave(f) => (f.request, Op::Leave { channel: f.channel, user: named(f.user, user) }),
            Frame::Members(f) => {
                (f.request, Op::Members { channel: f.channel, after: f.after, limit: f.limit })
            }
            _ => return, // the other frames do not reach this place: see `Input::of`
        };
        self.ask(now, key, Purpose::Request(request), op);
    }

    fn publish(&mut self, now: Instant, key: Key, publish: &Publish<'_>) {
        let scope = ErrorScope::Publish(publish.channel, publish.client_msg_id);
        if publish.body.len() > self.config.body_max {
            return self.refuse(now, key, scope, Code::BODY_TOO_LARGE, 0);
        }
        if publish.kind != EventKind::MESSAGE {
            return self.refuse(now, key, scope, Code::UNSUPPORTED, 0);
        }
        let op = Op::Publish {
            channel: publish.channel,
            client_msg_id: publish.client_msg_id,
            kind: publish.kind,
            body: Bytes::copy_from_slice(publish.body),
        };
        self.ask(now, key, Purpose::Publish, op);
    }

    fn create(&mut self, now: Instant, key: Key, create: Create) {
        if create.class == ChannelClass::Direct {
            // A direct channel's id is derived, not drawn: OPEN makes it.
            let scope = ErrorScope::Request(create.request);
            return self.refuse(now, key, scope, Code::UNSUPPORTED, 0);
        }
        if create.channel.is_direct() {
            // SPEC W-CH-6. The router decides; here it costs no way there.
            let scope = ErrorScope::Request(create.request);
            return self.refuse(now, key, scope, Code::LIMIT, 0);
        }
        let op = Op::Create { channel: create.channel, class: create.class, members: create.members };
        self.ask(now, key, Purpose::Request(create.request), op);
    }

    fn subscribe(&mut self, now: Instant, key: Key, subscribe: Subscribe) {
        let scope = ErrorScope::Request(subscribe.request);
        let Some(session) = self.sessions.get(key) else { return };
        let generation = self.routes.generation(self.routes.shard(subscribe.channel.slot()));
        let known = self.hub.find(&subscribe.channel).and_then(|index| session.subscription_to(index));
        if known.is_none() && session.subscriptions.len() >= SUBSCRIPTIONS_PER_SESSION {
            return self.refuse(now, key, scope, Code::LIMIT, 0);
        }
        if !self.may_ask(session) || !self.has_place(session, SMALL_ANSWER) {
            return self.refuse(now, key, scope, Code::BUSY, BUSY_RETRY_MS);
        }
        let Some(index) = self.hub.find_or_add(subscribe.channel, generation) else {
            return self.refuse(now, key, scope, Code::OVERLOADED, BUSY_RETRY_MS);
        };
        self.hub.join(index, &mut self.sessions, key);
        let op = Op::Subscribe { channel: subscribe.channel, after: subscribe.after, epoch: subscribe.epoch };
        self.ask(now, key, Purpose::Request(subscribe.request), op);
    }

    /// Takes a client's request and keeps a place for its answer. Requests with large answers wait for one.
    fn ask(&mut self, now: Instant, key: Key, purpose: Purpose, op: Op) {
        let size = answer_size(&op, self.config.frame_max());
        let Some(session) = self.sessions.get(key) else { return };
        let fits = self.has_place(session, size);
        if !self.may_ask(session) || (!fits && size <= SMALL_ANSWER) {
            let scope = scope_of(purpose, &op);
            return self.refuse(now, key, scope, Code::BUSY, BUSY_RETRY_MS);
        }
        let session = self.sessions.get_mut(key).expect("found above");
        session.pending += 1;
        match purpose {
            Purpose::Request(request) if !fits => session.outbox.get_or_insert_default().park(request, op),
            _ => {
                session.reserved += size as u32;
                self.submit(now, key, purpose, op);
            }
        }
    }

    /// Sends parked requests as far as there are places for their answers.
    pub(crate) fn unpark(&mut self, now: Instant, key: Key) {
        while let Some(session) = self.sessions.get(key).filter(|session| session.is_open()) {
            let Some(op) = session.outbox.as_ref().and_then(|outbox| outbox.first_parked()) else { return };
            let size = answer_size(op, self.config.frame_max());
            if !self.has_place(session, size) {
                return;
            }
            let session = self.sessions.get_mut(key).expect("found above");
            session.reserved += size as u32;
            let parked = session.outbox.as_mut().and_then(|outbox| outbox.unpark());
            let (request, op) = parked.expect("the first was looked at above");
            self.submit(now, key, Purpose::Request(request), op);
        }
    }

    /// SPEC W-LIM-3: at least 64 requests of a session may be open.
    fn may_ask(&self, session: &Session) -> bool {
        session.pending < PENDING_PER_SESSION && self.pending.has_room()
    }

    /// Whether an answer of this size can be promised. A session that waits for nothing may always ask for one thing,
    /// and small answers find a place where large ones do not.
    fn has_place(&self, session: &Session, size: usize) -> bool {
        let promised = session.queued() + session.reserved as usize;
        let limit = self.config.outbox_bytes + self.config.answer_bytes;
        match size {
            0..=SMALL_ANSWER => promised + size <= limit + OUTBOX_SLACK,
            _ => {
                promised == 0 || (promised + size <= limit && self.queued + size <= self.config.queued_total)
            }
        }
    }

    /// Sends a request to the leader of its shard, or fails it.
    pub(crate) fn submit(&mut self, now: Instant, key: Key, purpose: Purpose, op: Op) {
        let Some(user) = self.sessions.get(key).map(|session| session.user) else { return };
        let shard = self.routes.shard(op.slot(&user));
        if let Op::Subscribe { channel, .. } = &op {
            self.subscription_asked(key, channel);
        }
        let place = self.any_replica(&op).or_else(|| self.routes.leader(shard));
        let pending = Pending {
            session: key,
            node: place.unwrap_or_default(),
            generation: self.routes.generation(shard),
            deadline: self.clock.deadline(now, REQUEST_TIMEOUT),
            reroutes: 0,
            purpose,
            op,
        };
        match place {
            Some(_) => self.send(pending),
            None => self.fail(now, pending, unavailable()),
        }
    }

    /// The near replica, for a read that any one may answer; it names the leader if it lacks what was asked for.
    fn any_replica(&self, op: &Op) -> Option<NodeId> {
        let is_free = matches!(op, Op::Fetch { freshness: Freshness::Stale | Freshness::AtLeast(_), .. });
        self.config.home.filter(|home| is_free && self.routes.is_up(*home))
    }

    fn send(&mut self, pending: Pending) {
        let Some(session) = self.sessions.get(pending.session) else { return };
        let (user, device, node) = (session.user, session.device, pending.node);
        let op = pending.op.clone();
        self.counters.requests += 1;
        let id = self.pending.insert(pending);
        let message = ToRouter::Request(Request { id, user, device, op });
        self.outputs.push_back(Output::ToRouter { node, message });
    }

    /// Sends a request on to the node that the asked one names as leader; gives it back if that leads nowhere.
    pub(crate) fn reroute(
        &mut self,
        now: Instant,
        mut pending: Pending,
        leader: NodeId,
    ) -> Result<(), Pending> {
        let is_use = leader != pending.node && self.routes.is_up(leader) && pending.reroutes < REROUTES_MAX;
        if !is_use || self.sessions.get(pending.session).is_none() {
            return Err(pending);
        }
        pending.node = leader;
        pending.reroutes += 1;
        pending.deadline = self.clock.deadline(now, REQUEST_TIMEOUT);
        if pending.purpose == (Purpose::Register { first: true }) {
            // Another request may have overtaken it.
            pending.purpose = Purpose::Register { first: false };
        }
        self.counters.rerouted += 1;
        self.send(pending);
        Ok(())
    }

    /// Shards have other leaders: what still waits at the old ones goes to them at once. An old leader that is cut off says
    /// nothing, and its link may take a while to be given up. Whatever it did is known under the same id.
    pub(crate) fn follow(&mut self, now: Instant, moved: &BTreeMap<ShardId, NodeId>) {
        let waits = |pending: &Pending| {
            let user = self.sessions.get(pending.session)?.user;
            let leader = *moved.get(&self.routes.shard(pending.op.slot(&user)))?;
            let is_free = self.any_replica(&pending.op) == Some(pending.node);
            (leader != pending.node && !is_free).then_some(leader)
        };
        for (id, leader) in self.pending.select(waits) {
            let Some(pending) = self.pending.take_id(id) else { continue };
            let key = pending.session;
            if let Err(pending) = self.reroute(now, pending, leader) {
                self.fail(now, pending, unavailable());
                self.unpark(now, key);
            }
        }
    }

    /// Answers a request by ERROR.
    pub(crate) fn refuse(
        &mut self,
        now: Instant,
        key: Key,
        scope: ErrorScope,
        code: Code,
        retry_after_ms: u32,
    ) {
        self.counters.errors += 1;
        self.tell(now, key, &Frame::Error(ErrorFrame { scope, code, retry_after_ms, detail: "" }));
    }
}

/// What an ERROR to a client's request names.
pub(crate) fn scope_of(purpose: Purpose, op: &Op) -> ErrorScope {
    match (purpose, op) {
        (Purpose::Request(request), _) => ErrorScope::Request(request),
        (_, Op::Publish { channel, client_msg_id, .. }) => ErrorScope::Publish(*channel, *client_msg_id),
        _ => ErrorScope::Session,
    }
}

/// Nobody to ask at the moment.
pub(crate) fn unavailable() -> Refusal {
    Refusal { code: Code::UNAVAILABLE, retry_after_ms: UNAVAILABLE_RETRY_MS, leader: None }
}

fn open_op(user: UserId, open: Open) -> Op {
    let members = if open.peer == user { Vec::new() } else { vec![open.peer] };
    Op::Create { channel: ChannelId::direct(user, open.peer), class: ChannelClass::Direct, members }
}

/// The named user; nil means oneself.
fn named(user: UserId, oneself: UserId) -> UserId {
    if user == UserId::NIL { oneself } else { user }
}
