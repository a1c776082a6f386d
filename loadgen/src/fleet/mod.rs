//! Thousands of client machines in one loop.
//!
//! ```text
//!            ┌───────────────── one thread ─────────────────┐
//!   kernel ──┤ Poller ─► Session { Client, Wire } ─► events ├─► scenario
//!            │   ▲            ▲                             │
//!            └───┼────────────┼─────────────────────────────┘
//!              Waker      Report (bytes in)   Order (bytes out)
//!                └──────── pump: tokio thread, QUIC and TLS
//! ```
//!
//! A session without traffic holds its client machine and a descriptor; buffers are shared.

mod pump;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use throng_base::{Instant, TimerWheel};
use throng_client::Dialer;
use throng_client_core::{Client, ClientEvent, Config, Login, Output, SavedState};
use throng_runtime::{Clock, Event, Interest, Poller, Waker};

use crate::limits::READ_BYTES;

use pump::Pump;
use wire::Wire;

/// Token of the waker; sessions use index and generation, which never reach it.
const WAKER: u64 = u64::MAX;

/// Granularity of session timers (heartbeats, backoffs); sends are timed by the scenario.
const TIMER_TICK: Duration = Duration::from_millis(10);

/// A session is known by its number.
pub(crate) type SessionNo = usize;

struct Session {
    client: Client,
    wire: Wire,
    /// Counts transports, so that nothing of an old one reaches a new one.
    generation: u32,
    /// The earliest timer in the wheel that counts.
    armed: Option<Instant>,
    /// Has bytes to write at the end of the turn.
    dirty: bool,
    /// Counted among the open ones.
    is_open: bool,
}

/// All sessions of the generator.
pub(crate) struct Fleet {
    clock: Clock,
    poller: Poller,
    waker: Waker,
    pump: Pump,
    ready: Vec<Event>,
    buffer: Vec<u8>,
    sessions: Vec<Session>,
    wheel: TimerWheel<SessionNo>,
    due: Vec<SessionNo>,
    dirty: Vec<SessionNo>,
    events: VecDeque<(SessionNo, ClientEvent)>,
    addresses: HashMap<String, SocketAddr>,
    config: Arc<Config>,
    seed: u64,
    open: usize,
}

impl Fleet {
    /// A fleet without sessions.
    pub(crate) fn new(config: Config, dialer: Dialer) -> io::Result<Self> {
        let clock = Clock::new();
        let (poller, waker) = (Poller::new()?, Waker::new()?);
        poller.register(&waker, WAKER, Interest::Read)?;
        Ok(Self {
            poller,
            pump: Pump::start(dialer, waker.clone())?,
            waker,
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES],
            sessions: Vec::new(),
            wheel: TimerWheel::new(TIMER_TICK, clock.now()),
            due: Vec::new(),
            dirty: Vec::new(),
            events: VecDeque::new(),
            addresses: HashMap::new(),
            config: Arc::new(config),
            seed: throng_runtime::unix_millis() ^ u64::from(std::process::id()) << 40,
            open: 0,
            clock,
        })
    }

    /// Starts a session; it connects at once.
    pub(crate) fn add(&mut self, login: Login) -> SessionNo {
        let number = self.sessions.len();
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let now = self.now();
        let client = Client::new(Arc::clone(&self.config), login, SavedState::default(), self.seed, now);
        self.sessions.push(Session {
            client,
            wire: Wire::None,
            generation: 0,
            armed: None,
            dirty: false,
            is_open: false,
        });
        self.act(number, |client, now| client.handle_timeout(now));
        number
    }

    /// Does something with a session's client and carries out what follows.
    pub(crate) fn act<R>(&mut self, number: SessionNo, action: impl FnOnce(&mut Client, Instant) -> R) -> R {
        let now = self.clock.now();
        let result = action(&mut self.sessions[number].client, now);
        self.service(number, now);
        result
    }

    /// The present.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Sessions started.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions that stand.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether the user pressed Ctrl-C.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.pump.is_interrupted()
    }

    /// The next event of any session.
    pub(crate) fn next_event(&mut self) -> Option<(SessionNo, ClientEvent)> {
        self.events.pop_front()
    }

    /// Writes what waits, then waits for the world until `wake` at the latest, and takes what it brings.
    pub(crate) fn turn(&mut self, wake: Option<Instant>) -> io::Result<()> {
        self.flush();
        let now = self.clock.now();
        let next = [wake, self.wheel.poll_timeout()].into_iter().flatten().min();
        let longest = Duration::from_millis(100); // Ctrl-C and progress are looked at this often
        let timeout = if self.events.is_empty() {
            next.map_or(longest, |at| at.since(now).min(longest))
        } else {
            Duration::ZERO
        };
        let mut ready = core::mem::take(&mut self.ready);
        self.poller.wait(&mut ready, Some(timeout))?;
        for event in &ready {
            if event.token == WAKER {
                self.waker.reset();
            } else {
                self.socket_event(*event);
            }
        }
        self.ready = ready;
        self.take_reports();
        self.expire();
        self.flush();
        Ok(())
    }

    /// Says goodbye for all sessions.
    pub(crate) fn close(&mut self) {
        for number in 0..self.sessions.len() {
            self.act(number, |client, now| client.close(now));
        }
        self.events.clear();
        self.pump.stop();
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        let mut due = core::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        for number in due.drain(..) {
            let session = &mut self.sessions[number];
            if session.armed.is_some_and(|at| at <= now) {
                session.armed = None;
                if session.client.poll_timeout().is_some_and(|at| at <= now) {
                    session.client.handle_timeout(now);
                }
                self.service(number, now);
            }
        }
        self.due = due;
    }

    /// Carries out what a session's client wants.
    fn service(&mut self, number: SessionNo, now: Instant) {
        while let Some(output) = self.sessions[number].client.poll_output() {
            match output {
                Output::Connect { endpoint } => self.connect(number, &endpoint, now),
                Output::Write => self.mark_dirty(number),
                Output::Disconnect => self.disconnect(number),
                Output::Event(event) => self.events.push_back((number, event)),
            }
        }
        let session = &mut self.sessions[number];
        match (core::mem::replace(&mut session.is_open, session.client.is_open()), session.is_open) {
            (false, true) => self.open += 1,
            (true, false) => self.open -= 1,
            _ => {}
        }
        if let Some(at) = session.client.poll_timeout()
            && session.armed.is_none_or(|armed| at < armed)
        {
            session.armed = Some(at);
            self.wheel.insert(at, number);
        }
    }

    fn mark_dirty(&mut self, number: SessionNo) {
        if !core::mem::replace(&mut self.sessions[number].dirty, true) {
            self.dirty.push(number);
        }
    }
}
