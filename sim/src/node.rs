//! One process of the cluster: router and gateway machines over a disk, on virtual time.

use throng_base::{Instant, Rng};
use throng_gateway_core::{Gateway, GatewayConfig};
use throng_router_core::machines::first_replicas;
use throng_router_core::{Router, RouterConfig, applied};
use throng_storage_core::log::{BLOCK, LogId};
use throng_storage_core::store::{Store, StoreConfig};
use throng_wire::link::GatewayId;
use throng_wire::{Epoch, NodeId, ShardId};

use crate::disk::{Disk, LogDisk, SharedState};

/// Unix time at the start of every run.
const WALL_START_MS: u64 = 1_800_000_000_000;

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
    /// Its log is damaged: it refuses to start.
    pub(crate) is_refused: bool,
}

impl Node {
    pub(crate) fn new(id: NodeId, shards: u32, rng: &mut Rng) -> Self {
        let capacity = BLOCK << rng.between(7, 9); // 512 KiB to 2 MiB
        Self {
            id,
            disk: Disk::new(LogDisk::new(LogId(rng.next_u64()), shards, capacity)),
            life: 0,
            process: None,
            wall_offset_ms: 0,
            drift_ppm: 0,
            paused_until: Instant::ZERO,
            flushed_until: Instant::ZERO,
            is_refused: false,
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

    /// Starts the process from what the disk holds.
    ///
    /// # Errors
    /// One sentence if the disk's contents are refused.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        voters: &[NodeId],
        shards: u32,
        rng: &mut Rng,
    ) -> Result<(), String> {
        self.life += 1;
        let (seed, local) = (rng.next_u64(), self.local(now));
        let state = self.disk.state.clone();
        self.disk.log.recover()?;
        let groups = (0..shards)
            .map(ShardId)
            .map(|shard| {
                let at = applied(&state, shard, shard.0).expect("memory can be read");
                self.disk.log.recovered(shard, at.index, at.term)
            })
            .collect();
        let mut config = StoreConfig::new(self.id, voters.to_vec(), shards);
        // Small enough that followers sometimes need the log.
        config.tail_bytes_max = rng.between(1_000, 100_000) as usize;
        let log = Box::new(self.disk.log.reader());
        let store = Store::new(config, seed, local, groups, log).map_err(|error| error.to_string())?;
        let mut config = RouterConfig::new(self.id, shards, Epoch(1));
        config.flush_age = core::time::Duration::from_millis(rng.between(20, 1_000));
        let wall = self.wall_ms(now);
        let router = Router::new(config, seed, local, wall, store, state, &first_replicas(shards))
            .expect("memory can be read");
        let config = GatewayConfig { shards, ..GatewayConfig::default() };
        let mut gateway = Gateway::new(config, rng.next_u64(), local);
        gateway.handle_wall_clock(local, wall);
        let gateway_id = GatewayId(rng.next_u64());
        self.flushed_until = now;
        self.process = Some(Process { router, gateway, gateway_id, timer_at: None });
        Ok(())
    }
}
