//! Links that this node dials: one to every other node, carrying what it has to say to it. What the other node has to
//! say comes over the link that it dials.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use throng_base::{Instant, Rng};
use throng_runtime::tls::{Expected, PeerTls};
use throng_runtime::{ConnectOptions, FrameLink, Interest, LinkError, Poller, connect};
use throng_wire::NodeId;
use throng_wire::peer::{PeerFrame, PeerHello, PeerRole};

use crate::limits::{DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, HELLO_TIMEOUT, LINK_LIMITS};

/// State of the link to one node.
///
/// ```text
///   Down ── due ──► Dialling ── hello answered ──► Up
///    ▲                 │ error, refusal, timeout    │ error
///    └─────────────────┴────────────────────────────┘
/// ```
enum State {
    Down { retry_at: Instant },
    Dialling { link: FrameLink, deadline: Instant },
    Up { link: FrameLink },
}

struct Peer {
    address: SocketAddr,
    state: State,
    backoff: core::time::Duration,
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
    Down,
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

    /// Nodes with a working link.
    pub(crate) fn up(&self) -> Vec<NodeId> {
        self.peers
            .iter()
            .filter(|(_, peer)| matches!(peer.state, State::Up { .. }))
            .map(|(node, _)| *node)
            .collect()
    }

    /// When a dial or a deadline is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.peers
            .values()
            .filter_map(|peer| match &peer.state {
                State::Down { retry_at } => Some(*retry_at),
                State::Dialling { deadline, .. } => Some(*deadline),
                State::Up { .. } => None,
            })
            .min()
    }

    /// Dials what is due and gives up on dials that take too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, poller: &Poller, token: impl Fn(NodeId) -> u64) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let peer = self.peers.get_mut(&node).expect("listed just now");
            match &peer.state {
                State::Down { retry_at } if *retry_at <= now => self.dial(now, node, poller, token(node)),
                State::Dialling { deadline, .. } if *deadline <= now => {
                    self.down(now, node);
                }
                _ => {}
            }
        }
    }

    fn dial(&mut self, now: Instant, node: NodeId, poller: &Poller, token: u64) {
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
                peer.state = State::Dialling { link, deadline: now + HELLO_TIMEOUT };
                peer.writes_watched = true;
            }
            Err(error) => {
                tracing::debug!(%node, %error, "dial failed");
                self.down(now, node);
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
        let (link, dialling) = match &mut peer.state {
            State::Down { .. } => return PeerEvent::Nothing,
            State::Dialling { link, .. } => (link, true),
            State::Up { link } => (link, false),
        };
        let mut answer = None;
        let read = link.read(|payload| {
            if let Ok(Some(frame)) = PeerFrame::decode(payload) {
                answer.get_or_insert(frame);
            }
        });
        if let Err(error) = read.and_then(|()| link.flush()) {
            lost(node, peer.address, &error);
            return self.down(now, node);
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
                    peer.state = State::Up { link };
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
        // Full jitter, so that nodes that lost each other together do not dial together.
        let pause = core::time::Duration::from_nanos(
            self.rng.between(DIAL_BACKOFF_MIN.as_nanos() as u64 / 2, peer.backoff.as_nanos() as u64),
        );
        peer.backoff = (peer.backoff * 2).min(DIAL_BACKOFF_MAX);
        peer.state = State::Down { retry_at: now + pause };
        peer.writes_watched = false;
        if was_up { PeerEvent::Down } else { PeerEvent::Nothing }
    }

    /// Queues a frame; a frame for a node without a working link, or on a full one, is dropped: Raft repeats itself
    /// and inbox rows are sent again until they are stored.
    pub(crate) fn send(&mut self, node: NodeId, frame: &PeerFrame) -> bool {
        let Some(Peer { state: State::Up { link }, .. }) = self.peers.get_mut(&node) else { return false };
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
            let Some(Peer { state: State::Up { link }, address, .. }) = self.peers.get_mut(&node) else {
                continue;
            };
            if link.outgoing_len() == 0 {
                continue;
            }
            if let Err(error) = link.flush() {
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
        let (State::Dialling { link, .. } | State::Up { link }) = &peer.state else { return };
        let wants = link.wants_write();
        if wants != peer.writes_watched {
            match poller.modify(link, token, link.interest()) {
                Ok(()) => peer.writes_watched = wants,
                Err(error) => tracing::error!(%node, %error, "cannot watch a link"),
            }
        }
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
