//! Whom a peer certificate speaks for.

use std::fmt;

use rustls::pki_types::CertificateDer;
use throng_wire::{ChannelId, NodeId};

/// The zone of all names; private, never looked up.
const ZONE: &str = "throng";

/// Stands for any node of the cluster, for who does not know yet which node listens at an address.
const ANY_NODE: &str = "node.throng";

/// What kind of member a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// The node with this number: replicates shards, and its gateway loops link to other nodes.
    Node(NodeId),
    /// A process with gateways alone.
    Gateway,
}

/// The one member of one cluster that a certificate names, as a DNS name among its subject alternative names:
/// `node-3.<cluster id>.throng` or `gateway.<cluster id>.throng`, the id in 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// Cluster id.
    pub cluster: [u8; 16],
    /// Node or gateway.
    pub kind: PeerKind,
}

/// Whom a dial is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This node.
    Node(NodeId),
    /// Whichever node of our cluster listens there.
    AnyNode,
}

/// Why a certificate names no member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The certificate cannot be parsed.
    Malformed,
    /// No name ends in `.throng`.
    Missing,
    /// Several names end in `.throng`; a certificate is for one member.
    Several,
    /// A name that ends in `.throng` and is none of a member: a wildcard, a foreign shape, a number out of range.
    Strange(String),
    /// A member, but not the one that was dialled or not of our cluster.
    Another {
        /// What would have been right.
        expected: String,
        /// What the certificate says.
        found: PeerName,
    },
}

impl PeerName {
    /// Reads a name; only the exact form that `Display` writes.
    ///
    /// # Errors
    /// [`NameError::Strange`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::read(text)
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| NameError::Strange(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let (cluster_and_kind, zone) = text.rsplit_once('.')?;
        let (kind, cluster) = cluster_and_kind.split_once('.')?;
        let cluster = ChannelId::from_hex(cluster).filter(|_| zone == ZONE)?.0;
        let kind = match kind {
            "gateway" => PeerKind::Gateway,
            node => PeerKind::Node(NodeId(node.strip_prefix("node-")?.parse().ok().filter(|id| *id > 0)?)),
        };
        Some(Self { cluster, kind })
    }

    /// The name in a certificate. Names outside the zone `.throng` are of no concern.
    ///
    /// # Errors
    /// [`NameError`]: it names nobody, several, or somebody strange.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, NameError> {
        let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| NameError::Malformed)?;
        let mut ours =
            parsed.valid_dns_names().filter(|name| name.rsplit('.').next().is_some_and(|last| last == ZONE));
        let name = Self::parse(ours.next().ok_or(NameError::Missing)?)?;
        if ours.next().is_some() { Err(NameError::Several) } else { Ok(name) }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = ChannelId(self.cluster);
        match self.kind {
            PeerKind::Node(node) => write!(f, "node-{}.{cluster}.{ZONE}", node.0),
            PeerKind::Gateway => write!(f, "gateway.{cluster}.{ZONE}"),
        }
    }
}

impl Expected {
    /// The name that stands for it in a handshake.
    pub(super) fn dns_name(self, cluster: [u8; 16]) -> String {
        match self {
            Self::Node(node) => PeerName { cluster, kind: PeerKind::Node(node) }.to_string(),
            Self::AnyNode => ANY_NODE.to_owned(),
        }
    }

    /// Whether the certificate of who was dialled as `dialled` is the right one.
    pub(super) fn check(dialled: &str, cluster: [u8; 16], found: PeerName) -> Result<(), NameError> {
        let is_right = match dialled {
            ANY_NODE => found.cluster == cluster && matches!(found.kind, PeerKind::Node(_)),
            exact => found.to_string() == exact,
        };
        if is_right { Ok(()) } else { Err(NameError::Another { expected: dialled.to_owned(), found }) }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the certificate cannot be parsed"),
            Self::Missing => f.write_str("the certificate names no member of a Throng cluster"),
            Self::Several => f.write_str("the certificate names several members"),
            Self::Strange(name) => write!(f, "the certificate names {name:?}, which is no single member"),
            Self::Another { expected, found } => {
                write!(f, "the certificate is of {found}, expected was {expected}")
            }
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    const HEX: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn names_are_read_in_their_exact_form_only() {
        let node = PeerName::parse(&format!("node-3.{HEX}.throng")).expect("a node");
        assert_eq!((node.kind, node.cluster[1]), (PeerKind::Node(NodeId(3)), 0x11));
        let gateway = PeerName::parse(&format!("gateway.{HEX}.throng")).expect("a gateway");
        assert_eq!(gateway.kind, PeerKind::Gateway);
        for strange in [
            "node-0",
            "node-03",
            "node-+3",
            "node-",
            "node",
            "*",
            "node-3.x",
            "Node-3",
            "gateways",
            "",
            "node-99999999999999999999",
        ] {
            let name = format!("{strange}.{HEX}.throng");
            assert_eq!(PeerName::parse(&name), Err(NameError::Strange(name.clone())));
        }
        let upper = HEX.to_uppercase();
        for strange in [format!("node-3.{upper}.throng"), format!("node-3.{HEX}"), "throng".to_owned()] {
            assert!(PeerName::parse(&strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn a_certificate_names_exactly_one_member() {
        let authority = Authority::new();
        let of = |names: &[&str]| PeerName::of_certificate(&authority.issue(names).certificate);
        let (three, four, any) =
            (format!("node-3.{HEX}.throng"), format!("node-4.{HEX}.throng"), format!("*.{HEX}.throng"));
        assert_eq!(of(&[&three]), PeerName::parse(&three));
        assert_eq!(of(&["db.example.com", &three, "localhost"]), PeerName::parse(&three));
        assert_eq!(of(&["localhost"]), Err(NameError::Missing));
        assert_eq!(of(&[]), Err(NameError::Missing));
        assert_eq!(of(&[&three, &four]), Err(NameError::Several));
        assert_eq!(of(&[&any]), Err(NameError::Strange(any.clone())));
        assert!(of(&[&three, &any]).is_err(), "a wildcard beside a name");
        assert_eq!(PeerName::of_certificate(&CertificateDer::from(vec![1, 2])), Err(NameError::Malformed));
    }
}
