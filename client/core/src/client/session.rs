//! The life of a connection: transport, greeting, session, and how each ends.

use core::time::Duration;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use throng_base::Instant;
use throng_wire::code::ClientRule;
use throng_wire::frame::{Auth, Close, Frame, Goaway, Hello, Welcome};
use throng_wire::limits::{BODY_MAX_DEFAULT, INFLIGHT_PER_CHANNEL_MAX};
use throng_wire::{Code, Epoch};

use super::{Client, Phase, Terms};
use crate::event::{ClientEvent, Output, Reason, Session};
use crate::link::{Link, LinkError};

/// The protocol version this client speaks.
const VERSION: u16 = 1;

impl Terms {
    /// Nothing is known yet.
    pub(super) fn before_welcome(now: Instant) -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            inflight_max: INFLIGHT_PER_CHANNEL_MAX,
            body_max: BODY_MAX_DEFAULT,
            epoch: Epoch(0),
            leave_at: None,
            last_sent: now,
            last_heard: now,
            asked_at: None,
            awaiting_since: None,
            pong: None,
        }
    }
}

impl Client {
    /// The transport to the endpoint of the last [`Output::Connect`] stands: for WebSocket the TCP or TLS connection
    /// (the upgrade is the machine's), for QUIC the bidirectional stream.
    pub fn handle_connected(&mut self, now: Instant) {
        let Phase::Connecting { deadline } = self.phase else { return };
        assert!(self.link.is_none() && self.outgoing.is_empty(), "one transport at a time");
        let endpoint = self.endpoint.take().expect("connect() chose one");
        let link = Link::open(&endpoint, &mut self.rng, &mut self.outgoing);
        let greets_at_once = link.is_ready();
        self.link = Some(link);
        self.phase = Phase::Greeting { deadline };
        self.terms.last_heard = now;
        if greets_at_once {
            self.greet();
        }
        self.flush(now);
    }

    /// The transport failed, could not be opened, or was closed by the other side; `text` says how, for people.
    pub fn handle_disconnected(&mut self, now: Instant, text: &str) {
        if matches!(self.phase, Phase::Connecting { .. } | Phase::Greeting { .. } | Phase::Open { .. }) {
            self.link = None;
            self.outgoing = BytesMut::new();
            self.connection_ended(now, Reason::Transport(text.into()), Duration::ZERO);
        }
    }

    /// Bytes from the transport, in any pieces. They are unmasked and parsed in place.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut [u8]) {
        let Some(mut link) = self.link.take() else { return };
        self.terms.last_heard = now;
        self.terms.asked_at = None;
        let was_ready = link.is_ready();
        let mut control = BytesMut::new();
        let result = link.feed(input, &mut control, |payload| self.handle_payload(now, payload));
        if self.is_connected() {
            self.outgoing.extend_from_slice(&control);
            let greets = !was_ready && link.is_ready() && result.is_ok();
            self.link = Some(link);
            if greets {
                self.greet();
            }
        }
        match result {
            Ok(()) => {}
            Err(_) if !self.is_connected() => {}
            Err(LinkError::Closed(code)) => self.server_closed(now, code, "", Duration::ZERO),
            Err(LinkError::Upgrade(status)) => self.fail(now, Reason::Upgrade(status)),
            Err(LinkError::Protocol(text)) => self.fail(now, Reason::Protocol(text)),
        }
        self.work(now);
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Open { .. })
    }

    /// HELLO and AUTH in one flight.
    fn greet(&mut self) {
        let config = Arc::clone(&self.config);
        let (token, ticket) = (self.login.token.clone(), core::mem::take(&mut self.ticket));
        self.transmit(&Frame::Hello(Hello {
            version_min: VERSION,
            version_max: VERSION,
            client: &config.name,
        }));
        self.transmit(&Frame::Auth(Auth { token: &token, ticket: &ticket }));
    }

    pub(super) fn welcome(&mut self, now: Instant, welcome: &Welcome<'_>) -> Result<(), LinkError> {
        let Phase::Greeting { .. } = self.phase else {
            return Err(LinkError::Protocol("a second WELCOME".into()));
        };
        if welcome.version != VERSION {
            return Err(LinkError::Protocol(format!("version {} was not offered", welcome.version)));
        }
        self.phase = Phase::Open { since: now };
        self.terms = Terms {
            // Below a tenth of a second a heartbeat would be a flood, above an hour no heartbeat.
            heartbeat: Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(100, 3_600_000))),
            inflight_max: usize::from(welcome.inflight_max).clamp(1, INFLIGHT_PER_CHANNEL_MAX),
            body_max: welcome.body_max as usize,
            epoch: welcome.epoch,
            ..Terms::before_welcome(now)
        };
        self.ticket = Bytes::copy_from_slice(welcome.ticket);
        self.redirect.clear();
        self.inbox.wanted |= self.config.inbox;
        self.emit(ClientEvent::Connected(Session {
            server: welcome.server.into(),
            user: welcome.user,
            device: welcome.device,
            body_max: welcome.body_max as usize,
            epoch: welcome.epoch,
            time_ms: welcome.time_ms,
        }));
        Ok(())
    }

    /// GOAWAY: leave at a random instant in the first three quarters of the time given, so that the sessions of a
    /// draining server arrive elsewhere spread out.
    pub(super) fn go_away(&mut self, now: Instant, goaway: &Goaway<'_>) {
        self.redirect = goaway.endpoints.iter().filter_map(|url| url.parse().ok().map(Arc::new)).collect();
        if !goaway.ticket.is_empty() {
            self.ticket = Bytes::copy_from_slice(goaway.ticket);
        }
        let wait_ms = self.rng.between(0, u64::from(goaway.after_ms) * 3 / 4);
        self.terms.leave_at = Some(now + Duration::from_millis(wait_ms));
    }

    /// Takes leave in good order, of the server or for good.
    pub(super) fn leave(&mut self, now: Instant, reason: Reason) {
        if let Some(link) = self.link.as_mut().filter(|link| link.is_ready()) {
            let code = if reason == Reason::Local { Code::NORMAL } else { Code::GOING_AWAY };
            let close = Close { code, retry_after_ms: 0, reason: "" };
            link.encode(&Frame::Close(close), &mut self.outgoing);
            link.seal(&mut self.outgoing);
            link.close(code, &mut self.outgoing);
        }
        if self.is_connected() || matches!(self.phase, Phase::Connecting { .. }) {
            self.disconnect();
        }
        self.connection_ended(now, reason, Duration::ZERO);
    }

    /// CLOSE, or a WebSocket close.
    pub(super) fn server_closed(&mut self, now: Instant, code: Code, text: &str, retry_after: Duration) {
        self.disconnect();
        self.connection_ended(now, Reason::Closed { code, text: text.into() }, retry_after);
    }

    /// The connection is of no use any more: drop it and try again.
    pub(super) fn fail(&mut self, now: Instant, reason: Reason) {
        self.disconnect();
        self.connection_ended(now, reason, Duration::ZERO);
    }

    /// What waits in `outgoing` is still sent by the driver, which reads it when it carries this output out.
    fn disconnect(&mut self) {
        self.outputs.push_back(Output::Disconnect);
        self.link = None;
    }

    /// Puts everything back to where the next connection takes it up, and decides whether there will be one.
    fn connection_ended(&mut self, now: Instant, reason: Reason, retry_after: Duration) {
        assert!(self.link.is_none());
        if let Phase::Open { since } = self.phase
            && now.since(since) >= self.config.stable_after
        {
            self.failures = 0;
        }
        self.channels.connection_lost();
        self.requests.connection_lost(now);
        self.inbox.asked = None;
        self.inbox.pause = None;
        let rule = match reason {
            Reason::Local => ClientRule::GiveUp,
            Reason::Closed { code, .. } => code.rule(),
            _ => ClientRule::Resume,
        };
        match rule {
            ClientRule::Retry | ClientRule::Resume => self.reconnect_later(now, reason, retry_after),
            ClientRule::Reauthenticate => {
                self.phase = Phase::Parked;
                let Reason::Closed { code, .. } = reason else { unreachable!("only a code says so") };
                self.emit(ClientEvent::TokenRefused { code });
            }
            ClientRule::GiveUp => {
                self.phase = Phase::Done;
                self.emit(ClientEvent::Closed { reason });
            }
        }
    }

    fn reconnect_later(&mut self, now: Instant, reason: Reason, retry_after: Duration) {
        let mut delay = Duration::ZERO;
        if reason != Reason::GoAway {
            // GOAWAY was spread before, and is no failure.
            delay = self.config.reconnect.delay(self.failures, retry_after, &mut self.rng);
            self.failures = self.failures.saturating_add(1);
        }
        let retry_at = now + delay;
        self.phase = Phase::Waiting { until: retry_at };
        self.emit(ClientEvent::Disconnected { reason, retry_at });
    }

    /// Has the driver open a transport to the next endpoint.
    pub(super) fn connect(&mut self, now: Instant) {
        assert!(self.link.is_none());
        self.outgoing = BytesMut::new(); // what the last transport did not take is void
        let endpoint = self.redirect.pop_front().unwrap_or_else(|| {
            self.next_endpoint = (self.next_endpoint + 1) % self.login.endpoints.len();
            Arc::clone(&self.login.endpoints[self.next_endpoint])
        });
        self.endpoint = Some(Arc::clone(&endpoint));
        self.phase = Phase::Connecting { deadline: now + self.config.connect_timeout };
        self.outputs.push_back(Output::Connect { endpoint });
    }
}
