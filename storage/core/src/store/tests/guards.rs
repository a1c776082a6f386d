//! No message of a peer makes a store panic, however it is spoilt.

use core::time::Duration;

use bytes::Bytes;
use raft::eraftpb::MessageType;
use throng_base::{Instant, Rng};
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftBatch, RaftEntry, RaftMessage};

use super::world::{Weather, World};
use crate::store::*;

const SECOND: Duration = Duration::from_secs(1);

/// A store on its own, with whatever life its seed gave it, and nobody who checks what it says.
struct Victim {
    store: Store,
    now: Instant,
    writing: Vec<PersistToken>,
    committed: Vec<(ShardId, u64)>,
}

impl Victim {
    /// Node 1 of three: leader of shard 0, follower elsewhere, with messages of its past to spoil.
    fn new(seed: u64) -> (Self, Vec<RaftMessage>) {
        let mut world = World::new(3, 3, seed, Weather::calm());
        let all = |world: &World| (0..3).all(|shard| world.serving(ShardId(shard)).is_some());
        world.until("leadership", SECOND, all);
        for turn in 0..30 {
            let shard = ShardId(turn % 3);
            let leader = world.serving(shard).expect("somebody leads");
            world.propose(leader, shard);
            world.read(leader, shard);
            world.run(Duration::from_millis(3));
        }
        let store = world.nodes[0].store.take().expect("it runs");
        let messages = world.recent.iter().filter(|message| message.to == 1).cloned().collect();
        (Self { store, now: world.now, writing: Vec::new(), committed: Vec::new() }, messages)
    }

    fn drain(&mut self) {
        while let Some(output) = self.store.poll_output() {
            match output {
                StoreOutput::Persist { token, .. } => self.writing.push(token),
                StoreOutput::Committed { shard, entries } => {
                    self.committed.extend(entries.last().map(|last| (shard, last.index)));
                }
                _ => (),
            }
        }
    }

    fn deliver(&mut self, message: RaftMessage) {
        let from = NodeId(message.from);
        self.store.handle_peer(self.now, from, RaftBatch { messages: vec![message] });
        self.drain();
    }

    /// What else happens to a store, by chance.
    fn live(&mut self, rng: &mut Rng) {
        let shard = ShardId(rng.below(3) as u32);
        match rng.below(8) {
            0 => {
                self.now += Duration::from_millis(rng.below(100));
                self.store.handle_timeout(self.now);
            }
            1 => drop(self.store.propose(self.now, shard, Bytes::from_static(b"x"))),
            2 => drop(self.store.read_index(self.now, shard)),
            3 if !self.writing.is_empty() => {
                let upto = rng.below(self.writing.len() as u64) as usize;
                let token = self.writing.drain(..=upto).next_back().expect("one at least");
                self.store.handle_persisted(self.now, token);
            }
            4 => {
                for (shard, index) in std::mem::take(&mut self.committed) {
                    self.store.handle_applied(self.now, shard, index);
                }
            }
            5 => self.store.handle_peer_down(self.now, NodeId(2 + rng.below(2))),
            _ => (),
        }
        self.drain();
    }
}

/// A number near `value`, or one that breaks arithmetic.
fn near(value: u64, rng: &mut Rng) -> u64 {
    match rng.below(12) {
        0 => 0,
        1 => 1,
        2 => value.wrapping_sub(1),
        3..=5 => value.wrapping_add(1),
        6 => value.wrapping_add(rng.below(20)),
        7 => u64::MAX - rng.below(2),
        8 => [limits::INDEX_MAX, limits::TERM_MAX][rng.below(2) as usize] + rng.below(3) - 1,
        9 => rng.below(40),
        _ => value,
    }
}

fn entry(like: Option<&RaftEntry>, rng: &mut Rng) -> RaftEntry {
    let mut entry = like.cloned().unwrap_or_default();
    entry.kind = if rng.chance(100_000) { rng.below(4) as u32 } else { entry.kind };
    entry.term = near(entry.term, rng);
    entry.index = near(entry.index, rng);
    entry
}

fn spoil(message: &mut RaftMessage, rng: &mut Rng) {
    match rng.below(15) {
        0 => message.kind = rng.below(25) as u32 + 980 * rng.below(2) as u32,
        1 => message.shard = ShardId(rng.below(5) as u32),
        2 => message.from = near(message.from, rng),
        3 => message.term = near(message.term, rng),
        4 => message.log_term = near(message.log_term, rng),
        5 => message.index = near(message.index, rng),
        6 => message.commit = near(message.commit, rng),
        7 => message.commit_term = near(message.commit_term, rng),
        8 => message.reject = !message.reject,
        9 => message.reject_hint = near(message.reject_hint, rng),
        10 => message.context = Bytes::from(vec![rng.below(256) as u8; rng.below(70) as usize]),
        14 => message.suspect = near(message.suspect, rng),
        11 => message.priority = [0, 1, -1, i64::MIN][rng.below(4) as usize],
        12 => message.request_snapshot = near(0, rng),
        _ if message.entries.is_empty() || rng.chance(300_000) => {
            let new = entry(message.entries.last(), rng);
            message.entries.push(new);
        }
        _ => {
            let at = rng.below(message.entries.len() as u64) as usize;
            message.entries[at] = entry(message.entries.get(at), rng);
        }
    }
}

/// Moves a message of the past to where the group is: most spoilt messages should get past the first check.
fn renew(message: &mut RaftMessage, victim: &Victim, rng: &mut Rng) {
    if message.shard.0 < 3 && rng.chance(800_000) {
        message.term = victim.store.term(message.shard);
        message.log_term = message.log_term.min(message.term);
    }
}

#[test]
fn spoilt_messages_are_dropped_and_counted_never_a_panic() {
    let mut sum = StoreStats::default();
    for seed in 0..60 {
        let (mut victim, messages) = Victim::new(seed);
        let mut rng = Rng::new(seed);
        for _ in 0..2500 {
            let mut message = messages[rng.below(messages.len() as u64) as usize].clone();
            renew(&mut message, &victim, &mut rng);
            (0..rng.below(3)).for_each(|_| spoil(&mut message, &mut rng));
            victim.deliver(message);
            victim.live(&mut rng);
        }
        let stats = victim.store.stats();
        sum.dropped_stranger += stats.dropped_stranger;
        sum.dropped_shard += stats.dropped_shard;
        sum.dropped_kind += stats.dropped_kind;
        sum.dropped_malformed += stats.dropped_malformed;
        sum.dropped_stale += stats.dropped_stale;
        sum.dropped_beyond_log += stats.dropped_beyond_log;
    }
    let counts = [
        sum.dropped_stranger,
        sum.dropped_shard,
        sum.dropped_kind,
        sum.dropped_malformed,
        sum.dropped_stale,
        sum.dropped_beyond_log,
    ];
    assert!(counts.iter().all(|count| *count > 100), "every guard is met: {counts:?}");
}

/// A follower of shard 1, whose leader is node 2, and a message that its raft would take.
fn follower() -> (Victim, RaftMessage) {
    let (victim, _) = Victim::new(1);
    let shard = ShardId(1);
    assert_eq!(victim.store.leader(shard), Some(NodeId(2)));
    let term = victim.store.term(shard);
    let kind = MessageType::MsgHeartbeat as u32;
    (victim, RaftMessage { shard, kind, from: 2, to: 1, term, ..RaftMessage::default() })
}

#[track_caller]
fn dropped(mut victim: Victim, message: RaftMessage, counter: impl Fn(&StoreStats) -> u64) {
    let before = counter(&victim.store.stats());
    victim.deliver(message);
    assert_eq!(counter(&victim.store.stats()), before + 1, "{:?}", victim.store.stats());
}

#[test]
fn a_heartbeat_that_commits_beyond_the_log_is_dropped() {
    let (victim, heartbeat) = follower();
    dropped(victim, RaftMessage { commit: 1_000_000, ..heartbeat }, |stats| stats.dropped_beyond_log);
}

#[test]
fn an_append_after_a_missing_entry_of_term_0_is_dropped() {
    let (victim, heartbeat) = follower();
    let kind = MessageType::MsgAppend as u32;
    dropped(victim, RaftMessage { kind, index: 1_000_000, ..heartbeat }, |stats| stats.dropped_malformed);
}

/// Node 1 of three before anything happened: term 0, an empty log, nothing committed.
fn newborn() -> Victim {
    let config = StoreConfig::new(NodeId(1), (1..=3).map(NodeId).collect(), 1);
    let now = Instant::ZERO;
    let store = Store::new(config, 1, now, vec![], Box::new(NoLog)).expect("empty");
    Victim { store, now, writing: Vec::new(), committed: Vec::new() }
}

fn message(kind: MessageType, from: u64, term: u64) -> RaftMessage {
    RaftMessage { kind: kind as u32, from, to: 1, term, ..RaftMessage::default() }
}

/// An append from `from` in `term` after nothing, of entries with these terms.
fn append(from: u64, term: u64, terms: &[u64], commit: u64) -> RaftMessage {
    let entries =
        terms.iter().zip(1..).map(|(&term, index)| RaftEntry { term, index, ..RaftEntry::default() });
    RaftMessage { entries: entries.collect(), commit, ..message(MessageType::MsgAppend, from, term) }
}

#[test]
fn an_empty_log_does_not_match_what_it_lacks() {
    let append = message(MessageType::MsgAppend, 2, 1);
    dropped(newborn(), RaftMessage { index: 5, commit: 5, ..append }, |stats| stats.dropped_malformed);
}

#[test]
fn a_vote_in_term_0_is_not_refused_for_its_priority() {
    let vote = message(MessageType::MsgRequestPreVote, 2, 1);
    dropped(newborn(), RaftMessage { priority: -1, ..vote }, |stats| stats.dropped_malformed);
}

#[test]
fn votes_before_the_candidate_is_durable_make_no_leader() {
    let mut node = newborn();
    node.deliver(append(2, 1, &[1, 1], 0));
    node.deliver(message(MessageType::MsgTimeoutNow, 2, 1));
    assert_eq!(node.store.term(ShardId(0)), 2, "it is a candidate");
    node.deliver(message(MessageType::MsgRequestVoteResponse, 3, 2));
    assert_eq!((node.store.stats().dropped_stale, node.store.leads_any()), (1, false));
    let all = node.writing.pop().expect("entries and vote");
    node.store.handle_persisted(node.now, all);
    node.drain();
    node.deliver(message(MessageType::MsgRequestVoteResponse, 3, 2));
    assert!(node.store.leads_any());
}

#[test]
fn entries_that_return_are_durable_only_when_written_again() {
    let mut node = newborn();
    node.deliver(append(2, 1, &[1, 1], 0)); // Group commit 1 writes both,
    node.deliver(append(3, 2, &[2], 0)); // group commit 2 replaces them,
    node.deliver(append(2, 3, &[1, 1, 3], 2)); // and group commit 3 brings them back, committed.
    assert_eq!(node.writing.len(), 3);
    node.store.handle_persisted(node.now, node.writing[0]);
    node.drain();
    assert_eq!(node.committed, [], "a crash here would leave what group commit 2 wrote");
    node.store.handle_persisted(node.now, node.writing[2]);
    node.drain();
    assert_eq!(node.committed, [(ShardId(0), 2)]);
}

#[test]
fn what_followers_would_forward_is_dropped() {
    for kind in [MessageType::MsgPropose, MessageType::MsgReadIndex, MessageType::MsgTransferLeader] {
        let (victim, heartbeat) = follower();
        dropped(victim, RaftMessage { kind: kind as u32, ..heartbeat }, |stats| stats.dropped_kind);
    }
}

#[test]
fn local_kinds_are_dropped() {
    for kind in [MessageType::MsgHup, MessageType::MsgBeat, MessageType::MsgCheckQuorum] {
        let (victim, heartbeat) = follower();
        dropped(victim, RaftMessage { kind: kind as u32, ..heartbeat }, |stats| stats.dropped_kind);
    }
}

#[test]
fn strangers_and_false_names_are_dropped() {
    let (victim, heartbeat) = follower();
    dropped(victim, RaftMessage { from: 9, ..heartbeat.clone() }, |stats| stats.dropped_stranger);
    let (victim, _) = follower();
    dropped(victim, RaftMessage { to: 3, ..heartbeat.clone() }, |stats| stats.dropped_stranger);
    let (mut victim, _) = follower();
    victim.store.handle_peer(victim.now, NodeId(3), RaftBatch { messages: vec![heartbeat] });
    assert_eq!(victim.store.stats().dropped_stranger, 1);
}

#[test]
fn an_election_is_not_begun_for_anyone_but_the_leader() {
    let (victim, heartbeat) = follower();
    let kind = MessageType::MsgTimeoutNow as u32;
    dropped(victim, RaftMessage { kind, from: 3, ..heartbeat }, |stats| stats.dropped_stale);
}

#[test]
fn rejections_of_what_was_acknowledged_are_stale() {
    let (victim, heartbeat) = follower();
    let kind = MessageType::MsgAppendResponse as u32;
    let shard = ShardId(0);
    let term = victim.store.term(shard);
    let rejection = RaftMessage { shard, term, kind, reject: true, index: 1, reject_hint: 0, ..heartbeat };
    dropped(victim, rejection, |stats| stats.dropped_stale);
}
