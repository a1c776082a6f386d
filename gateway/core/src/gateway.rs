//! The machine: its parts, its clockwork and its outputs. What it does with inputs stands in the files named below.

use std::collections::VecDeque;

use throng_base::{Instant, Key, Slab, TimerWheel};
use throng_wire::limits::FRAME_MAX_BEFORE_WELCOME;

use crate::admission::Admission;
use crate::drain::Drain;
use crate::hub::Hub;
use crate::pending::PendingTable;
use crate::renewal::Renewal;
use crate::routes::Routes;
use crate::session::Session;
use crate::stamp::{Clock, Stamp, TICK};
use crate::{Counters, GatewayConfig, Output, Phase};

/// Places for outputs that a loop keeps between batches.
const OUTPUTS_KEPT: usize = 4_096;

/// One gateway loop: sessions, hub, outboxes and timers.
///
/// The driver feeds a bounded batch of inputs, then drains [`Gateway::poll_output`] to `None`.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) clock: Clock,
    pub(crate) sessions: Slab<Session>,
    pub(crate) admission: Admission,
    pub(crate) hub: Hub,
    pub(crate) routes: Routes,
    pub(crate) pending: PendingTable,
    pub(crate) renewal: Renewal,
    pub(crate) drain: Option<Drain>,
    /// One entry per session at its `armed` time, and left-overs of earlier times.
    pub(crate) timers: TimerWheel<Key>,
    /// At most one entry per session (`FLAG_AGING`) whose outbox was filled.
    pub(crate) ages: TimerWheel<Key>,
    pub(crate) outputs: VecDeque<Output>,
    /// Sessions whose `Output::Write` is due (`FLAG_DIRTY`).
    pub(crate) dirty: VecDeque<Key>,
    /// Bytes in all outboxes.
    pub(crate) queued: usize,
    /// Bytes in all tails.
    pub(crate) partial: usize,
    pub(crate) counters: Counters,
}

impl Gateway {
    /// A loop without sessions and links.
    ///
    /// # Panics
    /// If [`GatewayConfig::check`] refuses the configuration.
    pub fn new(config: GatewayConfig, seed: u64, now: Instant) -> Self {
        if let Err(sentence) = config.check() {
            panic!("{sentence}");
        }
        Self {
            clock: Clock::new(now),
            sessions: Slab::new(config.sessions_max),
            admission: Admission::default(),
            hub: Hub::new(seed),
            routes: Routes::new(config.shards),
            pending: PendingTable::default(),
            renewal: Renewal::default(),
            drain: None,
            timers: TimerWheel::new(TICK, now),
            ages: TimerWheel::new(TICK, now),
            outputs: VecDeque::new(),
            dirty: VecDeque::new(),
            queued: 0,
            partial: 0,
            counters: Counters::default(),
            config,
        }
    }

    /// Tells the wall clock (Unix milliseconds), for WELCOME and token expiry. Feed it at start and every second or
    /// so; all deadlines run on monotonic time, so a jump moves none that is set.
    pub fn handle_wall_clock(&mut self, now: Instant, unix_ms: u64) {
        self.clock.set_wall(now, unix_ms);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_session_timers(now);
        self.expire_ages(now);
        self.expire_requests(now);
        self.renew_some(now);
        self.drain_some(now);
    }

    /// When to call [`Gateway::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let requests = self.pending.next_deadline().map(|deadline| self.clock.instant(deadline));
        let drain = self.drain.as_ref().and_then(Drain::due);
        [self.timers.poll_timeout(), self.ages.poll_timeout(), requests, self.renewal.due(), drain]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next effect. Drain to `None` after every batch of inputs.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        while let Some(key) = self.dirty.pop_front() {
            if let Some(session) = self.sessions.get_mut(key) {
                session.lower(crate::session::FLAG_DIRTY);
                return Some(Output::Write { session: key });
            }
        }
        // A burst of outputs should not keep its memory.
        self.outputs.shrink_to(OUTPUTS_KEPT);
        self.dirty.shrink_to(OUTPUTS_KEPT);
        None
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sessions with a transport.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Channels with local subscribers.
    pub fn channel_count(&self) -> usize {
        self.hub.len()
    }

    /// Requests that wait for a router.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Bytes in all outboxes; shared bytes count for each.
    pub fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Bytes of incomplete incoming frames.
    pub fn partial_bytes(&self) -> usize {
        self.partial
    }

    /// The phase of a session, if it exists.
    pub fn phase(&self, session: Key) -> Option<Phase> {
        self.sessions.get(session).map(|session| session.phase)
    }

    /// Longest frame that a session in this phase may send (SPEC W-FRAME-4, W-FRAME-5).
    pub(crate) fn frame_limit(&self, phase: Phase) -> usize {
        match phase {
            Phase::Open => self.config.frame_max(),
            _ => FRAME_MAX_BEFORE_WELCOME,
        }
    }

    pub(crate) fn stamp(&self, now: Instant) -> Stamp {
        self.clock.stamp(now)
    }
}
