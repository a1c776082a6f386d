//! Leaving without a reconnect storm: GOAWAY in paced batches, then CLOSE in the same order and pace.

use throng_base::Instant;
use throng_wire::frame::Goaway;
use throng_wire::{Code, Frame};

use crate::gateway::Gateway;
use crate::limits::{DRAIN_BATCH, DRAIN_PACE};
use crate::session::phase::{Input, Step, react};

/// How far the drain is.
#[derive(Debug)]
pub(crate) struct Drain {
    stage: Stage,
    /// Slab index of the next session.
    at: u32,
    /// When the next batch is due; `None` when all are closed.
    due: Option<Instant>,
    /// When the first session is closed.
    close_from: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Goaway,
    Close,
}

impl Drain {
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Gateway {
    /// Lets all sessions go: no more connects, GOAWAY to everybody, CLOSE `GOING_AWAY` to who is still there after
    /// the configured time. Harmless to repeat.
    pub fn handle_drain(&mut self, now: Instant) {
        if self.drain.is_none() {
            let close_from = now + self.config.drain_after;
            self.drain = Some(Drain { stage: Stage::Goaway, at: 0, due: Some(now), close_from });
            self.drain_some(now);
        }
    }

    /// Whether a drain is under way or done.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// One batch, if it is due.
    pub(crate) fn drain_some(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        if drain.due.is_none_or(|due| due > now) {
            return;
        }
        let (from, stage) = (drain.at, drain.stage);
        let to = from.saturating_add(DRAIN_BATCH).min(self.sessions.index_end());
        drain.at = to;
        drain.due = match (to < self.sessions.index_end(), stage) {
            (true, _) => Some(now + DRAIN_PACE),
            (false, Stage::Goaway) => {
                drain.stage = Stage::Close;
                drain.at = 0;
                Some(drain.close_from.max(now))
            }
            (false, Stage::Close) => None,
        };
        for index in from..to {
            self.let_go(now, index, stage);
        }
    }

    fn let_go(&mut self, now: Instant, index: u32, stage: Stage) {
        let Some(key) = self.sessions.key_at(index) else { return };
        let Some(session) = self.sessions.get(key) else { return };
        match (react(session.phase, Input::Drain), stage) {
            (Step::Close(code), _) => self.close(now, key, code),
            (Step::Stay, Stage::Goaway) => {
                let endpoints = self.config.endpoints.clone();
                let goaway = Goaway {
                    after_ms: self.config.drain_after.as_millis() as u32,
                    endpoints: endpoints.iter().map(String::as_str).collect(),
                    ticket: &[],
                };
                self.tell(now, key, &Frame::Goaway(goaway));
            }
            (Step::Stay, Stage::Close) => self.close(now, key, Code::GOING_AWAY),
            _ => {}
        }
    }
}
