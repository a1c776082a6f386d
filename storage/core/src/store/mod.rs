//! All Raft groups of one node, as one machine.
//!
//! ```text
//!                     ┌───────────────────────────── Store ─────────────────────────────┐
//!   propose ─────────►│ group 0 ┐                                                        │
//!   read_index ──────►│ group 1 ├─ one open group commit ─► Persist ──► the log: write, sync
//!   handle_peer ─────►│   …     ├─ one batch per node ────► Send                │        │
//!   handle_timeout ──►│ group n ┘                          Committed, ReadReady, Lost, Role
//!   handle_persisted ◄┼───────────────────────────────────────────────────────┘        │
//!                     └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Calling.** Feed any bounded number of inputs, then drain [`Store::poll_output`] to `None`; only groups that an
//! input touched are looked at. Outputs come in the order in which they should begin: the group commit first, so that
//! the disk works while messages travel (a leader's followers write while it does, thesis §10.2.1).
//!
//! **Persist before send.** A message that depends on a write is no output until [`Store::handle_persisted`] reports
//! it. The driver cannot get this wrong.
//!
//! **Group commit.** What becomes ready while the log is busy gathers in one open group commit, with at most one record
//! per group; a few may be in flight, and none overtakes another.
//!
//! **Proposals.** Each ends exactly once: in [`StoreOutput::Committed`] or in [`StoreOutput::Lost`]. It is lost as soon
//! as this node leaves the term in which it proposed; the entry may still commit, and then carries no proposal.
//!
//! **Truncation.** [`Store::handle_flushed`] says what a restart would not need; what followers might need stays within
//! a budget, and whoever needs more gets a snapshot (`group/truncate.rs`, `group/snapshots.rs`).
//!
//! **Membership.** [`Store::propose_conf`] on the leader, [`Store::apply_conf`] on every replica at the entry's place
//! (`group/members.rs`). A node that is no member of a group has a passive one, which costs nothing and comes to life
//! when a leader's message names a replica of it (`group/standing.rs`).
//!
//! **Suspects.** A replica whose log ended in damage may have forgotten votes and entries. It follows, and nothing it
//! says counts, until a leader clears it (`group/suspicion.rs`).
//!
//! What is absent: leases, forwarding of proposals or reads to the leader. The guards that raft 0.7.0 needs are in
//! `guard.rs`.

mod balance;
mod beats;
mod conf_change;
mod config;
mod convert;
mod group;
mod guard;
pub mod limits;
mod liveness;
mod members;
mod outbox;
mod output;
mod persists;
mod proposals;
mod raft_log;
mod reads;
mod recover;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::MessageType;
use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftBatch;

pub use config::{LogRead, LogReadError, NoLog, RecoverError, RecoveredGroup, StoreConfig, TermRun};
pub use output::{
    ApplyConfError, Committed, ConfStep, PersistToken, ProposalId, ProposeConfError, ProposeError, ReadId,
    SnapshotMeta, StoreOutput, StoreStats,
};

use crate::entry::PeerId;
use balance::Balance;
use beats::{Beats, Side};
use group::{Group, Kit, Turn, Word};
use guard::Refusal;
use outbox::Outbox;
use persists::Persists;

/// All Raft groups of one node. See the [module](self) for the calling order.
pub struct Store {
    config: StoreConfig,
    /// By shard.
    groups: Vec<Group>,
    /// Groups to look at in the next turn, each once.
    dirty: Vec<ShardId>,
    is_dirty: Vec<bool>,
    persists: Persists,
    outbox: Outbox,
    outputs: VecDeque<StoreOutput>,
    balance: Balance,
    beats: Beats,
    commits: Beats,
    next_tick: Instant,
    /// The newest time an input brought.
    now: Instant,
    next_id: u64,
    /// Bytes of entries in memory, over all groups.
    tail_bytes: usize,
    /// The group whose entries leave memory next.
    evict_next: usize,
    retired: bool,
    /// It would rather not lead; and when it tries next to give away what it leads.
    reluctant: Option<Instant>,
    stats: StoreStats,
}

impl Store {
    /// Builds all groups from what was found on disk; groups without a log may be left out. A node that is its only
    /// voter leads at once.
    ///
    /// # Errors
    /// [`RecoverError`] if a group's past is impossible; the node must not start.
    pub fn new(
        config: StoreConfig,
        seed: u64,
        now: Instant,
        groups: Vec<RecoveredGroup>,
        log: Box<dyn LogRead>,
    ) -> Result<Self, RecoverError> {
        if let Some(why) = config.fault() {
            return Err(RecoverError::Config(why));
        }
        let found = by_shard(groups, config.shards)?;
        let life = seed ^ now.0.rotate_left(32);
        let kit = Arc::new(Kit { config: config.clone(), seed, life, older: Arc::from(log) });
        let groups =
            found.into_iter().map(|found| recover::group(&kit, found)).collect::<Result<Vec<Group>, _>>()?;
        let mut store = Self {
            dirty: Vec::with_capacity(groups.len()),
            is_dirty: vec![false; groups.len()],
            persists: Persists::new(config.shards, config.persists_in_flight_max),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            balance: Balance::new(&config, now),
            beats: Beats::default(),
            commits: Beats::default(),
            next_tick: now + config.tick,
            now,
            next_id: 1,
            tail_bytes: groups.iter().map(|group| group.log().bytes()).sum(),
            evict_next: 0,
            retired: false,
            reluctant: None,
            stats: StoreStats::default(),
            groups,
            config,
        };
        store.begin();
        Ok(store)
    }

    fn begin(&mut self) {
        for shard in 0..self.config.shards {
            // The very first group commit says which replicas are suspects: it hides the damaged end of the log.
            self.groups[shard as usize].note_suspicion(&mut self.persists);
            if self.groups[shard as usize].is_alone() {
                self.stats.campaigns += 1;
                self.groups[shard as usize].campaign();
            }
            self.touch(ShardId(shard)); // Committed entries may wait to be applied again.
        }
    }

    fn touch(&mut self, shard: ShardId) {
        let is_dirty = &mut self.is_dirty[shard.0 as usize];
        if !*is_dirty {
            *is_dirty = true;
            self.dirty.push(shard);
        }
    }

    fn group(&self, shard: ShardId) -> &Group {
        &self.groups[shard.0 as usize]
    }

    fn group_mut(&mut self, shard: ShardId) -> &mut Group {
        &mut self.groups[shard.0 as usize]
    }

    /// Changes a group in a way that may change what its log holds in memory.
    fn change<R>(&mut self, shard: ShardId, change: impl FnOnce(&mut Group, &mut Persists) -> R) -> R {
        let group = &mut self.groups[shard.0 as usize];
        let before = group.log().bytes();
        let result = change(group, &mut self.persists);
        self.tail_bytes = self.tail_bytes + group.log().bytes() - before;
        result
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Proposes an entry. One entry should carry many commands.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was proposed.
    ///
    /// # Panics
    /// If the payload is empty (that is how a new leader's first entry is known), longer than
    /// [`limits::ENTRY_BYTES_MAX`], or the shard does not exist.
    pub fn propose(
        &mut self,
        now: Instant,
        shard: ShardId,
        payload: Bytes,
    ) -> Result<ProposalId, ProposeError> {
        assert!(!payload.is_empty(), "an empty entry says nothing");
        assert!(payload.len() <= limits::ENTRY_BYTES_MAX, "the caller cuts entries");
        self.advance(now);
        let id = ProposalId(self.next_id());
        self.group_mut(shard).propose(payload, id)?;
        self.touch(shard);
        Ok(id)
    }

    /// Asks for a linearizable read: [`StoreOutput::ReadReady`] follows when everything acknowledged before this call
    /// is applied here.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was asked.
    pub fn read_index(&mut self, now: Instant, shard: ShardId) -> Result<ReadId, ProposeError> {
        self.advance(now);
        let id = ReadId(self.next_id());
        self.group_mut(shard).read(id)?;
        self.touch(shard);
        Ok(id)
    }

    /// Messages from another node. What does not make sense is dropped and counted.
    pub fn handle_peer(&mut self, now: Instant, from: NodeId, batch: RaftBatch) {
        self.advance(now);
        if !self.balance.heard(from, now) {
            self.stats.dropped_stranger += batch.messages.len() as u64;
            return;
        }
        for message in batch.messages {
            let shard = message.shard;
            if let Some(side) = Side::of(message.kind) {
                self.handle_beats(from, side, &message);
            } else if shard.0 >= self.config.shards {
                self.stats.dropped_shard += 1;
            } else if PeerId(message.from).node() != from {
                self.stats.dropped_stranger += 1;
            } else if let Some(word) = Word::of(message.kind) {
                self.handle_word(shard, word, &message);
            } else if self.reluctant.is_some() && message.kind == MessageType::MsgTimeoutNow as u32 {
                self.stats.dropped_stale += 1;
            } else if let Err(refusal) = self.change(shard, |group, persists| group.step(message, persists)) {
                refusal.count(&mut self.stats);
                if refusal == Refusal::Stranger {
                    self.touch(shard); // It may have said something about it.
                }
            } else {
                self.touch(shard);
            }
        }
    }

    /// A group commit is durable, and so are all before it.
    ///
    /// # Panics
    /// If it was never handed out.
    pub fn handle_persisted(&mut self, now: Instant, token: PersistToken) {
        self.advance(now);
        while let Some(commit) = self.persists.pop_durable(token) {
            for pending in commit.pending {
                self.group_mut(pending.shard).durable(pending.life, pending.number);
                self.touch(pending.shard);
            }
            for (shard, message) in commit.messages {
                self.outbox.add(shard, message);
            }
        }
    }

    /// The machines of a shard have applied its log through `index`.
    ///
    /// # Panics
    /// If it was not handed out in [`StoreOutput::Committed`].
    pub fn handle_applied(&mut self, now: Instant, shard: ShardId, index: u64) {
        self.advance(now);
        self.groups[shard.0 as usize].applied(index, &mut self.outputs);
        if self.group(shard).has_left() {
            self.touch(shard);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.next_tick)
    }

    /// One timer ticks all groups, so heartbeats of all of them leave together.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if now < self.next_tick {
            return;
        }
        let tick = self.config.tick;
        let due = 1 + now.since(self.next_tick).as_nanos() / tick.as_nanos();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        self.next_tick =
            (self.next_tick + tick.saturating_mul(due)).max(now + core::time::Duration::from_nanos(1));
        let stalled = self.is_stalled();
        for _ in 0..due.min(limits::TICKS_AT_ONCE_MAX) {
            self.tick(stalled);
        }
        for (node, beats) in self.beats.take(Side::Leader, self.config.node) {
            self.outbox.add_message(node, beats);
        }
        if stalled || self.retired {
            self.give_away();
        } else if let Some(at) = self.reluctant {
            if at <= now {
                self.reluctant = Some(now + limits::RELUCTANT_EVERY);
                self.give_away();
            }
        } else if self.config.balance
            && let Some((shard, to)) = self.balance.next_move(&self.groups, now)
        {
            self.begin_hand_over(shard, to);
        }
    }

    /// Whether the log has taken longer over a group commit than [`limits::PERSIST_STALL`]. Such a node gives its
    /// leaderships away; its driver should stop it.
    pub fn is_stalled(&self) -> bool {
        self.persists.oldest_issued().is_some_and(|issued| self.now.since(issued) >= limits::PERSIST_STALL)
    }

    /// Gives all leaderships away and asks for none any more: the node is about to stop. Done when
    /// [`Self::leads_any`] is false, or when patience ends.
    pub fn retire(&mut self, now: Instant) {
        self.advance(now);
        self.retired = true;
        self.give_away();
    }

    /// Whether this node would rather not lead, because it can store little more. It gives its leaderships away, a few
    /// seconds apart if nobody takes them, and takes none over when another offers one; it asks for votes only where a
    /// leader is missing, so where all nodes are reluctant shards have leaders all the same.
    pub fn set_reluctant(&mut self, now: Instant, is_reluctant: bool) {
        self.advance(now);
        match (is_reluctant, self.reluctant) {
            (true, None) => {
                self.reluctant = Some(now + limits::RELUCTANT_EVERY);
                self.give_away();
            }
            (false, Some(_)) => self.reluctant = None,
            _ => {}
        }
    }

    fn give_away(&mut self) {
        for shard in (0..self.config.shards).map(ShardId) {
            let group = self.group(shard);
            if group.is_leader()
                && let Some(to) = self.balance.successor(group, self.now)
            {
                self.begin_hand_over(shard, to);
            }
        }
    }

    /// Hands leadership of a shard to another node as soon as the open proposals are answered; until then proposals
    /// are `Busy`. False, and nothing happens, if this node does not lead it, hands it over already or the other has no
    /// vote; leadership stays if the other does not answer.
    pub fn transfer_leader(&mut self, now: Instant, shard: ShardId, to: NodeId) -> bool {
        self.advance(now);
        self.begin_hand_over(shard, to)
    }

    fn begin_hand_over(&mut self, shard: ShardId, to: NodeId) -> bool {
        let until = self.now + limits::DRAIN_MAX;
        let begun = self.group_mut(shard).begin_hand_over(to, until);
        if begun {
            self.stats.transfers += 1;
            self.touch(shard);
        }
        begun
    }

    /// The next effect to carry out.
    pub fn poll_output(&mut self) -> Option<StoreOutput> {
        if self.outputs.is_empty() {
            self.collect();
        }
        self.outputs.pop_front()
    }

    /// One turn: everything ready in all touched groups becomes one group commit, one batch per node, and events.
    fn collect(&mut self) {
        let mut events = VecDeque::new();
        let dirty = std::mem::take(&mut self.dirty);
        for &shard in &dirty {
            self.is_dirty[shard.0 as usize] = false;
            self.collect_group(shard, &mut events);
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
            self.dirty.clear(); // Keeps its capacity.
        }
        if let Some(persist) = self.persists.issue(self.now) {
            self.stats.persists += 1;
            self.outputs.push_back(persist);
        }
        // After the entries that they commit.
        for (node, commits) in self.commits.take(Side::Commit, self.config.node) {
            self.outbox.add_message(node, commits);
        }
        self.outbox.flush(&mut self.outputs);
        self.outputs.append(&mut events);
        self.evict();
    }

    fn collect_group(&mut self, shard: ShardId, outputs: &mut VecDeque<StoreOutput>) {
        let group = &mut self.groups[shard.0 as usize];
        let (persists, outbox, commits) = (&mut self.persists, &mut self.outbox, &mut self.commits);
        let mut turn = Turn { now: self.now, persists, outbox, commits, outputs };
        let before = group.log().bytes();
        let more = group.collect(&mut turn);
        self.tail_bytes = self.tail_bytes + group.log().bytes() - before;
        if more {
            self.touch(shard);
        }
    }

    /// Keeps the entries in memory within their budget, group by group in turn, with an eighth to spare so that this
    /// is rare.
    fn evict(&mut self) {
        if self.tail_bytes <= self.config.tail_bytes_max {
            return;
        }
        let goal = self.config.tail_bytes_max - self.config.tail_bytes_max / 8;
        for _ in 0..self.groups.len() {
            if self.tail_bytes <= goal {
                break;
            }
            self.tail_bytes -= self.groups[self.evict_next].evict(self.tail_bytes - goal);
            self.evict_next = (self.evict_next + 1) % self.groups.len();
        }
    }

    /// Whether this node leads the shard and has applied an entry of its own term.
    pub fn is_serving(&self, shard: ShardId) -> bool {
        self.group(shard).is_serving()
    }

    /// Whether this node's replica of the shard may have forgotten what it said, and counts for nothing until a leader
    /// has cleared it.
    pub fn is_suspect(&self, shard: ShardId) -> bool {
        self.group(shard).is_suspect()
    }

    /// Whether this node leads any shard.
    pub fn leads_any(&self) -> bool {
        self.groups.iter().any(Group::is_leader)
    }

    /// Who leads the shard, as far as this node knows.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.group(shard).leader()
    }

    /// The newest term this node has seen in the shard.
    pub fn term(&self, shard: ShardId) -> u64 {
        self.group(shard).term()
    }

    /// Counters since the start.
    pub fn stats(&self) -> StoreStats {
        let mut stats = self.stats;
        self.groups.iter().for_each(|group| group.add_stats(&mut stats));
        stats
    }
}

/// What was found, for every shard of the cluster.
fn by_shard(groups: Vec<RecoveredGroup>, shards: u32) -> Result<Vec<RecoveredGroup>, RecoverError> {
    let mut found: Vec<Option<RecoveredGroup>> = Vec::new();
    found.resize_with(shards as usize, || None);
    for group in groups {
        let shard = group.shard;
        let place = found.get_mut(shard.0 as usize).ok_or(RecoverError::UnknownShard(shard))?;
        if place.replace(group).is_some() {
            return Err(RecoverError::Twice(shard));
        }
    }
    let empty = |(shard, group): (usize, Option<RecoveredGroup>)| {
        group.unwrap_or_else(|| RecoveredGroup::empty(ShardId(shard as u32)))
    };
    Ok(found.into_iter().enumerate().map(empty).collect())
}
