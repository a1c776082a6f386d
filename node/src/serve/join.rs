//! Asking a running cluster: a gateway of its own, which cluster the routers are of and which node each is; a new node,
//! for a number.
//!
//! ```text
//!   gateway  ── HELLO (gateway) ──► each router      ◄── HELLO_ACK: cluster, shards, epoch, node
//!   node     ── HELLO (node 0) ───► one router       ◄── HELLO_ACK
//!            ── Register ─────────►                  ◄── the nodes there are, the number it got
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use throng_router_core::meta::{
    JoinId, MetaCommand, MetaDone, MetaError, MetaRefused, Registration, read_answer, write_entry,
};
use throng_runtime::tls::{Expected, PeerTls};
use throng_runtime::{ConnectOptions, FrameLink, LinkError, LinkLimits, Poller, connect};
use throng_wire::link::{GatewayId, ToGateway};
use throng_wire::peer::{PEER_PROTOCOL, PeerFrame, PeerHello, PeerRole, RouterMessage};
use throng_wire::{Epoch, NodeId, ServerTs};

use super::{ClusterFacts, random_id, random_u64};
use crate::error::Failure;

const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a cluster that is between leaders is asked again.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(15);

/// Pause between two tries.
const AGAIN: Duration = Duration::from_millis(200);

/// A hello is far below this; the list of all nodes fits.
const LIMITS: LinkLimits = LinkLimits { frame_max: 256 * 1024, outgoing_max: 4096 };

/// Beside the data: what the node drew before it asked for a number, so that asking again gets the same one.
pub(crate) const JOIN_FILE: &str = "JOIN";

/// Asks every address.
///
/// # Errors
/// [`Failure::Runtime`] if one does not answer, or they belong to different clusters.
pub(crate) fn discover(
    addresses: &[SocketAddr],
    tls: Option<&PeerTls>,
) -> Result<(ClusterFacts, Vec<(NodeId, SocketAddr)>), Failure> {
    let mut nodes = Vec::new();
    let mut facts: Option<ClusterFacts> = None;
    for &address in addresses {
        let role = PeerRole::Gateway(GatewayId(random_u64()?));
        let hello = Asking::begin(address, tls)?.greet(role, "a gateway that wants to join")?;
        let (node, found) = facts_of(address, &hello)?;
        let known = facts.get_or_insert(found.clone());
        if (known.id, known.shards, known.epoch) != (found.id, found.shards, found.epoch) {
            return Err(Failure::Runtime(format!(
                "{address} belongs to another cluster than {}",
                addresses[0]
            )));
        }
        nodes.push((node, address));
    }
    let facts = facts.ok_or_else(|| Failure::Config("--join names no router".into()))?;
    Ok((facts, nodes))
}

fn facts_of(address: SocketAddr, hello: &PeerHello) -> Result<(NodeId, ClusterFacts), Failure> {
    let PeerRole::Node(node) = hello.role else {
        return Err(Failure::Runtime(format!("{address} is a gateway, not a router")));
    };
    Ok((node, ClusterFacts { id: hello.cluster, shards: hello.shards, epoch: hello.epoch }))
}

/// What a node that joins was told.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    /// Its number.
    pub(crate) node: NodeId,
    /// The cluster.
    pub(crate) facts: ClusterFacts,
    /// The other nodes.
    pub(crate) peers: Vec<(NodeId, SocketAddr)>,
}

/// Asks for a number at the first address that answers; the same node gets the same number again.
///
/// # Errors
/// [`Failure::Runtime`]: nobody answers, or the cluster refuses.
pub(crate) fn enroll(
    addresses: &[SocketAddr],
    tls: Option<&PeerTls>,
    number: Option<NodeId>,
    node: &Registration,
) -> Result<Enrolled, Failure> {
    let deadline = Instant::now() + UNAVAILABLE_MAX;
    let mut why = Failure::Config("--join names no router".into());
    loop {
        for &address in addresses {
            match enroll_at(address, tls, number, node) {
                Ok(Ok(enrolled)) => return Ok(enrolled),
                // One that has just begun is founded within moments.
                Ok(Err(error @ MetaError::Refused(MetaRefused::Founding))) => {
                    why = Failure::Runtime(format!("{address} refused: {error}"));
                }
                Ok(Err(MetaError::Refused(refused))) => {
                    return Err(Failure::Runtime(format!("{address} refused: {refused}")));
                }
                Ok(Err(error @ MetaError::Unavailable)) => {
                    why = Failure::Runtime(format!("{address}: {error}"))
                }
                Err(failure) => why = failure,
            }
        }
        if Instant::now() >= deadline {
            return Err(why);
        }
        std::thread::sleep(AGAIN);
    }
}

fn enroll_at(
    address: SocketAddr,
    tls: Option<&PeerTls>,
    number: Option<NodeId>,
    node: &Registration,
) -> Result<Result<Enrolled, MetaError>, Failure> {
    const TICKET: u64 = 1;
    let mut asking = Asking::begin(address, tls)?;
    let hello = asking.greet(PeerRole::Node(NodeId(0)), "a node that wants to join")?;
    let (asked, facts) = facts_of(address, &hello)?;
    let command = MetaCommand::Register { number, node: node.clone() };
    let command = write_entry(&[command], ServerTs(0));
    asking.say(&PeerFrame::Router(RouterMessage::Meta { ticket: TICKET, command }));
    let mut peers = Vec::new();
    loop {
        match asking.hear()? {
            PeerFrame::ToGateway(messages) => {
                for message in messages {
                    if let ToGateway::Nodes { nodes } = message {
                        peers = nodes;
                    }
                }
            }
            PeerFrame::Router(RouterMessage::MetaAnswer { ticket: TICKET, answer }) => {
                return match read_answer(&answer) {
                    Some(Ok(MetaDone::Registered(node))) => {
                        peers.retain(|(other, _)| *other != node);
                        if peers.iter().all(|(other, _)| *other != asked) {
                            peers.push((asked, address));
                        }
                        Ok(Ok(Enrolled { node, facts, peers }))
                    }
                    Some(Err(error)) => Ok(Err(error)),
                    Some(Ok(_)) | None => {
                        Err(Failure::Runtime(format!("{address} gave an answer that is none to a join")))
                    }
                };
            }
            _ => {}
        }
    }
}

/// What this node draws once, kept beside its data.
///
/// # Errors
/// [`Failure::Runtime`] if the file cannot be read or written.
pub(crate) fn join_id(data_dir: &Path) -> Result<JoinId, Failure> {
    let path = data_dir.join(JOIN_FILE);
    let failed = |e: std::io::Error| Failure::runtime(format!("cannot use {}", path.display()), e);
    match std::fs::read_to_string(&path) {
        Ok(text) => crate::config::cluster_id(text.trim())
            .map(JoinId)
            .map_err(|_| Failure::Runtime(format!("{} is damaged; remove it to join anew", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = random_id()?;
            std::fs::create_dir_all(data_dir).map_err(failed)?;
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, format!("{}\n", throng_wire::ChannelId(id))).map_err(failed)?;
            std::fs::rename(&temporary, &path).map_err(failed)?;
            Ok(JoinId(id))
        }
        Err(error) => Err(failed(error)),
    }
}

/// A link over which one thing is asked, waiting for every answer.
struct Asking {
    address: SocketAddr,
    link: FrameLink,
    poller: Poller,
    heard: std::collections::VecDeque<PeerFrame>,
    deadline: Instant,
}

impl Asking {
    fn begin(address: SocketAddr, tls: Option<&PeerTls>) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::runtime(format!("no router answers at {address}"), e);
        let session = tls.map(|tls| tls.dial(Expected::AnyNode)).transpose();
        let session = session.map_err(|e| failed(std::io::Error::other(e)))?;
        let stream = connect(address, ConnectOptions::default()).map_err(failed)?;
        let link = FrameLink::new(stream, session, LIMITS);
        let poller = Poller::new().map_err(failed)?;
        // For writing at first: that is how a connect says its outcome.
        poller.register(&link, 0, throng_runtime::Interest::Both).map_err(failed)?;
        let deadline = Instant::now() + TIMEOUT;
        Ok(Self { address, link, poller, heard: std::collections::VecDeque::new(), deadline })
    }

    fn say(&mut self, frame: &PeerFrame) {
        self.link.queue(|out| frame.encode(out)).expect("a new link has room");
    }

    /// Says who asks, and hears who answers.
    fn greet(&mut self, role: PeerRole, name: &str) -> Result<PeerHello, Failure> {
        self.say(&PeerFrame::Hello(PeerHello {
            protocol: PEER_PROTOCOL,
            role,
            cluster: [0; 16],
            shards: 0,
            epoch: Epoch(0),
            node_name: name.into(),
        }));
        match self.hear()? {
            PeerFrame::HelloAck(hello) => Ok(hello),
            PeerFrame::Refused(refused) => {
                Err(Failure::Runtime(format!("{} refused: {}", self.address, refused.reason)))
            }
            _ => Err(Failure::Runtime(format!("{} answered something else than a hello", self.address))),
        }
    }

    /// The next frame.
    fn hear(&mut self) -> Result<PeerFrame, Failure> {
        self.wait().map_err(|error| {
            let (address, reason) = (self.address, error.chain());
            match error {
                LinkError::Frame(_) | LinkError::Tls(_) | LinkError::UnexpectedTls => {
                    Failure::Runtime(format!("{address} does not speak the peer protocol with us: {reason}"))
                }
                LinkError::Closed | LinkError::Io(_) => {
                    Failure::runtime(format!("no router answers at {address}"), reason)
                }
            }
        })
    }

    fn wait(&mut self) -> Result<PeerFrame, LinkError> {
        let mut events = Vec::new();
        loop {
            if let Some(frame) = self.heard.pop_front() {
                return Ok(frame);
            }
            self.link.flush()?;
            self.poller.modify(&self.link, 0, self.link.interest()).map_err(LinkError::Io)?;
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::Io(std::io::ErrorKind::TimedOut.into()));
            }
            self.poller.wait(&mut events, Some(left)).map_err(LinkError::Io)?;
            if events.is_empty() {
                continue;
            }
            self.link.stream().connected().map_err(LinkError::Io)?;
            let (heard, mut malformed) = (&mut self.heard, None);
            let outcome = self.link.read(|payload| match PeerFrame::decode(payload) {
                Ok(frame) => heard.extend(frame),
                Err(error) => malformed = Some(error),
            });
            if let Some(error) = malformed {
                return Err(LinkError::Frame(error));
            }
            if self.heard.is_empty() {
                outcome?;
            }
        }
    }
}
