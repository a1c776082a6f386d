//! A replica whose log ended in damage: it may have forgotten its last vote, its last entries, even a term, and nobody can
//! tell that from a write that a crash interrupted. Such a suspect follows, but nothing it says counts until a leader has
//! cleared it. Why this is sound: `docs/internals/raft.md`.
//!
//! ```text
//!  suspect                                  leader
//!  acknowledges nothing
//!  PLEA life ─────────────────────────────► forgets what it acknowledged, appends an empty entry
//!  PLEA life ─────────────────────────────► that entry is committed, without the suspect
//!  is none any more ◄────────────── RELEASE life, term
//! ```
//!
//! Its votes carry the number of its life. They count only where *all* voters grant theirs: that is how a group elects a
//! leader whose voters have all lost power at once, and such a leader clears those who voted for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{INVALID_ID, StateRole};
use throng_base::Rng;
use throng_base::planted::{Bug, is_planted};
use throng_wire::ids::NodeId;
use throng_wire::peer::RaftMessage;

use super::{Group, Standing};
use crate::entry::{Mark, PeerId};
use crate::store::convert;
use crate::store::guard::Refusal;
use crate::store::limits;
use crate::store::output::StoreStats;
use crate::store::persists::{Pending, Persists};

/// Kinds of messages that raft does not know, beside those of `beats.rs`.
const PLEA: u32 = 1_002;
const RELEASE: u32 = 1_003;

/// What suspects and leaders say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Word {
    /// A suspect asks to be cleared.
    Plea,
    /// A leader has cleared it.
    Release,
}

impl Word {
    /// What a message of this kind is; `None` if it is none of these.
    pub(in crate::store) fn of(kind: u32) -> Option<Self> {
        match kind {
            PLEA => Some(Self::Plea),
            RELEASE => Some(Self::Release),
            _ => None,
        }
    }
}

/// This replica is a suspect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    /// Names what it has said since it last may have forgotten something. Not 0, and at most 63 bits.
    life: u64,
    /// Whether the log says so.
    is_noted: bool,
    /// Ticks since it last asked.
    elapsed: usize,
}

/// Who has granted a vote in the present election.
#[derive(Debug, Default)]
pub(super) struct Ballot {
    /// Term, whether it is a pre-vote, and which attempt.
    election: (u64, bool, u32),
    /// By voter: 0, or the life of a suspect.
    grants: BTreeMap<u64, u64>,
    /// Suspects that were heard of before this election's requests left, by voter.
    heard: BTreeMap<u64, u64>,
}

/// What a leader knows of suspects.
#[derive(Debug, Default)]
pub(super) struct Pardons {
    term: u64,
    /// By replica, those of members only.
    cases: BTreeMap<u64, Case>,
    /// How often this replica has become a suspect, and was cleared.
    suspects: u64,
    released: u64,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    life: u64,
    /// It is cleared when this is committed.
    at: u64,
}

impl Group {
    pub(in crate::store) fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// What the log said of this replica when it was recovered: its end was damaged, or that was noted before.
    pub(in crate::store) fn suspected(mut self, is_suspect: bool, is_noted: bool) -> Self {
        if (is_suspect || is_noted) && self.standing != Standing::Passive {
            self.suspect(is_noted);
        }
        self
    }

    fn suspect(&mut self, is_noted: bool) {
        if is_planted(Bug::VoteAfterDamage) {
            return;
        }
        self.pardons.suspects += 1;
        let mut rng = Rng::new(self.kit.life).fork(u64::from(self.shard.0)).fork(self.pardons.suspects);
        let life = rng.fork(self.kit.config.node.0).next_u64() >> 1 | 1;
        self.suspicion = Some(Suspicion { life, is_noted, elapsed: 0 });
        self.touched();
    }

    /// This replica has lost what it acknowledged, as a leader shows.
    pub(super) fn become_suspect(&mut self, persists: &mut Persists) {
        if self.standing != Standing::Passive && !self.is_resetting() && !self.is_suspect() {
            // Whatever others have granted or acknowledged so far was to a replica that knew more.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, INVALID_ID);
            self.suspect(false);
            self.note_suspicion(persists);
        }
    }

    /// Writes down that this is a suspect, unless the log says so: the next start may find an undamaged end.
    pub(in crate::store) fn note_suspicion(&mut self, persists: &mut Persists) {
        let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| !suspicion.is_noted) else { return };
        suspicion.is_noted = true;
        self.write_mark(true, persists);
    }

    fn write_mark(&mut self, is_suspect: bool, persists: &mut Persists) {
        // Where the log begins by now stays as it is.
        let mark = Mark { is_suspect, reset: false, ..self.origin.clone() };
        let pending = Pending { shard: self.shard, life: self.life, number: self.last_number };
        self.last_token = persists.add(pending, None, Some(mark), Vec::new());
        self.outstanding += 1;
    }

    /// Nothing that this replica forgot can matter any more. To act on that before it is durable is safe: a crash makes
    /// a suspect of it again.
    fn clear(&mut self, persists: &mut Persists) {
        self.suspicion = None;
        self.pardons.released += 1;
        self.write_mark(false, persists);
        self.touched();
    }

    /// People say that it forgot nothing. False if it is no suspect, or is about to begin anew.
    pub(in crate::store) fn acquit(&mut self, persists: &mut Persists) -> bool {
        let may = self.is_suspect() && self.standing == Standing::Member && !self.is_resetting();
        if may {
            self.clear(persists);
        }
        may
    }

    /// Whoever leads although it is a suspect has the votes of all.
    pub(super) fn lead_without_suspicion(&mut self, persists: &mut Persists) {
        if self.is_suspect() && self.is_leader() {
            self.clear(persists);
        }
    }

    pub(super) fn count_suspicion(&self, stats: &mut StoreStats) {
        stats.suspects += self.pardons.suspects;
        stats.released += self.pardons.released;
    }

    // The suspect's side.

    /// What a suspect says counts for nothing: of what raft said since it had said so much, acknowledgements and answers
    /// to heartbeats are dropped, and votes are marked.
    pub(super) fn mute(&mut self, said: usize) {
        let Some(Suspicion { life, .. }) = self.suspicion else { return };
        let new = self.raw.raft.msgs.split_off(said);
        let counts = |kind: MessageType| {
            matches!(kind, MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse)
        };
        self.raw.raft.msgs.extend(new.into_iter().filter(|message| !counts(message.msg_type)).map(
            |mut message| {
                if convert::is_vote(message.msg_type) {
                    message.priority = life as i64;
                }
                message
            },
        ));
    }

    /// A suspect's requests for votes carry its life as well: an earlier one may have asked in the same term, with a longer
    /// log.
    pub(super) fn mark_requests(&self, messages: &mut [Message]) {
        let Some(Suspicion { life, .. }) = self.suspicion else { return };
        for request in messages.iter_mut().filter(|message| convert::is_vote_request(message.msg_type)) {
            request.priority = life as i64;
        }
    }

    /// Once per heartbeat, a suspect asks the leader to clear it; if it knows none, it asks all voters. A learner that has
    /// heard no leader for long asks as well, with no life: it cannot ask for votes, and it may have been removed.
    pub(in crate::store) fn pleas(&mut self) -> Vec<(NodeId, RaftMessage)> {
        let every = self.kit.config.heartbeat_ticks;
        let is_forsaken = self.is_forsaken();
        let suspect = match self.suspicion.as_mut() {
            None if is_forsaken => {
                self.raw.raft.leader_id = INVALID_ID;
                self.touched();
                0
            }
            None => return Vec::new(),
            Some(suspicion) => {
                suspicion.elapsed += 1;
                if suspicion.elapsed < every {
                    return Vec::new();
                }
                suspicion.elapsed = 0;
                suspicion.life
            }
        };
        let (me, raft) = (self.members.peer().0, &self.raw.raft);
        let to: Vec<u64> = match raft.leader_id {
            INVALID_ID => self.members.conf().all_voters().filter(|peer| *peer != me).collect(),
            leader => vec![leader],
        };
        let (shard, term) = (self.shard, raft.term);
        let plea = |to: u64| RaftMessage {
            shard,
            kind: PLEA,
            from: me,
            to,
            term,
            suspect,
            ..RaftMessage::default()
        };
        to.into_iter().map(|to| (PeerId(to).node(), plea(to))).collect()
    }

    /// Whether this is a learner that should ask for its leader: once per election time-out, after some of them.
    fn is_forsaken(&self) -> bool {
        let (raft, every) = (&self.raw.raft, self.kit.config.election_ticks);
        // Asked of every group in every tick, so what is rare comes first.
        raft.election_elapsed >= limits::LEARNER_PATIENCE * every
            && raft.election_elapsed.is_multiple_of(every)
            && raft.state == StateRole::Follower
            && self.standing == Standing::Member
            && !self.is_resetting()
            && !self.members.conf().is_voter(self.members.peer().0)
    }

    /// A leader has cleared this replica. It counts as having voted for it, so that it votes for nobody else in that
    /// term, whatever it may have forgotten.
    pub(in crate::store) fn hear_release(
        &mut self,
        message: &RaftMessage,
        persists: &mut Persists,
    ) -> Result<(), Refusal> {
        let is_ours = PeerId(message.to) == self.members.peer() && self.standing != Standing::Passive;
        if !is_ours || self.is_stranger(PeerId(message.from)) {
            return Err(Refusal::Stranger);
        }
        if message.term == 0 || message.term > limits::TERM_MAX {
            return Err(Refusal::Malformed);
        }
        let is_meant = self.suspicion.is_some_and(|suspicion| suspicion.life == message.suspect);
        let raft = &mut self.raw.raft;
        let contradicts =
            message.term == raft.term && raft.leader_id != INVALID_ID && raft.leader_id != message.from;
        if !is_meant || message.term < raft.term || contradicts || raft.state == StateRole::Leader {
            return Err(Refusal::Stale);
        }
        if self.is_resetting() {
            return Err(Refusal::Stale); // It asks again.
        }
        let raft = &mut self.raw.raft;
        raft.become_follower(message.term, message.from);
        raft.vote = message.from;
        self.clear(persists);
        Ok(())
    }

    // The leader's side.

    /// A suspect asks to be cleared; returns the answer, if there is one yet. What it acknowledged before does not count:
    /// it may have lost it.
    pub(in crate::store) fn hear_plea(
        &mut self,
        message: &RaftMessage,
    ) -> Result<Option<RaftMessage>, Refusal> {
        let (from, life) = (message.from, message.suspect);
        if PeerId(message.to) != self.members.peer() || self.standing != Standing::Member {
            return Err(Refusal::Stranger);
        }
        if self.is_stranger(PeerId(from)) {
            self.say_gone_to(from);
            return Err(Refusal::Stranger);
        }
        if message.term > limits::TERM_MAX {
            return Err(Refusal::Malformed);
        }
        if life == 0
            || !self.is_leader()
            || self.raw.raft.prs().get(from).is_none()
            || from == self.raw.raft.id
        {
            return Ok(None);
        }
        let term = self.raw.raft.term;
        if message.term > term {
            // As after any other word of a newer term: it would never follow this leader.
            self.raw.raft.become_follower(message.term, INVALID_ID);
            self.touched();
            return Ok(None);
        }
        if self.pardons.term != term {
            (self.pardons.term, self.pardons.cases) = (term, BTreeMap::new());
        }
        let known = self.pardons.cases.get(&from).filter(|case| case.life == life);
        let Some(case) = known else {
            self.open_case(from, life);
            return Ok(None);
        };
        if self.raw.raft.raft_log.committed < case.at {
            return Ok(None);
        }
        self.resume(from);
        Ok(Some(RaftMessage {
            shard: self.shard,
            kind: RELEASE,
            from: message.to,
            to: from,
            term,
            suspect: life,
            ..RaftMessage::default()
        }))
    }

    /// Forgets what a replica acknowledged, and appends the entry that clears it.
    fn open_case(&mut self, from: u64, life: u64) {
        self.flights.remove(&PeerId(from));
        let raft = &mut self.raw.raft;
        if !raft.append_entry(&mut [Entry::default()]) {
            return; // Too much is uncommitted; it asks again.
        }
        let at = raft.raft_log.last_index();
        if let Some(progress) = raft.mut_prs().get_mut(from) {
            progress.become_probe();
            (progress.matched, progress.next_idx) = (0, at);
        }
        raft.bcast_append();
        self.pardons.cases.retain(|peer, _| self.raw.raft.prs().get(*peer).is_some());
        self.pardons.cases.insert(from, Case { life, at });
        self.touched();
    }

    /// It answers again: what it was sent while it did not is sent anew.
    fn resume(&mut self, to: u64) {
        let raft = &mut self.raw.raft;
        if let Some(progress) = raft.mut_prs().get_mut(to)
            && progress.state == raft::ProgressState::Probe
        {
            progress.resume();
            raft.send_append(to);
        }
        self.touched();
    }

    // The voter's and the candidate's side.

    /// A vote says which life of a suspect it is for.
    pub(super) fn mark_votes(&mut self, said: usize, asked_by: u64) {
        if asked_by == 0 {
            return;
        }
        let new = self.raw.raft.msgs.iter_mut().skip(said);
        for vote in new.filter(|message| convert::is_vote(message.msg_type)) {
            vote.context = Bytes::copy_from_slice(&asked_by.to_be_bytes());
        }
    }

    /// Whether raft is to see a message now. Votes of suspects, and all votes for a suspect, are held back until all voters
    /// have granted theirs.
    pub(super) fn weigh(&mut self, message: &RaftMessage) -> bool {
        let raft = &self.raw.raft;
        let is_pre = match (raft.state, convert::message_kind(message.kind)) {
            _ if message.reject => return true,
            (StateRole::PreCandidate, Some(MessageType::MsgRequestPreVoteResponse)) => true,
            (StateRole::Candidate, Some(MessageType::MsgRequestVoteResponse)) => false,
            (_, Some(kind)) if convert::is_vote(kind) => return message.suspect == 0,
            _ => return true,
        };
        if !self.members.conf().is_voter(message.from) || !is_pre && message.term != raft.term {
            return message.suspect == 0;
        }
        if let Some(Suspicion { life, .. }) = self.suspicion
            && message.context[..] != life.to_be_bytes()
        {
            return false;
        }
        self.ballot.enter((raft.term, is_pre, self.campaigns));
        let is_known = self.ballot.heard.get(&message.from) == Some(&message.suspect);
        if message.suspect != 0 && !is_pre && !is_known {
            return false; // It may have become a suspect after others had voted.
        }
        self.ballot.grants.insert(message.from, message.suspect);
        let by_suspects = self.is_suspect() || self.ballot.grants.values().any(|life| *life != 0);
        if by_suspects && self.is_unanimous() {
            self.win(is_pre);
            return false;
        }
        message.suspect == 0 && !self.is_suspect()
    }

    fn is_unanimous(&self) -> bool {
        let me = self.members.peer().0;
        self.members.conf().all_voters().all(|voter| voter == me || self.ballot.grants.contains_key(&voter))
    }

    /// All voters have granted their votes.
    fn win(&mut self, is_pre: bool) {
        let (msg_type, ahead) = match is_pre {
            true => (MessageType::MsgRequestPreVoteResponse, 1),
            false => (MessageType::MsgRequestVoteResponse, 0),
        };
        let (term, to) = (self.raw.raft.term, self.raw.raft.id);
        let state = self.raw.raft.state;
        for &from in self.ballot.grants.keys() {
            if self.raw.raft.state != state {
                break;
            }
            let vote = Message { msg_type, from, to, term: term + ahead, ..Default::default() };
            let _ = self.raw.step(vote);
        }
        if self.is_leader() {
            let suspects = self.ballot.grants.iter().filter(|(_, life)| **life != 0);
            let cases = suspects.map(|(peer, life)| (*peer, Case { life: *life, at: 0 }));
            (self.pardons.term, self.pardons.cases) = (self.raw.raft.term, cases.collect());
        }
    }
}

impl Ballot {
    /// Begins to count anew, unless this is the election it counts for.
    fn enter(&mut self, election: (u64, bool, u32)) {
        let (term, is_pre, _) = election;
        if self.election == election {
            return;
        }
        let follows = self.election.1 && !is_pre && self.election.0 + 1 == term;
        let grants = std::mem::take(&mut self.grants);
        self.heard = if follows { grants } else { BTreeMap::new() };
        self.heard.retain(|_, life| *life != 0);
        self.election = election;
    }
}
