//! Raft ids of replicas.

use core::fmt;

use throng_wire::ids::NodeId;

/// The Raft id of one replica of a group: its node in the low 24 bits, an incarnation above them.
///
/// Replicas that a cluster was formatted with have incarnation 0. One that is added later takes the index of the entry
/// that adds it, so a group never uses an id twice: a replica that was removed or wiped comes back as a member without
/// a past, and messages to or from its former self say so.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl PeerId {
    /// The highest node id: 2²⁴ − 1.
    pub const NODE_MAX: u64 = (1 << 24) - 1;

    /// The highest incarnation: 2⁴⁰ − 1, which is 34 years of 1,000 entries a second.
    pub const INCARNATION_MAX: u64 = (1 << 40) - 1;

    /// No replica.
    pub const NONE: Self = Self(0);

    /// The id of a node's replica, `None` if a part is out of range.
    pub fn new(node: NodeId, incarnation: u64) -> Option<Self> {
        let fits = node.0 >= 1 && node.0 <= Self::NODE_MAX && incarnation <= Self::INCARNATION_MAX;
        fits.then_some(Self(incarnation << 24 | node.0))
    }

    /// The node that holds the replica.
    pub const fn node(self) -> NodeId {
        NodeId(self.0 & Self::NODE_MAX)
    }

    /// Which of the replicas that this node has ever had in the group.
    pub const fn incarnation(self) -> u64 {
        self.0 >> 24
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation() {
            0 => write!(f, "{}", self.node()),
            incarnation => write!(f, "{}#{incarnation}", self.node()),
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_their_parts() {
        let id = PeerId::new(NodeId(7), 1000).expect("in range");
        assert_eq!((id.node(), id.incarnation(), id.to_string()), (NodeId(7), 1000, "7#1000".to_owned()));
        assert_eq!(PeerId::new(NodeId(7), 0), Some(PeerId(7)), "what was formatted keeps the node's id");
        let most = PeerId::new(NodeId(PeerId::NODE_MAX), PeerId::INCARNATION_MAX).expect("in range");
        assert_eq!(most.0, u64::MAX);
    }

    #[test]
    fn parts_out_of_range_make_no_id() {
        assert_eq!(PeerId::new(NodeId(0), 0), None);
        assert_eq!(PeerId::new(NodeId(PeerId::NODE_MAX + 1), 0), None);
        assert_eq!(PeerId::new(NodeId(1), PeerId::INCARNATION_MAX + 1), None);
    }
}
