//! Deadlines of sessions, of their outboxes and of requests.
//!
//! A session has one timer. A frame that comes in only moves `last_heard`; when the timer fires early, it is set again.

use throng_base::{Instant, Key};
use throng_wire::Code;
use throng_wire::link::Refusal;

use crate::gateway::Gateway;
use crate::limits::UNAVAILABLE_RETRY_MS;
use crate::session::phase::{Input, Step, react};
use crate::session::{FLAG_AGING, Session};
use crate::stamp::Stamp;
use crate::{Output, Phase};

impl Gateway {
    /// Sets a session's timer; an entry for another time becomes a left-over.
    pub(crate) fn arm(&mut self, key: Key, at: Stamp) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.armed = at;
        self.timers.insert(self.clock.instant(at), key);
    }

    pub(crate) fn expire_session_timers(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.timers.expire(now, &mut due);
        let now_stamp = self.stamp(now);
        for key in due {
            let Some(session) = self.sessions.get(key) else { continue };
            if now_stamp < session.armed {
                continue; // a left-over: the timer was set again meanwhile
            }
            let next = self.next_deadline(session);
            if next > now_stamp {
                self.arm(key, next);
            } else {
                self.session_due(now, key, now_stamp);
            }
        }
    }

    /// When a session has to be looked at next.
    pub(crate) fn next_deadline(&self, session: &Session) -> Stamp {
        match session.phase {
            Phase::Open => session.deadline.min(self.silence_deadline(session)),
            _ => session.deadline,
        }
    }

    fn silence_deadline(&self, session: &Session) -> Stamp {
        session.last_heard.after(2 * self.config.heartbeat).after(crate::stamp::TICK)
    }

    fn session_due(&mut self, now: Instant, key: Key, now_stamp: Stamp) {
        let Some(session) = self.sessions.get(key) else { return };
        let input = if session.deadline <= now_stamp { Input::Deadline } else { Input::Silence };
        match react(session.phase, input) {
            Step::Close(code) => self.close(now, key, code),
            Step::Cut => self.outputs.push_back(Output::Abort { session: key }),
            Step::Go(_) | Step::Stay | Step::Skip | Step::Refuse(_) => {}
        }
    }

    /// Watches the age of an outbox from the moment something is queued.
    pub(crate) fn arm_age(&mut self, now: Instant, key: Key) {
        if self.sessions.get_mut(key).is_some_and(|session| session.raise(FLAG_AGING)) {
            let at = self.clock.deadline(now, self.config.outbox_age);
            self.ages.insert(self.clock.instant(at), key);
        }
    }

    pub(crate) fn expire_ages(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.ages.expire(now, &mut due);
        let now_stamp = self.stamp(now);
        for key in due {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            session.lower(FLAG_AGING);
            let Some(oldest) = session.outbox.as_ref().and_then(|outbox| outbox.oldest()) else { continue };
            let limit = oldest.after(self.config.outbox_age).after(crate::stamp::TICK);
            if limit > now_stamp {
                session.raise(FLAG_AGING);
                self.ages.insert(self.clock.instant(limit), key);
            } else if session.phase != Phase::Closing {
                self.close(now, key, Code::SLOW_CONSUMER);
            }
        }
    }

    /// Gives up requests on links that hang.
    pub(crate) fn expire_requests(&mut self, now: Instant) {
        let now_stamp = self.stamp(now);
        while let Some(pending) = self.pending.take_overdue(now_stamp) {
            let refusal =
                Refusal { code: Code::UNAVAILABLE, retry_after_ms: UNAVAILABLE_RETRY_MS, leader: None };
            let key = pending.session;
            self.fail(now, pending, refusal);
            self.unpark(now, key);
        }
    }
}
