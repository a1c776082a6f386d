//! Connections to the peer port: other nodes, and gateways of other processes.

use std::net::{SocketAddr, TcpListener};

use throng_base::{Instant, Key, Slab};
use throng_runtime::{Accepted, FrameLink, Interest, ListenOptions, Poller, accept, listen};
use throng_wire::link::{GatewayId, ToGateway, ToRouter};
use throng_wire::peer::{PeerFrame, PeerHello, PeerRefused, PeerRole, RaftBatch, RouterMessage};
use throng_wire::{Code, NodeId};

use crate::limits::{HELLO_TIMEOUT, INBOUND_MAX, LINK_LIMITS};

enum Who {
    Unknown { deadline: Instant },
    Node(NodeId),
    Gateway(GatewayId),
}

struct Connection {
    link: FrameLink,
    who: Who,
    writes_watched: bool,
}

/// What a connection brought.
pub(crate) enum Arrived {
    Raft(NodeId, RaftBatch),
    Router(NodeId, RouterMessage),
    GatewayUp(GatewayId, Key),
    Gateway(GatewayId, Key, Vec<ToRouter>),
    GatewayDown(GatewayId, Key),
}

/// The accepted connections.
pub(crate) struct Inbound {
    listener: TcpListener,
    hello: PeerHello,
    connections: Slab<Connection>,
}

impl Inbound {
    pub(crate) fn new(address: SocketAddr, hello: PeerHello) -> std::io::Result<Self> {
        let listener = listen(address, ListenOptions::default())?;
        Ok(Self { listener, hello, connections: Slab::new(INBOUND_MAX) })
    }

    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Takes what waits on the listener, at most a few per turn.
    pub(crate) fn accept(&mut self, now: Instant, poller: &Poller, token: impl Fn(Key) -> u64) {
        for _ in 0..64 {
            match accept(&self.listener) {
                Ok(Accepted::Connection(stream, address)) => {
                    let link = FrameLink::new(stream, LINK_LIMITS);
                    let who = Who::Unknown { deadline: now + HELLO_TIMEOUT };
                    let Ok(key) = self.connections.insert(Connection { link, who, writes_watched: false })
                    else {
                        tracing::warn!(%address, "peer connection refused: {INBOUND_MAX} are open");
                        continue;
                    };
                    let registered = self
                        .connections
                        .get(key)
                        .is_some_and(|c| poller.register(&c.link, token(key), Interest::Read).is_ok());
                    if !registered {
                        self.connections.remove(key);
                    }
                }
                Ok(Accepted::Blocked | Accepted::Exhausted) => return,
                Err(error) => {
                    tracing::error!(%error, "peer listener");
                    return;
                }
            }
        }
    }

    /// Drops connections that did not say who they are.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let late: Vec<Key> = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(c.who, Who::Unknown { deadline } if deadline <= now))
            .map(|(key, _)| key)
            .collect();
        for key in late {
            self.connections.remove(key);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.connections
            .iter()
            .filter_map(|(_, c)| match c.who {
                Who::Unknown { deadline } => Some(deadline),
                _ => None,
            })
            .min()
    }

    /// Reads a connection and hands on what it brought; a broken or misbehaving one is closed.
    pub(crate) fn handle_ready(&mut self, key: Key, poller: &Poller, token: u64, arrived: &mut Vec<Arrived>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut frames = Vec::new();
        let mut malformed = None;
        let read = connection.link.read(|payload| match PeerFrame::decode(payload) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => {}
            Err(error) => malformed = Some(error),
        });
        let mut keep = malformed.is_none();
        for frame in frames {
            keep = keep && self.handle_frame(key, frame, arrived);
        }
        if let Some(error) = malformed {
            tracing::warn!(?error, "malformed peer frame, closing the link");
        }
        let flushed = self.connections.get_mut(key).is_some_and(|c| c.link.flush().is_ok());
        if !keep || read.is_err() || !flushed {
            self.close(key, arrived);
        } else {
            self.watch(key, poller, token);
        }
    }

    fn handle_frame(&mut self, key: Key, frame: PeerFrame, arrived: &mut Vec<Arrived>) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        match (&connection.who, frame) {
            (Who::Node(_) | Who::Gateway(_), PeerFrame::Ping(nonce)) => {
                connection.link.queue(|out| PeerFrame::Pong(nonce).encode(out)).is_ok()
            }
            (Who::Unknown { .. }, PeerFrame::Hello(hello)) => self.handle_hello(key, &hello, arrived),
            (Who::Node(node), PeerFrame::Raft(batch)) => {
                arrived.push(Arrived::Raft(*node, batch));
                true
            }
            (Who::Node(node), PeerFrame::Router(message)) => {
                arrived.push(Arrived::Router(*node, message));
                true
            }
            (Who::Gateway(gateway), PeerFrame::ToRouter(messages)) => {
                arrived.push(Arrived::Gateway(*gateway, key, messages));
                true
            }
            _ => false,
        }
    }

    fn handle_hello(&mut self, key: Key, hello: &PeerHello, arrived: &mut Vec<Arrived>) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if let Some(reason) = refusal(&self.hello, hello) {
            tracing::warn!(%reason, name = %hello.node_name, "peer refused");
            let refused = PeerFrame::Refused(PeerRefused { code: Code::CONFLICT, reason });
            // Best effort: the connection is closed right after.
            let _ = connection.link.queue(|out| refused.encode(out));
            let _ = connection.link.flush();
            return false;
        }
        let answer = PeerFrame::HelloAck(self.hello.clone());
        if connection.link.queue(|out| answer.encode(out)).is_err() {
            return false;
        }
        match hello.role {
            PeerRole::Node(node) => connection.who = Who::Node(node),
            PeerRole::Gateway(gateway) => {
                connection.who = Who::Gateway(gateway);
                arrived.push(Arrived::GatewayUp(gateway, key));
            }
        }
        true
    }

    /// Queues a batch for a remote gateway; `false` if it takes no more.
    pub(crate) fn send(&mut self, key: Key, batch: Vec<ToGateway>) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        connection.link.queue(|out| PeerFrame::ToGateway(batch).encode(out)).is_ok()
    }

    /// Bytes that wait on the link of a remote gateway.
    pub(crate) fn queued_bytes(&self, key: Key) -> usize {
        self.connections.get(key).map_or(0, |c| c.link.outgoing_len())
    }

    /// Writes what was queued on a connection.
    pub(crate) fn flush(&mut self, key: Key, poller: &Poller, token: u64, arrived: &mut Vec<Arrived>) {
        match self.connections.get_mut(key).map(|c| c.link.flush()) {
            Some(Ok(())) => self.watch(key, poller, token),
            Some(Err(_)) => self.close(key, arrived),
            None => {}
        }
    }

    /// Closes a connection; its gateway, if any, is reported as gone.
    pub(crate) fn close(&mut self, key: Key, arrived: &mut Vec<Arrived>) {
        if let Some(Connection { who: Who::Gateway(gateway), .. }) = self.connections.remove(key) {
            arrived.push(Arrived::GatewayDown(gateway, key));
        }
    }

    fn watch(&mut self, key: Key, poller: &Poller, token: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let wants = connection.link.wants_write();
        if wants != connection.writes_watched
            && poller.modify(&connection.link, token, connection.link.interest()).is_ok()
        {
            connection.writes_watched = wants;
        }
    }
}

/// Why a peer is refused: a node of another cluster, format or protocol. A gateway brings no data, so it may leave
/// the cluster id open and learn it from the answer.
fn refusal(own: &PeerHello, peer: &PeerHello) -> Option<String> {
    let open = matches!(peer.role, PeerRole::Gateway(_)) && peer.cluster == [0; 16];
    if peer.protocol != own.protocol {
        return Some(format!("peer protocol {} is not {}", peer.protocol, own.protocol));
    }
    if peer.cluster != own.cluster && !open {
        return Some("another cluster: the cluster ids differ".into());
    }
    if peer.shards != own.shards && !open {
        return Some(format!("formatted with {} shards, this cluster has {}", peer.shards, own.shards));
    }
    if peer.role == own.role {
        return Some("two nodes with the same number".into());
    }
    None
}
