//! The client machine.
//!
//! ```text
//!            ┌───────────── lost, silent, GOAWAY, CLOSE to resume ──────────────┐
//!            ▼                                                                  │
//!   new ─► Waiting ─delay over─► Connecting ─transport─► Greeting ─WELCOME─► Open
//!            ▲                        │                     │                   │
//!            └──── failed, too late ──┴─────────────────────┘                   │
//!          Parked ◄── TOKEN_* ── (any) ── close(), CLOSE to give up ──► Done ◄──┘
//!            └── set_token ─► Waiting
//! ```
//!
//! Four kinds of method: commands of the user (`publish`, `subscribe`, …), inputs of the driver (`handle_*`, `sent`),
//! `poll_*`, and plain getters. After every command or input the driver drains [`Client::poll_output`] to `None`.

mod channels;
mod frames;
mod session;
mod timeout;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use throng_base::{Full, Instant, Rng};
use throng_wire::{ChannelId, ClientMsgId, Epoch, EventKind, RequestId, UserSeq};

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::event::{ClientEvent, Output, Reason, RequestError};
use crate::feed::{Feed, Start};
use crate::limits;
use crate::link::Link;
use crate::outbox::Send;
use crate::requests::{Request, Requests};
use crate::saved::{SavedSend, SavedState};

use channels::Channels;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct Login {
    /// At least one endpoint, tried in turn.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// The token for AUTH.
    pub token: Bytes,
}

/// State of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Connects at this instant.
    Waiting { until: Instant },
    /// The driver opens a transport.
    Connecting { deadline: Instant },
    /// The transport stands; WELCOME is due.
    Greeting { deadline: Instant },
    /// A session stands.
    Open { since: Instant },
    /// The token was refused.
    Parked,
    /// The end.
    Done,
}

/// What the server said in WELCOME, and the clock of the session.
#[derive(Clone, Copy, Debug)]
struct Terms {
    heartbeat: core::time::Duration,
    inflight_max: usize,
    body_max: usize,
    epoch: Epoch,
    /// When to leave after GOAWAY.
    leave_at: Option<Instant>,
    last_sent: Instant,
    last_heard: Instant,
    /// Since when the server owes an answer to a PING.
    asked_at: Option<Instant>,
    /// Since when it owes an answer to a send or request.
    awaiting_since: Option<Instant>,
    /// An answer to a PING is due from us; several in one read are answered by one.
    pong: Option<u64>,
}

/// Where the inbox stands.
#[derive(Clone, Copy, Debug)]
struct Inbox {
    user_seq: UserSeq,
    epoch: Option<Epoch>,
    wanted: bool,
    asked: Option<RequestId>,
    pause: Option<Instant>,
    tries: u32,
}

/// One device's session with a cluster, over whatever connections it takes. See the [crate] documentation.
#[derive(Debug)]
pub struct Client {
    config: Arc<Config>,
    login: Login,
    /// Endpoints that GOAWAY named, best first; each is tried once.
    redirect: VecDeque<Arc<Endpoint>>,
    /// Where the current connection goes.
    endpoint: Option<Arc<Endpoint>>,
    next_endpoint: usize,
    ticket: Bytes,
    rng: Rng,
    phase: Phase,
    terms: Terms,
    /// Connections in a row that failed or were short.
    failures: u32,
    link: Option<Link>,
    outgoing: BytesMut,
    channels: Channels,
    requests: Requests,
    inbox: Inbox,
    next_client_msg_id: ClientMsgId,
    sends: usize,
    send_bytes: usize,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that wants to connect at once. `seed` must be unpredictable to others on a real network (masks and
    /// jitter are drawn from it). Call `handle_timeout` and drain the outputs to start.
    ///
    /// # Panics
    /// If `login` names no endpoint.
    pub fn new(config: Arc<Config>, login: Login, saved: SavedState, seed: u64, now: Instant) -> Self {
        assert!(!login.endpoints.is_empty(), "a client needs somewhere to connect");
        let mut rng = Rng::new(seed);
        let next_endpoint = rng.below(login.endpoints.len() as u64) as usize;
        let mut client = Self {
            config,
            login,
            redirect: VecDeque::new(),
            endpoint: None,
            next_endpoint,
            ticket: Bytes::new(),
            rng,
            phase: Phase::Waiting { until: now },
            terms: Terms::before_welcome(now),
            failures: 0,
            link: None,
            outgoing: BytesMut::new(),
            channels: Channels::default(),
            requests: Requests::default(),
            inbox: Inbox {
                user_seq: saved.user_seq,
                epoch: saved.inbox_epoch,
                wanted: false,
                asked: None,
                pause: None,
                tries: 0,
            },
            next_client_msg_id: saved.next_client_msg_id,
            sends: 0,
            send_bytes: 0,
            outputs: VecDeque::new(),
        };
        client.restore(&saved);
        client
    }

    /// Sends an event to a channel: it is in the outbox from now on and ends in [`ClientEvent::Acked`] or
    /// [`ClientEvent::SendFailed`], however many connections that takes.
    ///
    /// # Errors
    /// [`Full`] if the outbox is at its limit or the client is done: publish again after an answer.
    pub fn publish(
        &mut self,
        now: Instant,
        channel: ChannelId,
        body: Bytes,
    ) -> Result<ClientMsgId, Full<Bytes>> {
        let too_much = self.sends >= self.config.outbox_sends_max
            || self.send_bytes + body.len() > self.config.outbox_bytes_max
            || !self.channels.has_room(channel);
        if too_much || self.phase == Phase::Done {
            return Err(Full(body));
        }
        let id = self.next_client_msg_id;
        self.next_client_msg_id = ClientMsgId(id.0 + 1);
        self.sends += 1;
        self.send_bytes += body.len();
        self.channels.entry(channel);
        self.channels.with_outbox(channel, |outbox| outbox.push(Send::new(id, EventKind::MESSAGE, body)));
        self.channels.mark_sends(channel);
        self.work(now);
        Ok(id)
    }

    /// Sends a send once more under its own id, whatever became of it: the channel answers with the first number
    /// (contract C3), told as [`ClientEvent::RepeatAcked`]. For tests and load generators; false if no session stands, or if
    /// the send itself still waits for its turn: ahead of the window it would push an earlier one out of the channel's
    /// memory, which then met `UNKNOWN_OUTCOME`.
    pub fn repeat(&mut self, now: Instant, channel: ChannelId, id: ClientMsgId, body: &[u8]) -> bool {
        if !self.is_open() || self.outgoing.len() >= limits::OUTGOING_MAX {
            return false;
        }
        assert!(id < self.next_client_msg_id, "only what was sent can be repeated");
        if self.channels.with_outbox(channel, |outbox| outbox.is_waiting(id)) == Some(true) {
            return false;
        }
        self.transmit_publish(channel, id, EventKind::MESSAGE, body);
        self.work(now);
        true
    }

    /// Subscribes to a channel: every event from `start` on follows as [`ClientEvent::Delivered`], over all
    /// connections to come. Subscribing again starts over.
    ///
    /// # Errors
    /// [`Full`] if the client has as many channels as it may.
    pub fn subscribe(
        &mut self,
        now: Instant,
        channel: ChannelId,
        start: Start,
    ) -> Result<(), Full<ChannelId>> {
        if !self.channels.has_room(channel) {
            return Err(Full(channel));
        }
        self.channels.entry(channel).feed = Some(Box::new(Feed::new(start)));
        self.channels.mark_feed(channel);
        self.work(now);
        Ok(())
    }

    /// Tells how many more events of a channel the user has room for; `u32::MAX` = any number, as in the beginning.
    /// Without room, events stay at the server and are fetched when there is room again.
    pub fn set_room(&mut self, now: Instant, channel: ChannelId, events: u32) {
        if let Some(feed) = self.channels.feed(channel) {
            feed.set_room(events);
            self.hand_over_held(channel);
            self.channels.mark_feed(channel);
            self.work(now);
        }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, now: Instant, channel: ChannelId) {
        if self.drop_feed(channel) && self.is_open() {
            self.transmit_unsubscribe(channel);
            self.work(now);
        }
    }

    /// Makes a request; it ends in [`ClientEvent::Answered`] at the latest at its deadline.
    ///
    /// # Errors
    /// [`Full`] if too many are unanswered or the client is done.
    pub fn request(&mut self, now: Instant, request: Request) -> Result<RequestId, Full<Request>> {
        if self.requests.user() >= self.config.requests_max || self.phase == Phase::Done {
            return Err(Full(request));
        }
        let id = self.requests.add_user(now, request, now + self.config.request_deadline);
        self.work(now);
        Ok(id)
    }

    /// Asks which channels moved since the inbox cursor; answered by [`ClientEvent::Inbox`] for each.
    pub fn sync(&mut self, now: Instant) {
        self.inbox.wanted = true;
        self.work(now);
    }

    /// A new token, for this and later connections. Ends the wait after [`ClientEvent::TokenRefused`].
    pub fn set_token(&mut self, now: Instant, token: Bytes) {
        self.login.token = token;
        if self.phase == Phase::Parked {
            self.phase = Phase::Waiting { until: now };
        }
    }

    /// Says goodbye and ends. Sends without an answer stay in [`Client::saved_state`].
    pub fn close(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        let saved: Vec<_> = self.requests.user_requests().map(|(id, _)| id).collect();
        for request in saved {
            self.requests.finish(request);
            self.emit(ClientEvent::Answered { request, result: Err(RequestError::Closed) });
        }
        self.leave(now, Reason::Local);
    }

    /// What to keep for a restart of the device.
    pub fn saved_state(&self) -> SavedState {
        let mut saved = SavedState {
            next_client_msg_id: self.next_client_msg_id,
            user_seq: self.inbox.user_seq,
            inbox_epoch: self.inbox.epoch,
            ..SavedState::default()
        };
        for (&channel, state) in self.channels.iter() {
            if let Some(cursor) = state.feed.as_ref().and_then(|feed| feed.cursor()) {
                saved.cursors.push((channel, cursor));
            }
            saved.sends.extend(state.outbox().iter().map(|send| SavedSend {
                channel,
                client_msg_id: send.id,
                kind: send.kind,
                body: send.body.clone(),
                answered: send.is_answered(),
            }));
        }
        saved
    }

    /// Sends without an answer.
    pub fn unanswered_sends(&self) -> usize {
        self.sends
    }

    /// Whether a session stands.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether the client has ended.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Largest body the server takes.
    pub fn body_max(&self) -> usize {
        self.terms.body_max
    }

    /// Bytes for the transport, oldest first.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The transport took the first `bytes` of [`Client::outgoing`].
    ///
    /// # Panics
    /// If there were not as many.
    pub fn sent(&mut self, now: Instant, bytes: usize) {
        self.outgoing.advance(bytes);
        if self.outgoing.is_empty() {
            self.outgoing = BytesMut::new(); // a machine at rest owns no buffer
        }
        self.work(now);
    }

    /// The next effect; drain to `None` after every command and input.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 0 {
            self.outputs = VecDeque::new(); // a machine at rest owns no buffer
        }
        output
    }

    fn emit(&mut self, event: ClientEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn restore(&mut self, saved: &SavedState) {
        for &(channel, cursor) in &saved.cursors {
            self.channels.entry(channel).feed = Some(Box::new(Feed::new(Start::After(cursor))));
            self.channels.mark_feed(channel);
        }
        for send in &saved.sends {
            assert!(send.client_msg_id < self.next_client_msg_id, "the counter was saved with the outbox");
            self.channels.entry(send.channel);
            self.channels.with_outbox(send.channel, |outbox| outbox.push(Send::restore(send)));
            self.channels.mark_sends(send.channel);
            if !send.answered {
                self.sends += 1;
                self.send_bytes += send.body.len();
            }
        }
    }
}
