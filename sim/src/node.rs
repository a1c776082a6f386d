//! One process of the cluster: router and gateway machines over a disk, on virtual time.

use throng_base::{Instant, Rng};
use throng_gateway_core::{Gateway, GatewayConfig};
use throng_router_core::machines::first_replicas;
use throng_router_core::{Router, RouterConfig, applied};
use throng_storage_core::store::{Store, StoreConfig};
use throng_wire::link::GatewayId;
use throng_wire::{Epoch, NodeId, ShardId};

use crate::disk::{Disk, SharedState};

/// Unix time at the start of every run.
const WALL_START_MS: u64 = 1_800_000_000_000;

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
    /// No sync ends before this: syncs end in order.
    pub(crate) synced_until: Instant,
    /// The same for flushes.
    pub(crate) flushed_until: Instant,
}

impl Node {
    pub(crate) fn new(id: NodeId) -> Self {
        Self {
            id,
            disk: Disk::default(),
            life: 0,
            process: None,
            wall_offset_ms: 0,
            synced_until: Instant::ZERO,
            flushed_until: Instant::ZERO,
        }
    }

    pub(crate) fn wall_ms(&self, now: Instant) -> u64 {
        (WALL_START_MS + now.as_millis()).saturating_add_signed(self.wall_offset_ms)
    }

    /// Starts the process from what the disk holds.
    pub(crate) fn start(&mut self, now: Instant, voters: &[NodeId], shards: u32, rng: &mut Rng) {
        self.life += 1;
        let seed = rng.next_u64();
        let state = self.disk.state.clone();
        let groups = (0..shards)
            .map(ShardId)
            .map(|shard| {
                let at = applied(&state, shard, shard.0).expect("memory can be read");
                self.disk.recovered(shard, at.index, at.term)
            })
            .collect();
        let mut config = StoreConfig::new(self.id, voters.to_vec(), shards);
        // Small enough that followers sometimes need the log.
        config.tail_bytes_max = rng.between(1_000, 100_000) as usize;
        let log = Box::new(self.disk.log.clone());
        let store = Store::new(config, seed, now, groups, log)
            .expect("a simulated disk loses nothing that was synced");
        let mut config = RouterConfig::new(self.id, shards, Epoch(1));
        config.flush_age = core::time::Duration::from_millis(rng.between(20, 1_000));
        let router = Router::new(config, seed, now, self.wall_ms(now), store, state, &first_replicas(shards))
            .expect("memory can be read");
        let config = GatewayConfig { shards, ..GatewayConfig::default() };
        let mut gateway = Gateway::new(config, rng.next_u64(), now);
        gateway.handle_wall_clock(now, self.wall_ms(now));
        let gateway_id = GatewayId(rng.next_u64());
        self.synced_until = now;
        self.flushed_until = now;
        self.process = Some(Process { router, gateway, gateway_id, timer_at: None });
    }
}
