//! Heartbeats of groups in which nothing happens, without a raft message for each.
//!
//! A leader whose followers have all it has, and have answered its last heartbeat, only has to say that it is still
//! there. It says so for all its groups in one message per node, and gets one back; neither steps a raft node. A follower
//! for which anything differs (term, leader, commit index, its own id) does not answer, and then, as after anything
//! else that the short form cannot say, the group's next heartbeat is raft's own.
//!
//! In the same form leaders say what they have committed, to followers whom no entries are on their way to: raft would
//! step an append without entries for each, and one more for its answer. Nobody answers these; whoever missed one hears
//! of it with the next entries or heartbeat.
//!
//! ```text
//!   context of a message of kind BEATS, ANSWERS or COMMITS, varints:
//!   shard │ term │ commit │ incarnation of the leader │ incarnation of the follower │ shard │ …
//! ```

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftMessage;
use throng_wire::varint;

use super::limits;
use crate::entry::PeerId;

/// Kinds of messages that raft does not know.
const BEATS: u32 = 1_000;
const ANSWERS: u32 = 1_001;
const COMMITS: u32 = 1_004;

/// What a leader says to one follower, and the follower says back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) shard: ShardId,
    pub(super) term: u64,
    pub(super) commit: u64,
    pub(super) leader: PeerId,
    pub(super) follower: PeerId,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The leaders of the groups.
    Leader,
    /// The followers, in answer.
    Follower,
    /// Whoever knows that something is committed, mostly its leader.
    Commit,
}

impl Side {
    /// Who speaks in a message of this kind; `None` if it is one for raft.
    pub(super) fn of(kind: u32) -> Option<Self> {
        match kind {
            BEATS => Some(Self::Leader),
            ANSWERS => Some(Self::Follower),
            COMMITS => Some(Self::Commit),
            _ => None,
        }
    }
}

/// Beats being gathered, by the node that they go to.
#[derive(Debug, Default)]
pub(super) struct Beats {
    open: BTreeMap<NodeId, BytesMut>,
}

impl Beats {
    /// Adds what goes to a node.
    pub(super) fn add(&mut self, to: NodeId, beat: Beat) {
        let out = self.open.entry(to).or_default();
        for number in [
            u64::from(beat.shard.0),
            beat.term,
            beat.commit,
            beat.leader.incarnation(),
            beat.follower.incarnation(),
        ] {
            varint::encode(number, out);
        }
    }

    /// Takes everything gathered, as messages.
    pub(super) fn take(&mut self, side: Side, from: NodeId) -> impl Iterator<Item = (NodeId, RaftMessage)> {
        let kind = match side {
            Side::Leader => BEATS,
            Side::Follower => ANSWERS,
            Side::Commit => COMMITS,
        };
        std::mem::take(&mut self.open).into_iter().map(move |(node, context)| {
            let (from, to, context) = (from.0, node.0, context.freeze());
            (node, RaftMessage { kind, from, to, context, ..RaftMessage::default() })
        })
    }
}

/// Reads the beats between two nodes; ends with `None` in the place of the first that makes no sense.
pub(super) fn read(
    side: Side,
    context: &Bytes,
    from: NodeId,
    to: NodeId,
    shards: u32,
) -> impl Iterator<Item = Option<Beat>> + use<> {
    let (leader, follower) = match side {
        Side::Leader | Side::Commit => (from, to),
        Side::Follower => (to, from),
    };
    let (context, mut at) = (context.clone(), 0);
    std::iter::from_fn(move || {
        let mut rest = context.get(at..).filter(|rest| !rest.is_empty())?;
        let beat = one(&mut rest, leader, follower, shards);
        at = if beat.is_some() { context.len() - rest.len() } else { context.len() };
        Some(beat)
    })
}

fn one(rest: &mut &[u8], leader: NodeId, follower: NodeId, shards: u32) -> Option<Beat> {
    let mut next = || varint::decode(rest).ok();
    let shard = u32::try_from(next()?).ok().filter(|shard| *shard < shards)?;
    let (term, commit) = (next()?, next()?);
    let (leader, follower) = (PeerId::new(leader, next()?)?, PeerId::new(follower, next()?)?);
    let is_sound = (1..=limits::TERM_MAX).contains(&term) && commit <= limits::INDEX_MAX;
    is_sound.then_some(Beat { shard: ShardId(shard), term, commit, leader, follower })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: NodeId = NodeId(1);
    const FOLLOWER: NodeId = NodeId(2);

    fn beat(shard: u32, term: u64) -> Beat {
        let leader = PeerId::new(LEADER, 7).expect("in range");
        let follower = PeerId::new(FOLLOWER, 0).expect("in range");
        Beat { shard: ShardId(shard), term, commit: 1 << 40, leader, follower }
    }

    #[test]
    fn what_is_gathered_is_read_and_answered() {
        let mut beats = Beats::default();
        let all = [beat(0, 1), beat(63, 1 << 47)];
        all.iter().for_each(|beat| beats.add(FOLLOWER, *beat));
        let sent: Vec<_> = beats.take(Side::Leader, LEADER).collect();
        assert_eq!((sent.len(), sent[0].0, Side::of(sent[0].1.kind)), (1, FOLLOWER, Some(Side::Leader)));
        let heard: Vec<_> = read(Side::Leader, &sent[0].1.context, LEADER, FOLLOWER, 64).collect();
        assert_eq!(heard, all.map(Some));
        let back: Vec<_> = read(Side::Follower, &sent[0].1.context, FOLLOWER, LEADER, 64).collect();
        assert_eq!(back, all.map(Some), "an answer repeats what was heard");
        assert_eq!(beats.take(Side::Leader, LEADER).count(), 0);
    }

    #[test]
    fn bytes_that_make_no_sense_end_it() {
        let mut beats = Beats::default();
        for beat in [beat(1, 1), beat(2, 0), beat(3, 1)] {
            beats.add(FOLLOWER, beat);
        }
        let (_, message) = beats.take(Side::Leader, LEADER).next().expect("one");
        let heard: Vec<_> = read(Side::Leader, &message.context, LEADER, FOLLOWER, 64).collect();
        assert_eq!(heard, [Some(beat(1, 1)), None], "term 0");
        for len in 0..message.context.len() {
            let cut = message.context.slice(..len);
            assert!(read(Side::Leader, &cut, LEADER, FOLLOWER, 64).count() <= 3);
        }
        let few = read(Side::Leader, &message.context, LEADER, FOLLOWER, 1);
        assert_eq!(few.collect::<Vec<_>>(), [None], "a shard that there is not");
    }
}
