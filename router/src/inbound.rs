//! Connections to the peer port: other nodes, and gateways of other processes.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use throng_base::{Instant, Key, Slab};
use throng_router_core::meta::{MetaCommand, read_entry};
use throng_runtime::tls::{PeerKind, PeerName, PeerTls};
use throng_runtime::{
    Accepted, FrameLink, Interest, LinkError, ListenOptions, Poller, Stream, accept, listen,
};
use throng_wire::link::{GatewayId, ToGateway, ToRouter};
use throng_wire::peer::{
    PeerFrame, PeerHello, PeerRefused, PeerRole, RaftBatch, RouterMessage, SnapshotMessage,
};
use throng_wire::{Code, NodeId};

use crate::limits::{HELLO_TIMEOUT, INBOUND_MAX, INBOUND_SILENCE_MAX, LINK_LIMITS, STRANGERS_MAX};

enum Who {
    Unknown {
        deadline: Instant,
    },
    Node(NodeId),
    Gateway(GatewayId),
    /// A node that has no number yet, or none that is known here.
    Joining,
}

struct Connection {
    link: FrameLink,
    address: SocketAddr,
    who: Who,
    /// When something last arrived.
    heard: Instant,
    writes_watched: bool,
}

impl Connection {
    /// When it is given up if nothing arrives.
    fn deadline(&self) -> Instant {
        match self.who {
            Who::Unknown { deadline } => deadline,
            Who::Node(_) | Who::Gateway(_) | Who::Joining => self.heard + INBOUND_SILENCE_MAX,
        }
    }
}

/// What a connection brought.
pub(crate) enum Arrived {
    NodeUp(NodeId),
    Raft(NodeId, RaftBatch),
    Router(NodeId, RouterMessage),
    Snapshot(NodeId, SnapshotMessage),
    GatewayUp(GatewayId, Key),
    Gateway(GatewayId, Key, Vec<ToRouter>),
    GatewayDown(GatewayId, Key),
    /// A node wants to join: its ticket and its command, checked against its certificate.
    Join(Key, u64, MetaCommand),
}

/// The accepted connections.
pub(crate) struct Inbound {
    listener: TcpListener,
    hello: PeerHello,
    /// Our credentials; without them links are in the clear.
    tls: Option<PeerTls>,
    /// The membership table: numbers of the other nodes.
    nodes: BTreeSet<NodeId>,
    connections: Slab<Connection>,
}

impl Inbound {
    pub(crate) fn new(
        address: SocketAddr,
        hello: PeerHello,
        tls: Option<PeerTls>,
        nodes: BTreeSet<NodeId>,
    ) -> std::io::Result<Self> {
        let listener = listen(address, ListenOptions::default())?;
        Ok(Self { listener, hello, tls, nodes, connections: Slab::new(INBOUND_MAX) })
    }

    /// The membership table, without this node. Links of nodes that are gone are closed.
    pub(crate) fn set_nodes(&mut self, nodes: BTreeSet<NodeId>) {
        self.nodes = nodes;
        let gone = self.connections.iter().filter(|(_, c)| match c.who {
            Who::Node(node) => !self.nodes.contains(&node),
            Who::Unknown { .. } | Who::Gateway(_) | Who::Joining => false,
        });
        let gone: Vec<Key> = gone.map(|(key, _)| key).collect();
        gone.into_iter().for_each(|key| drop(self.connections.remove(key)));
    }

    /// Answers a node that wants to join: who is there, and what came of it.
    pub(crate) fn answer_join(
        &mut self,
        key: Key,
        nodes: Vec<(NodeId, SocketAddr)>,
        ticket: u64,
        answer: Bytes,
        poller: &Poller,
        token: u64,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let nodes = PeerFrame::ToGateway(vec![ToGateway::Nodes { nodes }]);
        let answer = PeerFrame::Router(RouterMessage::MetaAnswer { ticket, answer });
        // A joining node that takes nothing asks again.
        let _ = connection.link.queue(|out| nodes.encode(out));
        let _ = connection.link.queue(|out| answer.encode(out));
        self.flush(key, poller, token, &mut Vec::new());
    }

    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Takes what waits on the listener, at most a few per turn.
    pub(crate) fn accept(&mut self, now: Instant, poller: &Poller, token: impl Fn(Key) -> u64) {
        for _ in 0..64 {
            match accept(&self.listener) {
                Ok(Accepted::Connection(stream, address)) => {
                    self.make_room_for_stranger();
                    self.greet(now, stream, address, poller, &token);
                }
                Ok(Accepted::Blocked | Accepted::Exhausted) => return,
                Err(error) => {
                    tracing::error!(%error, "peer listener");
                    return;
                }
            }
        }
    }

    fn greet(
        &mut self,
        now: Instant,
        stream: Stream,
        address: SocketAddr,
        poller: &Poller,
        token: impl Fn(Key) -> u64,
    ) {
        let session = match self.tls.as_ref().map(PeerTls::accept).transpose() {
            Ok(session) => session,
            Err(error) => return tracing::error!(%error, "no TLS session for a peer"),
        };
        let link = FrameLink::new(stream, session, LINK_LIMITS);
        let who = Who::Unknown { deadline: now + HELLO_TIMEOUT };
        let Ok(key) =
            self.connections.insert(Connection { link, address, who, heard: now, writes_watched: false })
        else {
            return tracing::warn!(%address, "peer connection refused: {INBOUND_MAX} are open");
        };
        let connection = self.connections.get(key).expect("inserted just now");
        if poller.register(&connection.link, token(key), Interest::Read).is_err() {
            self.connections.remove(key);
        }
    }

    /// Whoever has not said who it is costs a handshake and a place. So that a flood of strangers takes neither from
    /// members, there are only so many, and the one that waits longest gives way.
    fn make_room_for_stranger(&mut self) {
        let strangers = self.connections.iter().filter_map(|(key, c)| match c.who {
            Who::Unknown { deadline } => Some((deadline, key)),
            Who::Node(_) | Who::Gateway(_) | Who::Joining => None,
        });
        let (count, oldest) =
            strangers.fold((0, None), |(count, oldest): (usize, Option<(Instant, Key)>), one| {
                (count + 1, Some(oldest.map_or(one, |oldest| if one.0 < oldest.0 { one } else { oldest })))
            });
        if let Some((_, key)) = oldest.filter(|_| count >= STRANGERS_MAX) {
            self.connections.remove(key);
        }
    }

    /// Drops connections that did not say who they are, and those on which nothing arrives any more.
    pub(crate) fn handle_timeout(&mut self, now: Instant, arrived: &mut Vec<Arrived>) {
        let late = self.connections.iter().filter(|(_, c)| c.deadline() <= now);
        for key in late.map(|(key, _)| key).collect::<Vec<_>>() {
            self.close(key, arrived);
        }
    }

    /// This loop stood still for `pause`: what was not read meanwhile is not the others' silence.
    pub(crate) fn forgive(&mut self, pause: Duration) {
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.heard += pause;
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.connections.iter().map(|(_, c)| c.deadline()).min()
    }

    /// Reads a connection and hands on what it brought; a broken or misbehaving one is closed.
    pub(crate) fn handle_ready(
        &mut self,
        now: Instant,
        key: Key,
        poller: &Poller,
        token: u64,
        arrived: &mut Vec<Arrived>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.heard = now;
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
        if let (Err(error), Some(c)) = (&read, self.connections.get(key)) {
            tell_refusal(error, c.address);
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
            (Who::Joining, PeerFrame::Router(RouterMessage::Meta { ticket, command })) => {
                match join_of(&command, connection.link.peer_name()) {
                    Ok(command) => arrived.push(Arrived::Join(key, ticket, command)),
                    Err(reason) => {
                        tracing::warn!(address = %connection.address, reason, "a node may not join");
                        return false;
                    }
                }
                true
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
            (Who::Node(node), PeerFrame::Snapshot(message)) => {
                arrived.push(Arrived::Snapshot(*node, message));
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
        let name = connection.link.peer_name();
        let refused = refusal(&self.hello, hello)
            .or_else(|| stranger(&self.nodes, hello.role))
            .or_else(|| name.and_then(|name| impostor(name, &self.hello, hello.role)));
        if let Some(reason) = refused {
            let address = connection.address;
            tracing::warn!(%address, %reason, name = %hello.node_name, "peer refused");
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
            PeerRole::Node(NodeId(0)) => connection.who = Who::Joining,
            PeerRole::Node(node) => {
                connection.who = Who::Node(node);
                arrived.push(Arrived::NodeUp(node));
            }
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

/// Why a peer is refused: a node of another cluster, format or protocol. A gateway, and a node without a number, bring
/// no data, so they may leave the cluster id open and learn it from the answer.
fn refusal(own: &PeerHello, peer: &PeerHello) -> Option<String> {
    let brings_nothing = matches!(peer.role, PeerRole::Gateway(_) | PeerRole::Node(NodeId(0)));
    let open = brings_nothing && peer.cluster == [0; 16];
    if peer.protocol != own.protocol {
        return Some(format!("peer protocol {} is not {}", peer.protocol, own.protocol));
    }
    if peer.cluster != own.cluster && !open {
        return Some("another cluster: the cluster ids differ".into());
    }
    if peer.shards != own.shards && !open {
        return Some(format!("formatted with {} shards, this cluster has {}", peer.shards, own.shards));
    }
    if peer.epoch != own.epoch && !open {
        return Some(format!(
            "history epoch {}, this cluster is in {}: one of them was restored from a backup",
            peer.epoch, own.epoch
        ));
    }
    if peer.role == own.role {
        return Some("two nodes with the same number".into());
    }
    None
}

/// Why a node is refused that the membership table does not list.
fn stranger(nodes: &BTreeSet<NodeId>, role: PeerRole) -> Option<String> {
    match role {
        PeerRole::Node(node) if node.0 > 0 && !nodes.contains(&node) => {
            Some(format!("node {node} is no member here"))
        }
        PeerRole::Node(_) | PeerRole::Gateway(_) => None,
    }
}

/// Why a hello does not fit the certificate it came under. A node's gateway loops link under the node's certificate; a
/// gateway's certificate is good for nothing else.
fn impostor(name: PeerName, own: &PeerHello, role: PeerRole) -> Option<String> {
    if name.cluster != own.cluster {
        return Some("its certificate is of another cluster".into());
    }
    match (name.kind, role) {
        // Which number it may have is looked at when it asks for one.
        (PeerKind::Node(_), PeerRole::Node(NodeId(0))) => None,
        (PeerKind::Node(certified), PeerRole::Node(node)) if certified != node => {
            Some(format!("it says that it is node {node}, its certificate is of node {certified}"))
        }
        (PeerKind::Gateway, PeerRole::Node(node)) => {
            Some(format!("it says that it is node {node}, its certificate is of a gateway"))
        }
        (PeerKind::Node(_), PeerRole::Node(_)) | (_, PeerRole::Gateway(_)) => None,
    }
}

/// The command of a node that wants to join: nothing but that, and under the number of its certificate if it has one.
fn join_of(command: &[u8], name: Option<PeerName>) -> Result<MetaCommand, &'static str> {
    let (_, commands) = read_entry(command).map_err(|_| "malformed command")?;
    let [MetaCommand::Register { number, node }] = &commands[..] else {
        return Err("a node without a number asks for one and for nothing else");
    };
    let number = match name.map(|name| name.kind) {
        None => *number,
        Some(PeerKind::Node(certified)) if number.is_none_or(|number| number == certified) => Some(certified),
        Some(PeerKind::Node(_)) => return Err("it asks for another number than its certificate has"),
        Some(PeerKind::Gateway) => return Err("its certificate is of a gateway"),
    };
    Ok(MetaCommand::Register { number, node: node.clone() })
}

/// A link that just ends is nothing to tell; one that is refused is.
fn tell_refusal(error: &LinkError, address: SocketAddr) {
    match error {
        LinkError::Tls(_) | LinkError::UnexpectedTls | LinkError::Frame(_) => {
            tracing::warn!(%address, reason = %error.chain(), "peer refused");
        }
        LinkError::Closed | LinkError::Io(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use throng_router_core::meta::{JoinId, Registration, Versions, write_entry};
    use throng_wire::link::GatewayId;
    use throng_wire::{Epoch, ServerTs};

    use super::*;

    #[test]
    fn a_hello_must_fit_the_certificate_it_came_under() {
        let (cluster, other) = ([1; 16], [2; 16]);
        let own = PeerHello {
            protocol: 1,
            role: PeerRole::Node(NodeId(1)),
            cluster,
            shards: 8,
            epoch: Epoch(1),
            node_name: String::new(),
        };
        let [two, three] = [2, 3].map(|number| PeerRole::Node(NodeId(number)));
        let loops = PeerRole::Gateway(GatewayId(7));
        let node = PeerName { cluster, kind: PeerKind::Node(NodeId(2)) };
        let gateway = PeerName { cluster, kind: PeerKind::Gateway };
        let foreign = PeerName { cluster: other, ..node };
        for (name, role, refused) in [
            (node, two, None),
            (node, loops, None),
            (gateway, loops, None),
            (node, three, Some("node 3, its certificate is of node 2")),
            (gateway, two, Some("is of a gateway")),
            (foreign, two, Some("another cluster")),
            (foreign, loops, Some("another cluster")),
        ] {
            let said = impostor(name, &own, role);
            assert_eq!(said.is_some(), refused.is_some(), "{name} as {role:?}");
            assert!(said.unwrap_or_default().contains(refused.unwrap_or_default()), "{name} as {role:?}");
        }
    }

    #[test]
    fn only_members_are_nodes() {
        let table = BTreeSet::from([NodeId(2), NodeId(3)]);
        assert_eq!(stranger(&table, PeerRole::Node(NodeId(2))), None);
        assert!(stranger(&table, PeerRole::Node(NodeId(4))).is_some_and(|said| said.contains("no member")));
        assert_eq!(stranger(&table, PeerRole::Gateway(GatewayId(9))), None);
        assert_eq!(stranger(&table, PeerRole::Node(NodeId(0))), None, "it wants to become one");
    }

    #[test]
    fn a_node_joins_under_the_number_of_its_certificate() {
        let node = Registration {
            join: JoinId([3; 16]),
            peer: ([127, 0, 0, 1], 4401).into(),
            client: None,
            ops: None,
            zone: String::new(),
            certificate: String::new(),
            speaks: Versions { oldest: 1, newest: 1 },
        };
        let asks = |number: Option<u64>| {
            let number = number.map(NodeId);
            write_entry(&[MetaCommand::Register { number, node: node.clone() }], ServerTs(0))
        };
        let got = |number, name: Option<PeerKind>| {
            let name = name.map(|kind| PeerName { cluster: [1; 16], kind });
            join_of(&asks(number), name).map(|command| match command {
                MetaCommand::Register { number, .. } => number.map(|number| number.0),
                other => panic!("{other:?}"),
            })
        };
        let four = Some(PeerKind::Node(NodeId(4)));
        assert_eq!(got(None, None), Ok(None));
        assert_eq!(got(Some(4), None), Ok(Some(4)));
        assert_eq!(got(None, four), Ok(Some(4)));
        assert_eq!(got(Some(4), four), Ok(Some(4)));
        assert!(got(Some(5), four).is_err() && got(None, Some(PeerKind::Gateway)).is_err());
        let leave = write_entry(&[MetaCommand::Balance { replicas: 1 }], ServerTs(0));
        assert!(
            join_of(&leave, None).is_err() && join_of(b"", None).is_err() && join_of(b"x", None).is_err()
        );
    }
}
