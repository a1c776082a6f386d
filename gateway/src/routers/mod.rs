//! The way from a loop to routers, in this process or elsewhere; the rest of the loop sees no difference.
//!
//! Policy when a router takes nothing more: messages wait in order, the loop tries again every millisecond, and above
//! [`CONGESTED_MESSAGES`] it stops reading its sessions. Nothing is dropped: every request owes an answer.

mod link;
mod remote;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use throng_base::{Full, Instant};
use throng_wire::NodeId;
use throng_wire::link::{GatewayId, ToRouter};

use crate::config::Routers;
use crate::handle::LoopInput;
use crate::limits::{CONGESTED_MESSAGES, CONGESTED_RETRY};
use remote::RemoteLinks;

pub(crate) struct RouterPort {
    /// The way to routers in this process: to one node, or to all if no node is named.
    local: Option<(Option<NodeId>, Box<dyn crate::RouterSink>)>,
    /// The way to all others.
    links: Option<RemoteLinks>,
    /// What has not been passed on yet, in order. No entry is empty.
    waiting: BTreeMap<NodeId, Vec<ToRouter>>,
}

impl RouterPort {
    pub(crate) fn new(routers: Routers, id: GatewayId, seed: u64, now: Instant) -> io::Result<Self> {
        let (local, remote) = match routers {
            Routers::InProcess(sink) => (Some((None, sink)), None),
            Routers::Remote(config) => (None, Some(config)),
            Routers::Both { node, local, remote } => (Some((Some(node), local)), Some(remote)),
        };
        let links = remote.map(|config| RemoteLinks::new(config, id, seed, now)).transpose()?;
        Ok(Self { local, links, waiting: BTreeMap::new() })
    }

    /// Readable when [`RouterPort::turn`] has something to do; `None` without links.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.links.as_ref().map(RemoteLinks::as_fd)
    }

    /// What the links bring.
    pub(crate) fn turn(&mut self, now: Instant) -> Vec<LoopInput> {
        self.links.as_mut().map(|links| links.turn(now)).unwrap_or_default()
    }

    /// Whether the last [`RouterPort::turn`] left nothing behind (then, and only then, edge-triggered waiting is safe).
    pub(crate) fn is_drained(&self) -> bool {
        self.links.as_ref().is_none_or(RemoteLinks::is_drained)
    }

    /// Takes a message for a node.
    pub(crate) fn push(&mut self, node: NodeId, message: ToRouter) {
        self.waiting.entry(node).or_default().push(message);
    }

    /// A node is down: what waits for it is void, the machine knows what it asked.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.waiting.remove(&node);
    }

    /// A node says which nodes there are.
    pub(crate) fn told(&mut self, now: Instant, by: NodeId, nodes: Vec<(NodeId, SocketAddr)>) {
        let local = self.local.as_ref().and_then(|(local, _)| *local);
        if let Some(links) = &mut self.links {
            links.told(now, by, nodes, local);
        }
    }

    /// Passes on what waits, as far as it is taken.
    pub(crate) fn flush(&mut self, now: Instant) {
        let (local, links) = (&mut self.local, &mut self.links);
        self.waiting.retain(|&node, messages| {
            let batch = std::mem::take(messages);
            let outcome = match (local.as_mut(), links.as_mut()) {
                (Some((local, sink)), _) if local.is_none_or(|local| local == node) => sink.send(node, batch),
                (_, Some(links)) => links.send(node, batch),
                // A node that nobody told us of: the machine is told nothing either, its requests time out.
                (_, None) => Ok(()),
            };
            if let Err(Full(batch)) = outcome {
                *messages = batch;
            }
            !messages.is_empty()
        });
        if let Some(links) = links {
            links.flush(now);
        }
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.waiting.values().map(Vec::len).sum::<usize>() > CONGESTED_MESSAGES
    }

    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let retry = (!self.waiting.is_empty()).then(|| now + CONGESTED_RETRY);
        let links = self.links.as_ref().and_then(|links| links.poll_timeout(now));
        [retry, links].into_iter().flatten().min()
    }
}
