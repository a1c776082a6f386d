//! The token bucket of a session.
//!
//! The level counts thousandths of a frame between 0 and twice the burst. Above one burst a frame passes; below it the
//! frame is refused with RATE_LIMITED but still costs; at 0 the session is closed: it went on for a whole burst after
//! being told.

use throng_base::{Instant, Key};
use throng_wire::frame::{ErrorScope, Frame, request_of};
use throng_wire::{Code, frame};

use crate::gateway::Gateway;
use crate::session::Session;
use crate::stamp::{Stamp, TICK};

/// One frame.
const FRAME_MILLI: u32 = 1_000;

impl Gateway {
    /// The level of a new session.
    pub(crate) fn full_allowance(&self) -> u32 {
        self.config.rate.map_or(0, |rate| 2 * rate.burst * FRAME_MILLI)
    }

    /// The level at `now`, from the level when something was last heard.
    pub(crate) fn refill(&self, key: Key, now: Stamp) -> u32 {
        let (Some(rate), Some(session)) = (self.config.rate, self.sessions.get(key)) else { return 0 };
        let ticks = u64::from(now.0.saturating_sub(session.last_heard.0));
        let gained = ticks * u64::from(rate.per_second) * TICK.as_millis() as u64;
        (u64::from(session.allowance_milli) + gained).min(u64::from(self.full_allowance())) as u32
    }

    /// Takes a frame's worth; `false` if the frame was refused.
    pub(crate) fn within_rate(&mut self, now: Instant, key: Key, payload: &[u8]) -> bool {
        let Some(rate) = self.config.rate else { return true };
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(left) = session.allowance_milli.checked_sub(FRAME_MILLI) else {
            self.close(now, key, Code::RATE_LIMITED);
            return false;
        };
        session.allowance_milli = left;
        if left >= rate.burst * FRAME_MILLI {
            return true;
        }
        let retry_after_ms = FRAME_MILLI.div_ceil(rate.per_second).max(1);
        if let Some(scope) = answer_scope(session, payload) {
            self.refuse(now, key, scope, Code::RATE_LIMITED, retry_after_ms);
        }
        false
    }
}

/// What an ERROR about this frame names; `None` if nobody waits for an answer.
fn answer_scope(session: &Session, payload: &[u8]) -> Option<ErrorScope> {
    if !session.is_open() {
        return None;
    }
    if let Some(request) = request_of(payload) {
        return Some(ErrorScope::Request(request));
    }
    match Frame::decode(payload) {
        Ok(Some(Frame::Publish(frame::Publish { channel, client_msg_id, .. }))) => {
            Some(ErrorScope::Publish(channel, client_msg_id))
        }
        _ => None,
    }
}
