//! Links that this node dials: one to every other node, carrying what it has to say to it. What the other node has to
//! say comes over the link that it dials.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use throng_base::{Instant, Rng};
use throng_runtime::tls::{Expected, PeerTls};
use throng_runtime::{ConnectOptions, FrameLink, Interest, LinkError, Poller, connect};
use throng_wire::NodeId;
use throng_wire::peer::{PeerFrame, PeerHello, PeerRole};

use crate::limits::{
    DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, DIAL_TIMEOUT, LINK_LIMITS, LINK_PING_EVERY, LINK_SILENCE,
    LINK_SILENCE_MAX,
};

/// State of the link to one node.
///
/// ```text
///   Down ── due ──► Dialling ── hello answered ──► Up ◄── answered ── silent
///    ▲                 │ error, refusal, timeout    │ └── LINK_SILENCE ──►│
///    └─────────────────┴──────── error ─────────────┴── LINK_SILENCE_MAX ─┘
/// ```
///
/// A link that is up asks for an answer every [`LINK_PING_EVERY`], so it proves both ways: what we say gets there, and
/// what is said there gets here.
enum State {
    Down { retry_at: Instant },
    Dialling { link: FrameLink, deadline: Instant },
    Up { link: FrameLink, life: Life },
}

/// Signs of life on a link that is up.
#[derive(Clone, Copy)]
struct Life {
    heard: Instant,
    ping_due: Instant,
    is_silent: bool,
}

impl Life {
    fn begin(now: Instant) -> Self {
        Self { heard: now, ping_due: now, is_silent: false }
    }

    fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.is_silent = false;
    }

    /// When something is to be done if nothing is heard.
    fn due(&self) -> Instant {
        let end = if self.is_silent { LINK_SILENCE_MAX } else { LINK_SILENCE };
        self.ping_due.min(self.heard + end)
    }
}

struct Peer {
    address: SocketAddr,
    state: State,
    backoff: Duration,
    /// What the poller was last told.
    writes_watched: bool,
}

impl Peer {
    fn new(address: SocketAddr, now: Instant) -> Self {
        let state = State::Down { retry_at: now };
        Self { address, state, backoff: DIAL_BACKOFF_MIN, writes_watched: false }
    }
}

/// The links this node dials.
pub(crate) struct Peers {
    hello: PeerHello,
    /// Our credentials; without them links are in the clear.
    tls: Option<PeerTls>,
    peers: BTreeMap<NodeId, Peer>,
    rng: Rng,
}

/// What came of handling an event on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerEvent {
    Nothing,
    Up,
    /// The link broke.
    Down,
    /// Nothing has come back for this long; for ever, if nobody listens there.
    Silent(Duration),
}

impl Peers {
    pub(crate) fn new(
        hello: PeerHello,
        tls: Option<PeerTls>,
        addresses: BTreeMap<NodeId, SocketAddr>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let peers = addresses.into_iter().map(|(node, address)| (node, Peer::new(address, now))).collect();
        Self { hello, tls, peers, rng: Rng::new(seed) }
    }

    /// The nodes there are: links are made to new ones and to new addresses, and given up to those that are gone. Returns
    /// the nodes whose links ended.
    pub(crate) fn set_nodes(&mut self, now: Instant, nodes: &BTreeMap<NodeId, SocketAddr>) -> Vec<NodeId> {
        let stays = |node: &NodeId, peer: &Peer| nodes.get(node) == Some(&peer.address);
        let ended = self.peers.iter().filter(|(node, peer)| !stays(node, peer));
        let ended = ended.filter(|(_, peer)| matches!(peer.state, State::Up { .. })).map(|(node, _)| *node);
        let ended: Vec<NodeId> = ended.collect();
        self.peers.retain(|node, peer| stays(node, peer));
        for (&node, &address) in nodes {
            self.peers.entry(node).or_insert_with(|| Peer::new(address, now));
        }
        ended
    }

    /// The nodes that links are made to.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        self.peers.iter().map(|(node, peer)| (*node, peer.address))
    }

    /// Nodes with a working link.
    pub(crate) fn up(&self) -> Vec<NodeId> {
        self.peers
            .iter()
            .filter(|(_, peer)| matches!(peer.state, State::Up { .. }))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Whether what a node says counts: it hears us too, as far as we know.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        matches!(self.peers.get(&node), Some(Peer { state: State::Up { life, .. }, .. }) if !life.is_silent)
    }

    /// The node has dialled us, so it is there: no reason to wait with our own dial.
    pub(crate) fn is_there(&mut self, now: Instant, node: NodeId) {
        if let Some(Peer { state: State::Down { retry_at }, backoff, .. }) = self.peers.get_mut(&node) {
            (*retry_at, *backoff) = (now, DIAL_BACKOFF_MIN);
        }
    }

    /// This loop stood still for `pause`: what was not read meanwhile is not the others' silence.
    pub(crate) fn forgive(&mut self, pause: Duration) {
        for peer in self.peers.values_mut() {
            match &mut peer.state {
                State::Up { life, .. } => life.heard += pause,
                State::Dialling { deadline, .. } => *deadline += pause,
                State::Down { .. } => {}
            }
        }
    }

    /// When a dial or a deadline is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.peers
            .values()
            .map(|peer| match &peer.state {
                State::Down { retry_at } => *retry_at,
                State::Dialling { deadline, .. } => *deadline,
                State::Up { life, .. } => life.due(),
            })
            .min()
    }

    /// Dials what is due, asks for signs of life, and gives up on what takes too long. Returns what that means for a
    /// node.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        poller: &Poller,
        token: impl Fn(NodeId) -> u64,
    ) -> Vec<(NodeId, PeerEvent)> {
        let due: Vec<NodeId> = self.peers.keys().copied().collect();
        let mut events = Vec::new();
        for node in due {
            let event = match &mut self.peers.get_mut(&node).expect("listed just now").state {
                State::Down { retry_at } if *retry_at <= now => self.dial(now, node, poller, token(node)),
                State::Dialling { deadline, .. } if *deadline <= now => self.down(now, node),
                State::Up { life, .. } if now >= life.heard + LINK_SILENCE_MAX => {
                    tracing::info!(%node, "link lost: no answer in time");
                    self.down(now, node)
                }
                State::Up { life, .. } if !life.is_silent && now >= life.heard + LINK_SILENCE => {
                    life.is_silent = true;
                    tracing::info!(%node, "no answer on a link; its node is not listened to");
                    PeerEvent::Silent(now.since(life.heard))
                }
                State::Up { link, life } if life.ping_due <= now => {
                    life.ping_due = now + LINK_PING_EVERY;
                    // A queue that is full moves or breaks; that it moves is a sign of life too.
                    let _ = link.queue(|out| PeerFrame::Ping(now.as_millis()).encode(out));
                    PeerEvent::Nothing
                }
                _ => PeerEvent::Nothing,
            };
            if event != PeerEvent::Nothing {
                events.push((node, event));
            }
        }
        events
    }

    fn dial(&mut self, now: Instant, node: NodeId, poller: &Poller, token: u64) -> PeerEvent {
        let peer = self.peers.get_mut(&node).expect("dialled nodes are listed");
        let hello = PeerFrame::Hello(self.hello.clone());
        let dialled = connect(peer.address, ConnectOptions::default()).and_then(|stream| {
            poller.register(&stream, token, Interest::Both)?;
            let session = self.tls.as_ref().map(|tls| tls.dial(Expected::Node(node))).transpose();
            Ok(FrameLink::new(stream, session.map_err(std::io::Error::other)?, LINK_LIMITS))
        });
        match dialled {
            Ok(mut link) => {
                link.queue(|out| hello.encode(out)).expect("an empty link has room for a hello");
                peer.state = State::Dialling { link, deadline: now + DIAL_TIMEOUT };
                peer.writes_watched = true;
                PeerEvent::Nothing
            }
            Err(error) => {
                tracing::debug!(%node, %error, "dial failed");
                self.down(now, node);
                absent(error.kind())
            }
        }
    }

    /// Handles readiness of the link to `node`.
    pub(crate) fn handle_ready(
        &mut self,
        now: Instant,
        node: NodeId,
        poller: &Poller,
        token: u64,
    ) -> PeerEvent {
        let Some(peer) = self.peers.get_mut(&node) else { return PeerEvent::Nothing };
        let (link, mut life) = match &mut peer.state {
            State::Down { .. } => return PeerEvent::Nothing,
            State::Dialling { link, .. } => (link, None),
            State::Up { link, life } => (link, Some(life)),
        };
        let dialling = life.is_none();
        let mut answer = None;
        let read = link.read(|payload| match PeerFrame::decode(payload) {
            Ok(Some(PeerFrame::Pong(_))) => {
                if let Some(life) = &mut life {
                    life.hear(now);
                }
            }
            Ok(Some(frame)) => {
                answer.get_or_insert(frame);
            }
            Ok(None) | Err(_) => {}
        });
        if let Err(error) = read.and_then(|()| write(link, life, now)) {
            lost(node, peer.address, &error);
            return match (self.down(now, node), &error) {
                (PeerEvent::Nothing, LinkError::Io(error)) => absent(error.kind()),
                (event, _) => event,
            };
        }
        match answer {
            Some(PeerFrame::HelloAck(hello)) if dialling => {
                if hello.cluster != self.hello.cluster || hello.role != PeerRole::Node(node) {
                    tracing::error!(%node, address = %peer.address, "another node or cluster answers there");
                    return self.down(now, node);
                }
                peer.backoff = DIAL_BACKOFF_MIN;
                if let State::Dialling { link, .. } =
                    core::mem::replace(&mut peer.state, State::Down { retry_at: now })
                {
                    peer.state = State::Up { link, life: Life::begin(now) };
                }
                self.watch(node, poller, token);
                PeerEvent::Up
            }
            Some(PeerFrame::Refused(refused)) => {
                tracing::error!(%node, reason = %refused.reason, "refused by the other node");
                self.down(now, node)
            }
            _ => {
                self.watch(node, poller, token);
                PeerEvent::Nothing
            }
        }
    }

    fn down(&mut self, now: Instant, node: NodeId) -> PeerEvent {
        let peer = self.peers.get_mut(&node).expect("listed");
        let was_up = matches!(peer.state, State::Up { .. });
        // The first dial follows at once: whether somebody still listens there tells a process that ended from a network
        // that lost a link. Then full jitter, so that nodes that lost each other together do not dial together.
        let pause = if was_up {
            Duration::ZERO
        } else {
            let (least, most) = (DIAL_BACKOFF_MIN.as_nanos() as u64 / 2, peer.backoff.as_nanos() as u64);
            peer.backoff = (peer.backoff * 2).min(DIAL_BACKOFF_MAX);
            Duration::from_nanos(self.rng.between(least, most))
        };
        peer.state = State::Down { retry_at: now + pause };
        peer.writes_watched = false;
        if was_up { PeerEvent::Down } else { PeerEvent::Nothing }
    }

    /// Queues a frame; a frame for a node without a working link, or on a full one, is dropped: Raft repeats itself
    /// and inbox rows are sent again until they are stored.
    pub(crate) fn send(&mut self, node: NodeId, frame: &PeerFrame) -> bool {
        let Some(Peer { state: State::Up { link, .. }, .. }) = self.peers.get_mut(&node) else {
            return false;
        };
        link.queue(|out| frame.encode(out)).is_ok()
    }

    /// Writes what was queued in this turn. Returns the nodes whose links broke.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        poller: &Poller,
        token: impl Fn(NodeId) -> u64,
    ) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = self.up();
        let mut broken = Vec::new();
        for node in nodes {
            let Some(Peer { state: State::Up { link, life }, address, .. }) = self.peers.get_mut(&node)
            else {
                continue;
            };
            if link.outgoing_len() == 0 {
                continue;
            }
            if let Err(error) = write(link, Some(life), now) {
                lost(node, *address, &error);
                self.down(now, node);
                broken.push(node);
            } else {
                self.watch(node, poller, token(node));
            }
        }
        broken
    }

    fn watch(&mut self, node: NodeId, poller: &Poller, token: u64) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let (State::Dialling { link, .. } | State::Up { link, .. }) = &peer.state else { return };
        let wants = link.wants_write();
        if wants != peer.writes_watched {
            match poller.modify(link, token, link.interest()) {
                Ok(()) => peer.writes_watched = wants,
                Err(error) => tracing::error!(%node, %error, "cannot watch a link"),
            }
        }
    }
}

/// Sends what waits. A kernel that had no room and has some again was answered by the other side: behind a long queue
/// an answer to a ping may be late without anything being wrong.
fn write(link: &mut FrameLink, life: Option<&mut Life>, now: Instant) -> Result<(), LinkError> {
    let (was_full, before) = (link.wants_write(), link.outgoing_len());
    link.flush()?;
    if let Some(life) = life
        && was_full
        && link.outgoing_len() < before
    {
        life.hear(now);
    }
    Ok(())
}

/// A machine that answers that nobody listens there: the process has ended.
fn absent(kind: ErrorKind) -> PeerEvent {
    match kind {
        ErrorKind::ConnectionRefused => PeerEvent::Silent(Duration::MAX),
        _ => PeerEvent::Nothing,
    }
}

/// A certificate that is refused is refused again at every dial until somebody acts; a broken link mends itself.
fn lost(node: NodeId, address: SocketAddr, error: &LinkError) {
    let reason = error.chain();
    match error {
        LinkError::Tls(_) | LinkError::UnexpectedTls => {
            tracing::warn!(%node, %address, %reason, "no secure link")
        }
        LinkError::Closed | LinkError::Io(_) | LinkError::Frame(_) => {
            tracing::info!(%node, %address, %reason, "link lost");
        }
    }
}
