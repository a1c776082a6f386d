//! Client, wire and server on one virtual clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use throng_base::{Instant, Rng};
use throng_client_core::{Client, ClientEvent, Config, Login, Output, SavedState};
use throng_wire::ChannelId;

use crate::server::Server;

pub(crate) const STREAM: &str = "quic://server";
pub(crate) const WEBSOCKET: &str = "ws://server";

pub(crate) fn channel(n: u8) -> ChannelId {
    ChannelId([n; 16])
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) events: Vec<ClientEvent>,
    /// The network accepts connections.
    pub(crate) reachable: bool,
    pub(crate) rng: Rng,
    /// Where the client connected, in order.
    pub(crate) connects: Vec<String>,
    connecting: Option<(Instant, bool)>,
    to_client: VecDeque<(Instant, Bytes)>,
    to_server: VecDeque<(Instant, Bytes)>,
    delay_max_ms: u64,
}

impl World {
    pub(crate) fn new(url: &str, seed: u64) -> Self {
        Self::with(url, seed, SavedState::default(), Config::default())
    }

    pub(crate) fn with(url: &str, seed: u64, saved: SavedState, config: Config) -> Self {
        let now = Instant::from_millis(1000);
        let mut rng = Rng::new(seed);
        let login = login(url);
        Self {
            now,
            client: Client::new(Arc::new(config), login, saved, rng.next_u64(), now),
            server: Server::new(rng.next_u64()),
            events: Vec::new(),
            reachable: true,
            connects: Vec::new(),
            connecting: None,
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            delay_max_ms: 10,
            rng,
        }
    }

    /// The device loses its process and comes back with what it saved.
    pub(crate) fn restart_client(&mut self, url: &str) {
        let saved = self.client.saved_state();
        let seed = self.rng.next_u64();
        self.client = Client::new(Arc::new(Config::default()), login(url), saved, seed, self.now);
        self.break_wire();
        self.connecting = None;
    }

    /// The connection dies; what was on the way arrives in part.
    pub(crate) fn cut(&mut self) {
        let arrive = self.rng.below(self.to_server.len() as u64 + 1) as usize;
        for (_, bytes) in self.to_server.drain(..arrive).collect::<Vec<_>>() {
            self.server.feed(&bytes);
        }
        self.break_wire();
        self.client.handle_disconnected(self.now, "cut");
        self.drain();
    }

    /// Runs until `done`, at most `limit`; panics otherwise.
    pub(crate) fn run_until(&mut self, what: &str, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        self.client.handle_timeout(self.now);
        self.drain();
        while !done(self) {
            assert!(self.now < end, "{what}: not within {limit:?}; events: {:#?}", self.events);
            self.step(end);
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.client.handle_timeout(self.now);
        self.drain();
        while self.now < end {
            self.step(end);
        }
    }

    /// Goes to the next thing that happens, at most to `end`.
    fn step(&mut self, end: Instant) {
        self.collect_server();
        let pipes = [self.to_client.front(), self.to_server.front()].into_iter().flatten().map(|(at, _)| *at);
        let connecting = self.connecting.map(|(at, _)| at);
        let next = pipes.chain(connecting).chain(self.client.poll_timeout()).min().unwrap_or(end).min(end);
        self.now = self.now.max(next);
        if self.connecting.is_some_and(|(at, _)| at <= self.now) {
            self.finish_connect();
        }
        while let Some((_, bytes)) = self.to_server.pop_front_if(|(at, _)| *at <= self.now) {
            self.server.feed(&bytes);
        }
        self.collect_server();
        while let Some((_, bytes)) = self.to_client.pop_front_if(|(at, _)| *at <= self.now) {
            self.client.handle_bytes(self.now, &mut bytes.to_vec());
            self.drain();
        }
        // Twice: leaving a server and connecting to the next are two steps.
        for _ in 0..2 {
            if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
                self.client.handle_timeout(self.now);
                self.drain();
            }
        }
        let again = self.client.poll_timeout();
        assert!(again.is_none_or(|at| at > self.now), "the machine would spin at {:?}", self.now);
    }

    fn finish_connect(&mut self) {
        let (_, websocket) = self.connecting.take().expect("connecting");
        if self.reachable {
            self.server.accept(websocket);
            self.client.handle_connected(self.now);
        } else {
            self.client.handle_disconnected(self.now, "unreachable");
        }
        self.drain();
    }

    /// Carries out what the client wants.
    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Connect { endpoint } => {
                    self.connects.push(endpoint.to_string());
                    let websocket = endpoint.scheme != throng_client_core::Scheme::Quic;
                    self.connecting = Some((self.now + self.delay(), websocket));
                }
                Output::Write => self.write(),
                Output::Disconnect => {
                    for (_, bytes) in core::mem::take(&mut self.to_server) {
                        self.server.feed(&bytes);
                    }
                    self.server.feed(self.client.outgoing());
                    self.break_wire();
                    self.connecting = None;
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn write(&mut self) {
        // Any number of bytes may go at a time.
        while !self.client.outgoing().is_empty() {
            let len = self.client.outgoing().len();
            let take = self.rng.between(1, len as u64) as usize;
            let bytes = Bytes::copy_from_slice(&self.client.outgoing()[..take]);
            let at = self.to_server.back().map_or(self.now, |(at, _)| *at).max(self.now + self.delay());
            self.to_server.push_back((at, bytes));
            self.client.sent(self.now, take);
        }
    }

    fn collect_server(&mut self) {
        let mut bytes = self.server.take_output().freeze();
        while !bytes.is_empty() {
            let take = self.rng.between(1, bytes.len() as u64) as usize;
            let at = self.to_client.back().map_or(self.now, |(at, _)| *at).max(self.now + self.delay());
            self.to_client.push_back((at, bytes.split_to(take)));
        }
    }

    fn break_wire(&mut self) {
        self.to_client.clear();
        self.to_server.clear();
        self.server.conn = None;
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.rng.between(0, self.delay_max_ms))
    }

    /// Numbers of the events handed over for a channel.
    pub(crate) fn delivered(&self, of: ChannelId) -> Vec<u64> {
        let seqs = self.events.iter().filter_map(|event| match event {
            ClientEvent::Delivered { channel, event } if *channel == of => Some(event.seq.0),
            _ => None,
        });
        seqs.collect()
    }

    pub(crate) fn count(&self, matches: impl Fn(&ClientEvent) -> bool) -> usize {
        self.events.iter().filter(|event| matches(event)).count()
    }
}

fn login(url: &str) -> Login {
    let endpoints = url.split(',').map(|url| Arc::new(url.parse().expect("an endpoint"))).collect();
    Login { endpoints, token: Bytes::from_static(b"token") }
}
