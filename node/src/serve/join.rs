//! A gateway of its own asks the routers which cluster they are and which node each is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use throng_wire::NodeId;
use throng_wire::frame::{Split, split};
use throng_wire::limits::PEER_FRAME_MAX;
use throng_wire::link::GatewayId;
use throng_wire::peer::{PEER_PROTOCOL, PeerFrame, PeerHello, PeerRole};

use super::{ClusterFacts, random_u64};
use crate::error::Failure;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A hello is far below this.
const ANSWER_MAX: usize = 4096;

/// Asks every address.
///
/// # Errors
/// [`Failure::Runtime`] if one does not answer, or they belong to different clusters.
pub(crate) fn discover(
    addresses: &[SocketAddr],
) -> Result<(ClusterFacts, Vec<(NodeId, SocketAddr)>), Failure> {
    let mut nodes = Vec::new();
    let mut facts: Option<ClusterFacts> = None;
    for &address in addresses {
        let hello = ask(address)?;
        let PeerRole::Node(node) = hello.role else {
            return Err(Failure::Runtime(format!("{address} is a gateway, not a router")));
        };
        let known = facts.get_or_insert(ClusterFacts { id: hello.cluster, shards: hello.shards, voters: 0 });
        if known.id != hello.cluster || known.shards != hello.shards {
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

fn ask(address: SocketAddr) -> Result<PeerHello, Failure> {
    let failed = |e: std::io::Error| Failure::runtime(format!("no router answers at {address}"), e);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    let hello = PeerHello {
        protocol: PEER_PROTOCOL,
        role: PeerRole::Gateway(GatewayId(random_u64()?)),
        cluster: [0; 16],
        shards: 0,
        node_name: "a gateway that wants to join".into(),
    };
    let mut out = BytesMut::new();
    PeerFrame::Hello(hello).encode(&mut out);
    stream.write_all(&out).map_err(failed)?;
    let mut answer = Vec::new();
    let mut piece = [0u8; 512];
    loop {
        let strange = |e| Failure::runtime(format!("{address} does not speak the peer protocol"), e);
        if let Split::Frame { payload, .. } = split(&answer, PEER_FRAME_MAX).map_err(strange)? {
            return match PeerFrame::decode(&answer[payload]).map_err(strange)? {
                Some(PeerFrame::HelloAck(hello)) => Ok(hello),
                Some(PeerFrame::Refused(refused)) => {
                    Err(Failure::Runtime(format!("{address} refused: {}", refused.reason)))
                }
                _ => Err(Failure::Runtime(format!("{address} answered something else than a hello"))),
            };
        }
        let read = stream.read(&mut piece).map_err(failed)?;
        if read == 0 || answer.len() + read > ANSWER_MAX {
            return Err(Failure::Runtime(format!("{address} does not speak the peer protocol")));
        }
        answer.extend_from_slice(&piece[..read]);
    }
}
