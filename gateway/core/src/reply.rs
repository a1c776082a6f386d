//! From a shard's answer to the client's frame.

use throng_base::{Instant, Key};
use throng_wire::code::ClientRule;
use throng_wire::frame::{Ack, Channel, ErrorFrame, MembersPage, Page, PageEvent, Reset, Subscribed, Synced};
use throng_wire::link::{Answer, Op, Refusal, Reply, ToGateway};
use throng_wire::{ChannelId, Code, Event, Frame, NodeId, RequestId, Seq, UserSeq};

use crate::gateway::Gateway;
use crate::limits::UNAVAILABLE_RETRY_MS;
use crate::pending::{Pending, Purpose, answer_size};
use crate::request::scope_of;
use crate::session::Registration;
use crate::subscription::Verdict;

impl Gateway {
    /// A message from a node whose link is up.
    pub fn handle_router(&mut self, now: Instant, node: NodeId, message: ToGateway) {
        if !self.routes.is_up(node) {
            return; // left over from a link that broke
        }
        match message {
            ToGateway::Reply(reply) => self.reply(now, node, reply),
            ToGateway::Deliver { channel, event, sender } => self.deliver(now, node, channel, event, sender),
            ToGateway::Lagged { channel, head } => self.stream_lagged(now, node, channel, head),
            ToGateway::Hint { session, channel, head, user_seq } => {
                self.hint(now, Key::from_u64(session.0), channel, head, user_seq);
            }
            ToGateway::Leads { shards } => self.leads(now, node, &shards),
            // For the driver, which makes the links and says which are up.
            ToGateway::Nodes { .. } => {}
        }
    }

    fn reply(&mut self, now: Instant, node: NodeId, reply: Reply) {
        let Some(pending) = self.pending.take(node, reply.id) else { return };
        let key = pending.session;
        match reply.result {
            Ok(answer) => self.complete(now, pending, answer),
            Err(refusal) => match refusal.leader.filter(|_| refusal.code == Code::UNAVAILABLE) {
                None => self.fail(now, pending, refusal),
                Some(leader) => {
                    if let Err(pending) = self.reroute(now, pending, leader) {
                        self.fail(now, pending, refusal);
                    }
                }
            },
        }
        self.unpark(now, key);
    }

    fn complete(&mut self, now: Instant, pending: Pending, answer: Answer) {
        self.release(&pending);
        let key = pending.session;
        match (pending.purpose, &pending.op, answer) {
            (
                Purpose::Publish,
                Op::Publish { channel, client_msg_id, .. },
                Answer::Published { seq, ts, duplicate },
            ) => {
                let ack = Ack { channel: *channel, client_msg_id: *client_msg_id, seq, ts, duplicate };
                self.answer(now, key, &Frame::Ack(ack));
            }
            (Purpose::Register { first }, _, Answer::Registered { user_seq }) => {
                self.registered(now, &pending, first, user_seq);
            }
            (Purpose::Renew, Op::Subscribe { .. }, Answer::Subscribed { head, .. }) => {
                self.subscription_answered(now, &pending, Verdict::From(head));
            }
            (Purpose::Renew, Op::Subscribe { .. }, Answer::ResetChannel { epoch, floor, head }) => {
                self.reset_channel(
                    now,
                    &pending,
                    Reset::Channel { channel: channel_of(&pending.op), epoch, floor, head },
                );
            }
            (Purpose::Request(request), _, answer) => self.complete_request(now, &pending, request, answer),
            (_, _, _) => self.fail_released(now, pending, internal()),
        }
    }

    fn complete_request(&mut self, now: Instant, pending: &Pending, request: RequestId, answer: Answer) {
        let key = pending.session;
        let channel = channel_of(&pending.op);
        match (&pending.op, answer) {
            (
                Op::Create { .. } | Op::Join { .. } | Op::Leave { .. },
                Answer::Channel { class, head, member },
            ) => {
                self.answer(now, key, &Frame::Channel(Channel { request, channel, class, head, member }));
            }
            (Op::Members { .. }, Answer::Members { more, members }) => {
                self.answer(now, key, &Frame::MembersPage(MembersPage { request, channel, more, members }));
            }
            (Op::Fetch { .. }, Answer::Page { head, events }) => {
                self.page(now, key, request, channel, head, &events)
            }
            (Op::Fetch { .. }, Answer::ResetChannel { epoch, floor, head }) => {
                self.answer(now, key, &Frame::Reset(Reset::Channel { channel, epoch, floor, head }));
            }
            (Op::Subscribe { .. }, Answer::Subscribed { head, member }) => {
                self.answer(now, key, &Frame::Subscribed(Subscribed { request, channel, head, member }));
                self.subscription_answered(now, pending, Verdict::From(head));
            }
            (Op::Subscribe { .. }, Answer::ResetChannel { epoch, floor, head }) => {
                self.reset_channel(now, pending, Reset::Channel { channel, epoch, floor, head });
            }
            (Op::Sync { .. }, Answer::Synced { cursor, more, entries }) => {
                self.note_user_seq(key, cursor);
                self.answer(now, key, &Frame::Synced(Synced { request, cursor, more, entries }));
            }
            (Op::Sync { .. }, Answer::ResetInbox { epoch, user_seq }) => {
                self.note_user_seq(key, user_seq);
                self.answer(now, key, &Frame::Reset(Reset::Inbox { epoch, user_seq }));
            }
            // A router that answers something else is broken; its client must not wait for ever.
            _ => self.fail_released(now, pending.clone(), internal()),
        }
    }

    /// A page, cut at the frame limit: fewer events than asked are legal there (SPEC W-FETCH-1, W-LIM-2).
    fn page(
        &mut self,
        now: Instant,
        key: Key,
        request: RequestId,
        channel: ChannelId,
        head: Seq,
        events: &[Event],
    ) {
        /// Largest head of an event in a page: number, kind, sender, stamp, origin, length.
        const EVENT_HEAD_MAX: usize = 8 + 1 + 8 + 8 + 16 + 8 + 2;
        let mut room = self.config.frame_max().saturating_sub(64);
        let first = events.first().map_or(0, |event| event.seq.0);
        let fitting = events.iter().zip(first..).take_while(|(event, seq)| {
            let size = EVENT_HEAD_MAX + event.body.len();
            let fits = size <= room && event.seq.0 == *seq; // a page cannot express a hole
            room = room.saturating_sub(size);
            fits
        });
        let events = fitting.map(|(event, _)| PageEvent::from(event)).collect();
        self.answer(now, key, &Frame::Page(Page { request, channel, head, events }));
    }

    fn reset_channel(&mut self, now: Instant, pending: &Pending, reset: Reset) {
        self.answer(now, pending.session, &Frame::Reset(reset));
        self.subscription_answered(now, pending, Verdict::Reset);
    }

    fn registered(&mut self, now: Instant, pending: &Pending, first: bool, user_seq: UserSeq) {
        let Some(session) = self.sessions.get_mut(pending.session) else { return };
        if !session.is_open() {
            return;
        }
        let shard = self.routes.shard(session.user.slot());
        if pending.generation == self.routes.generation(shard)
            && self.routes.leader(shard) == Some(pending.node)
        {
            session.registration = Registration::Yes;
        } else {
            session.registration = Registration::No;
            session.generation = 0;
            self.renewal.start(now);
        }
        if user_seq > session.user_seq {
            session.user_seq = user_seq;
            if !first {
                self.lag_all(now, pending.session);
            }
        }
    }

    /// Gives a request up: its client is told, its registration tried again.
    pub(crate) fn fail(&mut self, now: Instant, pending: Pending, refusal: Refusal) {
        self.release(&pending);
        self.fail_released(now, pending, refusal);
    }

    fn fail_released(&mut self, now: Instant, pending: Pending, refusal: Refusal) {
        let key = pending.session;
        if pending.purpose.is_client() {
            let scope = scope_of(pending.purpose, &pending.op);
            let retry_after_ms = match refusal.retry_after_ms {
                0 if refusal.code == Code::UNAVAILABLE => UNAVAILABLE_RETRY_MS,
                given => given,
            };
            self.counters.errors += 1;
            let error = ErrorFrame { scope, code: refusal.code, retry_after_ms, detail: "" };
            self.answer(now, key, &Frame::Error(error));
        }
        match pending.op {
            Op::Subscribe { .. } if refusal.code.rule() == ClientRule::GiveUp => {
                self.subscription_answered(now, &pending, Verdict::Refused);
            }
            Op::Subscribe { .. } => self.subscription_answered(now, &pending, Verdict::Later),
            Op::Register { .. } => {
                if let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) {
                    session.registration = Registration::No;
                    // A user with too many sessions gets no hints on this one until the shard's next change.
                    if refusal.code.rule() != ClientRule::GiveUp {
                        session.generation = 0;
                        self.renewal.retry(now);
                    }
                }
            }
            _ => {}
        }
    }

    /// Frees the place that was kept for the answer.
    fn release(&mut self, pending: &Pending) {
        if !pending.purpose.is_client() {
            return;
        }
        let size = answer_size(&pending.op, self.config.frame_max()) as u32;
        if let Some(session) = self.sessions.get_mut(pending.session) {
            session.pending -= 1;
            session.reserved -= size;
        }
    }

    fn note_user_seq(&mut self, key: Key, user_seq: UserSeq) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.user_seq = session.user_seq.max(user_seq);
        }
    }
}

/// The channel an operation is about; nil for those about a user.
pub(crate) fn channel_of(op: &Op) -> ChannelId {
    match op {
        Op::Publish { channel, .. }
        | Op::Create { channel, .. }
        | Op::Join { channel, .. }
        | Op::Leave { channel, .. }
        | Op::Members { channel, .. }
        | Op::Fetch { channel, .. }
        | Op::Subscribe { channel, .. } => *channel,
        Op::Sync { .. } | Op::Register { .. } => ChannelId::NIL,
    }
}

fn internal() -> Refusal {
    Refusal { code: Code::INTERNAL, retry_after_ms: 0, leader: None }
}
