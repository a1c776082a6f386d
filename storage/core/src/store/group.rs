//! One Raft group on this node: what raft decides, turned into records, messages and committed entries.
//!
//! ```text
//!   step / tick / propose ─► raft ─► Ready ─┬─ messages ────────────────► outbox (leader: at once)
//!                                           ├─ entries + hard state ────► open group commit ─► durable()
//!                                           ├─ persisted messages ──────► held until that commit is durable
//!                                           └─ committed entries ───────► Committed ─► applied()
//! ```
//!
//! A group has one raft node after the other: a new one when its replica gets a new id (`standing.rs`). Membership is in
//! `members.rs`, truncation in `truncate.rs`, snapshots in `snapshots.rs`, what a damaged log means in `suspicion.rs`.

mod liveness;
mod members;
mod snapshots;
mod standing;
mod suspicion;
mod truncate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{self, Message, MessageType};
use raft::{RawNode, Ready, StateRole};
use throng_base::Instant;
use throng_base::planted::{Bug, is_planted};
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftMessage;

use super::beats::{Beat, Beats};
use super::config::{LogRead, StoreConfig};
use super::convert;
use super::guard::{self, ElectionTimeouts, Occasion, Refusal};
use super::limits;
use super::outbox::Outbox;
use super::output::{Committed, PersistToken, ProposalId, ProposeError, ReadId, StoreOutput, StoreStats};
use super::persists::{Pending, Persists};
use super::proposals::Proposals;
use super::raft_log::GroupLog;
use super::reads::Reads;
use crate::entry::{Entry, HardState, Mark, PeerId};

pub(super) use members::Members;
use snapshots::Flight;
pub(super) use standing::Standing;
pub(super) use suspicion::Word;
use suspicion::{Ballot, Pardons, Suspicion};

/// Where a group puts what a turn brings.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) persists: &'a mut Persists,
    pub(super) outbox: &'a mut Outbox,
    pub(super) commits: &'a mut Beats,
    pub(super) outputs: &'a mut VecDeque<StoreOutput>,
}

/// Who leads, as last reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Role {
    leader: Option<NodeId>,
    /// The leader's term, 0 without one: elections that nobody wins are not reported.
    term: u64,
    serving: bool,
}

/// Leadership is about to be given away: no new proposals, and off it goes when the open ones are answered.
#[derive(Clone, Copy, Debug)]
struct HandOver {
    to: PeerId,
    until: Instant,
}

/// What every raft node of a store is built from.
pub(super) struct Kit {
    pub(super) config: StoreConfig,
    pub(super) seed: u64,
    /// Another one for every start.
    pub(super) life: u64,
    pub(super) older: Arc<dyn LogRead>,
}

/// The log begins anew, in memory at once, on disk when its mark is durable.
#[derive(Clone, Debug)]
struct Reset {
    /// The `Ready` it came in, 0 if with a new raft node.
    number: u64,
    mark: Mark,
}

/// One group.
pub(super) struct Group {
    shard: ShardId,
    kit: Arc<Kit>,
    raw: RawNode<GroupLog>,
    /// How many raft nodes there were before this one.
    life: u32,
    standing: Standing,
    members: Members,
    /// Through where the flushed state has applied the log.
    flushed: u64,
    /// A new beginning that is not durable.
    reset: Option<Reset>,
    /// A new beginning that is durable and not reported.
    restored: Option<Mark>,
    /// The copy that holds the rows of the snapshot raft is about to take.
    incoming: u32,
    /// Snapshots on their way from here.
    flights: BTreeMap<PeerId, Flight>,
    /// This replica may have forgotten what it said.
    suspicion: Option<Suspicion>,
    /// A place where the log began, as durable: where a mark can be written at any time.
    origin: Mark,
    ballot: Ballot,
    pardons: Pardons,
    timeouts: ElectionTimeouts,
    /// Elections begun since a leader was last known; spreads the attempts.
    campaigns: u32,
    /// Of these, those that asked for votes and made nobody leader; whether one is under way.
    failed: u32,
    was_candidate: bool,
    proposals: Proposals,
    reads: Reads,
    /// The hard state in the newest record, durable or not.
    saved: HardState,
    /// `Ready`s in group commits that are not durable.
    outstanding: u32,
    /// The group commit of the newest of them.
    last_token: PersistToken,
    /// The newest `Ready`.
    last_number: u64,
    /// The `Ready` that took the present term or vote to the log, while that is not durable.
    term_number: Option<u64>,
    /// The newest `Ready` that replaced entries of an older one. What was durable before it says nothing about what
    /// raft holds, so raft hears of no older `Ready` on its own.
    barrier: u64,
    /// Through where entries were handed out.
    handed: u64,
    applied: u64,
    role: Role,
    led_since: Option<Instant>,
    hand_over: Option<HandOver>,
    /// Ticks since this leader's last heartbeat.
    beat_elapsed: usize,
    /// Who has answered since then.
    answered: Vec<u64>,
    /// The newest commit index that the followers were told of.
    told: u64,
    /// The last entry that it knew as committed when it left the group, by index and term; 0 before.
    left: (u64, u64),
    /// What a replica that is gone has to say to one that asked for its vote.
    testimony: Option<Beat>,
}

impl Group {
    /// A group around a raft node that was just recovered.
    pub(super) fn new(
        shard: ShardId,
        kit: Arc<Kit>,
        raw: RawNode<GroupLog>,
        standing: Standing,
        members: Members,
        saved: HardState,
    ) -> Self {
        let applied = raw.raft.raft_log.applied;
        let timeouts = ElectionTimeouts::new(kit.seed, shard, &kit.config);
        let proposals_max = kit.config.proposals_max;
        let origin = Mark {
            index: members.base(),
            term: raw.store().terms().term(members.base()).unwrap_or(0),
            peer: members.peer().0,
            replica: members.replica(),
            conf: members.first_conf().clone(),
            ..Mark::default()
        };
        let mut group = Self {
            shard,
            kit,
            raw,
            life: 0,
            standing,
            members,
            flushed: applied,
            reset: None,
            restored: None,
            incoming: 0,
            flights: BTreeMap::new(),
            suspicion: None,
            origin,
            ballot: Ballot::default(),
            pardons: Pardons::default(),
            timeouts,
            campaigns: 0,
            failed: 0,
            was_candidate: false,
            proposals: Proposals::new(proposals_max),
            reads: Reads::default(),
            saved,
            outstanding: 0,
            last_token: PersistToken(0),
            last_number: 0,
            term_number: None,
            barrier: 0,
            handed: applied,
            applied,
            role: Role::default(),
            led_since: None,
            hand_over: None,
            beat_elapsed: 0,
            answered: Vec::new(),
            told: 0,
            left: (0, 0),
            testimony: None,
        };
        group.members_changed();
        group.touched();
        group
    }

    /// The same for a replica that had left the group after this entry.
    pub(super) fn left(mut self, index: u64, term: u64) -> Self {
        self.left = (index, term);
        self
    }

    /// After every call into raft: raft may have drawn an election time-out of its own.
    fn touched(&mut self) {
        let is_candidate = self.raw.raft.state == StateRole::Candidate;
        let failed = core::mem::replace(&mut self.was_candidate, is_candidate) && !is_candidate;
        self.failed = self.failed.saturating_add(u32::from(failed));
        if self.raw.raft.leader_id != 0 {
            (self.campaigns, self.failed) = (0, 0);
        }
        let (term, campaigns, failed) = (self.raw.raft.term, self.campaigns, self.failed);
        let mut ticks = self.timeouts.ticks(Occasion { term, campaigns, failed, leader: self.leader() });
        if self.is_suspect() {
            ticks += self.kit.config.election_ticks; // Others first: their votes count by themselves.
        }
        self.raw.raft.set_randomized_election_timeout(ticks);
    }

    // What is known.

    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    fn leading_term(&self) -> Option<u64> {
        self.is_leader().then_some(self.raw.raft.term)
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        (self.raw.raft.leader_id != 0).then(|| PeerId(self.raw.raft.leader_id).node())
    }

    pub(super) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether this node leads and has applied an entry of its own term.
    pub(super) fn is_serving(&self) -> bool {
        self.is_leader() && self.raw.store().terms().term(self.applied) == Some(self.raw.raft.term)
    }

    pub(super) fn led_since(&self) -> Option<Instant> {
        self.led_since
    }

    pub(super) fn is_handing_over(&self) -> bool {
        self.hand_over.is_some() || self.raw.raft.lead_transferee.is_some()
    }

    /// How many entries the voter on a node is known to lack, `None` if it is not known to replicate.
    pub(super) fn lag(&self, node: NodeId) -> Option<u64> {
        self.lag_of(self.raw.raft.prs().get(self.members.voter_on(node)?.0)?)
    }

    /// How many entries a member is known to lack. Raft takes one that it probes for one that replicates only with the
    /// next entry, which in a quiet group never comes: if it has everything, it is no less.
    fn lag_of(&self, progress: &raft::Progress) -> Option<u64> {
        let lag = self.raw.raft.raft_log.last_index() - progress.matched;
        match progress.state {
            raft::ProgressState::Replicate => Some(lag),
            raft::ProgressState::Probe => (lag == 0).then_some(0),
            raft::ProgressState::Snapshot => None,
        }
    }

    pub(super) fn log(&self) -> &GroupLog {
        self.raw.store()
    }

    /// Lets go of applied entries in memory.
    pub(super) fn evict(&mut self, want: usize) -> usize {
        let applied = self.applied;
        self.raw.mut_store().evict(applied, want)
    }

    fn unapplied(&self) -> u64 {
        self.raw.raft.raft_log.committed - self.applied
    }

    /// Whether everything raft has decided here is durable.
    fn is_settled(&self) -> bool {
        let raft = &self.raw.raft;
        self.outstanding == 0
            && raft.raft_log.unstable_entries().is_empty()
            && (raft.term, raft.vote) == (self.saved.term, self.saved.vote)
    }

    // Inputs. Each returns whether there may be something to collect.

    /// Begins an election at once.
    pub(super) fn campaign(&mut self) {
        self.campaigns += 1;
        // An error would mean that raft is not ready to campaign; the election time-out tries again.
        let _ = self.raw.campaign();
        self.touched();
    }

    /// A message from another node to this one.
    pub(super) fn step(&mut self, mut message: RaftMessage, persists: &mut Persists) -> Result<(), Refusal> {
        self.address(&message, persists)?;
        let waits = self.standing == Standing::Fresh;
        let (settled, resetting, suspect) = (self.is_settled(), self.is_resetting(), self.is_suspect());
        let condition = guard::Condition { settled, resetting, waits, suspect };
        if let Err(refusal) = guard::check(&self.raw.raft, &mut message, condition) {
            if refusal == Refusal::BeyondLog {
                self.become_suspect(persists);
            }
            return Err(refusal);
        }
        if !self.weigh(&message) {
            self.touched();
            return Ok(());
        }
        let asked_by = message.suspect;
        let message = convert::message_to_raft(message).ok_or(Refusal::Malformed)?;
        let asks_for_vote = convert::is_vote_request(message.get_msg_type());
        let mut message = message;
        if is_planted(Bug::VoteForStaleLog) && asks_for_vote {
            message.index = u64::MAX;
            message.log_term = u64::MAX;
        }
        if is_planted(Bug::VoteTwice) && message.get_msg_type() == MessageType::MsgRequestVote {
            self.raw.raft.vote = 0;
        }
        if matches!(
            message.get_msg_type(),
            MessageType::MsgHeartbeatResponse | MessageType::MsgAppendResponse
        ) && message.term == self.raw.raft.term
        {
            self.note_answer(message.from);
        }
        let said = self.raw.raft.msgs.len();
        // Errors are "dropped": a vote nobody asked for, a peer without progress.
        let _ = self.raw.step(message);
        self.mark_votes(said, asked_by);
        self.mute(said);
        self.touched();
        Ok(())
    }

    pub(super) fn propose(&mut self, payload: Bytes, id: ProposalId) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        if self.is_handing_over() || self.proposals.is_full() || self.unapplied() > limits::UNAPPLIED_MAX {
            return Err(ProposeError::Busy);
        }
        let entry = eraftpb::Entry { data: payload, ..Default::default() };
        let message = Message {
            msg_type: MessageType::MsgPropose,
            from: self.raw.raft.id,
            entries: vec![entry].into(),
            ..Default::default()
        };
        let appended = self.raw.raft.step(message);
        self.touched();
        appended.map_err(|_| ProposeError::Busy)?; // Too much is uncommitted.
        self.proposals.add(self.raw.raft.raft_log.last_index(), self.raw.raft.term, id);
        Ok(())
    }

    pub(super) fn read(&mut self, id: ReadId) -> Result<(), ProposeError> {
        match self.leading_term() {
            None => Err(ProposeError::NotLeader { leader: self.leader() }),
            Some(term) if self.reads.add(id, term) => Ok(()),
            Some(_) => Err(ProposeError::Busy),
        }
    }

    /// A node cannot be reached: messages in flight to it are probably gone, and so is a snapshot.
    pub(super) fn unreachable(&mut self, node: NodeId) {
        if !self.is_leader() {
            return;
        }
        for peer in self.members.on(node) {
            self.raw.report_unreachable(peer.0);
            self.end_flight(peer, false);
        }
        self.touched();
    }

    /// Gives leadership to `to` as soon as the open proposals are answered, at the latest at `until`. False if there is
    /// nothing to give, it is on its way already, or the other node has no vote.
    pub(super) fn begin_hand_over(&mut self, to: NodeId, until: Instant) -> bool {
        if !self.is_leader() || self.is_handing_over() {
            return false;
        }
        let Some(to) = self.members.voter_on(to) else { return false };
        self.hand_over = Some(HandOver { to, until });
        true
    }

    /// A `Ready` of this group is durable.
    pub(super) fn durable(&mut self, life: u32, number: u64) {
        if life != self.life {
            return; // Of a raft node that is gone.
        }
        assert!(self.outstanding > 0, "each Ready becomes durable once");
        assert!(number <= self.last_number, "it was taken before");
        self.outstanding -= 1;
        self.term_number.take_if(|term| *term <= number);
        if number < self.barrier {
            return; // The barrier's own commit is in flight, and implies this one.
        }
        // With nothing outstanding the Readies without anything to write are done too.
        let number = if self.outstanding == 0 { self.last_number } else { number };
        self.raw.on_persist_ready(number);
        self.reset_durable(number);
        if is_planted(Bug::AckBeforeQuorum) && self.is_leader() {
            let persisted = self.raw.raft.raft_log.persisted;
            self.raw.raft.raft_log.commit_to(persisted);
        }
        self.touched();
    }

    /// Whether what the machines still say concerns a past that is over.
    fn is_resetting(&self) -> bool {
        self.reset.is_some() || self.restored.is_some()
    }

    /// The machines have applied the log through `index`.
    pub(super) fn applied(&mut self, index: u64, outputs: &mut VecDeque<StoreOutput>) {
        if self.is_resetting() {
            return;
        }
        assert!(index <= self.handed, "only what was handed out can be applied");
        if index <= self.applied {
            return;
        }
        self.applied = index;
        self.raw.advance_apply_to(index);
        self.touched();
        self.report_ready_reads(outputs);
        self.report_role(outputs);
    }

    // Outputs.

    /// Takes everything that is ready. Returns whether there is more.
    pub(super) fn collect(&mut self, turn: &mut Turn<'_>) -> bool {
        if let Some(mark) = self.restored.take() {
            turn.outputs.push_back(StoreOutput::Restored { shard: self.shard, mark });
        }
        self.lead_without_suspicion(turn.persists);
        self.begin_reads();
        self.continue_hand_over(turn.now);
        self.continue_members(turn.now);
        let mut carried = Vec::new();
        for _ in 0..limits::READIES_PER_TURN_MAX {
            if !self.raw.has_ready() {
                break;
            }
            self.take_ready(turn, &mut carried);
        }
        self.tell_commit(&carried, turn.commits);
        if let Some(beat) = self.testimony.take() {
            turn.commits.add(beat.follower.node(), beat);
        }
        self.begin_flights(turn.now, turn.outputs);
        if let Some(error) = self.raw.mut_store().take_failure() {
            turn.outputs.push_back(StoreOutput::Unreadable { shard: self.shard, error });
        }
        self.report_lost(turn.outputs);
        self.report_ready_reads(turn.outputs);
        self.led_since = if self.is_leader() { self.led_since.or(Some(turn.now)) } else { None };
        self.report_role(turn.outputs);
        if self.has_left() {
            self.become_passive(turn.persists);
        }
        self.raw.has_ready() || self.can_read()
    }

    /// Raft drops reads without a word before the leader has committed in its term.
    fn can_read(&self) -> bool {
        self.reads.wants_round() && self.is_leader() && self.raw.raft.commit_to_current_term()
    }

    fn begin_reads(&mut self) {
        if self.can_read() {
            let context = self.reads.begin_round();
            self.raw.read_index(context.to_vec());
            self.touched();
        }
    }

    fn continue_hand_over(&mut self, now: Instant) {
        if !self.is_leader() {
            self.hand_over = None;
        }
        let Some(HandOver { to, until }) = self.hand_over else { return };
        if self.proposals.is_empty() || now >= until {
            self.hand_over = None;
            self.raw.transfer_leader(to.0);
            self.touched();
        }
    }

    /// Notes in `carried` who is told of the newest commit index.
    fn take_ready(&mut self, turn: &mut Turn<'_>, carried: &mut Vec<u64>) {
        let mut ready = self.raw.ready();
        self.last_number = ready.number();
        let mut messages = ready.take_messages();
        self.save(&mut ready, turn.persists);
        let commit = self.raw.raft.raft_log.committed;
        self.mark_requests(&mut messages);
        for message in messages {
            if message.get_msg_type() == MessageType::MsgAppend && message.commit == commit {
                carried.push(message.to);
            }
            // Whoever votes alone leads before its term is durable. A crash would have it lead the same term again, with
            // other entries under numbers that its learners may hold already.
            match self.term_number {
                None => turn.outbox.add(self.shard, message),
                Some(_) => turn.persists.hold(self.last_token, self.shard, message),
            }
        }
        let mut messages = ready.take_persisted_messages();
        self.mark_requests(&mut messages);
        for message in messages {
            // They may tell of anything up to this Ready, so they wait for all of them.
            match self.outstanding {
                _ if is_planted(Bug::HardStateAfterSend) => turn.outbox.add(self.shard, message),
                _ if self.is_sign_of_life(&message) => turn.outbox.add(self.shard, message),
                0 => turn.outbox.add(self.shard, message),
                _ => turn.persists.hold(self.last_token, self.shard, message),
            }
        }
        self.hand_out(ready.take_committed_entries(), turn.outputs);
        for state in ready.take_read_states() {
            self.reads.round_done(&state.request_ctx, state.index);
        }
        self.raw.advance_append_async(ready);
        if self.outstanding == 0 {
            self.raw.on_persist_ready(self.last_number);
        }
        self.touched();
    }

    /// Whether a message says no more than that this replica follows a leader in a term that is durable here. It says
    /// nothing of entries, so it need not wait for them: a leader whose followers are busy with their disks for longer
    /// than an election takes would depose itself (raft counts who has answered), and no election is quicker than that.
    fn is_sign_of_life(&self, message: &Message) -> bool {
        message.get_msg_type() == MessageType::MsgHeartbeatResponse
            && self.term_number.is_none()
            && !self.is_resetting()
    }

    /// Puts what must be durable into the open group commit, and what raft will read into memory. If only the commit
    /// index moved, it travels with the group's next record: nothing waits for it.
    fn save(&mut self, ready: &mut Ready, persists: &mut Persists) {
        let entries = ready.take_entries();
        if !ready.must_sync() {
            assert!(entries.is_empty(), "entries must always be synced");
            return;
        }
        let mark = self.take_snapshot(ready);
        let replaced = self.raw.mut_store().append(&entries);
        if replaced && self.outstanding > 0 {
            self.barrier = self.last_number;
        }
        let state = convert::hard_state_from_raft(&self.raw.raft.hard_state());
        assert!(state.term >= self.saved.term && state.commit >= self.saved.commit, "hard state never falls");
        let changed = (state != self.saved || mark.is_some()).then_some(state);
        if (state.term, state.vote) != (self.saved.term, self.saved.vote) {
            self.term_number = Some(self.last_number);
        }
        self.saved = state;
        let entries: Vec<Entry> = entries.iter().map(convert::entry_from_raft).collect();
        let pending = Pending { shard: self.shard, life: self.life, number: self.last_number };
        self.last_token = persists.add(pending, changed, mark, entries);
        self.outstanding += 1;
    }

    fn hand_out(&mut self, entries: Vec<eraftpb::Entry>, outputs: &mut VecDeque<StoreOutput>) {
        if entries.is_empty() {
            return;
        }
        assert_eq!(entries[0].index, self.handed + 1, "committed entries come without gaps");
        self.handed += entries.len() as u64;
        let committed = entries.into_iter().map(|entry| Committed {
            kind: convert::entry_kind_from_raft(entry.entry_type),
            index: entry.index,
            term: entry.term,
            proposal: self.proposals.committed(entry.index, entry.term),
            payload: entry.data,
        });
        outputs.push_back(StoreOutput::Committed { shard: self.shard, entries: committed.collect() });
    }

    fn report_lost(&mut self, outputs: &mut VecDeque<StoreOutput>) {
        let term = self.leading_term();
        let (proposals, reads) = (self.proposals.lost(term), self.reads.lost(term));
        if !proposals.is_empty() || !reads.is_empty() {
            outputs.push_back(StoreOutput::Lost { shard: self.shard, proposals, reads });
        }
    }

    fn report_ready_reads(&mut self, outputs: &mut VecDeque<StoreOutput>) {
        while let Some((index, read)) = self.reads.pop_ready(self.applied) {
            outputs.push_back(StoreOutput::ReadReady { shard: self.shard, read, index });
        }
    }

    fn report_role(&mut self, outputs: &mut VecDeque<StoreOutput>) {
        let leader = self.leader();
        let term = if leader.is_some() { self.term() } else { 0 };
        let role = Role { leader, term, serving: self.is_serving() };
        if role != self.role {
            self.role = role;
            let Role { leader, serving, .. } = role;
            outputs.push_back(StoreOutput::Role { shard: self.shard, leader, term: self.term(), serving });
        }
    }

    /// Adds what this group has counted.
    pub(super) fn add_stats(&self, stats: &mut StoreStats) {
        stats.tail_bytes += self.log().bytes() as u64;
        stats.log_reads += self.log().reads();
        self.count_suspicion(stats);
    }
}
