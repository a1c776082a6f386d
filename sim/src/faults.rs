//! What goes wrong in a run: kinds and rates drawn from the seed (swarm testing: each run has its own mix).

use core::time::Duration;

use throng_base::Rng;

/// Rates and ranges of one run. Rates are per million.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// Messages between nodes that are lost (0–30 %).
    pub loss: u32,
    /// Messages between nodes that arrive twice (0–20 %).
    pub replay: u32,
    /// Longest delay of a message between nodes; unequal delays reorder.
    pub delay_max: Duration,
    /// Longest time a sync takes.
    pub sync_max: Duration,
    /// Mean time between crashes of any node; none if zero.
    pub crash_every: Duration,
    /// Mean time between partitions; none if zero.
    pub partition_every: Duration,
    /// Mean time between cut client connections; none if zero.
    pub cut_every: Duration,
    /// Mean time between jumps of a node's wall clock; none if zero.
    pub jump_every: Duration,
    /// How long faults go on; afterwards everything heals.
    pub duration: Duration,
}

impl FaultPlan {
    /// Draws a plan.
    pub fn draw(rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        let mut sometimes = |chance: u32, low: u64, high: u64| {
            let value = rng.between(low, high);
            if rng.chance(chance) { value } else { 0 }
        };
        Self {
            loss: sometimes(600_000, 1, 300_000) as u32,
            replay: sometimes(500_000, 1, 200_000) as u32,
            delay_max: ms(1 + sometimes(700_000, 1, 100)),
            sync_max: ms(1 + sometimes(600_000, 1, 100)),
            crash_every: ms(sometimes(700_000, 500, 4_000)),
            partition_every: ms(sometimes(600_000, 500, 4_000)),
            cut_every: ms(sometimes(700_000, 100, 2_000)),
            jump_every: ms(sometimes(400_000, 200, 3_000)),
            duration: ms(rng.between(3_000, 12_000)),
        }
    }

    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            loss: 0,
            replay: 0,
            delay_max: Duration::from_millis(2),
            sync_max: Duration::from_millis(1),
            crash_every: Duration::ZERO,
            partition_every: Duration::ZERO,
            cut_every: Duration::ZERO,
            jump_every: Duration::ZERO,
            duration: Duration::from_secs(3),
        }
    }
}

/// How often each kind struck. Over a few hundred seeds none may stay at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Messages between nodes lost.
    pub lost: u64,
    /// Messages between nodes doubled.
    pub replayed: u64,
    /// Messages that overtook an earlier one on the same path.
    pub reordered: u64,
    /// Messages that died in a partition.
    pub partitioned: u64,
    /// Crashes.
    pub crashes: u64,
    /// Commits that a crash lost or kept although nobody had been told.
    pub unsynced_commits: u64,
    /// State batches that a crash lost.
    pub unflushed_batches: u64,
    /// Client connections cut.
    pub cuts: u64,
    /// Wall-clock jumps.
    pub clock_jumps: u64,
}

impl FaultCounts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.replayed += other.replayed;
        self.reordered += other.reordered;
        self.partitioned += other.partitioned;
        self.crashes += other.crashes;
        self.unsynced_commits += other.unsynced_commits;
        self.unflushed_batches += other.unflushed_batches;
        self.cuts += other.cuts;
        self.clock_jumps += other.clock_jumps;
    }

    /// All counters with their names.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("lost", self.lost),
            ("replayed", self.replayed),
            ("reordered", self.reordered),
            ("partitioned", self.partitioned),
            ("crashes", self.crashes),
            ("unsynced commits", self.unsynced_commits),
            ("unflushed batches", self.unflushed_batches),
            ("connections cut", self.cuts),
            ("clock jumps", self.clock_jumps),
        ]
    }
}
