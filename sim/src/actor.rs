//! A simulated user with one device: follows its channels from the start and sends unique bodies.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use throng_base::{Instant, Rng};
use throng_client_core::{Client, Config, Endpoint, Login, SavedState};
use throng_wire::{ChannelId, ClientMsgId, RequestId, UserId};

/// One connection of a client.
pub(crate) struct Connection {
    /// Drawn anew for every attempt; events of an earlier one are void.
    pub(crate) id: u64,
    pub(crate) node: usize,
    /// The gateway's key, once it has accepted.
    pub(crate) session: Option<throng_base::Key>,
    pub(crate) to_server: crate::net::Ordered,
    pub(crate) to_client: crate::net::Ordered,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Make the channel of this number.
    Create(usize),
    /// Add the guest of the channel of this number.
    Join(usize),
    /// Remove it.
    Leave(usize),
    /// A range of a channel.
    Read,
}

/// A member of a channel that comes, stays a while and is removed for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) actor: usize,
    pub(crate) stage: Stage,
}

/// Where a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Outside,
    Joining,
    Inside,
    Leaving,
    Gone,
}

pub(crate) struct Actor {
    pub(crate) user: UserId,
    pub(crate) machine: Client,
    pub(crate) connection: Option<Connection>,
    /// Channels it is a member of: number in the scenario, and id.
    pub(crate) channels: Vec<(usize, ChannelId)>,
    /// Bodies by channel and id, until their final answer and beyond (for repeats).
    pub(crate) bodies: BTreeMap<(ChannelId, ClientMsgId), Vec<u8>>,
    pub(crate) sent: u64,
    /// Requests without an answer.
    pub(crate) asked: BTreeMap<RequestId, Asked>,
    /// Reads to make, and made.
    pub(crate) reads: u64,
    pub(crate) timer_at: Option<Instant>,
}

/// Name of user number `n`.
pub(crate) fn user_name(n: usize) -> String {
    format!("user-{n}")
}

impl Actor {
    pub(crate) fn new(n: usize, nodes: usize, websocket: bool, rng: &mut Rng, now: Instant) -> Self {
        let first = rng.below(nodes as u64) as usize;
        let endpoints: Vec<Arc<Endpoint>> = (0..nodes)
            .map(|i| {
                let node = (first + i) % nodes;
                let scheme = if websocket { "ws" } else { "quic" };
                Arc::new(format!("{scheme}://node-{node}:4400").parse().expect("a well-formed endpoint"))
            })
            .collect();
        let login = Login { endpoints: endpoints.into(), token: Bytes::from(user_name(n)) };
        let config = Config {
            // Short enough for virtual seconds, long enough for elections.
            answer_timeout: core::time::Duration::from_secs(2),
            ..Config::default()
        };
        Self {
            user: UserId::of("throng", &user_name(n)),
            machine: Client::new(Arc::new(config), login, SavedState::default(), rng.next_u64(), now),
            connection: None,
            channels: Vec::new(),
            bodies: BTreeMap::new(),
            sent: 0,
            asked: BTreeMap::new(),
            reads: 0,
            timer_at: None,
        }
    }
}

/// The node that an endpoint names.
pub(crate) fn node_of(endpoint: &Endpoint) -> usize {
    endpoint.host.trim_start_matches("node-").parse().expect("endpoints are made by Actor::new")
}
