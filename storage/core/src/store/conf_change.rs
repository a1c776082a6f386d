//! Membership changes as bytes of our own in the log, and as what raft applies.
//!
//! ```text
//!  0         1         2         3                 11
//!  ┌─────────┬─────────┬─────────┬─────────────────┬─────┐
//!  │ version │ steps   │ kind    │ raft id         │ …   │   no steps: the joint change under way ends
//!  └─────────┴─────────┴─────────┴─────────────────┴─────┘
//! ```
//!
//! Raft's leader would parse protobuf from a proposal's payload. Here the leader appends the entry itself
//! (`group/members.rs`), so no parser of raft ever sees these bytes.

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use crate::entry::{ConfError, MEMBERS_MAX, PeerId};

const VERSION: u8 = 1;
const HEADER: usize = 2;
const STEP: usize = 9;

/// What becomes of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Voter(PeerId),
    Learner(PeerId),
    Gone(PeerId),
}

impl Change {
    pub(super) fn peer(self) -> PeerId {
        match self {
            Self::Voter(peer) | Self::Learner(peer) | Self::Gone(peer) => peer,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Voter(_) => 1,
            Self::Learner(_) => 2,
            Self::Gone(_) => 3,
        }
    }
}

/// The bytes of a change.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    assert!(changes.len() <= 2 * MEMBERS_MAX, "proposals are limited");
    let mut out = Vec::with_capacity(HEADER + STEP * changes.len());
    out.extend([VERSION, changes.len() as u8]);
    for change in changes {
        out.push(change.number());
        out.extend_from_slice(&change.peer().0.to_be_bytes());
    }
    out
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Change>, ConfError> {
    let Some((&[version, count], steps)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(ConfError("a change ends too early"));
    };
    if version != VERSION {
        return Err(ConfError("a change of an unknown version"));
    }
    if usize::from(count) > 2 * MEMBERS_MAX || steps.len() != STEP * usize::from(count) {
        return Err(ConfError("a change of a wrong length"));
    }
    steps.chunks_exact(STEP).map(decode_step).collect()
}

fn decode_step(step: &[u8]) -> Result<Change, ConfError> {
    let peer = PeerId(u64::from_be_bytes(step[1..].try_into().expect("a step has 9 bytes")));
    if peer.node().0 == 0 {
        return Err(ConfError("node ids begin at 1"));
    }
    match step[0] {
        1 => Ok(Change::Voter(peer)),
        2 => Ok(Change::Learner(peer)),
        3 => Ok(Change::Gone(peer)),
        _ => Err(ConfError("an unknown step")),
    }
}

/// Raft's form. More than one step is a joint change, which the leader ends by an entry of its own: were it left to
/// raft, it would never end if leadership moved at the wrong moment.
pub(super) fn to_raft(changes: &[Change]) -> ConfChangeV2 {
    let single = |change: &Change| ConfChangeSingle {
        node_id: change.peer().0,
        change_type: match change {
            Change::Voter(_) => ConfChangeType::AddNode,
            Change::Learner(_) => ConfChangeType::AddLearnerNode,
            Change::Gone(_) => ConfChangeType::RemoveNode,
        },
        ..Default::default()
    };
    let transition = match changes.len() {
        0 | 1 => ConfChangeTransition::Auto,
        _ => ConfChangeTransition::Explicit,
    };
    ConfChangeV2 {
        changes: changes.iter().map(single).collect::<Vec<_>>().into(),
        transition,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace() -> Vec<Change> {
        vec![Change::Voter(PeerId(9 << 24 | 4)), Change::Learner(PeerId(2)), Change::Gone(PeerId(3))]
    }

    #[test]
    fn what_is_written_is_read() {
        for changes in [vec![], replace()] {
            assert_eq!(decode(&encode(&changes)), Ok(changes));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let bytes = encode(&replace());
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        for (at, value) in [(0, 2), (1, 2), (1, 4), (2, 0), (2, 4)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert!(decode(&bytes).is_err(), "byte {at} = {value}");
        }
        assert!(decode(&encode(&[Change::Gone(PeerId::NONE)])).is_err());
    }

    #[test]
    fn one_step_is_simple_and_several_are_joint_until_the_leader_ends_them() {
        assert!(to_raft(&[]).leave_joint());
        assert_eq!(to_raft(&replace()[..1]).enter_joint(), None);
        assert_eq!(to_raft(&replace()).enter_joint(), Some(false));
    }
}
