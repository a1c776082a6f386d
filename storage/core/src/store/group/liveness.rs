//! Time in a group: ticks, heartbeats and their answers, and nodes that fall silent.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};
use throng_base::Instant;
use throng_wire::ids::NodeId;

use super::{Group, Standing};
use crate::entry::{MEMBERS_MAX, PeerId};
use crate::store::beats::{Beat, Beats};

impl Group {
    /// One tick. Returns whether an election began, and whether there is something to collect; heartbeats that need no
    /// raft message go to `beats`.
    pub(in crate::store) fn tick(&mut self, now: Instant, beats: &mut Beats) -> (bool, bool) {
        if self.standing != Standing::Member {
            return (false, false);
        }
        if self.is_resetting() {
            // Raft would look for unapplied entries below the new beginning before it campaigns.
            self.raw.raft.election_elapsed = 0;
        }
        let leads = self.is_leader();
        let beats_whole = self.beat(beats);
        let busy = self.tick_raft(leads) | self.check_flights(now) | beats_whole;
        let campaigned =
            busy && matches!(self.raw.raft.state, StateRole::PreCandidate | StateRole::Candidate);
        if campaigned {
            self.campaigns = self.campaigns.saturating_add(1);
        }
        if campaigned && self.raw.raft.state == StateRole::PreCandidate {
            // Nobody who is in a lease answers a pre-vote, and to ask again costs nobody anything: half the time-out.
            self.raw.raft.election_elapsed = self.raw.raft.election_timeout() / 2;
        }
        if busy {
            self.touched();
        }
        (campaigned, busy || self.hand_over.is_some() || self.members.conf().is_joint())
    }

    /// Raft's own timers. Returns whether there is something to collect. A leader's heartbeats are dropped here:
    /// [`Self::beat`] has said that much more often.
    fn tick_raft(&mut self, leads: bool) -> bool {
        let said = self.raw.raft.msgs.len();
        let busy = self.raw.tick();
        if !leads || !self.is_leader() {
            return busy;
        }
        let messages = &mut self.raw.raft.msgs;
        messages.extract_if(said.., |message| message.msg_type == MessageType::MsgHeartbeat).for_each(drop);
        messages.len() > said
    }

    /// The leader's heartbeat, if it is due: in short if every follower needs no more, else raft's own. Returns whether
    /// it is raft's.
    fn beat(&mut self, beats: &mut Beats) -> bool {
        if !self.is_leader() {
            self.beat_elapsed = 0;
            return false;
        }
        self.beat_elapsed += 1;
        if self.beat_elapsed < self.kit.config.heartbeat_ticks {
            return false;
        }
        self.beat_elapsed = 0;
        let is_short = self.is_quiet();
        self.answered.clear();
        if !is_short {
            let id = self.raw.raft.id;
            let message = Message { msg_type: MessageType::MsgBeat, from: id, ..Default::default() };
            let _ = self.raw.raft.step(message); // Cannot fail in a leader.
            return true;
        }
        let raft = &self.raw.raft;
        for (&id, _) in raft.prs().iter().filter(|(id, _)| **id != raft.id) {
            let (leader, follower) = (PeerId(raft.id), PeerId(id));
            let (term, commit) = (raft.term, raft.raft_log.committed);
            beats.add(follower.node(), Beat { shard: self.shard, term, commit, leader, follower });
        }
        false
    }

    /// Whether every follower has everything and has answered the last heartbeat, and nobody waits for a read.
    fn is_quiet(&self) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let is_even = |(id, progress): (&u64, &raft::Progress)| {
            *id == raft.id
                || progress.state != raft::ProgressState::Snapshot
                    && progress.matched == last
                    && !progress.paused
                    && progress.pending_request_snapshot == 0
                    && self.answered.contains(id)
        };
        raft.raft_log.committed == last
            && raft.read_only.pending_read_count() == 0
            && raft.lead_transferee.is_none()
            && raft.prs().iter().all(is_even)
    }

    /// A short heartbeat. True if it finds everything as it says, and is to be answered.
    pub(in crate::store) fn hear_beat(&mut self, beat: &Beat) -> bool {
        let fits = self.standing == Standing::Member && !self.is_resetting() && !self.is_suspect();
        let raft = &mut self.raw.raft;
        let fits = fits
            && raft.state == StateRole::Follower
            && beat.follower.0 == raft.id
            && beat.leader.0 == raft.leader_id
            && beat.term == raft.term
            && beat.commit == raft.raft_log.committed;
        if fits {
            raft.election_elapsed = 0;
        }
        fits
    }

    /// Tells followers what is committed, unless raft's own messages of this turn did.
    pub(super) fn tell_commit(&mut self, carried: &[u64], commits: &mut Beats) {
        let raft = &self.raw.raft;
        let commit = raft.raft_log.committed;
        if raft.state != StateRole::Leader || commit <= self.told {
            return;
        }
        self.told = commit;
        let Ok(term) = raft.raft_log.term(commit) else { return };
        for (&id, _) in raft.prs().iter().filter(|(id, _)| **id != raft.id && !carried.contains(id)) {
            let (leader, follower) = (PeerId(raft.id), PeerId(id));
            commits.add(follower.node(), Beat { shard: self.shard, term, commit, leader, follower });
        }
    }

    /// What somebody knows as committed: an entry by its index and term. If it stands here too, the logs agree that far
    /// (Raft, log matching), and what is committed once is so for ever, whoever says it. Returns whether it says anything
    /// new.
    pub(in crate::store) fn hear_commit(&mut self, beat: &Beat) -> bool {
        let fits = self.standing == Standing::Member && !self.is_resetting();
        let raft = &mut self.raw.raft;
        let is_new = fits
            && beat.follower.0 == raft.id
            && beat.commit > raft.raft_log.committed
            && raft.raft_log.term(beat.commit).is_ok_and(|term| term == beat.term);
        if is_new {
            raft.raft_log.commit_to(beat.commit);
            self.touched();
        }
        is_new
    }

    /// The answer to a short heartbeat.
    pub(in crate::store) fn hear_answer(&mut self, beat: &Beat) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && beat.leader.0 == raft.id && beat.term == raft.term {
            if let Some(progress) = raft.mut_prs().get_mut(beat.follower.0) {
                progress.recent_active = true;
            }
            self.note_answer(beat.follower.0);
        }
    }

    /// A follower has answered something of this term.
    pub(super) fn note_answer(&mut self, peer: u64) {
        if !self.answered.contains(&peer) && self.answered.len() < 2 * MEMBERS_MAX {
            self.answered.push(peer);
        }
    }

    /// For some ticks nothing went to a node and back. What it leads counts as without a leader for that long; a leader
    /// that is left without a majority of voters it can talk to lets go at once. Returns whether it did.
    pub(in crate::store) fn silent(
        &mut self,
        node: NodeId,
        ticks: usize,
        talks: impl Fn(NodeId) -> bool,
    ) -> bool {
        if self.standing != Standing::Member {
            return false;
        }
        let me = self.members.peer().0;
        match self.raw.raft.state {
            StateRole::Follower if self.leader() == Some(node) => {
                // No further than the lease that this replica grants: its own election keeps its place.
                let raft = &mut self.raw.raft;
                raft.election_elapsed = raft.election_elapsed.max(ticks.min(raft.election_timeout()));
                false
            }
            StateRole::Leader => {
                let conf = self.members.conf();
                let majority = |voters: &[u64]| {
                    let there = voters.iter().filter(|peer| **peer == me || talks(PeerId(**peer).node()));
                    voters.is_empty() || there.count() * 2 > voters.len()
                };
                if majority(&conf.voters) && majority(&conf.voters_outgoing) {
                    return false;
                }
                let term = self.raw.raft.term;
                self.raw.raft.become_follower(term, raft::INVALID_ID);
                self.touched();
                true
            }
            StateRole::Follower | StateRole::Candidate | StateRole::PreCandidate => false,
        }
    }
}
