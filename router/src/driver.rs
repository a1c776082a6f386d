//! The loop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use throng_base::{Instant, Key};
use throng_router_core::meta::{MetaCommand, write_answer};
use throng_router_core::{FlushToken, ImportToken, Output, PeerMessage, Router};
use throng_runtime::tls::PeerTls;
use throng_runtime::{Clock, Event, Interest, Poller, Waker, unix_millis};
use throng_storage_core::entry::{Mark, PeerId, Record};
use throng_storage_core::state::{StateRead, WriteBatch};
use throng_storage_core::store::PersistToken;
use throng_wire::link::{GatewayId, ToGateway};
use throng_wire::peer::{PeerFrame, PeerHello, PeerRole};
use throng_wire::{Epoch, NodeId, ShardId};

use crate::asks::Asks;
use crate::gateways::{GatewayOut, Gateways, Reach, Verdict};
use crate::handle::{MetaReply, RouterInput, RouterStatus, ShardStatus, cause};
use crate::inbound::{Arrived, Inbound};
use crate::limits::{INPUTS_PER_TURN, LINK_SILENCE, PAUSE_MIN, RETRY_FULL, STALL_MAX};
use crate::peers::{PeerEvent, Peers};
use crate::views::Views;

/// What the loop is told at start.
pub struct DriverConfig {
    /// This node.
    pub node: NodeId,
    /// Cluster id.
    pub cluster: [u8; 16],
    /// Shards of the cluster.
    pub shards: u32,
    /// History epoch.
    pub epoch: Epoch,
    /// Where to accept other nodes and gateways.
    pub listen: SocketAddr,
    /// The other nodes.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// Credentials for links to and from them; without, links are in the clear (loopback only).
    pub tls: Option<PeerTls>,
    /// For jitter.
    pub seed: u64,
}

/// The threads that make things durable; both take work without waiting and report tokens to the loop's handle.
pub struct StoreDrivers {
    /// Takes a group commit. The machine bounds how many are under way, so a full queue is a bug or a dead thread.
    pub persist: Box<dyn FnMut(PersistToken, Vec<Record>) -> Result<(), String> + Send>,
    /// Takes a batch of applied state.
    pub flush: Box<dyn FnMut(FlushToken, WriteBatch) -> Result<(), String> + Send>,
    /// Notes what the log needs no longer.
    pub truncate: Box<dyn FnMut(ShardId, Mark) -> Result<(), String> + Send>,
    /// Takes rows of a received snapshot.
    pub import: Box<dyn FnMut(ImportToken, WriteBatch, bool) -> Result<(), String> + Send>,
    /// Views of the state, for snapshots that are sent.
    pub views: Box<dyn Views + Send>,
}

/// The loop's state.
pub struct Driver<S: StateRead> {
    router: Router<S>,
    drivers: StoreDrivers,
    clock: Clock,
    poller: Poller,
    waker: Waker,
    inputs: Receiver<RouterInput>,
    peers: Peers,
    inbound: Inbound,
    gateways: Gateways,
    arrived: Vec<Arrived>,
    /// Who waits for the metadata group, by ticket. Bounded by what the machine takes.
    callers: BTreeMap<u64, Caller>,
    next_ticket: u64,
    /// Who waits for a flush.
    settling: Vec<(FlushToken, Sender<Vec<u32>>)>,
    asks: Asks,
    retry_at: Option<Instant>,
    /// When the turn before this one began, and how long it was then to wait at most.
    last_turn: (Instant, Duration),
    stalled_since: Option<Instant>,
    stop: Option<Result<(), String>>,
    node: NodeId,
    shards: u32,
}

/// Who waits for a command of the metadata group.
enum Caller {
    Local(Sender<MetaReply>),
    /// A node that joins: its connection and its own ticket.
    Joining(Key, u64),
}

/// Leadership was handed over already; a process that waits for this disk is of no use to anybody.
const STALLED: &str = "the log's disk has not answered for too long; the node stops so that others take over";

const TOKEN_WAKER: u64 = 0;
const TOKEN_LISTENER: u64 = 1;
/// Tokens of dialled links: this plus the node's number.
const TOKEN_PEER: u64 = 1 << 62;
/// Tokens of accepted connections: this plus the slab key (whose generation keeps below 2³¹ in practice; a clash
/// would only cost a spurious look).
const TOKEN_INBOUND: u64 = 1 << 63;

impl<S: StateRead> Driver<S> {
    /// Binds the peer port; the machine comes from the caller, recovered.
    ///
    /// # Errors
    /// The address is in use, or out of descriptors.
    pub fn new(
        config: DriverConfig,
        mut router: Router<S>,
        drivers: StoreDrivers,
        clock: Clock,
        inputs: Receiver<RouterInput>,
        waker: Waker,
    ) -> std::io::Result<Self> {
        let hello = PeerHello {
            protocol: throng_wire::peer::PEER_PROTOCOL,
            role: PeerRole::Node(config.node),
            cluster: config.cluster,
            shards: config.shards,
            epoch: config.epoch,
            node_name: format!("node {}", config.node),
        };
        let nodes = config.peers.keys().copied().collect();
        let inbound = Inbound::new(config.listen, hello.clone(), config.tls.clone(), nodes)?;
        router.set_peer_address(inbound.listener().local_addr()?);
        let poller = Poller::new()?;
        poller.register(&waker, TOKEN_WAKER, Interest::Read)?;
        poller.register(inbound.listener(), TOKEN_LISTENER, Interest::Read)?;
        let peers = Peers::new(hello, config.tls, config.peers, config.seed, clock.now());
        Ok(Self {
            router,
            drivers,
            clock,
            poller,
            waker,
            inputs,
            peers,
            inbound,
            gateways: Gateways::new(),
            arrived: Vec::new(),
            callers: BTreeMap::new(),
            next_ticket: 1,
            settling: Vec::new(),
            asks: Asks::default(),
            retry_at: None,
            last_turn: (clock.now(), Duration::ZERO),
            stalled_since: None,
            stop: None,
            node: config.node,
            shards: config.shards,
        })
    }

    /// The peer address really bound.
    ///
    /// # Errors
    /// The listener is broken.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inbound.listener().local_addr()
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// Why the node cannot go on: a failed write or sync, state that cannot be read, an entry it does not understand.
    pub fn run(mut self) -> Result<(), String> {
        let mut ready = Vec::new();
        loop {
            let now = self.clock.now();
            let timeout = self.timeout(now);
            self.last_turn.1 = timeout.unwrap_or_default();
            self.poller.wait(&mut ready, timeout).map_err(|e| format!("router loop: epoll: {e}"))?;
            self.turn(&ready);
            if let Some(end) = self.stop.take() {
                let end = end.map_err(|known| cause(&self.inputs, known));
                self.finish(end.is_ok());
                return end;
            }
        }
    }

    /// Lets go of everything. The queue first: a worker that reports must not wait for a loop that has ended. After a
    /// failure the workers are left behind, because the one that hangs in a dead disk would never be joined.
    fn finish(self, is_orderly: bool) {
        let Self { drivers, inputs, .. } = self;
        drop(inputs);
        if is_orderly { drop(drivers) } else { core::mem::forget(drivers) }
    }

    /// One turn. Priorities: timers (heartbeats must not wait for load), then what became durable and what gateways
    /// of this process ask, then sockets, then all outputs.
    fn turn(&mut self, ready: &[Event]) {
        let now = self.clock.now();
        self.router.handle_wall_clock(unix_millis());
        self.watch_disk(now);
        self.forgive_own_pause(now);
        if self.router.poll_timeout().is_some_and(|at| at <= now) {
            self.router.handle_timeout(now);
        }
        for (node, event) in self.peers.handle_timeout(now, &self.poller, peer_token) {
            self.handle_peer_event(now, node, event);
        }
        self.inbound.handle_timeout(now, &mut self.arrived);
        self.waker.reset();
        self.handle_inputs(now);
        for event in ready {
            self.handle_event(now, event);
        }
        self.handle_arrived(now);
        self.drain(now);
        self.flush(now);
    }

    /// Whether this loop was kept waiting for a processor or for a disk: then nobody else was silent.
    fn forgive_own_pause(&mut self, now: Instant) {
        let (began, wait) = core::mem::replace(&mut self.last_turn, (now, Duration::ZERO));
        let pause = now.since(began).saturating_sub(wait);
        if pause > PAUSE_MIN {
            self.peers.forgive(pause);
            self.inbound.forgive(pause);
        }
        if pause > LINK_SILENCE / 2 {
            tracing::info!(pause_ms = pause.as_millis() as u64, "the router loop stood still");
        }
    }

    /// The store hands its leaderships over as soon as its disk is late; a disk that stays so ends the process.
    fn watch_disk(&mut self, now: Instant) {
        if !self.router.store().is_stalled() {
            self.stalled_since = None;
        } else if now.since(*self.stalled_since.get_or_insert(now)) > STALL_MAX {
            self.stop = Some(Err(STALLED.into()));
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.inputs.is_empty() {
            return Some(Duration::ZERO);
        }
        [self.router.poll_timeout(), self.peers.poll_timeout(), self.inbound.poll_timeout(), self.retry_at]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.since(now))
    }

    fn handle_inputs(&mut self, now: Instant) {
        for _ in 0..INPUTS_PER_TURN {
            let Ok(input) = self.inputs.try_recv() else { return };
            match input {
                RouterInput::Persisted(token) => self.router.handle_persisted(now, token),
                RouterInput::Flushed(token) => {
                    self.router.handle_flushed(now, token);
                    self.settled(token);
                }
                RouterInput::Settle(reply) => {
                    let token = self.router.flush_now(now);
                    self.settling.push((token, reply));
                    self.settled(FlushToken(0));
                }
                RouterInput::Imported(token) => self.router.handle_imported(now, token),
                RouterInput::View(view, row) => self.router.handle_view(now, view, row.map(|row| *row)),
                RouterInput::ViewRows(view, rows, digest) => {
                    self.router.handle_view_rows(now, view, rows, digest);
                }
                RouterInput::ViewLost(view) => self.router.handle_view_lost(now, view),
                RouterInput::LogOverBudget(shards) => self.router.handle_log_over_budget(now, &shards),
                RouterInput::Pressure(pressure, is_high) => self.router.handle_pressure(pressure, is_high),
                RouterInput::Fatal(reason) => self.stop = Some(Err(reason)),
                RouterInput::GatewayUp(gateway, sink) => {
                    self.gateways.insert(gateway, GatewayOut::new(Reach::Local(sink)));
                    self.router.handle_gateway_up(now, gateway);
                }
                RouterInput::Gateway(gateway, messages) => {
                    for message in messages {
                        self.router.handle_gateway(now, gateway, message);
                    }
                }
                RouterInput::GatewayDown(gateway) => self.gateway_down(now, gateway),
                RouterInput::Meta(command, reply) => self.ask_meta(now, &command, Caller::Local(reply)),
                RouterInput::Metadata(reply) => drop(reply.try_send(self.router.machines().meta().cloned())),
                RouterInput::Operate(operation, reply) => {
                    if let Some(ask) = self.asks.operation(reply) {
                        self.router.handle_operation(now, ask, operation);
                    }
                }
                RouterInput::Checkpoint(shard, index, reply) => {
                    if let Some(ask) = self.asks.checkpoint(reply) {
                        self.router.handle_checkpoint(now, ask, shard, index);
                    }
                }
                RouterInput::CheckpointDone(ask) => self.router.handle_checkpoint_done(now, ask),
                RouterInput::Retire => self.router.retire(now),
                // A receiver that has gone away no longer wants to know.
                RouterInput::Status(reply) => drop(reply.try_send(self.status())),
                RouterInput::Stop => self.stop = self.stop.take().or(Some(Ok(()))),
            }
        }
    }

    /// Answers those who wait for what is flushed through `token`.
    fn settled(&mut self, token: FlushToken) {
        for (_, reply) in self.settling.extract_if(.., |(wanted, _)| *wanted <= token) {
            let machines = self.router.machines();
            let copies = (0..self.shards).map(|shard| machines.replica(ShardId(shard))).collect();
            // Whoever has given up does not want to know.
            drop(reply.try_send(copies));
        }
    }

    fn handle_event(&mut self, now: Instant, event: &Event) {
        match event.token {
            TOKEN_WAKER => {}
            TOKEN_LISTENER => self.inbound.accept(now, &self.poller, inbound_token),
            token if token & TOKEN_INBOUND != 0 => {
                let key = Key::from_u64(token & !TOKEN_INBOUND);
                self.inbound.handle_ready(now, key, &self.poller, token, &mut self.arrived);
            }
            token => {
                let node = NodeId(token & !TOKEN_PEER);
                let event = self.peers.handle_ready(now, node, &self.poller, token);
                self.handle_peer_event(now, node, event);
            }
        }
    }

    fn handle_peer_event(&mut self, now: Instant, node: NodeId, event: PeerEvent) {
        match event {
            PeerEvent::Nothing | PeerEvent::Up => {}
            PeerEvent::Down => self.router.handle_peer_down(now, node),
            PeerEvent::Silent(silence) => self.router.handle_peer_silent(now, node, silence),
        }
    }

    fn handle_arrived(&mut self, now: Instant) {
        for arrived in core::mem::take(&mut self.arrived) {
            match arrived {
                Arrived::NodeUp(node) => self.peers.is_there(now, node),
                Arrived::Raft(node, batch) if self.peers.is_heard(node) => {
                    self.router.handle_peer(now, node, PeerMessage::Raft(batch));
                }
                Arrived::Raft(..) => {} // It does not hear our answers: what it says keeps no leader alive.
                Arrived::Router(node, message) => {
                    self.router.handle_peer(now, node, PeerMessage::Router(message))
                }
                Arrived::Snapshot(node, message) => {
                    self.router.handle_peer(now, node, PeerMessage::Snapshot(message))
                }
                Arrived::GatewayUp(gateway, key) => {
                    self.gateway_down(now, gateway); // a link that it gave up before we noticed
                    self.gateways.insert(gateway, GatewayOut::new(Reach::Remote(key)));
                    self.router.handle_gateway_up(now, gateway);
                }
                Arrived::Gateway(gateway, key, messages) if self.is_current(gateway, key) => {
                    for message in messages {
                        self.router.handle_gateway(now, gateway, message);
                    }
                }
                Arrived::GatewayDown(gateway, key) if self.is_current(gateway, key) => {
                    self.gateway_down(now, gateway);
                }
                Arrived::Gateway(..) | Arrived::GatewayDown(..) => {}
                Arrived::Join(key, ticket, command) => {
                    self.ask_meta(now, &command, Caller::Joining(key, ticket));
                }
            }
        }
    }

    fn ask_meta(&mut self, now: Instant, command: &MetaCommand, caller: Caller) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.callers.insert(ticket, caller);
        self.router.handle_meta(now, ticket, command);
    }

    fn answer_meta(&mut self, ticket: u64, result: &MetaReply) {
        match self.callers.remove(&ticket) {
            // A receiver that has gone away no longer wants to know.
            Some(Caller::Local(reply)) => drop(reply.try_send(*result)),
            Some(Caller::Joining(key, theirs)) => {
                let (mut nodes, answer) = (self.router.nodes(), write_answer(result));
                if nodes.is_empty() {
                    // This node has joined itself a moment ago, and knows only what it was told then.
                    nodes = self.peers.addresses().collect();
                }
                let token = inbound_token(key);
                self.inbound.answer_join(key, nodes, theirs, answer, &self.poller, token);
            }
            None => {}
        }
    }

    /// The cluster has these nodes: links go to them, and to nobody else.
    fn set_nodes(&mut self, now: Instant, nodes: Vec<(NodeId, SocketAddr)>) {
        let others: BTreeMap<NodeId, SocketAddr> =
            nodes.into_iter().filter(|(node, _)| *node != self.node).collect();
        self.inbound.set_nodes(others.keys().copied().collect());
        for node in self.peers.set_nodes(now, &others) {
            self.router.handle_peer_down(now, node);
        }
    }

    /// Whether a gateway's link is this connection, not one that it has replaced.
    fn is_current(&self, gateway: GatewayId, key: Key) -> bool {
        matches!(self.gateways.get(&gateway), Some(GatewayOut { reach: Reach::Remote(link), .. }) if *link == key)
    }

    fn gateway_down(&mut self, now: Instant, gateway: GatewayId) {
        if let Some(out) = self.gateways.remove(&gateway) {
            self.router.handle_gateway_down(now, gateway);
            if let Reach::Remote(key) = out.reach {
                // Reported as gone already; what the close would report is not wanted again.
                self.inbound.close(key, &mut Vec::new());
            }
        }
    }

    /// Carries out every output of the machine.
    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.router.poll_output() {
            match output {
                Output::Persist { token, records } => {
                    if let Err(reason) = (self.drivers.persist)(token, records) {
                        self.stop = Some(Err(reason));
                        return;
                    }
                }
                Output::Flush { token, batch } => {
                    if let Err(reason) = (self.drivers.flush)(token, batch) {
                        self.stop = Some(Err(reason));
                        return;
                    }
                }
                Output::Truncate { shard, mark } => {
                    if let Err(reason) = (self.drivers.truncate)(shard, mark) {
                        self.stop = Some(Err(reason));
                        return;
                    }
                }
                Output::Import { token, batch, flush } => {
                    if let Err(reason) = (self.drivers.import)(token, batch, flush) {
                        self.stop = Some(Err(reason));
                        return;
                    }
                }
                Output::OpenView { view, shard, replica } => self.drivers.views.open(view, shard, replica),
                Output::ReadView { view } => self.drivers.views.read(view),
                Output::CloseView { view } => self.drivers.views.close(view),
                Output::Operated { ask, result } => self.asks.operated(ask, result),
                Output::Checkpoint { ask, outcome } => {
                    if !self.asks.checkpointed(ask, outcome) {
                        self.router.handle_checkpoint_done(now, ask);
                    }
                }
                Output::ToPeer { node, message } => {
                    assert_ne!(node, self.node, "the machine answers itself without a link");
                    self.peers.send(
                        node,
                        &match message {
                            PeerMessage::Raft(batch) => PeerFrame::Raft(batch),
                            PeerMessage::Router(message) => PeerFrame::Router(message),
                            PeerMessage::Snapshot(message) => PeerFrame::Snapshot(message),
                        },
                    );
                }
                Output::ToGateway { gateway, message } => self.queue_for_gateway(now, gateway, message),
                Output::Nodes { nodes } => self.set_nodes(now, nodes),
                Output::MetaDone { ticket, result } => self.answer_meta(ticket, &result),
                Output::Fatal { reason } => {
                    self.stop = Some(Err(reason.to_string()));
                    return;
                }
            }
        }
    }

    fn queue_for_gateway(&mut self, now: Instant, gateway: GatewayId, message: ToGateway) {
        let Some(out) = self.gateways.get_mut(&gateway) else { return };
        if out.push(message) == Verdict::CutOff {
            if matches!(out.reach, Reach::Local(_)) {
                // There is no link to make anew: a loop of this process that takes nothing is broken.
                self.stop = Some(Err("a gateway loop of this node takes nothing any more".into()));
            }
            tracing::error!(?gateway, "gateway takes nothing, cutting it off");
            self.gateway_down(now, gateway);
        }
    }

    /// Hands everything queued in this turn to gateways and links.
    fn flush(&mut self, now: Instant) {
        self.retry_at = None;
        let gateways: Vec<GatewayId> =
            self.gateways.iter().filter(|(_, out)| out.has_pending()).map(|(gateway, _)| *gateway).collect();
        for gateway in gateways {
            self.flush_gateway(now, gateway);
        }
        for node in self.peers.flush(now, &self.poller, peer_token) {
            self.router.handle_peer_down(now, node);
        }
        if !self.arrived.is_empty() {
            self.handle_arrived(now);
            self.retry_at = Some(now);
        }
    }

    fn flush_gateway(&mut self, now: Instant, gateway: GatewayId) {
        let Some(out) = self.gateways.get_mut(&gateway) else { return };
        while let Some(batch) = out.next_batch() {
            match &mut out.reach {
                Reach::Local(sink) => {
                    if let Err(batch) = sink.try_send(batch) {
                        out.put_back(batch);
                        self.retry_at = Some(now + RETRY_FULL);
                        return;
                    }
                }
                Reach::Remote(key) => {
                    let key = *key;
                    // Encoded bytes wait on the link only up to a quarter of its room; the rest waits here, where
                    // deliveries can still become LAGGED.
                    if self.inbound.queued_bytes(key) > crate::limits::LINK_BYTES_MAX / 4 {
                        out.put_back(batch);
                        self.retry_at = Some(now + RETRY_FULL);
                        break;
                    }
                    if !self.inbound.send(key, batch) {
                        self.gateway_down(now, gateway);
                        return;
                    }
                }
            }
        }
        if let Some(GatewayOut { reach: Reach::Remote(key), .. }) = self.gateways.get(&gateway) {
            self.inbound.flush(*key, &self.poller, inbound_token(*key), &mut self.arrived);
        }
    }

    fn status(&mut self) -> RouterStatus {
        let shards = (0..self.shards).map(ShardId).map(|shard| self.shard_status(shard)).collect();
        let has_metadata = self.router.machines().meta().is_some();
        let metadata = has_metadata.then(|| self.shard_status(ShardId(self.shards)));
        let stats = self.router.stats();
        RouterStatus {
            shards,
            metadata,
            links_up: self.peers.up(),
            gateways: self.gateways.len(),
            sessions: stats.sessions,
            registry_bytes: stats.registry_bytes,
            retentions: stats.retentions,
            pressures: self.router.pressures().collect(),
            store: self.router.store().stats(),
        }
    }

    fn shard_status(&mut self, shard: ShardId) -> ShardStatus {
        let applied = self.router.machines().applied(shard).index;
        let store = self.router.store();
        let conf = store.conf(shard);
        let nodes = |peers: &mut dyn Iterator<Item = u64>| peers.map(|peer| PeerId(peer).node()).collect();
        ShardStatus {
            shard,
            leader: store.leader(shard),
            term: store.term(shard),
            serving: store.is_serving(shard),
            applied,
            members: nodes(&mut conf.members()),
            voters: nodes(&mut conf.voters.iter().copied()),
            is_suspect: store.is_suspect(shard),
        }
    }
}

fn peer_token(node: NodeId) -> u64 {
    TOKEN_PEER | node.0
}

fn inbound_token(key: Key) -> u64 {
    TOKEN_INBOUND | (key.to_u64() & !TOKEN_INBOUND)
}
