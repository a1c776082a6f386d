//! What raft 0.7.0 must be protected from, in one place.
//!
//! | Pitfall of raft 0.7.0 | Guard |
//! |---|---|
//! | late rejections move `next_idx` below `matched` (raft-rs #557) | [`check`] drops rejections at or below `matched` |
//! | `hup` reads all unapplied entries at once (#530) | no appends and proposals while too many wait to be applied |
//! | followers forward proposals (#552) | only leaders propose; forwarded kinds are dropped |
//! | unsafe defaults: no quorum check, no pre-vote, no limits | [`raft_config`] sets every field |
//! | election time-outs come from `thread_rng` | [`ElectionTimeouts`] are written over them after every call |
//! | hard state torn from its entries | one record per group and group commit (`persists.rs`) |
//! | order of a `Ready`; asynchronous persistence | `group.rs`, in one function |
//! | applied beyond committed, synced entries lost | refused at the start (`recover.rs`), never met with a panic later |
//! | messages from strangers and removed replicas; reused ids | ids are never used twice, and say where in the log they began (`group/standing.rs`) |
//! | conf changes applied late or twice; a removed leader's `unwrap` | `group/members.rs` |
//! | snapshots that nobody reports; campaigns before one is durable | `group/snapshots.rs` |
//! | a disk that lost what was synced last | such a replica counts for nothing until a leader clears it (`group/suspicion.rs`) |
//! | a hung disk under a leader that keeps its heartbeat | the store gives its leaderships away |
//! | local messages from the network; term 0 skips all term checks | dropped |
//!
//! Raft trusts its peers: a message that contradicts itself or the log makes it panic, for example `to_commit is out
//! of range`, an append after an index it does not have with term 0 (which "matches" what is missing), or votes that
//! make a candidate a leader before its own log is durable. [`check`] lets nothing pass that leads there. A peer that
//! lies within a well-formed message (acknowledging what it does not have) is not defended against: that is what the
//! mutual authentication of nodes is for.

use raft::eraftpb::{EntryType, MessageType};
use raft::{Config, ReadOnlyOption, StateRole};
use throng_base::Rng;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftEntry, RaftMessage};

use super::conf_change;
use super::config::StoreConfig;
use super::convert;
use super::limits;
use super::output::StoreStats;
use super::raft_log::GroupLog;
use crate::entry::PeerId;

/// The node raft runs on.
pub(super) type Raft = raft::Raft<GroupLog>;

/// Raft's configuration with every field said (the defaults check no quorum, vote without asking first and limit nothing).
pub(super) fn raft_config(config: &StoreConfig, peer: PeerId, applied: u64) -> Config {
    Config {
        id: peer.0,
        election_tick: config.election_ticks,
        // Groups beat on their own schedule (`group/liveness.rs`), and what raft would say beside that is dropped.
        heartbeat_tick: config.election_ticks - 1,
        applied,
        max_size_per_msg: limits::APPEND_BYTES_MAX,
        max_inflight_msgs: limits::APPENDS_IN_FLIGHT_MAX,
        check_quorum: true,
        pre_vote: true,
        min_election_tick: config.election_ticks,
        // The longest time-out after failed elections; suspects wait one more (`group/suspicion.rs`).
        max_election_tick: ((2 << limits::ELECTION_DOUBLINGS_MAX) + 1) * config.election_ticks,
        read_only_option: ReadOnlyOption::Safe,
        // The group tells, in a form that costs less (`beats.rs`).
        skip_bcast_commit: true,
        batch_append: true,
        priority: 0,
        max_uncommitted_size: limits::UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: limits::COMMITTED_BYTES_PER_READY_MAX,
    }
}

/// Election time-outs as a pure function, because raft draws them from the thread's random generator. They are written
/// over raft's own after *every* call ("only if changed" would depend on what raft drew).
#[derive(Clone, Debug)]
pub(super) struct ElectionTimeouts {
    seed: u64,
    min: u64,
    /// This node, and the group's voters, the preferred leader first.
    node: NodeId,
    voters: Vec<NodeId>,
    /// The newest draw and what it was drawn for: most calls into raft change neither.
    drawn: Option<(Occasion, usize)>,
}

/// What a time-out is drawn for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Occasion {
    pub(super) term: u64,
    /// Elections begun since a leader was known, and how many of them got as far as votes and came to nothing.
    pub(super) campaigns: u32,
    pub(super) failed: u32,
    pub(super) leader: Option<NodeId>,
}

impl ElectionTimeouts {
    /// Time-outs of one replica, until [`Self::set_voters`] as if it voted alone.
    pub(super) fn new(seed: u64, shard: ShardId, config: &StoreConfig) -> Self {
        let mut rng = Rng::new(seed).fork(u64::from(shard.0)).fork(config.node.0);
        let (seed, min) = (rng.next_u64(), config.election_ticks as u64);
        Self { seed, min, node: config.node, voters: vec![config.node], drawn: None }
    }

    /// Takes the group's voters, by rising id.
    pub(super) fn set_voters(&mut self, voters: &[NodeId], shard: ShardId) {
        self.voters = voters.to_vec();
        let count = voters.len().max(1);
        self.voters.rotate_left(shard.0 as usize % count);
        self.drawn = None;
    }

    /// Ticks, in `min..2 * min`. First attempts are staggered by place among those who are left when `leader` is gone,
    /// the preferred node first: who comes first is early, and the next one comes late enough to hear of it. Later
    /// attempts are spread over the whole range.
    ///
    /// One election may fail because two began at once. From the second failure on the range doubles each time, up to
    /// [`limits::ELECTION_DOUBLINGS_MAX`] times: an election takes two syncs, one behind the other, and where disks or
    /// processors are so busy that those take longer than the time-out, whoever asks again in the old range only ends
    /// the election that was about to succeed (Raft, section 5.6: broadcast time ≪ election time-out).
    pub(super) fn ticks(&mut self, occasion: Occasion) -> usize {
        match self.drawn {
            Some((given, ticks)) if given == occasion => ticks,
            _ => {
                let doublings = occasion.failed.saturating_sub(1).min(limits::ELECTION_DOUBLINGS_MAX);
                let ticks = self.draw(occasion) << doublings;
                self.drawn = Some((occasion, ticks));
                ticks
            }
        }
    }

    fn draw(&self, Occasion { term, campaigns, leader, .. }: Occasion) -> usize {
        let draw = Rng::new(self.seed).fork(term).fork(u64::from(campaigns)).next_u64();
        let (from, to) = match campaigns {
            0 => {
                let left = self.voters.iter().filter(|voter| Some(**voter) != leader);
                let place = left.take_while(|voter| **voter != self.node).count() as u64;
                let count = self.voters.len().max(1) as u64;
                // Two ticks behind the lease that others grant: who learned a little earlier that the leader is gone
                // must not ask in vain.
                (2 + place * self.min / count, 2 + (place + 1) * self.min / count)
            }
            _ => (0, self.min),
        };
        (self.min + (from + draw % (to - from).max(1)).min(self.min - 1)) as usize
    }
}

/// Why a message was not given to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Stranger,
    Kind,
    Malformed,
    Stale,
    BeyondLog,
    ApplyLag,
}

impl Refusal {
    /// Counts it.
    pub(super) fn count(self, stats: &mut StoreStats) {
        let counter = match self {
            Self::Stranger => &mut stats.dropped_stranger,
            Self::Kind => &mut stats.dropped_kind,
            Self::Malformed => &mut stats.dropped_malformed,
            Self::Stale => &mut stats.dropped_stale,
            Self::BeyondLog => &mut stats.dropped_beyond_log,
            Self::ApplyLag => &mut stats.dropped_apply_lag,
        };
        *counter += 1;
    }
}

/// Malformed unless `holds`.
fn ensure(holds: bool) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Malformed) }
}

/// What a group is in the middle of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    /// Everything this replica's raft has decided is durable.
    pub(super) settled: bool,
    /// The log begins anew, and that is not durable or not reported.
    pub(super) resetting: bool,
    /// It waits for its first snapshot.
    pub(super) waits: bool,
    /// It may have forgotten something.
    pub(super) suspect: bool,
}

/// Whether raft may see a message.
pub(super) fn check(raft: &Raft, message: &mut RaftMessage, condition: Condition) -> Result<(), Refusal> {
    let kind = convert::message_kind(message.kind).ok_or(Refusal::Kind)?;
    check_fields(message, kind)?;
    match kind {
        MessageType::MsgAppend => check_append(raft, message, condition),
        MessageType::MsgAppendResponse => check_append_response(raft, message),
        MessageType::MsgHeartbeat => check_heartbeat(raft, message),
        MessageType::MsgRequestVoteResponse => check_vote(raft, message, condition.settled),
        MessageType::MsgTimeoutNow if condition.resetting || condition.suspect => Err(Refusal::Stale),
        MessageType::MsgTimeoutNow => check_timeout_now(raft, message),
        MessageType::MsgHeartbeatResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => Ok(()),
        // Local ones, forwarded ones (only leaders propose, read and transfer here), and snapshots, which come with
        // their rows.
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgSnapshot
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => Err(Refusal::Kind),
    }
}

/// What must hold whatever the group's state is. Term 0 marks local messages, for which raft skips its term checks; a
/// priority would make raft refuse a vote in term 0, and panic over it.
pub(super) fn check_fields(message: &RaftMessage, kind: MessageType) -> Result<(), Refusal> {
    ensure(message.term >= 1 && message.term <= limits::TERM_MAX)?;
    ensure(message.log_term <= message.term && message.commit_term <= message.term)?;
    ensure(message.index <= limits::INDEX_MAX && message.commit <= limits::INDEX_MAX)?;
    ensure(message.reject_hint <= limits::INDEX_MAX)?;
    ensure(message.request_snapshot == 0 && message.priority == 0)?;
    ensure(message.context.len() <= limits::CONTEXT_BYTES_MAX)?;
    ensure(message.suspect == 0 || convert::is_vote(kind) || convert::is_vote_request(kind))?;
    ensure(message.entries.is_empty() || kind == MessageType::MsgAppend)
}

/// A snapshot's message, which comes with its rows and not from a frame of raft messages.
pub(super) fn check_snapshot(message: &RaftMessage, kind: MessageType) -> Result<(), Refusal> {
    if kind != MessageType::MsgSnapshot {
        return Err(Refusal::Kind);
    }
    check_fields(message, kind)?;
    ensure(message.index > 0 && message.log_term > 0 && message.from != message.to)
}

fn check_append(raft: &Raft, message: &RaftMessage, condition: Condition) -> Result<(), Refusal> {
    // Term 0 belongs to index 0 alone; raft takes it for a match with every index beyond its log.
    ensure((message.index == 0) == (message.log_term == 0))?;
    if message.index == 0 && condition.waits {
        return Err(Refusal::Stale); // It would begin from members that it does not know.
    }
    let mut term = message.log_term;
    for (entry, index) in message.entries.iter().zip(message.index + 1..) {
        ensure(is_entry(entry))?;
        ensure(entry.index == index && entry.index <= limits::INDEX_MAX)?;
        ensure(entry.term >= term.max(1) && entry.term <= message.term)?;
        term = entry.term;
    }
    let committed = raft.raft_log.committed;
    if message.term >= raft.term && message.index >= committed {
        // Every later leader has what is committed, so its terms from there on are no lower. This also ends raft's
        // search for the point of conflict at the commit index.
        ensure(raft.raft_log.term(committed).is_ok_and(|term| message.log_term >= term))?;
    }
    if !message.entries.is_empty() && committed - raft.raft_log.applied > limits::UNAPPLIED_MAX {
        return Err(Refusal::ApplyLag);
    }
    Ok(())
}

/// Whether an entry is for the machines, or a change of the members that can be read.
fn is_entry(entry: &RaftEntry) -> bool {
    match convert::entry_kind(entry.kind) {
        Some(EntryType::EntryNormal) => true,
        Some(EntryType::EntryConfChangeV2) => conf_change::decode(&entry.data).is_ok(),
        Some(EntryType::EntryConfChange) | None => false,
    }
}

fn check_append_response(raft: &Raft, message: &mut RaftMessage) -> Result<(), Refusal> {
    if raft.state != StateRole::Leader || message.term != raft.term {
        return Ok(());
    }
    ensure(message.index <= raft.raft_log.last_index())?;
    if !message.reject {
        return Ok(());
    }
    ensure(message.reject_hint <= message.index)?;
    let matched = raft.prs().get(message.from).map_or(0, |progress| progress.matched);
    if message.index <= matched || message.reject_hint < matched {
        return Err(Refusal::Stale);
    }
    let terms = raft.store().terms();
    if message.log_term > 0 && message.reject_hint <= terms.last_index() {
        // Raft walks down from the hint one entry at a time; start it where the walk ends.
        message.reject_hint = terms.agreement(message.reject_hint, message.log_term);
    }
    Ok(())
}

/// A leader commits on a follower only what that follower has acknowledged in this term, so this replica has lost
/// synced entries (etcd #10166 panics here). It must not invent them: it goes without the heartbeat, and becomes a suspect.
fn check_heartbeat(raft: &Raft, message: &RaftMessage) -> Result<(), Refusal> {
    if message.term >= raft.term && message.commit > raft.raft_log.last_index() {
        return Err(Refusal::BeyondLog);
    }
    Ok(())
}

/// Requests for votes leave only after everything before them is durable; an earlier vote answers nothing, and would
/// make a leader whose log is not durable.
fn check_vote(raft: &Raft, message: &RaftMessage, settled: bool) -> Result<(), Refusal> {
    if message.term == raft.term && raft.state == StateRole::Candidate && !settled {
        return Err(Refusal::Stale);
    }
    Ok(())
}

/// Only the leader itself hands over.
fn check_timeout_now(raft: &Raft, message: &RaftMessage) -> Result<(), Refusal> {
    if message.term != raft.term || message.from != raft.leader_id {
        return Err(Refusal::Stale);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> StoreConfig {
        StoreConfig::new(NodeId(2), vec![NodeId(1), NodeId(2), NodeId(3)], 4)
    }

    #[test]
    fn no_unsafe_default_is_left() {
        let raft = raft_config(&config(), PeerId(2), 7);
        raft.validate().expect("raft accepts it");
        assert!(raft.check_quorum && raft.pre_vote);
        assert_eq!((raft.id, raft.applied), (2, 7));
        assert!(raft.max_uncommitted_size < u64::MAX && raft.max_committed_size_per_ready < u64::MAX);
        assert!(raft.max_size_per_msg > 0);
        assert_eq!(raft.read_only_option, ReadOnlyOption::Safe);
    }

    fn timeouts(node: u64, shard: u32) -> ElectionTimeouts {
        let config = StoreConfig::new(NodeId(node), vec![NodeId(1), NodeId(2), NodeId(3)], 8);
        let mut timeouts = ElectionTimeouts::new(9, ShardId(shard), &config);
        timeouts.set_voters(&config.voters, ShardId(shard));
        timeouts
    }

    #[test]
    fn election_timeouts_are_pure_bounded_and_staggered_at_first() {
        let config = config();
        for term in 0..200 {
            let first = Occasion { term, ..Occasion::default() };
            let firsts: Vec<_> = (1..=3).map(|node| timeouts(node, 3).ticks(first)).collect();
            assert!(firsts.is_sorted_by(|a, b| a < b), "{firsts:?}");
            for campaigns in 0..4 {
                let occasion = Occasion { campaigns, ..first };
                let ticks = timeouts(2, 3).ticks(occasion);
                assert_eq!(ticks, timeouts(2, 3).ticks(occasion));
                assert!((config.election_ticks..2 * config.election_ticks).contains(&ticks));
            }
        }
    }

    #[test]
    fn who_fails_again_waits_twice_as_long_up_to_a_limit() {
        let config = config();
        let longest = raft_config(&config, PeerId(2), 0).max_election_tick - config.election_ticks;
        for (failed, factor) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)] {
            for term in 1..100 {
                let occasion = Occasion { term, campaigns: 7, failed, leader: None };
                let ticks = timeouts(2, 3).ticks(occasion);
                let range = config.election_ticks * factor..2 * config.election_ticks * factor;
                assert!(range.contains(&ticks) && ticks < longest, "{failed} failures: {ticks}");
            }
        }
    }

    #[test]
    fn places_count_from_the_preferred_node_without_the_leader_that_is_gone() {
        // Shard 4 prefers the second of three.
        let third = config().election_ticks / 3;
        let place_of = |node, leader: Option<u64>| {
            let occasion = Occasion { term: 1, leader: leader.map(NodeId), ..Occasion::default() };
            let ticks = timeouts(node, 4).ticks(occasion) - config().election_ticks;
            (ticks - 2) / third
        };
        assert_eq!([1, 2, 3].map(|node| place_of(node, None)), [2, 0, 1]);
        assert_eq!([1, 3].map(|node| place_of(node, Some(2))), [1, 0]);
        assert_eq!([1, 2].map(|node| place_of(node, Some(3))), [1, 0]);
        assert_eq!([2, 3].map(|node| place_of(node, Some(1))), [0, 1]);
    }

    #[test]
    fn attempts_differ_from_each_other() {
        let attempts: std::collections::BTreeSet<_> = (1..40)
            .map(|campaigns| timeouts(2, 3).ticks(Occasion { term: 5, campaigns, ..Occasion::default() }))
            .collect();
        assert!(attempts.len() > 5, "{attempts:?}");
    }
}
