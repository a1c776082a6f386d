//! Links of one loop to all router nodes. Waits inside its own poller, so that an epoll loop and a tokio task can both
//! wait for it as for one descriptor.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use throng_base::{Full, Instant, Rng};
use throng_runtime::tls::PeerTls;
use throng_runtime::{Event, Poller};
use throng_wire::NodeId;
use throng_wire::link::{GatewayId, ToRouter};
use throng_wire::peer::{PEER_PROTOCOL, PeerHello, PeerRole};

use super::link::NodeLink;
use crate::config::RemoteRouters;
use crate::handle::LoopInput;
use crate::limits::LINK_ROUNDS_PER_TURN;

pub(super) struct RemoteLinks {
    poller: Poller,
    /// By token.
    links: BTreeMap<u64, NodeLink>,
    next_token: u64,
    /// Which nodes there are, by who says so. One that lags behind knows fewer or older ones, so a link stays as long as
    /// anybody names its node.
    lists: BTreeMap<NodeId, Vec<(NodeId, SocketAddr)>>,
    /// Nodes whose links were given up and whose end is not reported yet.
    given_up: Vec<NodeId>,
    tls: Option<PeerTls>,
    hello: PeerHello,
    rng: Rng,
    events: Vec<Event>,
    drained: bool,
}

impl RemoteLinks {
    pub(super) fn new(config: RemoteRouters, id: GatewayId, seed: u64, now: Instant) -> io::Result<Self> {
        let hello = PeerHello {
            protocol: PEER_PROTOCOL,
            role: PeerRole::Gateway(id),
            cluster: config.cluster,
            shards: config.shards,
            epoch: config.epoch,
            node_name: config.name,
        };
        let mut links = Self {
            poller: Poller::new()?,
            links: BTreeMap::new(),
            next_token: 0,
            lists: BTreeMap::new(),
            given_up: Vec::new(),
            tls: config.tls,
            hello,
            rng: Rng::new(seed),
            events: Vec::new(),
            drained: true,
        };
        config.nodes.into_iter().for_each(|(node, address)| links.add(now, node, address));
        Ok(links)
    }

    fn add(&mut self, now: Instant, node: NodeId, address: SocketAddr) {
        let link = NodeLink::new(self.next_token, node, address, self.tls.clone(), now);
        self.links.insert(self.next_token, link);
        self.next_token += 1;
    }

    /// A node says which nodes there are: links are made to new ones, and given up to those that nobody names any more.
    /// `local` is the node of this process.
    pub(super) fn told(
        &mut self,
        now: Instant,
        by: NodeId,
        nodes: Vec<(NodeId, SocketAddr)>,
        local: Option<NodeId>,
    ) {
        let known: BTreeSet<NodeId> = nodes.iter().map(|(node, _)| *node).collect();
        self.lists.insert(by, nodes.clone());
        self.lists.retain(|node, _| known.contains(node)); // also what gone nodes said
        let named: BTreeSet<NodeId> = self.lists.values().flatten().map(|(node, _)| *node).collect();
        let given_up = self.links.extract_if(.., |_, link| {
            let moved =
                nodes.iter().any(|(node, address)| *node == link.node() && *address != link.address());
            moved || !named.contains(&link.node())
        });
        let given_up = given_up.filter(|(_, link)| link.is_up()).map(|(_, link)| link.node());
        self.given_up.extend(given_up);
        for (node, address) in nodes {
            if Some(node) != local && self.links.values().all(|link| link.node() != node) {
                self.add(now, node, address);
            }
        }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Reads what is there, makes links that are due, ends those that are silent.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<LoopInput> {
        let mut inputs: Vec<LoopInput> = self.given_up.drain(..).map(LoopInput::RouterDown).collect();
        self.drained = false;
        for _ in 0..LINK_ROUNDS_PER_TURN {
            if let Err(error) = self.poller.wait(&mut self.events, Some(Duration::ZERO)) {
                tracing::error!(%error, "the poller of the router links failed");
                break;
            }
            if self.events.is_empty() {
                self.drained = true;
                break;
            }
            for event in &self.events {
                // An event of a link that was given up finds nobody.
                if let Some(link) = self.links.get_mut(&event.token) {
                    link.handle_event(event, now, &self.hello, &self.poller, &mut self.rng, &mut inputs);
                }
            }
        }
        // After reading: what lay in a socket while this loop was busy is no silence.
        for link in self.links.values_mut() {
            link.handle_timeout(now, &self.poller, &mut self.rng, &mut inputs);
        }
        inputs
    }

    /// Queues messages for a node; on a link that is not up they are void (the machine knows).
    pub(super) fn send(&mut self, node: NodeId, messages: Vec<ToRouter>) -> Result<(), Full<Vec<ToRouter>>> {
        match self.links.values_mut().find(|link| link.node() == node) {
            Some(link) => link.send(messages),
            None => Ok(()),
        }
    }

    /// Sends what was queued. A failure shows as an event in the next turn.
    pub(super) fn flush(&mut self, now: Instant) {
        for link in self.links.values_mut() {
            link.flush(now, &self.poller);
        }
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.drained || !self.given_up.is_empty() {
            return Some(now);
        }
        self.links.values().map(NodeLink::poll_timeout).min()
    }
}
