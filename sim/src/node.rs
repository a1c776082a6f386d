//! One process of the cluster: router and gateway machines over a disk, on virtual time.

use std::collections::BTreeMap;

use throng_base::{Instant, Rng};
use throng_gateway_core::{Gateway, GatewayConfig};
use throng_router_core::entry::{FIRST_VERSION, VERSION};
use throng_router_core::machines::copies;
use throng_router_core::meta::{JoinId, Registration, Versions};
use throng_router_core::{Router, RouterConfig, applied};
use throng_storage_core::log::{BLOCK, LogId};
use throng_storage_core::store::limits::NO_REPLICA;
use throng_storage_core::store::{RecoveredGroup, Store, StoreConfig};
use throng_wire::link::GatewayId;
use throng_wire::{Epoch, NodeId, ShardId};

use crate::disk::{Disk, LogDisk, SharedState};
use crate::faults::FaultPlan;

/// Unix time at the start of every run.
const WALL_START_MS: u64 = 1_800_000_000_000;

/// How often a leader looks at the next few channels.
const RETENTION_PAUSE: core::time::Duration = core::time::Duration::from_millis(50);

const MILLION: u64 = 1_000_000;

/// A monotonic clock that runs at its own rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    drift_ppm: i64,
}

impl Clock {
    fn rate(self) -> u128 {
        u128::from(MILLION.saturating_add_signed(self.drift_ppm))
    }

    /// What it says at a true instant.
    pub(crate) fn local(self, now: Instant) -> Instant {
        Instant((u128::from(now.0) * self.rate() / u128::from(MILLION)) as u64)
    }

    /// A true instant at which it says at least `local`, the first but for rounding.
    pub(crate) fn true_at(self, local: Instant) -> Instant {
        Instant((u128::from(local.0) * u128::from(MILLION)).div_ceil(self.rate()) as u64)
    }
}

/// What runs while a node is up.
pub(crate) struct Process {
    pub(crate) router: Router<SharedState>,
    pub(crate) gateway: Gateway,
    pub(crate) gateway_id: GatewayId,
    /// When the machines' timers were last scheduled for; no second event for the same instant.
    pub(crate) timer_at: Option<Instant>,
}

/// A node, up or down.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    /// Counts starts; events of an earlier life are void.
    pub(crate) life: u32,
    pub(crate) process: Option<Process>,
    /// Added to true time by a jumping wall clock, milliseconds.
    pub(crate) wall_offset_ms: i64,
    /// How much faster than true time its clocks run, parts per million.
    pub(crate) drift_ppm: i64,
    /// It is not scheduled until then.
    pub(crate) paused_until: Instant,
    /// No flush ends before this: flushes end in order.
    pub(crate) flushed_until: Instant,
    /// The same for rows of snapshots.
    pub(crate) imported_until: Instant,
    /// Snapshots offered from here, by stream: whether the receiver has answered that it has all.
    pub(crate) offers: BTreeMap<u64, bool>,
    /// When the log may be found too long again.
    pub(crate) pressed_until: Instant,
    /// Its log is damaged: it refuses to start.
    pub(crate) is_refused: bool,
    /// The newest version of the replicated machines that its program knows.
    pub(crate) speaks: u8,
}

impl Node {
    pub(crate) fn new(id: NodeId, shards: u32, rng: &mut Rng) -> Self {
        let capacity = BLOCK << rng.between(5, 9); // 128 KiB to 2 MiB
        Self {
            id,
            disk: Disk::new(LogDisk::new(LogId(rng.next_u64()), shards + 1, capacity)),
            life: 0,
            process: None,
            wall_offset_ms: 0,
            drift_ppm: 0,
            paused_until: Instant::ZERO,
            flushed_until: Instant::ZERO,
            imported_until: Instant::ZERO,
            offers: BTreeMap::new(),
            pressed_until: Instant::ZERO,
            is_refused: false,
            speaks: VERSION,
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock { drift_ppm: self.drift_ppm }
    }

    /// What its monotonic clock says at a true instant.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        self.clock().local(now)
    }

    pub(crate) fn wall_ms(&self, now: Instant) -> u64 {
        (WALL_START_MS + self.local(now).as_millis()).saturating_add_signed(self.wall_offset_ms)
    }

    /// Starts the process from what the disk holds. Returns how many copies of shards a crash had left in the middle of
    /// their arrival.
    ///
    /// # Errors
    /// One sentence if the disk's contents are refused.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        founders: &[NodeId],
        shards: u32,
        plan: &FaultPlan,
        rng: &mut Rng,
    ) -> Result<u64, String> {
        self.life += 1;
        let (seed, local) = (rng.next_u64(), self.local(now));
        let state = self.disk.state.clone();
        self.disk.log.recover()?;
        let (mut groups, mut replicas) = (Vec::new(), Vec::new());
        let is_founder = founders.contains(&self.id);
        // One group more than shards: that of the metadata.
        for shard in (0..=shards).map(ShardId) {
            // Without a mark it is the first copy, which has the shard's own number, or there is none.
            let first = if is_founder { shard.0 } else { NO_REPLICA };
            let replica = self.disk.log.mark(shard).map_or(first, |mark| mark.replica);
            let row = applied(&state, shard, replica).expect("memory can be read");
            let group = self.disk.log.recovered(shard, row.index, row.term);
            groups.push(RecoveredGroup { conf: row.conf, ..group });
            replicas.push(replica);
        }
        let stored = copies(&state).expect("memory can be read");
        let half = stored.iter().filter(|copy| copy.shard.is_none() && !replicas.contains(&copy.replica));
        let half = half.count() as u64;
        let mut config = StoreConfig::new(self.id, founders.to_vec(), shards + 1);
        // Small enough that followers sometimes need the log, and sometimes more than it has.
        config.tail_bytes_max = if rng.chance(500_000) { 200 } else { 1 << rng.between(10, 17) };
        config.log_keep_entries = plan.keep_entries;
        let log = Box::new(self.disk.log.reader());
        let store = Store::new(config, seed, local, groups, log).map_err(|error| error.to_string())?;
        let mut config = RouterConfig::new(self.id, shards, Epoch(1));
        config.me = Some(registration(self.id, self.speaks));
        if is_founder {
            config.founders = founders.iter().map(|id| (*id, registration(*id, FIRST_VERSION))).collect();
        }
        if let Some(events) = plan.keep_events {
            config.retention.group.max_events = Some(events);
            config.retention_pause = RETENTION_PAUSE;
        }
        config.flush_age = core::time::Duration::from_millis(rng.between(20, 1_000));
        let wall = self.wall_ms(now);
        let router = Router::new(config, seed, local, wall, store, state, &replicas)
            .map_err(|error| error.to_string())?;
        let config = GatewayConfig { shards, ..GatewayConfig::default() };
        let mut gateway = Gateway::new(config, rng.next_u64(), local);
        gateway.handle_wall_clock(local, wall);
        let gateway_id = GatewayId(rng.next_u64());
        (self.flushed_until, self.imported_until) = (now, now);
        self.process = Some(Process { router, gateway, gateway_id, timer_at: None });
        Ok(half)
    }
}

/// What a node says of itself to the metadata group.
pub(crate) fn registration(id: NodeId, newest: u8) -> Registration {
    Registration {
        join: JoinId([id.0 as u8; 16]),
        peer: ([127, 0, 0, 1], id.0 as u16).into(),
        client: None,
        ops: None,
        zone: String::new(),
        certificate: String::new(),
        speaks: Versions { oldest: FIRST_VERSION, newest },
    }
}
