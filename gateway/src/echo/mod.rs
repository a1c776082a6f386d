//! A WebSocket listener that sends every message back, through the codec and poller that the gateway uses: what
//! conformance suites (Autobahn) test is what serves users. Messages up to 16 MiB in any number of fragments.

mod connection;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;

use throng_base::Instant;
use throng_runtime::{Accepted, Clock, Event, Interest, Poller, accept, limits::wait_until};

use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN, ECHO_CONNECTIONS_MAX, LINGER, READ_BUFFER_BYTES};
use connection::Connection;

/// Token of the listener; connections count from 1.
const LISTENER: u64 = 0;

/// Serves until the listener breaks. `listener` must be non-blocking ([`throng_runtime::listen`]).
///
/// # Errors
/// Out of memory or descriptors for the poller itself; a connection's failure ends only that connection.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let mut server = Server::new(listener)?;
    let mut events = Vec::new();
    loop {
        server.turn(&mut events)?;
    }
}

struct Server {
    listener: TcpListener,
    poller: Poller,
    clock: Clock,
    /// Not watched before this time (accept failed).
    paused_until: Option<Instant>,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    buffer: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.register(&listener, LISTENER, Interest::Read)?;
        Ok(Self {
            listener,
            poller,
            clock: Clock::new(),
            paused_until: None,
            connections: BTreeMap::new(),
            next_token: LISTENER + 1,
            buffer: vec![0; READ_BUFFER_BYTES],
        })
    }

    fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let lingers = self.connections.values().filter_map(Connection::deadline).min();
        let deadline = [lingers, self.paused_until].into_iter().flatten().min();
        self.poller.wait(events, Some(wait_until(deadline, self.clock.now())))?;
        let now = self.clock.now();
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
            self.poller.modify(&self.listener, LISTENER, Interest::Read)?;
        }
        for event in events.drain(..) {
            match event.token {
                LISTENER => self.accept(now)?,
                token => self.advance(token, now)?,
            }
        }
        self.connections.retain(|_, connection| connection.deadline().is_none_or(|deadline| now < deadline));
        Ok(())
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            let stream = match accept(&self.listener)? {
                Accepted::Connection(stream, _) => stream,
                Accepted::Blocked => return Ok(()),
                Accepted::Exhausted => {
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    return self.poller.modify(&self.listener, LISTENER, Interest::None);
                }
            };
            if self.connections.len() >= ECHO_CONNECTIONS_MAX {
                continue; // dropped: this listener is for tests
            }
            let token = self.next_token;
            self.next_token += 1;
            self.poller.register(&stream, token, Interest::Read)?;
            self.connections.insert(token, Connection::new(stream));
        }
        Ok(())
    }

    /// Lets one connection read, answer and write.
    fn advance(&mut self, token: u64, now: Instant) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let before = connection.interest();
        if connection.advance(&mut self.buffer, now + LINGER).is_err() {
            self.connections.remove(&token);
            return Ok(());
        }
        let after = connection.interest();
        if before == after { Ok(()) } else { self.poller.modify(connection.stream(), token, after) }
    }
}
