//! Links of one loop to all router nodes. Waits inside its own poller, so that an epoll loop and a tokio task can both
//! wait for it as for one descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use throng_base::{Full, Instant, Rng};
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
    links: Vec<NodeLink>,
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
        let links = config.nodes.into_iter().enumerate();
        Ok(Self {
            poller: Poller::new()?,
            links: links
                .map(|(at, (node, address))| NodeLink::new(at as u64, node, address, config.tls.clone(), now))
                .collect(),
            hello,
            rng: Rng::new(seed),
            events: Vec::new(),
            drained: true,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Reads what is there, makes links that are due, ends those that are silent.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<LoopInput> {
        let mut inputs = Vec::new();
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
                let link = self.links.get_mut(event.token as usize).expect("tokens are places in the list");
                link.handle_event(event, now, &self.hello, &self.poller, &mut self.rng, &mut inputs);
            }
        }
        // After reading: what lay in a socket while this loop was busy is no silence.
        for link in &mut self.links {
            link.handle_timeout(now, &self.poller, &mut self.rng, &mut inputs);
        }
        inputs
    }

    /// Queues messages for a node; on a link that is not up they are void (the machine knows).
    pub(super) fn send(&mut self, node: NodeId, messages: Vec<ToRouter>) -> Result<(), Full<Vec<ToRouter>>> {
        match self.links.iter_mut().find(|link| link.node() == node) {
            Some(link) => link.send(messages),
            None => Ok(()),
        }
    }

    /// Sends what was queued. A failure shows as an event in the next turn.
    pub(super) fn flush(&mut self, now: Instant) {
        for link in &mut self.links {
            link.flush(now, &self.poller);
        }
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.drained {
            return Some(now);
        }
        self.links.iter().map(NodeLink::poll_timeout).min()
    }
}
