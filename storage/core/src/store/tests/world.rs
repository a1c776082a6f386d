//! The world of the store's tests: nodes, disks and a network on virtual time, all from one seed, and checks that run
//! on every single output.
//!
//! A disk writes one group commit after the other, each after a delay. A crash loses group commits that are not
//! written, everything the machines applied since their last flush, and every message to the node.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::eraftpb::MessageType;
use throng_base::{Instant, Rng};
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftBatch, RaftMessage};

use super::copies::{Copies, Copy};
use super::disk::Disk;
use crate::entry::{Conf, EntryKind, PeerId, Record};
use crate::store::*;

/// How the world treats its nodes.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) lost_per_million: u32,
    pub(super) doubled_per_million: u32,
    pub(super) net_delay: Duration,
    pub(super) disk_delay: Duration,
    /// How often the machines report what they have applied later than at once.
    pub(super) late_apply_per_million: u32,
    /// How often a node ends between two outputs.
    pub(super) crash_per_million: u32,
}

impl Weather {
    pub(super) fn calm() -> Self {
        Self {
            lost_per_million: 0,
            doubled_per_million: 0,
            net_delay: Duration::from_micros(300),
            disk_delay: Duration::from_micros(200),
            late_apply_per_million: 0,
            crash_per_million: 0,
        }
    }

    pub(super) fn stormy(rng: &mut Rng) -> Self {
        Self {
            lost_per_million: rng.below(200_000) as u32,
            doubled_per_million: rng.below(200_000) as u32,
            net_delay: Duration::from_micros(100 + rng.below(60_000)),
            disk_delay: Duration::from_micros(50 + rng.below(50_000)),
            late_apply_per_million: rng.below(500_000) as u32,
            crash_per_million: 0,
        }
    }
}

pub(super) struct Node {
    pub(super) store: Option<Store>,
    pub(super) disk: Disk,
    writing: VecDeque<(PersistToken, Vec<Record>)>,
    /// Through where each machine has applied, and the copies of its state.
    pub(super) applied: BTreeMap<ShardId, u64>,
    pub(super) copies: Copies,
    /// Grows with every start, so that late disk reports of an earlier life are known.
    life: u64,
    pub(super) open: BTreeMap<ProposalId, (ShardId, Bytes)>,
    reads: BTreeMap<ReadId, (ShardId, u64)>,
    tick_at: Option<Instant>,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few hundred at a time, in tests")]
enum Event {
    Deliver { from: usize, to: usize, life: u64, batch: RaftBatch },
    Written { node: usize, life: u64 },
    Tick { node: usize, life: u64 },
    Applied { node: usize, life: u64, shard: ShardId, index: u64 },
    Prepare { node: usize, life: u64, shard: ShardId, to: PeerId },
    Snapshot { from: usize, to: usize, life: u64, offer: Offer },
    Outcome { node: usize, life: u64, shard: ShardId, to: PeerId, ok: bool },
}

/// A snapshot as it travels.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) message: RaftMessage,
    pub(super) meta: SnapshotMeta,
}

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) proposed: u64,
    pub(super) committed: u64,
    pub(super) lost: u64,
    pub(super) orphaned: u64,
    pub(super) reads: u64,
    pub(super) reads_lost: u64,
    pub(super) crashes: u64,
    pub(super) leaders: u64,
    pub(super) changes: u64,
    pub(super) restored: u64,
    pub(super) snapshots_refused: u64,
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) weather: Weather,
    pub(super) now: Instant,
    pub(super) tally: Tally,
    shards: u32,
    seed: u64,
    rng: Rng,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    /// Nodes whose disks do not return what was written.
    pub(super) spoilt: BTreeSet<usize>,
    /// Nodes whose logs end in damage at their next start.
    pub(super) torn: BTreeSet<usize>,
    /// Directed pairs that do not hear each other.
    cut: BTreeSet<(usize, usize)>,
    /// How many nodes the cluster was formatted with; the others wait to be added.
    voters: usize,
    /// Members from an index on, by shard.
    pub(super) confs: BTreeMap<ShardId, BTreeMap<u64, Conf>>,
    /// The one truth: index to term and payload, by shard.
    pub(super) log: BTreeMap<ShardId, Vec<(u64, Bytes)>>,
    leaders: BTreeMap<(ShardId, u64), NodeId>,
    payloads: BTreeSet<Bytes>,
    next_payload: u64,
    /// FNV-1a over every output: two runs of one seed must agree.
    pub(super) trace: u64,
    tune: fn(&mut StoreConfig),
    /// The newest snapshots sent, for whoever wants to bring them again.
    pub(super) offers: VecDeque<Offer>,
    /// The newest messages sent, for whoever wants to spoil them.
    pub(super) recent: VecDeque<RaftMessage>,
}

impl World {
    pub(super) fn new(nodes: usize, shards: u32, seed: u64, weather: Weather) -> Self {
        Self::tuned(nodes, shards, seed, weather, |_| ())
    }

    pub(super) fn tuned(
        nodes: usize,
        shards: u32,
        seed: u64,
        weather: Weather,
        tune: fn(&mut StoreConfig),
    ) -> Self {
        Self::with_spares(nodes, nodes, shards, seed, weather, tune)
    }

    /// A cluster formatted with the first `voters` nodes; the others wait to be added.
    pub(super) fn with_spares(
        voters: usize,
        nodes: usize,
        shards: u32,
        seed: u64,
        weather: Weather,
        tune: fn(&mut StoreConfig),
    ) -> Self {
        let mut world = Self {
            voters,
            confs: BTreeMap::new(),
            offers: VecDeque::new(),
            nodes: (0..nodes).map(|_| Node::blank()).collect(),
            weather,
            now: Instant::ZERO,
            tally: Tally::default(),
            shards,
            seed,
            rng: Rng::new(seed),
            events: BTreeMap::new(),
            next_event: 0,
            spoilt: BTreeSet::new(),
            torn: BTreeSet::new(),
            cut: BTreeSet::new(),
            log: BTreeMap::new(),
            leaders: BTreeMap::new(),
            payloads: BTreeSet::new(),
            next_payload: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            tune,
            recent: VecDeque::new(),
        };
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    // Life and death.

    pub(super) fn start(&mut self, node: usize) {
        let voters = (1..=self.voters as u64).map(NodeId).collect();
        let mut config = StoreConfig::new(NodeId(node as u64 + 1), voters, self.shards);
        (self.tune)(&mut config);
        let is_suspect = self.torn.remove(&node);
        let here = &mut self.nodes[node];
        assert!(here.store.is_none(), "it runs already");
        let mut groups: Vec<_> =
            here.disk.groups().iter().map(|(shard, group)| here.copies.recovered(*shard, group)).collect();
        groups.iter_mut().for_each(|group| group.is_suspect = is_suspect);
        here.applied = groups.iter().map(|group| (group.shard, group.applied)).collect();
        let store = Store::new(config, self.seed, self.now, groups, Box::new(here.disk.clone()));
        here.store = Some(store.expect("what was synced suffices"));
        here.tick_at = None;
        self.drain(node);
    }

    pub(super) fn crash(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        here.store = None;
        here.writing.clear();
        here.life += 1;
        self.tally.crashes += 1;
        self.tally.orphaned += std::mem::take(&mut here.open).len() as u64;
        here.reads.clear();
        for other in 0..self.nodes.len() {
            self.input(other, |store, now| store.handle_peer_down(now, NodeId(node as u64 + 1)));
        }
    }

    /// Makes what the machines applied durable, as far as the log on disk supports it or not: the state's flush and
    /// the log's sync are independent.
    pub(super) fn flush(&mut self, node: usize) {
        let shards: Vec<_> = self.nodes[node].applied.keys().copied().collect();
        shards.into_iter().for_each(|shard| drop(self.flush_shard(node, shard)));
    }

    /// Makes one machine's state durable and tells the store. Returns what is durable.
    fn flush_shard(&mut self, node: usize, shard: ShardId) -> Option<Copy> {
        let applied = self.nodes[node].applied.get(&shard).copied().filter(|index| *index > 0)?;
        let copy = self.copy_at(shard, applied);
        let here = &mut self.nodes[node];
        let is_current = here.copies.flush(shard, copy.clone(), &here.disk.group(shard));
        if is_current {
            self.input(node, |store, now| store.handle_flushed(now, shard, applied));
        }
        Some(copy)
    }

    fn copy_at(&self, shard: ShardId, index: u64) -> Copy {
        let term = self.log[&shard][index as usize - 1].0;
        Copy { index, term, conf: self.conf_at(shard, index) }
    }

    /// The members as of an entry.
    pub(super) fn conf_at(&self, shard: ShardId, index: u64) -> Conf {
        let known = self.confs.get(&shard).and_then(|confs| confs.range(..=index).next_back());
        known.map_or_else(|| Conf::of_voters(1..=self.voters as u64), |(_, conf)| conf.clone())
    }

    /// The members as one node knows them.
    pub(super) fn conf_of(&self, node: usize, shard: ShardId) -> Conf {
        self.nodes[node].store.as_ref().map(|store| store.conf(shard)).unwrap_or_default()
    }

    /// The members as of everything that is committed.
    pub(super) fn newest_conf(&self, shard: ShardId) -> Conf {
        self.conf_at(shard, u64::MAX)
    }

    pub(super) fn propose_conf(
        &mut self,
        shard: ShardId,
        steps: Vec<ConfStep>,
    ) -> Option<Result<ProposalId, ProposeConfError>> {
        let (leader, now) = (self.serving(shard)?, self.now);
        let result = self.nodes[leader].store.as_mut()?.propose_conf(now, shard, steps);
        if let Ok(id) = result {
            self.tally.proposed += 1;
            // Open without a payload: nobody but the store knows the bytes.
            self.nodes[leader].open.insert(id, (shard, Bytes::new()));
        }
        self.drain(leader);
        Some(result)
    }

    /// The disk of a node that is down has not got the newest group commit that it reported.
    pub(super) fn lose_newest(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        assert!(here.store.is_none(), "it runs");
        here.disk.lose_newest();
    }

    pub(super) fn is_suspect(&self, node: usize, shard: ShardId) -> bool {
        self.nodes[node].store.as_ref().is_some_and(|store| store.is_suspect(shard))
    }

    // Network.

    /// Cuts a node off in both directions.
    pub(super) fn isolate(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.cut.extend([(node, other), (other, node)]);
        }
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    fn schedule(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + delay, self.next_event), event);
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.rng.below(most.as_nanos() as u64 + 1))
    }

    fn send(&mut self, from: usize, node: NodeId, batch: RaftBatch) {
        let to = node.0 as usize - 1;
        for message in &batch.messages {
            self.check_message(from, message);
            self.recent.push_back(message.clone());
        }
        self.recent.drain(..self.recent.len().saturating_sub(400));
        let copies = 1 + usize::from(self.rng.chance(self.weather.doubled_per_million));
        for _ in 0..copies {
            if self.cut.contains(&(from, to)) || self.rng.chance(self.weather.lost_per_million) {
                continue;
            }
            let delay = self.jitter(self.weather.net_delay);
            let life = self.nodes[to].life;
            self.schedule(delay, Event::Deliver { from, to, life, batch: batch.clone() });
        }
    }

    // Running.

    /// Runs for a time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Runs until something holds; panics if it never does.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, most: Duration, holds: impl FnMut(&Self) -> bool) {
        let end = self.now + most;
        assert!(self.run_until(end, holds), "seed {}: {what} did not happen in {most:?}", self.seed);
    }

    fn run_until(&mut self, end: Instant, mut holds: impl FnMut(&Self) -> bool) -> bool {
        while !holds(self) {
            let Some(((at, _), _)) = self.events.first_key_value() else { return false };
            if *at > end {
                return false;
            }
            let ((at, _), event) = self.events.pop_first().expect("it was just seen");
            self.now = self.now.max(at);
            self.happen(event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, life, batch } if self.nodes[to].life == life => {
                self.input(to, |store, now| store.handle_peer(now, NodeId(from as u64 + 1), batch));
            }
            Event::Written { node, life } if self.nodes[node].life == life => self.written(node),
            Event::Tick { node, life } if self.nodes[node].life == life => {
                self.nodes[node].tick_at = None;
                self.input(node, |store, now| store.handle_timeout(now));
            }
            Event::Applied { node, life, shard, index } if self.nodes[node].life == life => {
                self.apply(node, shard, index);
            }
            Event::Prepare { node, life, shard, to } if self.nodes[node].life == life => {
                self.prepare(node, shard, to)
            }
            Event::Snapshot { from, to, life, offer } => self.snapshot(from, to, life, offer),
            Event::Outcome { node, life, shard, to, ok } if self.nodes[node].life == life => {
                self.input(node, |store, now| store.snapshot_sent(now, shard, to, ok));
            }
            _ => (), // Of an earlier life.
        }
    }

    fn written(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        let (token, records) = here.writing.pop_front().expect("one report per group commit");
        here.disk.write(&records);
        if !here.writing.is_empty() {
            self.begin_write(node);
        }
        // Sometimes a report is skipped: the next one implies it.
        if !self.nodes[node].writing.is_empty() && self.rng.chance(200_000) {
            return;
        }
        self.input(node, |store, now| store.handle_persisted(now, token));
    }

    fn begin_write(&mut self, node: usize) {
        let (delay, life) = (self.jitter(self.weather.disk_delay), self.nodes[node].life);
        self.schedule(delay, Event::Written { node, life });
    }

    fn apply(&mut self, node: usize, shard: ShardId, index: u64) {
        let applied = self.nodes[node].applied.entry(shard).or_default();
        *applied = (*applied).max(index);
        self.input(node, |store, now| store.handle_applied(now, shard, index));
    }

    /// Gives a node an input, and drains it.
    pub(super) fn input<T>(
        &mut self,
        node: usize,
        input: impl FnOnce(&mut Store, Instant) -> T,
    ) -> Option<T> {
        let now = self.now;
        let result = input(self.nodes[node].store.as_mut()?, now);
        self.drain(node);
        Some(result)
    }

    pub(super) fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].store.as_mut().and_then(Store::poll_output) {
            self.note(node, &output);
            self.carry_out(node, output);
            let chance = self.weather.crash_per_million;
            if chance > 0 && self.nodes[node].store.is_some() && self.rng.chance(chance) {
                self.crash(node);
            }
        }
        let here = &mut self.nodes[node];
        let Some(store) = &here.store else { return };
        let due = store.poll_timeout().expect("a store always ticks");
        if here.tick_at.is_none() {
            here.tick_at = Some(due);
            let life = here.life;
            let delay = due.since(self.now);
            self.schedule(delay, Event::Tick { node, life });
        }
    }

    fn note(&mut self, node: usize, output: &StoreOutput) {
        for byte in format!("{node}{:?}{output:?}", self.now).bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn carry_out(&mut self, node: usize, output: StoreOutput) {
        match output {
            StoreOutput::Persist { token, records } => {
                self.check_records(&records);
                self.nodes[node].writing.push_back((token, records));
                if self.nodes[node].writing.len() == 1 {
                    self.begin_write(node);
                }
            }
            StoreOutput::Send { node: to, batch } => self.send(node, to, batch),
            StoreOutput::Truncate { shard, mark } => {
                let here = &mut self.nodes[node];
                assert!(here.copies.covers(shard, mark.replica, mark.index), "what a restart needs stays");
                assert_eq!(mark.conf, self.conf_at(shard, mark.index));
                self.nodes[node].disk.groups().entry(shard).or_default().mark(&mark);
            }
            StoreOutput::SnapshotWanted { shard, to } => {
                let (delay, life) = (self.jitter(Duration::from_millis(30)), self.nodes[node].life);
                self.schedule(delay, Event::Prepare { node, life, shard, to });
            }
            StoreOutput::SendSnapshot { to, message, meta, .. } => {
                self.send_snapshot(node, to, Offer { message, meta })
            }
            StoreOutput::Restored { shard, mark } => {
                // What was handed out before is not to be reported any more.
                let is_of_past = |event: &Event| matches!(event, Event::Applied { node: at, shard: of, .. } if (*at, *of) == (node, shard));
                self.events.retain(|_, event| !is_of_past(event));
                let here = &mut self.nodes[node];
                here.copies.restore(shard, &mark);
                here.applied.insert(shard, if mark.replica == limits::NO_REPLICA { 0 } else { mark.index });
                self.tally.restored += u64::from(mark.replica != limits::NO_REPLICA);
            }
            StoreOutput::Unreadable { shard, error } => {
                assert!(self.spoilt.contains(&node), "shard {shard} of an intact disk: {error}");
                self.crash(node);
            }
            StoreOutput::Committed { shard, entries } => self.committed(node, shard, entries),
            StoreOutput::ReadReady { shard, read, index } => self.read_ready(node, shard, read, index),
            StoreOutput::Lost { shard, proposals, reads } => {
                let here = &mut self.nodes[node];
                for id in proposals {
                    assert_eq!(here.open.remove(&id).map(|open| open.0), Some(shard), "lost once");
                    self.tally.lost += 1;
                }
                for id in reads {
                    assert_eq!(here.reads.remove(&id).map(|read| read.0), Some(shard), "lost once");
                    self.tally.reads_lost += 1;
                }
            }
            StoreOutput::Role { shard, leader, term, .. } => self.check_role(shard, leader, term),
        }
    }

    // Snapshots.

    fn prepare(&mut self, node: usize, shard: ShardId, to: PeerId) {
        if self.rng.chance(self.weather.lost_per_million) {
            self.input(node, |store, now| store.snapshot_sent(now, shard, to, false));
        } else if let Some(copy) = self.flush_shard(node, shard) {
            let meta = SnapshotMeta { index: copy.index, term: copy.term, conf: copy.conf };
            self.input(node, |store, now| store.snapshot_prepared(now, shard, to, meta));
        }
    }

    fn send_snapshot(&mut self, from: usize, to: PeerId, offer: Offer) {
        assert_eq!((offer.message.index, offer.message.log_term), (offer.meta.index, offer.meta.term));
        self.check_message(from, &offer.message);
        self.offers.push_back(offer.clone());
        self.offers.drain(..self.offers.len().saturating_sub(50));
        let to = to.node().0 as usize - 1;
        let (delay, life) = (self.jitter(self.weather.net_delay * 4), self.nodes[to].life);
        self.schedule(delay, Event::Snapshot { from, to, life, offer });
    }

    fn snapshot(&mut self, from: usize, to: usize, life: u64, offer: Offer) {
        let (shard, peer) = (offer.message.shard, PeerId(offer.message.to));
        let lost = self.cut.contains(&(from, to)) || self.rng.chance(self.weather.lost_per_million);
        let ok = self.nodes[to].life == life && !lost && self.bring(from, to, offer);
        let (delay, life) = (self.jitter(self.weather.net_delay), self.nodes[from].life);
        self.schedule(delay, Event::Outcome { node: from, life, shard, to: peer, ok });
    }

    /// A snapshot of everything that is committed, as a leader would send it.
    pub(super) fn offer(&self, from: usize, to: usize, shard: ShardId) -> Offer {
        let copy = self.copy_at(shard, self.log[&shard].len() as u64);
        let peer = |node: usize| self.nodes[node].store.as_ref().expect("it runs").peer(shard).0;
        let message = RaftMessage {
            shard,
            kind: MessageType::MsgSnapshot as u32,
            from: peer(from),
            to: peer(to),
            term: self.nodes[from].store.as_ref().expect("it runs").term(shard),
            index: copy.index,
            log_term: copy.term,
            ..RaftMessage::default()
        };
        Offer { message, meta: SnapshotMeta { index: copy.index, term: copy.term, conf: copy.conf } }
    }

    /// Brings a whole snapshot to a node. Whether it was taken.
    pub(super) fn bring(&mut self, from: usize, to: usize, Offer { message, meta }: Offer) -> bool {
        let shard = message.shard;
        let copy = Copy { index: meta.index, term: meta.term, conf: meta.conf.clone() };
        assert_eq!(copy, self.copy_at(shard, meta.index), "a snapshot is a state of the one truth");
        let Some(wanted) = self.nodes[to].store.as_ref().map(|store| store.wants_snapshot(&message)) else {
            return false;
        };
        let replica = self.nodes[to].copies.receive(shard, copy);
        let from = NodeId(from as u64 + 1);
        if !wanted {
            self.input(to, |store, now| store.decline_snapshot(now, &message));
        }
        let taken = self.input(to, |store, now| store.handle_snapshot(now, from, message, &meta, replica));
        assert!(wanted || taken == Some(false), "what is not wanted is not taken");
        if taken == Some(false) {
            self.nodes[to].copies.drop_copy(shard, replica);
            self.tally.snapshots_refused += 1;
        }
        taken == Some(true)
    }

    // Using it.

    /// Proposes a payload of its own kind; says whether it was taken.
    pub(super) fn propose(&mut self, node: usize, shard: ShardId) -> bool {
        self.next_payload += 1;
        let payload = Bytes::from(format!("payload {} of node {node}", self.next_payload));
        let now = self.now;
        let Some(store) = self.nodes[node].store.as_mut() else { return false };
        let Ok(id) = store.propose(now, shard, payload.clone()) else { return false };
        assert!(self.nodes[node].open.insert(id, (shard, payload)).is_none(), "ids are not reused");
        self.tally.proposed += 1;
        self.drain(node);
        true
    }

    /// Asks for a read, which must see at least everything committed anywhere until now.
    pub(super) fn read(&mut self, node: usize, shard: ShardId) -> bool {
        let now = self.now;
        let Some(store) = self.nodes[node].store.as_mut() else { return false };
        let Ok(id) = store.read_index(now, shard) else { return false };
        let floor = self.log.get(&shard).map_or(0, |log| log.len() as u64);
        assert!(self.nodes[node].reads.insert(id, (shard, floor)).is_none(), "ids are not reused");
        self.drain(node);
        true
    }

    pub(super) fn serving(&self, shard: ShardId) -> Option<usize> {
        let serves = |node: &Node| node.store.as_ref().is_some_and(|store| store.is_serving(shard));
        self.nodes.iter().rposition(serves)
    }

    pub(super) fn stats(&self, node: usize) -> StoreStats {
        self.nodes[node].store.as_ref().map(Store::stats).unwrap_or_default()
    }

    /// All running nodes have applied all that any has.
    pub(super) fn is_even(&self) -> bool {
        let all = |node: &Node| {
            let is_member = |shard: &ShardId| {
                let store = node.store.as_ref().expect("it runs");
                self.newest_conf(*shard).contains(store.peer(*shard).0)
            };
            self.log.iter().all(|(shard, log)| {
                !is_member(shard) || node.applied.get(shard).copied().unwrap_or(0) == log.len() as u64
            })
        };
        self.nodes.iter().filter(|node| node.store.is_some()).all(all)
    }

    // What must hold.

    fn committed(&mut self, node: usize, shard: ShardId, entries: Vec<Committed>) {
        let last = entries.last().expect("never empty").index;
        let mut changes = false;
        for entry in entries {
            self.check_committed(shard, &entry);
            if let Some(id) = entry.proposal {
                let open = self.nodes[node].open.remove(&id);
                let is_conf = entry.kind == EntryKind::ConfChangeV2;
                let payload = if is_conf { Bytes::new() } else { entry.payload.clone() };
                assert_eq!(open, Some((shard, payload)), "it was open, and this is what was proposed");
                self.tally.committed += 1;
            }
            if entry.kind == EntryKind::ConfChangeV2 {
                changes = true;
                self.apply_conf(node, shard, &entry);
            }
        }
        // Changes are applied in their place; a report of older entries must not come after them.
        if !changes && self.rng.chance(self.weather.late_apply_per_million) {
            let (delay, life) = (self.jitter(Duration::from_millis(30)), self.nodes[node].life);
            self.schedule(delay, Event::Applied { node, life, shard, index: last });
        } else {
            let now = self.now;
            let applied = self.nodes[node].applied.entry(shard).or_default();
            *applied = (*applied).max(last);
            self.nodes[node].store.as_mut().expect("it runs").handle_applied(now, shard, last);
        }
    }

    fn apply_conf(&mut self, node: usize, shard: ShardId, entry: &Committed) {
        let now = self.now;
        let store = self.nodes[node].store.as_mut().expect("it runs");
        store.handle_applied(now, shard, entry.index - 1);
        let conf = store.apply_conf(shard, entry.index, &entry.payload).expect("the leader checked it");
        let again = store.apply_conf(shard, entry.index, &entry.payload);
        assert!(matches!(again, Err(ApplyConfError::Order { .. })), "exactly once");
        store.handle_applied(now, shard, entry.index);
        assert!(conf.is_sound() && !conf.is_empty(), "{conf:?}");
        let confs = self.confs.entry(shard).or_default();
        if !confs.contains_key(&entry.index) {
            self.tally.changes += 1;
        }
        let known = confs.entry(entry.index).or_insert_with(|| conf.clone());
        assert_eq!(*known, conf, "everybody agrees on the members");
    }

    /// Everybody agrees, nothing commits twice, and what is committed is durable on a majority.
    fn check_committed(&mut self, shard: ShardId, entry: &Committed) {
        let log = self.log.entry(shard).or_default();
        if entry.index <= log.len() as u64 {
            let known = &log[entry.index as usize - 1];
            assert_eq!(known, &(entry.term, entry.payload.clone()), "shard {shard} entry {}", entry.index);
            return;
        }
        assert_eq!(entry.index, log.len() as u64 + 1, "no gaps");
        let is_once = entry.payload.is_empty() || entry.kind == EntryKind::ConfChangeV2;
        assert!(is_once || self.payloads.insert(entry.payload.clone()), "committed twice");
        log.push((entry.term, entry.payload.clone()));
        self.check_durable(shard, entry);
    }

    /// An entry is on the disks of a majority of the members it was committed by: those as of some place before it.
    fn check_durable(&self, shard: ShardId, entry: &Committed) {
        let has = |peer: u64| {
            let node = &self.nodes[PeerId(peer).node().0 as usize - 1];
            let group = node.disk.group(shard);
            let held = group.mark.as_ref().map_or(PeerId(peer).node().0, |mark| mark.peer);
            held == peer && (group.term(entry.index) == Some(entry.term) || group.base() > entry.index)
        };
        let majority = |voters: &[u64]| {
            voters.is_empty() || voters.iter().filter(|peer| has(**peer)).count() * 2 > voters.len()
        };
        let first = Conf::of_voters(1..=self.voters as u64);
        let later = self.confs.get(&shard).into_iter().flat_map(|confs| confs.range(..entry.index));
        let mut confs = later.map(|(_, conf)| conf).rev().chain([&first]).take(2);
        let is_durable = confs.any(|conf| majority(&conf.voters) && majority(&conf.voters_outgoing));
        assert!(is_durable, "entry {} of shard {shard} is on too few disks", entry.index);
    }

    fn read_ready(&mut self, node: usize, shard: ShardId, read: ReadId, index: u64) {
        let here = &mut self.nodes[node];
        let (of, floor) = here.reads.remove(&read).expect("it was open");
        assert_eq!(of, shard);
        assert!(index >= floor, "a read at {index} misses what was committed at {floor} before it");
        assert!(here.applied.get(&shard).copied().unwrap_or(0) >= index, "applied first");
        self.tally.reads += 1;
    }

    fn check_role(&mut self, shard: ShardId, leader: Option<NodeId>, term: u64) {
        if let Some(leader) = leader {
            self.tally.leaders += u64::from(!self.leaders.contains_key(&(shard, term)));
            let known = *self.leaders.entry((shard, term)).or_insert(leader);
            assert_eq!(known, leader, "one leader per term: shard {shard}, term {term}");
        }
    }

    fn check_records(&self, records: &[Record]) {
        let shards: BTreeSet<ShardId> = records.iter().map(|record| record.shard).collect();
        assert_eq!(shards.len(), records.len(), "one record per group and group commit");
        for record in records {
            let rising = record.entries.windows(2).all(|pair| pair[0].index + 1 == pair[1].index);
            assert!(rising, "records have no gaps");
        }
    }

    /// What a message says of its sender's disk must be true already.
    fn check_message(&self, from: usize, message: &RaftMessage) {
        if Side::of(message.kind).is_some() || Word::of(message.kind).is_some() {
            return;
        }
        let kind = convert::message_kind(message.kind).expect("raft made it");
        let disk = self.nodes[from].disk.group(message.shard);
        let hard = disk.hard_state;
        match kind {
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => (),
            _ => assert!(hard.term >= message.term, "{kind:?} of term {}, durable {hard:?}", message.term),
        }
        match kind {
            MessageType::MsgAppendResponse if !message.reject && message.term == hard.term => {
                assert!(disk.last_index() >= message.index, "acknowledged before it was durable");
            }
            MessageType::MsgRequestVote if message.term == hard.term => {
                assert_eq!(hard.vote, message.from)
            }
            MessageType::MsgRequestVoteResponse if !message.reject && message.term == hard.term => {
                assert_eq!(hard.vote, message.to, "voted before it was durable");
            }
            _ => (),
        }
    }
}

impl Node {
    fn blank() -> Self {
        Self {
            store: None,
            disk: Disk::default(),
            writing: VecDeque::new(),
            applied: BTreeMap::new(),
            copies: Copies::default(),
            life: 0,
            open: BTreeMap::new(),
            reads: BTreeMap::new(),
            tick_at: None,
        }
    }
}
