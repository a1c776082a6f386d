//! Snapshots: asked for by raft's leader, carried by the router, taken by a follower's raft.
//!
//! ```text
//!  leader                                                              follower
//!  raft asks ─► SnapshotWanted ─► router: cut, flush, open a view
//!               snapshot_prepared ◄─┘
//!  raft sends ─► SendSnapshot ───► router: rows ══════════════════════► router: writes and flushes a new copy
//!                                        message ─────────────────────► handle_snapshot ─► mark (reset), durable
//!               snapshot_sent ◄──────────────────────────────────────── Restored ─► router: loads the copy
//!  raft goes on after the snapshot's index
//! ```
//!
//! While raft waits for a snapshot it sends that follower nothing, so every flight ends: with a report, with the node's
//! link, with leadership or with a limit on time.

use std::collections::VecDeque;

use raft::eraftpb::{Message, MessageType};
use raft::{Ready, SnapshotStatus};
use throng_base::Instant;
use throng_base::planted::{Bug, is_planted};
use throng_wire::peer::RaftMessage;

use super::{Group, Reset, Standing};
use crate::entry::{Mark, PeerId};
use crate::store::convert;
use crate::store::guard::{self, Refusal};
use crate::store::limits;
use crate::store::output::{SnapshotMeta, StoreOutput};
use crate::store::persists::Persists;

/// A snapshot on its way to a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    stage: Stage,
    since: Instant,
    /// What comes after the snapshot must stay in the log: entries above this.
    above: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Wanted,
    Sending,
    /// Reported as taken; the follower's own answer is still to come.
    Sent,
}

impl Flight {
    fn patience(&self) -> core::time::Duration {
        match self.stage {
            Stage::Wanted => limits::SNAPSHOT_PREPARE_MAX,
            Stage::Sending => limits::SNAPSHOT_SEND_MAX,
            Stage::Sent => limits::SNAPSHOT_ANSWER_MAX,
        }
    }
}

impl Group {
    /// Asks for the snapshots that raft wanted in this turn.
    pub(super) fn begin_flights(&mut self, now: Instant, outputs: &mut VecDeque<StoreOutput>) {
        let wanted = self.raw.mut_store().take_wanted();
        if !self.is_leader() {
            self.flights.clear();
            return;
        }
        for to in wanted.into_iter().map(PeerId) {
            if !self.flights.contains_key(&to) && self.members.conf().contains(to.0) {
                self.flights.insert(to, Flight { stage: Stage::Wanted, since: now, above: self.flushed });
                outputs.push_back(StoreOutput::SnapshotWanted { shard: self.shard, to });
            }
        }
    }

    /// No flight needs entries through this index.
    pub(super) fn flights_above(&self) -> u64 {
        self.flights.values().map(|flight| flight.above).min().unwrap_or(u64::MAX)
    }

    /// A view is ready. Whether raft sends it.
    pub(in crate::store) fn snapshot_prepared(
        &mut self,
        to: PeerId,
        meta: SnapshotMeta,
        now: Instant,
    ) -> bool {
        let is_wanted = |flight: &&mut Flight| flight.stage == Stage::Wanted;
        let Some(flight) = self.flights.get_mut(&to).filter(is_wanted) else { return false };
        *flight = Flight { stage: Stage::Sending, since: now, above: meta.index };
        if !self.may_send(to, &meta) || !self.offer(to, meta) {
            self.flights.remove(&to);
            return false;
        }
        true
    }

    /// Whether a view is a state that this log leads to, with something after it to go on from. One from before the
    /// receiver was added would be refused there.
    fn may_send(&self, to: PeerId, meta: &SnapshotMeta) -> bool {
        let raft = &self.raw.raft;
        self.is_leader()
            && meta.index > 0
            && meta.conf.contains(to.0)
            && meta.index <= raft.raft_log.applied
            && self.log().terms().term(meta.index) == Some(meta.term)
            && self.members.conf_at(meta.index) == Some(&meta.conf)
    }

    /// Lets raft send the snapshot, unless the follower has caught up meanwhile.
    fn offer(&mut self, to: PeerId, meta: SnapshotMeta) -> bool {
        let index = meta.index;
        let Some(progress) = self.raw.raft.mut_prs().get_mut(to.0) else { return false };
        match progress.state {
            raft::ProgressState::Snapshot => return false,
            // What was sent ahead is lost, or raft would not have asked.
            raft::ProgressState::Replicate => progress.become_probe(),
            raft::ProgressState::Probe => progress.resume(),
        }
        self.raw.mut_store().offer(Some((to.0, meta)));
        self.raw.raft.send_append(to.0);
        self.raw.mut_store().offer(None);
        self.touched();
        let progress = self.raw.raft.prs().get(to.0);
        progress.is_some_and(|progress| progress.pending_snapshot == index)
    }

    /// The outcome of a flight, as the router or the link tells it.
    pub(in crate::store) fn end_flight(&mut self, to: PeerId, ok: bool) {
        if is_planted(Bug::SnapshotNotReported) && !ok {
            return;
        }
        let Some(flight) = self.flights.get_mut(&to) else { return };
        if ok && flight.stage == Stage::Sending {
            flight.stage = Stage::Sent;
        } else {
            self.flights.remove(&to);
        }
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
        self.touched();
    }

    /// The outcome of a flight with the time it was reported at.
    pub(in crate::store) fn snapshot_sent(&mut self, to: PeerId, ok: bool, now: Instant) {
        self.end_flight(to, ok);
        if let Some(flight) = self.flights.get_mut(&to) {
            flight.since = now;
        }
    }

    /// Ends flights that are done or took too long. Whether there may be something to collect.
    pub(super) fn check_flights(&mut self, now: Instant) -> bool {
        let prs = self.raw.raft.prs();
        let caught_up = |to: &PeerId, flight: &Flight| {
            flight.stage != Stage::Wanted && prs.get(to.0).is_some_and(|p| p.matched >= flight.above)
        };
        let late = |flight: &Flight| now.since(flight.since) >= flight.patience();
        let done = self.flights.iter().filter(|(to, flight)| caught_up(to, flight) || late(flight));
        let done: Vec<PeerId> = done.map(|(to, _)| *to).collect();
        for to in &done {
            self.end_flight(*to, false); // Raft ignores it for a follower that has caught up.
        }
        !done.is_empty()
    }

    /// Whether a snapshot would be taken. A replica that does not exist yet is begun by [`Self::handle_snapshot`].
    pub(in crate::store) fn wants_snapshot(&self, message: &RaftMessage) -> Result<(), Refusal> {
        let kind = convert::message_kind(message.kind).ok_or(Refusal::Kind)?;
        guard::check_snapshot(message, kind)?;
        let to = PeerId(message.to);
        if self.is_newer(to) {
            return Ok(());
        }
        if to != self.members.peer() || self.standing == Standing::Passive {
            return Err(Refusal::Stranger);
        }
        if self.is_stranger(PeerId(message.from)) {
            return Err(Refusal::Stranger);
        }
        let raft = &self.raw.raft;
        let leads = self.is_leader() && message.term <= raft.term;
        let is_old = message.index <= raft.raft_log.committed;
        if message.term < raft.term || leads || is_old || self.is_resetting() || self.is_suspect() {
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    /// Tells the leader how far this log reaches if its snapshot is no newer. It may know of no entry here at all, and
    /// then it asks for nothing but snapshots; where it needs this replica to commit, none would ever be newer.
    pub(in crate::store) fn decline_snapshot(&mut self, message: &RaftMessage) {
        let (me, raft) = (self.members.peer(), &self.raw.raft);
        let (committed, term) = (raft.raft_log.committed, raft.term);
        let concerns = PeerId(message.to) == me && self.standing == Standing::Member && !self.is_resetting();
        let leads = message.term == term && raft.leader_id == message.from;
        if !concerns || !leads || self.is_suspect() || message.index == 0 || message.index > committed {
            return;
        }
        self.raw.raft.msgs.push(Message {
            msg_type: MessageType::MsgAppendResponse,
            from: me.0,
            to: message.from,
            term,
            index: committed,
            ..Default::default()
        });
    }

    /// Gives raft a snapshot whose rows lie in `replica`. Whether its state becomes the group's.
    pub(in crate::store) fn handle_snapshot(
        &mut self,
        message: RaftMessage,
        meta: &SnapshotMeta,
        replica: u32,
        persists: &mut Persists,
    ) -> Result<bool, Refusal> {
        self.wants_snapshot(&message)?;
        let agrees = (meta.index, meta.term) == (message.index, message.log_term);
        if !agrees || !meta.conf.contains(message.to) || !meta.conf.is_sound() {
            return Err(Refusal::Malformed);
        }
        self.address(&message, persists)?;
        let message = Message { snapshot: Some(convert::snapshot_to_raft(meta)).into(), ..step(message)? };
        self.incoming = replica;
        // Where the log has that very entry, raft only commits it: the log leads there by itself.
        let _ = self.raw.step(message);
        let takes = self.raw.raft.snap().is_some_and(|snapshot| snapshot.get_metadata().index == meta.index);
        if takes {
            let mark = self.snapshot_mark(meta, replica);
            self.members.reset(&mark);
            self.reset = Some(Reset { number: u64::MAX, mark });
            self.standing = Standing::Member;
            self.members_changed();
        }
        self.touched();
        Ok(takes)
    }

    fn snapshot_mark(&self, meta: &SnapshotMeta, replica: u32) -> Mark {
        Mark {
            index: meta.index,
            term: meta.term,
            peer: self.members.peer().0,
            replica,
            conf: meta.conf.clone(),
            reset: true,
            is_suspect: self.is_suspect(),
        }
    }

    /// Begins the log anew if a `Ready` says so; the mark belongs into its record.
    pub(super) fn take_snapshot(&mut self, ready: &Ready) -> Option<Mark> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let meta = convert::snapshot_from_raft(ready.snapshot());
        let mark = self.snapshot_mark(&meta, self.incoming);
        self.raw.mut_store().reset(meta.index, meta.term);
        self.handed = meta.index;
        // Raft must not hear of an older Ready on its own: what that made durable is gone.
        self.barrier = self.last_number;
        self.reset = Some(Reset { number: self.last_number, mark: mark.clone() });
        Some(mark)
    }
}

fn step(message: RaftMessage) -> Result<Message, Refusal> {
    convert::message_to_raft(message).ok_or(Refusal::Malformed)
}
