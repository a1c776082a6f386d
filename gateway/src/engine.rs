//! The part of a loop that is the same on every transport: the machine, its clockwork, the routers and the tokens.

use std::collections::VecDeque;
use std::sync::Arc;

use throng_base::{Instant, Key};
use throng_gateway_core::{Gateway, Output};
use throng_runtime::{Clock, unix_millis};
use throng_wire::Code;
use throng_wire::link::ToGateway;

use crate::config::{LoopConfig, TokenVerifier};
use crate::handle::{Inbox, LoopInput, LoopStats};
use crate::limits::{INPUT_MESSAGES_PER_TURN, INPUTS_PER_TURN, VERIFICATIONS_PER_TURN, WALL_CLOCK_EVERY};
use crate::routers::RouterPort;

/// What the transport has to do for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Its outbox has bytes.
    Write(Key),
    /// It is over: send what the outbox holds, then close with this code.
    Close(Key, Code),
    /// It took too long to do so.
    Abort(Key),
}

/// Whether a loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Run,
    Stop,
}

pub(crate) struct Engine {
    pub(crate) machine: Gateway,
    pub(crate) clock: Clock,
    pub(crate) routers: RouterPort,
    verifier: Arc<dyn TokenVerifier>,
    /// Tokens that wait for their turn. Invariant: at most one per session.
    tokens: VecDeque<(Key, Vec<u8>)>,
    inbox: Inbox,
    /// The last turn left inputs in the channel.
    more_inputs: bool,
    wall_clock_due: Instant,
}

impl Engine {
    pub(crate) fn new(config: LoopConfig, inbox: Inbox) -> std::io::Result<Self> {
        let clock = Clock::new();
        let now = clock.now();
        let mut machine = Gateway::new(config.machine, config.seed, now);
        machine.handle_wall_clock(now, unix_millis());
        Ok(Self {
            machine,
            clock,
            routers: RouterPort::new(config.routers, config.id, config.seed, now)?,
            verifier: config.verifier,
            tokens: VecDeque::new(),
            inbox,
            more_inputs: false,
            wall_clock_due: now + WALL_CLOCK_EVERY,
        })
    }

    /// Takes what other threads and router links have for the machine, verifies tokens and does what is due.
    pub(crate) fn turn(&mut self, now: Instant) -> Control {
        if self.take_inputs(now) == Control::Stop {
            return Control::Stop;
        }
        for input in self.routers.turn(now) {
            self.take(now, input);
        }
        self.verify_tokens(now);
        if now >= self.wall_clock_due {
            self.machine.handle_wall_clock(now, unix_millis());
            self.wall_clock_due = now + WALL_CLOCK_EVERY;
        }
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        Control::Run
    }

    fn take_inputs(&mut self, now: Instant) -> Control {
        let (mut inputs, mut messages) = (0, 0);
        self.more_inputs = false;
        while let Ok(input) = self.inbox.receiver.try_recv() {
            inputs += 1;
            if let LoopInput::Router { messages: batch, .. } = &input {
                messages += batch.len();
            }
            if self.take(now, input) == Control::Stop {
                return Control::Stop;
            }
            if inputs >= INPUTS_PER_TURN || messages >= INPUT_MESSAGES_PER_TURN {
                self.more_inputs = true;
                break;
            }
        }
        Control::Run
    }

    fn take(&mut self, now: Instant, input: LoopInput) -> Control {
        match input {
            LoopInput::Router { node, messages } => {
                for message in messages {
                    match message {
                        ToGateway::Nodes { nodes } => self.routers.told(now, node, nodes),
                        message => self.machine.handle_router(now, node, message),
                    }
                }
            }
            LoopInput::RouterUp(node) => self.machine.handle_router_up(now, node),
            LoopInput::RouterDown(node) => {
                self.routers.forget(node);
                self.machine.handle_router_down(now, node);
            }
            LoopInput::Drain => self.machine.handle_drain(now),
            LoopInput::Stop => return Control::Stop,
        }
        Control::Run
    }

    fn verify_tokens(&mut self, now: Instant) {
        for _ in 0..VERIFICATIONS_PER_TURN {
            let Some((session, token)) = self.tokens.pop_front() else { return };
            let verdict = self.verifier.verify(&token, unix_millis());
            self.machine.handle_authenticated(now, session, verdict);
        }
    }

    /// The next thing for the transport to do. Drain to `None` after every batch of inputs, then call
    /// [`Engine::flush_routers`].
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        loop {
            match self.machine.poll_output()? {
                Output::Write { session } => return Some(Effect::Write(session)),
                Output::Close { session, code } => return Some(Effect::Close(session, code)),
                Output::Abort { session } => return Some(Effect::Abort(session)),
                Output::Authenticate { session, token } => self.tokens.push_back((session, token)),
                Output::ToRouter { node, message } => self.routers.push(node, message),
            }
        }
    }

    /// Passes on what the turn had for routers, and publishes figures.
    pub(crate) fn flush_routers(&mut self, now: Instant) {
        self.routers.flush(now);
        let (stats, counters) = (&self.inbox.stats, self.machine.counters());
        LoopStats::set(&stats.sessions, self.machine.session_count() as u64);
        LoopStats::set(&stats.connects, counters.connects + counters.refused);
        LoopStats::set(&stats.authenticated, counters.authenticated);
        LoopStats::set(&stats.deliveries, counters.deliveries);
        LoopStats::set(&stats.deliveries_dropped, counters.deliveries_dropped);
    }

    /// Whether sessions are not to be read: routers take nothing more at the moment.
    pub(crate) fn is_congested(&self) -> bool {
        self.routers.is_congested()
    }

    /// When [`Engine::turn`] has something to do; `now` = at once.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Instant {
        if self.more_inputs || !self.tokens.is_empty() {
            return now;
        }
        [self.machine.poll_timeout(), self.routers.poll_timeout(now), Some(self.wall_clock_due)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.wall_clock_due)
    }
}
