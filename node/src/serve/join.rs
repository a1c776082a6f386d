//! A gateway of its own asks the routers which cluster they are and which node each is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use throng_runtime::tls::{Expected, PeerTls};
use throng_runtime::{ConnectOptions, FrameLink, LinkError, LinkLimits, Poller, connect};
use throng_wire::link::GatewayId;
use throng_wire::peer::{PEER_PROTOCOL, PeerFrame, PeerHello, PeerRole};
use throng_wire::{Epoch, NodeId};

use super::{ClusterFacts, random_u64};
use crate::error::Failure;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A hello is far below this.
const LIMITS: LinkLimits = LinkLimits { frame_max: 4096, outgoing_max: 4096 };

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
        let hello = ask(address, tls)?;
        let PeerRole::Node(node) = hello.role else {
            return Err(Failure::Runtime(format!("{address} is a gateway, not a router")));
        };
        let known = facts.get_or_insert(ClusterFacts {
            id: hello.cluster,
            shards: hello.shards,
            epoch: hello.epoch,
            voters: 0,
        });
        if (known.id, known.shards, known.epoch) != (hello.cluster, hello.shards, hello.epoch) {
            return Err(Failure::Runtime(format!(
                "{address} belongs to another cluster than {}",
                addresses[0]
            )));
        }
        known.voters += 1;
        nodes.push((node, address));
    }
    let facts = facts.ok_or_else(|| Failure::Config("--join names no router".into()))?;
    Ok((facts, nodes))
}

fn ask(address: SocketAddr, tls: Option<&PeerTls>) -> Result<PeerHello, Failure> {
    let hello = PeerHello {
        protocol: PEER_PROTOCOL,
        role: PeerRole::Gateway(GatewayId(random_u64()?)),
        cluster: [0; 16],
        shards: 0,
        epoch: Epoch(0),
        node_name: "a gateway that wants to join".into(),
    };
    match exchange(address, tls, &PeerFrame::Hello(hello)) {
        Ok(Some(PeerFrame::HelloAck(hello))) => Ok(hello),
        Ok(Some(PeerFrame::Refused(refused))) => {
            Err(Failure::Runtime(format!("{address} refused: {}", refused.reason)))
        }
        Ok(_) => Err(Failure::Runtime(format!("{address} answered something else than a hello"))),
        Err(error @ (LinkError::Frame(_) | LinkError::Tls(_) | LinkError::UnexpectedTls)) => {
            let reason = error.chain();
            Err(Failure::Runtime(format!("{address} does not speak the peer protocol with us: {reason}")))
        }
        Err(error) => Err(Failure::runtime(format!("no router answers at {address}"), error.chain())),
    }
}

/// Says something and waits for the first frame that comes back.
fn exchange(
    address: SocketAddr,
    tls: Option<&PeerTls>,
    frame: &PeerFrame,
) -> Result<Option<PeerFrame>, LinkError> {
    let failed = std::io::Error::other::<rustls::Error>;
    let session = tls.map(|tls| tls.dial(Expected::AnyNode)).transpose();
    let session = session.map_err(|e| LinkError::Io(failed(e)))?;
    let stream = connect(address, ConnectOptions::default()).map_err(LinkError::Io)?;
    let mut link = FrameLink::new(stream, session, LIMITS);
    link.queue(|out| frame.encode(out)).expect("a new link has room");
    let (mut poller, mut events) = (Poller::new().map_err(LinkError::Io)?, Vec::new());
    // For writing at first: that is how a connect says its outcome.
    poller.register(&link, 0, throng_runtime::Interest::Both).map_err(LinkError::Io)?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::Io(std::io::ErrorKind::TimedOut.into()));
        }
        poller.wait(&mut events, Some(left)).map_err(LinkError::Io)?;
        if events.is_empty() {
            continue;
        }
        link.stream().connected().map_err(LinkError::Io)?;
        let mut answer = None;
        let outcome = link.read(|payload| {
            answer.get_or_insert_with(|| PeerFrame::decode(payload));
        });
        if let Some(answer) = answer {
            return answer.map_err(LinkError::Frame);
        }
        outcome.and_then(|()| link.flush())?;
        poller.modify(&link, 0, link.interest()).map_err(LinkError::Io)?;
    }
}
