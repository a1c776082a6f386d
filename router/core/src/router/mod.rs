//! The router of a node: it leads what the store leads, and answers who asks.
//!
//! ```text
//!   ToRouter ──► commands ─► desk of the shard ─ one entry per turn ─► Store::propose ┐
//!            └─► reads ────► desk of the shard ─ one index per turn ─► Store::read_index
//!                                                                                     ▼
//!   Reply ◄──── outcome, by place in the entry ◄── Machines::apply ◄── Committed ◄── Store
//!   Deliver, Hint ◄──────── effects ◄──────────────────┘  └──► dirty objects ──► Flush
//! ```
//!
//! **Calling.** Feed a bounded number of inputs, then drain [`Router::poll_output`] to `None`. What the inputs of a
//! turn asked for is proposed together: one entry per shard.
//!
//! **Answers.** Every request gets exactly one, unless its link breaks: from apply, from a read, or at once a refusal.
//! On loss of leadership all that wait are told to retry.
//!
//! **Time.** `now` paces timers; the wall clock ([`Router::handle_wall_clock`]) is only ever written into entries.

mod answer;
mod checkpoint;
mod commands;
mod config;
mod desk;
mod fanout;
mod flights;
mod lead;
mod meta;
mod operate;
mod output;
mod post;
mod reads;
mod registry;
mod retain;
mod transfer;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use throng_base::Instant;
use throng_base::planted::{Bug, is_planted, note};
use throng_storage_core::entry::{EntryKind, Mark};
use throng_storage_core::state::StateRead;
use throng_storage_core::store::limits::NO_REPLICA;
use throng_storage_core::store::{Committed, ConfStep, PersistToken, ProposeConfError, Store, StoreOutput};
use throng_wire::ids::{NodeId, ServerTs, ShardId};
use throng_wire::link::{GatewayId, ToRouter};

use crate::fatal::Fatal;
use crate::hash::Keyed;
use crate::limits;
use crate::machines::{Applied, FlushToken, Machines, MemoryUse, copies, next_replica};
use crate::outcome::Outcome;

pub use checkpoint::Checkpoint;
pub use config::RouterConfig;
pub use operate::Operation;
pub use output::{Output, PeerMessage};
pub use transfer::{ImportToken, ViewId};

use desk::Desk;
use fanout::Fanout;
use flights::Flights;
use meta::MetaDesk;
use post::Post;
use retain::Retainer;
use transfer::Transfers;

/// The router of a node. See the [module](self) for the calling order.
pub struct Router<S> {
    config: RouterConfig,
    store: Store,
    machines: Machines<S>,
    /// By shard.
    desks: Vec<Desk>,
    fanout: Fanout,
    flights: Flights,
    post: Post,
    transfers: Transfers,
    meta: MetaDesk,
    retainer: Retainer,
    checkpoint: Option<checkpoint::Awaited>,
    /// Shards whose desk has something to propose or to ask.
    busy: BTreeSet<ShardId>,
    /// Shards in which commands gather while an entry is under way,
    gathering: BTreeSet<ShardId>,
    /// and the first time at which that has lasted long enough.
    gather_at: Option<Instant>,
    /// Shards for whose desk the store had no room,
    blocked: BTreeSet<ShardId>,
    /// and when they try again.
    retry_at: Option<Instant>,
    /// Since when something is unflushed.
    dirty_since: Option<Instant>,
    /// Somebody waits for what is applied to be durable.
    is_flush_wanted: bool,
    /// What keeps clients from writing.
    pressures: BTreeSet<Pressure>,
    now: Instant,
    wall: ServerTs,
    /// Entries to apply, oldest first. Bounded by what the store hands out at once.
    committed: VecDeque<(ShardId, Committed)>,
    /// Reused between turns.
    outcomes: Vec<Outcome>,
    is_stopped: bool,
}

/// What may not keep up with clients that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// The disk is nearly full.
    Disk,
    /// The state store delays or stops writes.
    State,
}

/// Counters and sizes, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Sessions registered here.
    pub sessions: usize,
    /// Bytes the registry's tables take.
    pub registry_bytes: usize,
    /// (gateway, channel) subscriptions here.
    pub subscriptions: usize,
    /// Commands that wait for their answer.
    pub commands: usize,
    /// What the machines hold in memory.
    pub memory: MemoryUse,
    /// Commands that retention has proposed here.
    pub retentions: u64,
}

/// How long desks wait that the store had no room for.
const RETRY: core::time::Duration = core::time::Duration::from_millis(5);

impl<S: StateRead> Router<S> {
    /// A router over a store and the applied state. With one replica more than shards, the last one is that of the
    /// metadata group. The store must have been told [`crate::applied`] of every shard, of
    /// the copy that `replicas` names; other copies in the state are left-overs, and dropped.
    /// `seed` keys look-up tables and draws ticket numbers; a node never starts twice with the same one.
    ///
    /// # Errors
    /// [`Fatal`] if the state cannot be read; the node must not start.
    pub fn new(
        config: RouterConfig,
        seed: u64,
        now: Instant,
        wall_ms: u64,
        store: Store,
        state: S,
        replicas: &[u32],
    ) -> Result<Self, Fatal> {
        let (stored, groups) = (copies(&state)?, replicas.len() as u32);
        let next_replica = next_replica(&stored, groups)?;
        let (shards, metadata) = replicas.split_at(config.shards as usize);
        let mut machines = Machines::load(state, shards, seed, config.memory)?;
        if let Some(&replica) = metadata.first() {
            machines.load_metadata(replica)?;
        }
        let orphans = stored.into_iter().filter(|copy| !replicas.contains(&copy.replica));
        orphans.for_each(|copy| machines.drop_copy(copy));
        for shard in (0..groups).map(ShardId) {
            // Snapshots and backups name the members, also those that the cluster was formatted with.
            let conf = store.conf(shard);
            let has_copy = machines.replica(shard) != NO_REPLICA;
            if has_copy && machines.conf(shard).is_none() && !conf.voters.is_empty() {
                machines.set_conf(shard, conf);
            }
        }
        let keyed = Keyed::new(seed);
        let mut router = Self {
            desks: (0..groups).map(|_| Desk::default()).collect(),
            fanout: Fanout::new(config.shards, keyed),
            flights: Flights::new(keyed),
            post: Post::new(seed),
            transfers: Transfers::new(seed, next_replica),
            meta: MetaDesk::default(),
            retainer: Retainer::new(&config, now),
            checkpoint: None,
            busy: BTreeSet::new(),
            gathering: BTreeSet::new(),
            gather_at: None,
            blocked: BTreeSet::new(),
            retry_at: None,
            dirty_since: None,
            is_flush_wanted: false,
            pressures: BTreeSet::new(),
            now,
            wall: ServerTs(wall_ms),
            committed: VecDeque::new(),
            outcomes: Vec::new(),
            is_stopped: false,
            config,
            store,
            machines,
        };
        router.meta_changed();
        Ok(router)
    }

    /// A gateway's link stands: it learns who leads. Beyond [`limits::GATEWAYS_MAX`] links nothing happens.
    pub fn handle_gateway_up(&mut self, now: Instant, gateway: GatewayId) {
        self.advance(now);
        if self.fanout.link_up(gateway) {
            let shards = (0..self.config.shards).map(ShardId).map(|shard| self.leads(shard)).collect();
            if let Some(nodes) = self.nodes_told() {
                self.fanout.tell(gateway, nodes);
            }
            self.fanout.tell_leads(gateway, shards);
        }
    }

    /// A gateway's link broke: its registrations and subscriptions are gone.
    pub fn handle_gateway_down(&mut self, now: Instant, gateway: GatewayId) {
        self.advance(now);
        self.fanout.link_down(gateway);
    }

    /// A message from a gateway whose link stands.
    pub fn handle_gateway(&mut self, now: Instant, gateway: GatewayId, message: ToRouter) {
        self.advance(now);
        let Some(link) = self.fanout.link(gateway).filter(|_| !self.is_stopped) else { return };
        match message {
            ToRouter::Request(request) => self.request(link, request),
            ToRouter::Unsubscribe { channel } => self.unsubscribe(link, channel),
            ToRouter::Unregister { user, session } => self.unregister(link, user, session),
        }
    }

    /// A message from another node.
    pub fn handle_peer(&mut self, now: Instant, node: NodeId, message: PeerMessage) {
        self.advance(now);
        if self.is_stopped {
            return;
        }
        match message {
            PeerMessage::Raft(batch) => self.store.handle_peer(now, node, batch),
            PeerMessage::Router(message) => self.handle_router(node, message),
            PeerMessage::Snapshot(message) => {
                if let Err(reason) = self.handle_snapshot(node, message) {
                    self.stop(reason);
                }
            }
        }
    }

    /// The link to a node broke.
    pub fn handle_peer_down(&mut self, now: Instant, node: NodeId) {
        self.advance(now);
        self.store.handle_peer_down(now, node);
    }

    /// Nothing has gone to a node and come back for some time ([`Store::handle_peer_silent`]).
    pub fn handle_peer_silent(&mut self, now: Instant, node: NodeId, silence: core::time::Duration) {
        self.advance(now);
        if !self.is_stopped {
            self.store.handle_peer_silent(now, node, silence);
        }
    }

    /// A group commit is durable, and so are all before it.
    pub fn handle_persisted(&mut self, now: Instant, token: PersistToken) {
        self.advance(now);
        if !self.is_stopped {
            self.store.handle_persisted(now, token);
        }
    }

    /// A flush batch is written and flushed.
    pub fn handle_flushed(&mut self, now: Instant, token: FlushToken) {
        self.advance(now);
        for (shard, index) in self.machines.handle_flushed(token) {
            self.store.handle_flushed(now, shard, index);
        }
    }

    /// The wall clock, Unix milliseconds: fed every turn, written into entries.
    pub fn handle_wall_clock(&mut self, unix_ms: u64) {
        self.wall = ServerTs(unix_ms);
    }

    /// Cuts a flush batch with everything applied so far as soon as one may be cut. Returns the token whose report
    /// makes all of it durable; zero if it is already.
    pub fn flush_now(&mut self, now: Instant) -> FlushToken {
        self.advance(now);
        self.is_flush_wanted = self.machines.is_dirty();
        self.machines.newest_flush(self.is_flush_wanted)
    }

    /// The log is beyond its budget, and the entries of these shards (the number behind the last is the metadata's) hold its
    /// oldest part: what is applied is flushed, and followers that are too far behind get a snapshot instead.
    pub fn handle_log_over_budget(&mut self, now: Instant, shards: &[ShardId]) {
        self.advance(now);
        self.is_flush_wanted = true;
        for &shard in shards {
            if self.has_group(shard) {
                self.store.handle_log_pressure(now, shard);
            }
        }
    }

    /// Something does not keep up, or does again. Until then clients that write are BUSY; what is under way goes on. With a
    /// full disk the node also gives its leaderships to nodes that have room.
    pub fn handle_pressure(&mut self, pressure: Pressure, is_high: bool) {
        if is_high {
            self.pressures.insert(pressure);
        } else {
            self.pressures.remove(&pressure);
        }
        if pressure == Pressure::Disk {
            self.store.set_reluctant(self.now, is_high);
        }
    }

    /// What keeps clients from writing.
    pub fn pressures(&self) -> impl Iterator<Item = Pressure> + '_ {
        self.pressures.iter().copied()
    }

    /// Timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.is_stopped {
            return;
        }
        self.store.handle_timeout(now);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.busy.append(&mut self.blocked);
        }
        if self.gather_at.is_some_and(|at| at <= now) {
            self.gather_at = None;
            self.busy.append(&mut self.gathering);
        }
        self.post_due();
        self.meta_due();
        self.checkpoint_due();
        if let Err(reason) = self.retention_turn() {
            return self.stop(reason);
        }
        if let Err(reason) = self.transfers_due() {
            self.stop(reason);
        }
    }

    /// When [`Router::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_stopped {
            return None;
        }
        let may_cut = self.machines.may_cut() && !self.is_cut_held();
        let flush = self.dirty_since.filter(|_| may_cut).map(|since| since + self.config.flush_age);
        [
            self.store.poll_timeout(),
            self.retry_at,
            self.gather_at,
            flush,
            self.post.poll_timeout(),
            self.transfers.poll_timeout(),
            self.meta_timeout(),
            self.retainer.poll_timeout(),
            self.checkpoint_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next effect to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.fanout.outputs.pop_front() {
                return Some(output);
            }
            if self.is_stopped {
                return None;
            }
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(reason) => self.stop(reason),
            }
        }
    }

    /// The store, for metrics.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Proposes a change of a shard's members, as [`Store::propose_conf`] says.
    ///
    /// # Errors
    /// [`ProposeConfError`]; nothing was proposed.
    pub fn propose_conf(
        &mut self,
        now: Instant,
        shard: ShardId,
        steps: Vec<ConfStep>,
    ) -> Result<(), ProposeConfError> {
        self.advance(now);
        self.store.propose_conf(now, shard, steps).map(|_answered_by_nobody| ())
    }

    /// Gives all leaderships away: the node is about to stop.
    pub fn retire(&mut self, now: Instant) {
        self.advance(now);
        self.store.retire(now);
    }

    /// The machines, to compare replicas and for metrics.
    pub fn machines(&mut self) -> &mut Machines<S> {
        &mut self.machines
    }

    /// Counters and sizes.
    pub fn stats(&self) -> RouterStats {
        let (sessions, registry_bytes) = self.fanout.sessions();
        let subscriptions = self.fanout.subscriptions();
        let (commands, memory) = (self.flights.len(), self.machines.memory());
        RouterStats {
            sessions,
            registry_bytes,
            subscriptions,
            commands,
            memory,
            retentions: self.retainer.proposed(),
        }
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn stop(&mut self, reason: Fatal) {
        self.is_stopped = true;
        self.fanout.outputs.push_back(Output::Fatal { reason });
    }

    fn desk(&mut self, shard: ShardId) -> &mut Desk {
        &mut self.desks[shard.0 as usize]
    }

    /// Whether this node leads and serves the shard.
    fn serves(&self, shard: ShardId) -> bool {
        self.desks[shard.0 as usize].is_serving
    }

    /// Works until there is an output, or nothing left to do; true if something was done.
    fn turn(&mut self) -> Result<bool, Fatal> {
        // One entry at a time: its effects are handed out before the next one makes more.
        if let Some((shard, entry)) = self.committed.pop_front() {
            self.apply(shard, entry)?;
            return Ok(true);
        }
        // Proposals before the store's outputs: what this turn proposes shares their group commit.
        if self.propose_all() {
            return Ok(true);
        }
        if let Some(output) = self.store.poll_output() {
            self.handle_store(output)?;
            return Ok(true);
        }
        self.machines.shrink();
        Ok(self.flush_if_due())
    }

    fn handle_store(&mut self, output: StoreOutput) -> Result<(), Fatal> {
        match output {
            StoreOutput::Persist { token, records } => self.output(Output::Persist { token, records }),
            StoreOutput::Send { node, batch } => {
                self.output(Output::ToPeer { node, message: PeerMessage::Raft(batch) });
            }
            StoreOutput::Committed { shard, entries } => {
                self.committed.extend(entries.into_iter().map(|entry| (shard, entry)));
            }
            StoreOutput::Truncate { shard, mark } => self.output(Output::Truncate { shard, mark }),
            StoreOutput::SnapshotWanted { shard, to } => self.snapshot_wanted(shard, to),
            StoreOutput::SendSnapshot { shard, to, message, meta } => {
                self.send_snapshot(shard, to, message, meta);
            }
            StoreOutput::Restored { shard, mark } => self.restored(shard, &mark)?,
            StoreOutput::ReadReady { shard, read, .. } => {
                note(reads::lease_key(self.config.node, shard), self.wall.0);
                for read in self.desk(shard).take_round(read) {
                    self.serve(shard, read)?;
                }
                self.busy.insert(shard);
            }
            StoreOutput::Lost { shard, proposals, .. } if self.is_meta(shard) => self.meta_lost(&proposals),
            StoreOutput::Unreadable { error, .. } => return Err(error.into()),
            StoreOutput::Lost { shard, proposals, reads } => self.lost(shard, &proposals, &reads),
            StoreOutput::Role { shard, leader, term, serving } => self.role(shard, leader, term, serving),
        }
        Ok(())
    }

    fn apply(&mut self, shard: ShardId, entry: Committed) -> Result<(), Fatal> {
        let at = Applied { index: entry.index, term: entry.term };
        self.outcomes.clear();
        match entry.kind {
            EntryKind::Normal if self.is_meta(shard) => {
                self.apply_meta(at, &entry.payload, entry.proposal)?;
            }
            EntryKind::Normal => {
                self.machines.apply(shard, at, &entry.payload, &mut self.outcomes, &mut self.fanout)?;
            }
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                let conf = self.store.apply_conf(shard, entry.index, &entry.payload)?;
                if self.is_meta(shard) {
                    self.apply_meta(at, &Bytes::new(), None)?;
                } else {
                    self.machines.apply(shard, at, &Bytes::new(), &mut self.outcomes, &mut self.fanout)?;
                    self.meta.unsettle(shard, self.now);
                }
                self.machines.set_conf(shard, conf);
            }
        }
        if let Some(waiters) = entry.proposal.and_then(|id| self.desk(shard).take_proposal(id)) {
            self.answer_all(shard, waiters);
        }
        self.store.handle_applied(self.now, shard, entry.index);
        if is_planted(Bug::LogCutBeforeFlush) {
            self.store.handle_flushed(self.now, shard, entry.index);
        }
        self.look_at_checkpoint(shard);
        if !self.is_meta(shard) {
            self.post_soon(shard);
        }
        Ok(())
    }

    /// The group begins anew from a snapshot that is durable here: the machines change over to it.
    fn restored(&mut self, shard: ShardId, mark: &Mark) -> Result<(), Fatal> {
        self.committed.retain(|(other, _)| *other != shard);
        self.machines.switch(shard, mark.replica)?;
        if self.is_meta(shard) {
            self.meta_changed();
        }
        Ok(())
    }

    fn output(&mut self, output: Output) {
        self.fanout.outputs.push_back(output);
    }

    fn flush_if_due(&mut self) -> bool {
        if !self.machines.is_dirty() {
            self.dirty_since = None;
            return false;
        }
        let since = *self.dirty_since.get_or_insert(self.now);
        let due =
            self.is_flush_wanted || self.machines.wants_flush() || self.now >= since + self.config.flush_age;
        if !due || !self.machines.may_cut() || self.is_cut_held() {
            return false;
        }
        self.cut();
        true
    }

    /// Cuts a flush batch. The caller has asked whether one may be cut.
    fn cut(&mut self) {
        let (token, batch) = self.machines.cut();
        self.dirty_since = None;
        self.is_flush_wanted = false;
        self.output(Output::Flush { token, batch });
    }
}

const _: () = assert!(limits::ENTRY_BYTES_MAX <= throng_storage_core::store::limits::ENTRY_BYTES_MAX);
const _: () = assert!(limits::PROPOSALS_INFLIGHT_MAX <= throng_storage_core::store::limits::PROPOSALS_MAX);
