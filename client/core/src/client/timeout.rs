//! Everything that happens because time passes.

use core::time::Duration;
use throng_base::Instant;
use throng_wire::frame::{Frame, Ping};

use super::{Client, Phase};
use crate::event::{ClientEvent, Reason, RequestError};
use crate::requests::Owner;

/// A client speaks after 9/10 of the interval it was given, so that a late timer does not break its promise.
const SPEAK: (u32, u32) = (9, 10);

/// Intervals of silence after which a PING asks for an answer: idle servers say nothing by themselves.
const ASK_AFTER: u32 = 2;

impl Client {
    /// Does what is due. Call it when [`Client::poll_timeout`] has passed, and once after `new`.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Waiting { until } if until <= now => self.connect(now),
            Phase::Connecting { deadline } | Phase::Greeting { deadline } if deadline <= now => {
                self.fail(now, Reason::ConnectTimeout);
            }
            Phase::Open { .. } => self.open_timeout(now),
            Phase::Waiting { .. }
            | Phase::Connecting { .. }
            | Phase::Greeting { .. }
            | Phase::Parked
            | Phase::Done => {}
        }
        self.inbox.pause = self.inbox.pause.filter(|&until| until > now);
        self.expire_requests(now);
        self.work(now);
    }

    /// When to call [`Client::handle_timeout`] at the latest; may lie in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.config.answer_timeout;
        let phase = match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Connecting { deadline } | Phase::Greeting { deadline } => Some(deadline),
            Phase::Open { .. } => Some(self.session_deadline()),
            Phase::Parked | Phase::Done => None,
        };
        let (channels, inbox) = if self.is_open() {
            (self.channels.next_timer(), self.inbox.pause.filter(|_| self.inbox.wanted))
        } else {
            (None, None)
        };
        let requests = self.requests.deadline(answer, self.is_open() && self.has_request_place());
        [phase, channels, inbox, requests].into_iter().flatten().min()
    }

    fn session_deadline(&self) -> Instant {
        let terms = &self.terms;
        let speak = terms.last_sent + self.speak_interval();
        let listen = match terms.asked_at {
            Some(at) => at + self.config.probe_timeout,
            None => self.ask_at(),
        };
        terms.leave_at.into_iter().chain([speak, listen]).min().expect("two of them always stand")
    }

    fn speak_interval(&self) -> Duration {
        self.terms.heartbeat * SPEAK.0 / SPEAK.1
    }

    /// When to ask whether the server lives: soon if it owes an answer, otherwise now and then.
    fn ask_at(&self) -> Instant {
        let heard = self.terms.last_heard;
        let idle = heard + self.terms.heartbeat * ASK_AFTER;
        self.terms.awaiting_since.map_or(idle, |since| idle.min(heard.max(since) + self.config.probe_after))
    }

    fn open_timeout(&mut self, now: Instant) {
        if self.terms.leave_at.is_some_and(|at| at <= now) {
            return self.leave(now, Reason::GoAway);
        }
        if self.terms.asked_at.is_some_and(|at| at + self.config.probe_timeout <= now) {
            return self.fail(now, Reason::Silent);
        }
        let asks = self.terms.asked_at.is_none() && self.ask_at() <= now;
        if asks || now.since(self.terms.last_sent) >= self.speak_interval() {
            let nonce = self.rng.next_u64() & throng_wire::varint::MAX;
            if asks {
                self.terms.asked_at = Some(now);
            }
            self.terms.last_sent = now;
            self.transmit(&Frame::Ping(Ping { wants_answer: asks, nonce }));
        }
        self.expire_channels(now);
    }

    fn expire_channels(&mut self, now: Instant) {
        while let Some(id) = self.channels.expire(now) {
            let answer = self.config.answer_timeout;
            if self.channels.with_outbox(id, |outbox| outbox.expire(now, answer)).is_none() {
                continue;
            }
            self.channels.mark_sends(id);
            self.channels.mark_feed(id);
        }
    }

    fn expire_requests(&mut self, now: Instant) {
        while let Some((id, owner)) = self.requests.expire(now, self.config.answer_timeout) {
            let delay = self.retry_delay(0);
            match owner {
                Owner::User(_) => {
                    self.emit(ClientEvent::Answered { request: id, result: Err(RequestError::Timeout) });
                }
                Owner::Subscribe(channel) | Owner::Gap(channel) => {
                    self.feed_request_failed(now, channel, id, delay);
                }
                Owner::Inbox => self.inbox_failed(now, true, delay),
            }
        }
    }
}
