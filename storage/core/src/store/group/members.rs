//! Membership: joint consensus, proposed by the leader, applied by every replica at the entry's place.
//!
//! A change of one vote takes one entry. Anything larger takes two: the first enters the joint configuration, the second,
//! proposed by the leader as soon as the first is applied, leaves it. A leader that is to lose its vote hands over first:
//! it would have to commit the rest of the change without counting itself, and raft 0.7.0 panics in a leader that is no
//! member.

use std::collections::{BTreeSet, VecDeque};

use raft::eraftpb::{self, EntryType};
use throng_base::Instant;
use throng_base::planted::{Bug, is_planted};
use throng_wire::ids::NodeId;

use super::{Group, Standing};
use crate::entry::{Conf, MEMBERS_MAX, Mark, PeerId};
use crate::store::conf_change::{self, Change};
use crate::store::convert;
use crate::store::limits;
use crate::store::output::{ApplyConfError, ConfStep, ProposalId, ProposeConfError};

/// Who the members are, and who they were where the log may still be truncated.
#[derive(Clone, Debug)]
pub(in crate::store) struct Members {
    peer: PeerId,
    replica: u32,
    /// Members from an index on, rising. The first is the log's beginning.
    history: VecDeque<(u64, Conf)>,
    /// Below this nobody knows where the members of the first item became those of the second.
    exact_from: u64,
}

impl Members {
    /// Members as a mark knows them, and as the state remembers them at `applied`.
    pub(in crate::store) fn new(mark: &Mark, applied: u64, conf: Option<Conf>) -> Self {
        let mut members = Self {
            peer: PeerId(mark.peer),
            replica: mark.replica,
            history: VecDeque::from([(mark.index, mark.conf.clone())]),
            exact_from: 0,
        };
        if let Some(conf) = conf {
            // Members that are the same at both ends may have been others between them.
            members.exact_from = applied;
            if conf != mark.conf {
                members.history.push_back((applied, conf));
            }
        }
        members
    }

    /// Begins anew where a mark says.
    pub(super) fn reset(&mut self, mark: &Mark) {
        *self = Self::new(mark, mark.index, None);
    }

    /// This node's replica, the newest it has had.
    pub(in crate::store) fn peer(&self) -> PeerId {
        self.peer
    }

    pub(super) fn replica(&self) -> u32 {
        self.replica
    }

    /// The members, as far as is applied.
    pub(in crate::store) fn conf(&self) -> &Conf {
        &self.history.back().expect("it holds the beginning at least").1
    }

    /// The index that the log begins after.
    pub(super) fn base(&self) -> u64 {
        self.history[0].0
    }

    /// The members where the log begins.
    pub(super) fn first_conf(&self) -> &Conf {
        &self.history[0].1
    }

    /// The entry that made the newest change, or the log's beginning.
    fn changed_at(&self) -> u64 {
        self.history.back().expect("it holds the beginning at least").0
    }

    fn change(&mut self, index: u64, conf: Conf) {
        self.history.push_back((index, conf));
    }

    /// The members as of an entry, `None` if nobody knows.
    pub(super) fn conf_at(&self, index: u64) -> Option<&Conf> {
        if index < self.exact_from || index < self.base() {
            return None;
        }
        self.history.iter().rev().find(|(from, _)| *from <= index).map(|(_, conf)| conf)
    }

    /// The log begins after `index`, whose members are known.
    pub(super) fn forget(&mut self, index: u64) {
        let conf = self.conf_at(index).expect("the caller asked").clone();
        self.history.retain(|(from, _)| *from > index);
        self.history.push_front((index, conf));
    }

    /// All members on a node: one that was removed and its successor may overlap.
    pub(super) fn on(&self, node: NodeId) -> BTreeSet<PeerId> {
        self.conf().members().map(PeerId).filter(|peer| peer.node() == node).collect()
    }

    /// The voter on a node, outgoing ones aside.
    pub(in crate::store) fn voter_on(&self, node: NodeId) -> Option<PeerId> {
        self.conf().voters.iter().copied().map(PeerId).find(|peer| peer.node() == node)
    }

    /// The nodes with a vote, outgoing ones aside, by rising id.
    pub(in crate::store) fn voter_nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.conf().voters.iter().map(|peer| PeerId(*peer).node()).collect();
        nodes.sort_unstable();
        nodes
    }

    /// Whether this replica votes and nobody else does.
    fn is_alone(&self) -> bool {
        self.conf().voters == [self.peer.0] && !self.conf().is_joint()
    }
}

impl Group {
    pub(in crate::store) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether this node votes here and nobody else does.
    pub(in crate::store) fn is_alone(&self) -> bool {
        self.standing == Standing::Member && self.members.is_alone()
    }

    /// What depends on the members follows them.
    pub(super) fn members_changed(&mut self) {
        let voters = self.members.voter_nodes();
        self.timeouts.set_voters(&voters, self.shard);
        let added = |peer: u64| PeerId(peer).incarnation() > 0;
        let hides_start = self.members.conf().members().any(added);
        self.raw.mut_store().hides_start = hides_start;
    }

    /// Proposes a change of the members.
    pub(in crate::store) fn propose_conf(
        &mut self,
        steps: &[ConfStep],
        id: ProposalId,
        now: Instant,
        successor: Option<NodeId>,
    ) -> Result<(), ProposeConfError> {
        if !self.is_leader() {
            return Err(ProposeConfError::NotLeader { leader: self.leader() });
        }
        if !self.is_serving() || self.is_handing_over() || self.proposals.is_full() {
            return Err(ProposeConfError::Busy);
        }
        if self.raw.raft.has_pending_conf() || self.members.conf().is_joint() {
            return Err(ProposeConfError::Busy);
        }
        let changes = self.changes(steps)?;
        let me = self.members.peer();
        if changes.iter().any(|change| change.peer() == me) {
            // It goes on as soon as somebody else leads.
            if let Some(to) = successor {
                self.begin_hand_over(to, now + limits::DRAIN_MAX);
            }
            return Err(ProposeConfError::Busy);
        }
        self.append_conf(&changes).map_err(|_| ProposeConfError::Busy)?;
        self.proposals.add(self.raw.raft.raft_log.last_index(), self.raw.raft.term, id);
        Ok(())
    }

    /// What the steps mean for the members there are.
    fn changes(&self, steps: &[ConfStep]) -> Result<Vec<Change>, ProposeConfError> {
        let refused = |why| Err(ProposeConfError::Refused(why));
        let conf = self.members.conf();
        if steps.is_empty() || steps.len() > MEMBERS_MAX {
            return refused("a change has 1 to 15 steps");
        }
        let mut next = conf.clone();
        let mut changes = Vec::new();
        for step in steps {
            let change = self.change(*step, &next)?;
            let peer = change.peer().0;
            if changes.iter().any(|earlier: &Change| earlier.peer().0 == peer) {
                return refused("two steps concern the same replica");
            }
            next.voters.retain(|voter| *voter != peer);
            next.learners.retain(|learner| *learner != peer);
            match change {
                Change::Voter(_) => next.voters.push(peer),
                Change::Learner(_) => next.learners.push(peer),
                Change::Gone(_) => (),
            }
            changes.push(change);
        }
        if next.voters.is_empty() {
            return refused("nobody would have a vote");
        }
        if next.voters.len() + next.learners.len() > MEMBERS_MAX {
            return refused("too many members");
        }
        Ok(changes)
    }

    fn change(&self, step: ConfStep, next: &Conf) -> Result<Change, ProposeConfError> {
        let refused = |why| Err(ProposeConfError::Refused(why));
        let conf = self.members.conf();
        match step {
            ConfStep::AddLearner(node) => {
                // Also if the same change removes that one: its vote is needed until the change ends, and a node that is
                // told of its newer replica has no other any more.
                if next.members().chain(conf.members()).any(|peer| PeerId(peer).node() == node) {
                    return refused("the node has a replica already");
                }
                match PeerId::new(node, self.raw.raft.raft_log.last_index() + 1) {
                    Some(peer) => Ok(Change::Learner(peer)),
                    None => refused("a node id or the log's length is out of range"),
                }
            }
            ConfStep::Promote(peer) if !conf.learners.contains(&peer.0) => {
                refused("only learners are promoted")
            }
            ConfStep::Promote(peer) if !self.keeps_up(peer) => Err(ProposeConfError::Busy),
            ConfStep::Promote(peer) => Ok(Change::Voter(peer)),
            ConfStep::Demote(peer) if !conf.voters.contains(&peer.0) => refused("only voters are demoted"),
            ConfStep::Demote(peer) => Ok(Change::Learner(peer)),
            ConfStep::Remove(peer) if !conf.contains(peer.0) => refused("it is no member"),
            ConfStep::Remove(peer) => Ok(Change::Gone(peer)),
        }
    }

    /// Whether a learner lacks so little that its vote would not make the group wait.
    pub(in crate::store) fn keeps_up(&self, peer: PeerId) -> bool {
        let Some(progress) = self.raw.raft.prs().get(peer.0) else { return false };
        self.lag_of(progress).is_some_and(|lag| lag <= limits::PROMOTE_LAG_MAX)
    }

    /// Appends a change as raft's leader would, without the protobuf it would read it from.
    fn append_conf(&mut self, changes: &[Change]) -> Result<(), ()> {
        let entry = eraftpb::Entry {
            entry_type: EntryType::EntryConfChangeV2,
            data: conf_change::encode(changes).into(),
            ..Default::default()
        };
        let raft = &mut self.raw.raft;
        if !raft.append_entry(&mut [entry]) {
            return Err(()); // Too much is uncommitted.
        }
        raft.pending_conf_index = raft.raft_log.last_index();
        raft.bcast_append();
        self.touched();
        Ok(())
    }

    /// Ends a joint change that is applied, and sees to it that whoever leads afterwards has a vote.
    pub(super) fn continue_members(&mut self, now: Instant) {
        if !self.is_leader() || !self.members.conf().is_joint() || self.raw.raft.has_pending_conf() {
            return;
        }
        let stays = self.members.conf().voters.contains(&self.members.peer().0);
        let patience = |since: Instant| now.since(since) < limits::LEAVE_PATIENCE;
        if !stays && self.led_since.is_some_and(patience) {
            if !self.is_handing_over()
                && let Some(to) = self.best_voter()
            {
                self.begin_hand_over(to, now + limits::DRAIN_MAX);
            }
            return;
        }
        if !self.is_handing_over() {
            let _ = self.append_conf(&[]); // If too much is uncommitted, the next tick tries again.
        }
    }

    /// The other voter that lacks the least.
    fn best_voter(&self) -> Option<NodeId> {
        let me = self.kit.config.node;
        let nodes = self.members.voter_nodes().into_iter().filter(|node| *node != me);
        nodes.filter_map(|node| Some((self.lag(node)?, node))).min().map(|(_, node)| node)
    }

    /// Applies a committed change, once.
    pub(in crate::store) fn apply_conf(
        &mut self,
        index: u64,
        payload: &[u8],
    ) -> Result<Conf, ApplyConfError> {
        if self.is_resetting() {
            return Ok(self.members.conf().clone()); // Of a past that is over.
        }
        let applied = self.applied.max(self.members.changed_at());
        if index <= applied || index > self.handed {
            return Err(ApplyConfError::Order { index, applied });
        }
        let changes = conf_change::decode(payload).map_err(ApplyConfError::Bytes)?;
        if is_planted(Bug::ConfChangeTwice) {
            let _ = self.raw.apply_conf_change(&conf_change::to_raft(&changes));
        }
        let state = self.raw.apply_conf_change(&conf_change::to_raft(&changes));
        let conf =
            convert::conf_from_raft(&state.map_err(|error| ApplyConfError::Members(error.to_string()))?);
        self.members.change(index, conf.clone());
        self.members_changed();
        self.flights.retain(|peer, _| conf.contains(peer.0));
        if self.is_leader() && !conf.is_voter(self.members.peer().0) {
            // Raft would stay leader, and panic at the next commit.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        self.touched();
        Ok(conf)
    }
}
