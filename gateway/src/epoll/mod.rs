//! The epoll back end: one OS thread, one listener (SO_REUSEPORT), one machine, all its sessions.
//!
//! ```text
//!   accept ≤ 64 ─┐
//!   read once  ──┼─► Engine (machine) ─► effects ─► write, close     after every 64 events, so that what many
//!   inputs     ──┤                    └► routers                     sessions are due in a turn shares system calls
//!   timers     ──┘
//! ```
//!
//! An idle plaintext session costs its entry in the machine, 32 bytes here and what the kernel keeps; an idle TLS
//! session one boxed rustls state beside.

mod connection;
mod handshakes;
mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use throng_base::{Instant, Key};
use throng_gateway_core::Transport;
use throng_runtime::{Accepted, Event, Interest, Poller, Waker, accept};

use crate::config::LoopConfig;
use crate::engine::{Control, Effect, Engine};
use crate::handle::{GatewayHandle, GatewayThread, Wake};
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN, EVENTS_PER_SETTLE, READ_BUFFER_BYTES, TLS_RECORD_BYTES};
use connection::{Buffers, Connection, Progress, Rules};
use handshakes::Handshakes;

// Tokens that no session key has: a slab's index stays below u32::MAX.
const LISTENER: u64 = u64::MAX;
const WAKER: u64 = u64::MAX - (1 << 32);
const ROUTERS: u64 = u64::MAX - (2 << 32);

/// What a TCP loop listens to.
#[derive(Debug)]
pub struct TcpOptions {
    /// Non-blocking, one per loop on a shared port ([`throng_runtime::listen`]).
    pub listener: TcpListener,
    /// Serves connections that begin with a TLS handshake.
    pub tls: Option<Arc<ServerConfig>>,
    /// Serves the others too; for loopback only.
    pub plaintext: bool,
}

/// Starts a loop on a thread of its own.
///
/// # Errors
/// Out of descriptors or threads.
pub fn spawn_tcp(config: LoopConfig, options: TcpOptions) -> io::Result<GatewayThread> {
    let waker = Waker::new()?;
    let (handle, inbox) = GatewayHandle::new(config.id, Wake::Epoll(waker.clone()));
    let name = config.name.clone();
    let engine = Engine::new(config, inbox)?;
    let mut epoll_loop = EpollLoop::new(engine, waker, options)?;
    let thread = std::thread::Builder::new().name(name).spawn(move || epoll_loop.run())?;
    Ok(GatewayThread::new(handle, thread))
}

struct EpollLoop {
    engine: Engine,
    waker: Waker,
    /// Watches everything.
    poller: Poller,
    /// Watches the waker and the routers only: what a congested loop waits for.
    quiet_poller: Poller,
    /// `None` once the loop drains.
    listener: Option<TcpListener>,
    /// The listener rests until then.
    accept_paused_until: Option<Instant>,
    rules: Rules,
    /// By index of the session's key.
    connections: Vec<Option<Connection>>,
    handshakes: Handshakes,
    buffers: Buffers,
}

impl EpollLoop {
    fn new(engine: Engine, waker: Waker, options: TcpOptions) -> io::Result<Self> {
        let (poller, quiet_poller) = (Poller::new()?, Poller::new()?);
        for poller in [&poller, &quiet_poller] {
            poller.register(&waker, WAKER, Interest::Read)?;
            if let Some(routers) = engine.routers.as_fd() {
                poller.register(routers, ROUTERS, Interest::Read)?;
            }
        }
        poller.register(&options.listener, LISTENER, Interest::Read)?;
        Ok(Self {
            engine,
            waker,
            poller,
            quiet_poller,
            listener: Some(options.listener),
            accept_paused_until: None,
            rules: Rules { tls: options.tls, plaintext: options.plaintext },
            connections: Vec::new(),
            handshakes: Handshakes::default(),
            buffers: Buffers {
                incoming: vec![0; READ_BUFFER_BYTES].into(),
                plaintext: Vec::with_capacity(TLS_RECORD_BYTES),
            },
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        while self.turn(&mut events)? == Control::Run {}
        Ok(())
    }

    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<Control> {
        let timeout = self.timeout();
        let poller = if self.engine.is_congested() { &mut self.quiet_poller } else { &mut self.poller };
        poller.wait(events, Some(timeout))?;
        let now = self.engine.clock.now();
        for batch in events.chunks(EVENTS_PER_SETTLE) {
            for event in batch {
                self.handle_event(event, now)?;
            }
            self.settle(now);
        }
        if self.engine.turn(now) == Control::Stop {
            return Ok(Control::Stop);
        }
        self.settle(now);
        self.tend_listener(now)?;
        Ok(Control::Run)
    }

    fn timeout(&self) -> Duration {
        let now = self.engine.clock.now();
        let due = self.engine.poll_timeout(now);
        self.accept_paused_until.map_or(due, |until| due.min(until)).since(now)
    }

    fn handle_event(&mut self, event: &Event, now: Instant) -> io::Result<()> {
        match event.token {
            LISTENER => self.accept(now),
            WAKER => {
                self.waker.reset();
                Ok(())
            }
            ROUTERS => Ok(()), // the engine reads them in its turn
            token => {
                self.handle_session_event(Key::from_u64(token), event, now);
                Ok(())
            }
        }
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        for _ in 0..ACCEPTS_PER_TURN {
            let (stream, peer) = match accept(listener)? {
                Accepted::Connection(stream, peer) => (stream, peer),
                Accepted::Blocked => return Ok(()),
                Accepted::Exhausted => {
                    self.accept_paused_until = Some(now + ACCEPT_PAUSE);
                    return self.poller.modify(listener, LISTENER, Interest::None);
                }
            };
            // Refused: dropped without a word, since a word would cost what there is too little of.
            let Ok(key) = self.engine.machine.handle_connect(now, Transport::WebSocket, peer.ip()) else {
                continue;
            };
            let index = key.index as usize;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            if let Err(error) = self.poller.register(&stream, key.to_u64(), Interest::Read) {
                tracing::warn!(%error, "a connection cannot be watched");
                self.engine.machine.handle_disconnect(now, key);
                continue;
            }
            let before = self.connections[index].replace(Connection::new(stream, key));
            assert!(before.is_none(), "the machine reuses an index only after the disconnect");
        }
        Ok(())
    }

    fn handle_session_event(&mut self, key: Key, event: &Event, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, key) else { return };
        let mut progress = Progress::Open;
        if event.readable {
            progress = connection.read(now, key, &mut self.engine.machine, &mut self.buffers, &self.rules);
            if connection.is_counted && !connection.is_handshaking() {
                connection.is_counted = false;
                self.handshakes.finish();
            }
        }
        match progress {
            Progress::Over => self.drop_connection(key, now),
            Progress::HandshakeBegun => {
                self.begin_handshake(key, now);
                self.flush(key, now);
            }
            // What a TLS handshake has to say is no output of the machine.
            Progress::Open if event.writable || self.is_handshaking(key) => self.flush(key, now),
            Progress::Open => {}
        }
    }

    fn is_handshaking(&mut self, key: Key) -> bool {
        connection_mut(&mut self.connections, key).is_some_and(|connection| connection.is_handshaking())
    }

    /// Counts a handshake; above the limit the oldest gives way.
    fn begin_handshake(&mut self, key: Key, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, key) else { return };
        connection.is_counted = true;
        let connections = &mut self.connections;
        let oldest = self.handshakes.begin(key, |key| {
            connection_mut(connections, key).is_some_and(|connection| connection.is_handshaking())
        });
        if let Some(oldest) = oldest {
            self.drop_connection(oldest, now);
        }
    }

    /// Carries out what the machine wants, until it wants nothing.
    fn settle(&mut self, now: Instant) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Write(key) => self.flush(key, now),
                Effect::Close(key, _) => {
                    if let Some(connection) = connection_mut(&mut self.connections, key) {
                        connection.close();
                    }
                    self.flush(key, now);
                }
                Effect::Abort(key) => self.drop_connection(key, now),
            }
        }
        self.engine.flush_routers(now);
    }

    fn flush(&mut self, key: Key, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, key) else { return };
        let before = connection.interest();
        let outcome = connection.flush(now, key, &mut self.engine.machine, &mut self.buffers);
        let after = connection.interest();
        let is_watched =
            before == after || self.poller.modify(connection.stream(), key.to_u64(), after).is_ok();
        if outcome.is_err() || !is_watched {
            self.drop_connection(key, now);
        }
    }

    /// Ends a connection and tells the machine, whoever ended it.
    fn drop_connection(&mut self, key: Key, now: Instant) {
        let Some(connection) = connection_mut(&mut self.connections, key) else { return };
        if connection.is_counted {
            self.handshakes.finish();
        }
        self.connections[key.index as usize] = None;
        self.engine.machine.handle_disconnect(now, key);
    }

    /// Wakes a resting listener, and closes it when the machine drains.
    fn tend_listener(&mut self, now: Instant) -> io::Result<()> {
        if self.engine.machine.is_draining() {
            self.listener = None;
            self.accept_paused_until = None;
        }
        if let (Some(listener), Some(until)) = (&self.listener, self.accept_paused_until)
            && now >= until
        {
            self.accept_paused_until = None;
            self.poller.modify(listener, LISTENER, Interest::Read)?;
        }
        Ok(())
    }
}

/// The connection of a session, unless the key is stale.
fn connection_mut(connections: &mut [Option<Connection>], key: Key) -> Option<&mut Connection> {
    let connection = connections.get_mut(key.index as usize)?.as_mut()?;
    (connection.generation() == key.generation).then_some(connection)
}
