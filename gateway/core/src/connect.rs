//! Beginning and end of a session.

use std::net::IpAddr;

use bytes::Bytes;
use throng_base::{Instant, Key};
use throng_wire::frame::Close;
use throng_wire::link::ToRouter;
use throng_wire::{Code, Frame};

use crate::encode::{Encoded, websocket_close};
use crate::gateway::Gateway;
use crate::limits::CLOSE_LINGER;
use crate::session::{Registration, Session, Transport, session_ref};
use crate::{Output, Phase};

/// What a session is told at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Farewell {
    pub(crate) code: Code,
    /// Close code on WebSocket; the code's own unless RFC 6455 is more exact.
    pub(crate) websocket: u16,
    pub(crate) reason: &'static str,
    pub(crate) retry_after_ms: u32,
}

impl From<Code> for Farewell {
    fn from(code: Code) -> Self {
        Self { code, websocket: code.websocket(), reason: "", retry_after_ms: 0 }
    }
}

impl Gateway {
    /// A transport was accepted; the driver feeds its bytes from here on.
    ///
    /// # Errors
    /// The code to close the transport with: `OVERLOADED` or `GOING_AWAY`.
    pub fn handle_connect(&mut self, now: Instant, transport: Transport, peer: IpAddr) -> Result<Key, Code> {
        let admitted = self.admit(now, transport, peer);
        match admitted {
            Ok(_) => self.counters.connects += 1,
            Err(_) => self.counters.refused += 1,
        }
        admitted
    }

    fn admit(&mut self, now: Instant, transport: Transport, peer: IpAddr) -> Result<Key, Code> {
        if self.drain.is_some() {
            return Err(Code::GOING_AWAY);
        }
        let (total_max, per_ip_max) = (self.config.unauthenticated_max, self.config.unauthenticated_per_ip);
        if !self.admission.has_room(peer, total_max, per_ip_max) {
            return Err(Code::OVERLOADED);
        }
        let timeout = match transport {
            Transport::WebSocket => self.config.upgrade_timeout,
            Transport::Stream => self.config.auth_timeout,
        };
        let deadline = self.clock.deadline(now, timeout);
        let decoder = throng_ws::Decoder::new(throng_ws::Role::Server);
        let mut session = Session::new(transport, decoder, self.stamp(now), deadline);
        session.allowance_milli = self.full_allowance();
        let key = self.sessions.insert(session).map_err(|_| Code::OVERLOADED)?;
        self.admission.enter(key.index, peer);
        self.timers.insert(self.clock.instant(deadline), key);
        Ok(key)
    }

    /// The transport is gone, for whatever reason. Called exactly once for every session, also after
    /// [`Output::Close`] and [`Output::Abort`].
    pub fn handle_disconnect(&mut self, _now: Instant, session: Key) {
        self.retire(session);
        if let Some(gone) = self.sessions.remove(session) {
            assert!(gone.subscriptions.is_empty(), "subscriptions end before their session");
            self.queued -= gone.queued();
            self.partial -= gone.partial();
        }
    }

    /// Takes a session out of everything it is listed in: it gets no more deliveries, answers and hints.
    fn retire(&mut self, key: Key) {
        self.admission.leave(key.index);
        while let Some(subscription) = self.sessions.get(key).and_then(|session| session.subscriptions.last())
        {
            let channel = subscription.channel;
            self.hub.leave(channel, &mut self.sessions, key.index);
            self.drop_unused(channel);
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.registration != Registration::No {
            session.registration = Registration::No;
            let user = session.user;
            if let Some(node) = self.routes.leader(self.routes.shard(user.slot())) {
                let message = ToRouter::Unregister { user, session: session_ref(key) };
                self.outputs.push_back(Output::ToRouter { node, message });
            }
        }
    }

    /// Ends a session with a code of our choice.
    pub(crate) fn close(&mut self, now: Instant, key: Key, farewell: impl Into<Farewell>) {
        let farewell = farewell.into();
        let Some(session) = self.sessions.get(key) else { return };
        let (phase, transport) = (session.phase, session.transport);
        if phase == Phase::Closing {
            return;
        }
        let last_words: Vec<Bytes> = match phase {
            Phase::Upgrade => vec![crate::upgrade::refusal_of(farewell.code)],
            _ => last_frames(farewell, transport),
        };
        self.counters.count_close(farewell.code);
        self.begin_closing(now, key, farewell.code);
        for bytes in last_words {
            self.push(now, key, bytes);
        }
        self.outputs.push_back(Output::Close { session: key, code: farewell.code });
    }

    /// The peer sent a WebSocket close frame: it is echoed once (RFC 6455 §5.5.1).
    pub(crate) fn close_echo(&mut self, now: Instant, key: Key, code: Option<u16>) {
        self.counters.count_close(Code::NORMAL);
        self.begin_closing(now, key, Code::NORMAL);
        self.push(now, key, websocket_close(code, ""));
        self.outputs.push_back(Output::Close { session: key, code: Code::NORMAL });
    }

    /// Ends the HTTP exchange of a connection that did not become a session.
    pub(crate) fn close_http(&mut self, now: Instant, key: Key, response: Bytes) {
        self.counters.http_refusals += 1;
        self.begin_closing(now, key, Code::NORMAL);
        self.push(now, key, response);
        self.outputs.push_back(Output::Close { session: key, code: Code::NORMAL });
    }

    fn begin_closing(&mut self, now: Instant, key: Key, code: Code) {
        self.retire(key);
        let deadline = self.clock.deadline(now, CLOSE_LINGER);
        let Some(session) = self.sessions.get_mut(key) else { return };
        assert_ne!(session.phase, Phase::Closing, "a session closes once");
        session.phase = Phase::Closing;
        session.deadline = deadline;
        if code == Code::SLOW_CONSUMER {
            // It will hardly read what it has not read so far; the memory goes now.
            self.queued -= session.outbox.as_mut().map_or(0, |outbox| outbox.truncate());
        }
        self.arm(key, deadline);
    }
}

/// CLOSE on both transports; WebSocket's own close frame follows, so that both look alike to Throng and RFC 6455.
fn last_frames(farewell: Farewell, transport: Transport) -> Vec<Bytes> {
    let Farewell { code, websocket, reason, retry_after_ms } = farewell;
    let close = Encoded::of(&Frame::Close(Close { code, retry_after_ms, reason })).on(transport);
    match transport {
        Transport::WebSocket => vec![close, websocket_close(Some(websocket), reason)],
        Transport::Stream => vec![close],
    }
}
