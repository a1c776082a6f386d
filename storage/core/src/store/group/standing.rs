//! What this node is in a group, and how that changes.
//!
//! ```text
//!                    a leader's message to a newer id
//!   Passive ───────────────────────────────────────────► Fresh ──── snapshot ────► Member
//!      ▲   (never a member, or removed)      ▲  no past, no log, no vote              │
//!      └──────────── its removal is applied ─┼───────────────────────────────────────┘
//!                                            └──── a message to a newer id: it was removed meanwhile
//! ```
//!
//! Each arrow begins a new raft node and a new log ([`Mark::reset`]), durable before anything is said under the new id.

use bytes::Bytes;
use raft::RaftState;
use raft::eraftpb::{Message, MessageType};
use throng_wire::ids::NodeId;
use throng_wire::peer::RaftMessage;

use super::{Group, Reset};
use crate::entry::{Conf, HardState, Mark, PeerId};
use crate::store::beats::Beat;
use crate::store::convert;
use crate::store::guard::{self, Refusal};
use crate::store::limits;
use crate::store::persists::{Pending, Persists};
use crate::store::recover;
use crate::store::terms::Terms;

/// The context of a heartbeat that tells a replica that it was removed.
const GONE: &[u8] = b"throng: gone";

/// What this node is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Standing {
    /// It takes part.
    Member,
    /// It has an id and waits for its first snapshot: without it, it would not know what membership the log's first
    /// entries began from.
    Fresh,
    /// It takes no part. Its raft node is never stepped.
    Passive,
}

impl Group {
    /// Whether a message concerns this replica, or a newer one that this node is to hold from here on.
    pub(super) fn address(&mut self, message: &RaftMessage, persists: &mut Persists) -> Result<(), Refusal> {
        let to = PeerId(message.to);
        let kind = convert::message_kind(message.kind).ok_or(Refusal::Kind)?;
        if to == self.members.peer() && self.standing != Standing::Passive {
            if self.is_stranger(PeerId(message.from)) {
                self.say_gone(message, kind);
                return Err(Refusal::Stranger);
            }
            if kind == MessageType::MsgHeartbeat && message.context == GONE {
                guard::check_fields(message, kind)?;
                self.hear_gone(PeerId(message.from).node(), persists);
                return Err(Refusal::Stranger);
            }
            return Ok(());
        }
        guard::check_fields(message, kind)?;
        self.testify(message, to, kind);
        if self.was_mine(to) && self.is_stranger(PeerId(message.from)) {
            // It knows this node under an id from before this one left and came back.
            self.say_gone(message, kind);
        }
        // Whoever leads has applied the entry that added this replica; nobody else can know the id.
        let leads =
            matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot);
        if !leads || !self.is_newer(to) {
            return Err(Refusal::Stranger);
        }
        self.become_fresh(to, persists);
        Ok(())
    }

    /// Whether an id can be a replica that this node got after the one it knows of.
    pub(super) fn is_newer(&self, peer: PeerId) -> bool {
        peer.node() == self.kit.config.node && peer.incarnation() > self.members.peer().incarnation()
    }

    /// Whether an id was a replica of this node before the one that it has.
    fn was_mine(&self, peer: PeerId) -> bool {
        peer.node() == self.kit.config.node && peer.incarnation() < self.members.peer().incarnation()
    }

    /// Whether a replica is no member, as far as is applied here. An id says where in the log it was added, so what
    /// was added later than that is not mistaken for what was removed.
    pub(super) fn is_stranger(&self, peer: PeerId) -> bool {
        let conf = self.members.conf();
        !conf.is_empty()
            && !conf.contains(peer.0)
            && peer.incarnation() <= self.applied.max(self.members.base())
    }

    /// A removed replica that asks for votes has missed its removal, and nobody replicates to it any more.
    fn say_gone(&mut self, message: &RaftMessage, kind: MessageType) {
        if matches!(kind, MessageType::MsgRequestPreVote | MessageType::MsgRequestVote) {
            self.say_gone_to(message.from);
        }
    }

    /// A removed replica that is asked for its vote has none, but it knows what was committed, its removal at least. Without
    /// that word whoever leads the members that are left could wait for the votes of those that have gone, if a crash
    /// made it forget that the end of a joint configuration, which it holds, is committed.
    fn testify(&mut self, message: &RaftMessage, to: PeerId, kind: MessageType) {
        let asks = matches!(kind, MessageType::MsgRequestPreVote | MessageType::MsgRequestVote);
        let (index, term) = self.left;
        // Entry 1 stands where a replica knew of none ([`Self::become_passive`]).
        if asks && to == self.members.peer() && self.standing == Standing::Passive && index > 1 {
            let (leader, follower) = (to, PeerId(message.from));
            self.testimony = Some(Beat { shard: self.shard, term, commit: index, leader, follower });
        }
    }

    /// Tells a replica that it was removed. Not only the leader does, because a removed learner asks the voters that it knows,
    /// and who leads may be none of them.
    pub(super) fn say_gone_to(&mut self, to: u64) {
        if self.standing == Standing::Member && !self.is_resetting() {
            self.raw.raft.msgs.push(Message {
                msg_type: MessageType::MsgHeartbeat,
                from: self.members.peer().0,
                to,
                term: self.raw.raft.term,
                context: Bytes::from_static(GONE),
                ..Default::default()
            });
        }
    }

    /// Whoever says so has applied the removal, which is committed: that is true in every term. It cannot be taken back, so
    /// it is believed only of a node that this replica itself knows as a member: the group's members, as it last applied
    /// them, are the last that it has any reason to trust with its group. If all of them have been replaced since, it
    /// stays where it is, asks in vain, and costs a few messages until somebody wipes it.
    fn hear_gone(&mut self, from: NodeId, persists: &mut Persists) {
        let is_known = !self.members.on(from).is_empty();
        if is_known && self.standing == Standing::Member && !self.is_resetting() {
            self.become_passive(persists);
        }
    }

    /// Begins as a member without a past.
    fn become_fresh(&mut self, peer: PeerId, persists: &mut Persists) {
        let mark = Mark { peer: peer.0, replica: limits::NO_REPLICA, reset: true, ..Mark::default() };
        self.standing = Standing::Fresh;
        self.begin_life(mark, HardState::default(), persists);
    }

    /// Ends as a member. The id stays on record so that it is never used again.
    pub(super) fn become_passive(&mut self, persists: &mut Persists) {
        let peer = self.members.peer().0;
        // No entries follow, so what matters of the place is that it is one: without it this were a new replica.
        let mark = Mark {
            index: self.applied.max(1),
            term: self.log().terms().term(self.applied).unwrap_or(0).max(1),
            peer,
            replica: limits::NO_REPLICA,
            conf: Conf::default(),
            reset: true,
            is_suspect: false,
        };
        self.standing = Standing::Passive;
        self.left = (mark.index, mark.term);
        let state = self.saved;
        self.begin_life(mark, state, persists);
    }

    /// Whether this replica has applied its own removal and has nothing left to do.
    pub(in crate::store) fn has_left(&self) -> bool {
        self.standing == Standing::Member
            && !self.is_resetting()
            && !self.members.conf().contains(self.members.peer().0)
            && self.applied == self.handed
            && self.applied == self.raw.raft.raft_log.applied
            && self.outstanding == 0
            && !self.raw.has_ready()
    }

    /// Replaces the raft node. Whatever the old one still had to say is dropped.
    fn begin_life(&mut self, mark: Mark, saved: HardState, persists: &mut Persists) {
        let raw = recover::raw_node(
            &self.kit,
            self.shard,
            PeerId(mark.peer),
            RaftState::default(),
            Terms::new(0, 0),
            Vec::new(),
            0,
        );
        self.raw = raw.expect("raft took this configuration at the start");
        self.life += 1;
        self.members.reset(&Mark { index: 0, conf: Conf::default(), ..mark.clone() });
        (self.handed, self.applied, self.flushed) = (0, 0, 0);
        (self.last_number, self.barrier, self.campaigns, self.failed) = (0, 0, 0, 0);
        self.term_number = None;
        self.flights.clear();
        self.hand_over = None;
        self.suspicion = None;
        self.restored = None;
        self.saved = saved;
        // The first messages of the new life wait for the mark.
        let pending = Pending { shard: self.shard, life: self.life, number: 0 };
        self.last_token = persists.add(pending, Some(saved), Some(mark.clone()), Vec::new());
        self.outstanding = 1;
        self.reset = Some(Reset { number: 0, mark });
        self.members_changed();
        self.touched();
    }

    /// A new beginning is durable once its `Ready` is.
    pub(super) fn reset_durable(&mut self, number: u64) {
        let Some(reset) = self.reset.take_if(|reset| reset.number <= number) else { return };
        if reset.number > 0 {
            self.applied = reset.mark.index;
            self.flushed = reset.mark.index;
            self.raw.advance_apply_to(self.applied);
        }
        self.origin = Mark { reset: false, ..reset.mark.clone() };
        self.restored = Some(reset.mark);
    }
}
