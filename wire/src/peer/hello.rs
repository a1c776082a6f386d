//! The first frames of a peer link: who is there, and does it belong to this cluster?

use super::proto;
use crate::code::Code;
use crate::error::DecodeError;
use crate::ids::{Epoch, NodeId};
use crate::limits::TEXT_MAX;
use crate::link::GatewayId;

/// Who is at the other end of a peer link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// Router and storage of a node.
    Node(NodeId),
    /// One gateway loop.
    Gateway(GatewayId),
}

/// First frame in both directions; a mismatch of protocol, cluster, shard count or epoch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// [`super::PEER_PROTOCOL`] of the sender.
    pub protocol: u32,
    /// Who sends.
    pub role: PeerRole,
    /// Drawn when the cluster was formatted.
    pub cluster: [u8; 16],
    /// Fixed when the cluster was formatted.
    pub shards: u32,
    /// The history epoch, which a restore from a backup raises; 0 from a gateway that does not know it yet.
    pub epoch: Epoch,
    /// For logs.
    pub node_name: String,
}

/// Why a hello was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRefused {
    /// The code.
    pub code: Code,
    /// For the log of the refused side.
    pub reason: String,
}

/// A text for a peer: cut at a character boundary so that it fits the limit.
fn text(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

fn checked(text: String, name: &'static str) -> Result<String, DecodeError> {
    if text.len() > TEXT_MAX { Err(DecodeError::OverLimit(name)) } else { Ok(text) }
}

impl From<&PeerHello> for proto::Hello {
    fn from(hello: &PeerHello) -> Self {
        Self {
            protocol: hello.protocol,
            role: Some(match hello.role {
                PeerRole::Node(node) => proto::Role::Node(node.0),
                PeerRole::Gateway(gateway) => proto::Role::Gateway(gateway.0),
            }),
            cluster: proto::Id::from(hello.cluster),
            shards: hello.shards,
            epoch: hello.epoch.0,
            node_name: text(&hello.node_name),
        }
    }
}

impl TryFrom<proto::Hello> for PeerHello {
    type Error = DecodeError;

    fn try_from(hello: proto::Hello) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol: hello.protocol,
            role: match hello.role.ok_or(DecodeError::BadValue("role"))? {
                proto::Role::Node(node) => PeerRole::Node(NodeId(node)),
                proto::Role::Gateway(gateway) => PeerRole::Gateway(GatewayId(gateway)),
            },
            cluster: hello.cluster.into(),
            shards: hello.shards,
            epoch: Epoch(proto::number(hello.epoch, "epoch")?),
            node_name: checked(hello.node_name, "node_name")?,
        })
    }
}

impl From<&PeerRefused> for proto::Refused {
    fn from(refused: &PeerRefused) -> Self {
        Self { code: refused.code.0.into(), reason: text(&refused.reason) }
    }
}

impl TryFrom<proto::Refused> for PeerRefused {
    type Error = DecodeError;

    fn try_from(refused: proto::Refused) -> Result<Self, DecodeError> {
        Ok(Self { code: proto::code(refused.code)?, reason: checked(refused.reason, "reason")? })
    }
}
