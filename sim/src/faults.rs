//! What goes wrong in a run: kinds and rates drawn from the seed (swarm testing: each run has its own mix).

use core::time::Duration;

use throng_base::Rng;

/// Rates and ranges of one run. Rates are per million.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// Messages between nodes that are lost (0–30 %).
    pub loss: u32,
    /// Messages between nodes that arrive twice (0–50 %).
    pub replay: u32,
    /// Longest delay of a message between nodes (mean up to 100 ms); unequal delays reorder.
    pub delay_max: Duration,
    /// Mean time between clogs of a path; none if zero. A clogged path holds its messages back for up to 5 s.
    pub clog_every: Duration,
    /// Longest time a sync usually takes.
    pub sync_max: Duration,
    /// Writes of the log that hang for 0.2 to 8 s.
    pub hang: u32,
    /// Writes of the log that fail, upon which the node ends.
    pub write_error: u32,
    /// Whether one node's disk (a minority) also loses, misdirects and corrupts what it was given.
    pub damage: bool,
    /// On that node: writes that are reported and never made.
    pub lost_write: u32,
    /// On that node: writes that land elsewhere.
    pub misdirected: u32,
    /// On that node: crashes during which bits flip; and a hundredth of it, writes behind which one does.
    pub flip: u32,
    /// Chunks of a view that cannot be read, so that the snapshot is given up.
    pub view_error: u32,
    /// Entries per group that the log keeps for followers that are behind; who lacks more gets a snapshot.
    pub keep_entries: u64,
    /// Segments of the log beyond which nothing is kept for them.
    pub keep_segments: u64,
    /// Events that a channel keeps; all if `None`.
    pub keep_events: Option<u64>,
    /// Whether some nodes begin with an older program and are upgraded one by one, or not at all.
    pub mixed: bool,
    /// Mean time between nodes that find their disk nearly full for a while; none if zero.
    pub full_every: Duration,
    /// Mean time between crashes of any node; none if zero. One in ten stops all nodes at once.
    pub crash_every: Duration,
    /// Mean time between pauses of a node for up to 5 s, after which it catches up; none if zero.
    pub pause_every: Duration,
    /// Mean time between partitions; none if zero.
    pub partition_every: Duration,
    /// Mean time between cut client connections; none if zero.
    pub cut_every: Duration,
    /// Mean time between jumps of a node's wall clock; none if zero.
    pub jump_every: Duration,
    /// Mean time between changes of a group's members; none if zero.
    pub change_every: Duration,
    /// Longest deviation of a node's clocks from true time, parts per million.
    pub drift_ppm: u32,
    /// How long faults go on; afterwards everything heals.
    pub duration: Duration,
}

impl FaultPlan {
    /// Draws a plan.
    pub fn draw(rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        let damage = rng.chance(400_000);
        // What is damaged shows when it is read, so a damaged log is kept more often.
        let keep_entries = match rng.below(10) * u64::from(!damage || rng.chance(400_000)) {
            0 => u64::MAX,
            1..=4 => rng.between(5, 60),
            _ => rng.between(0, 5),
        };
        let keep_segments = if rng.chance(500_000) { u64::MAX } else { rng.between(2, 6) };
        let mut sometimes = |chance: u32, low: u64, high: u64| {
            let value = rng.between(low, high);
            if rng.chance(chance) { value } else { 0 }
        };
        Self {
            loss: sometimes(600_000, 1, 300_000) as u32,
            replay: sometimes(500_000, 1, 500_000) as u32,
            delay_max: ms(1 + sometimes(700_000, 1, 200)),
            clog_every: ms(sometimes(400_000, 300, 4_000)),
            sync_max: ms(1 + sometimes(600_000, 1, 100)),
            hang: sometimes(200_000, 100, 5_000) as u32,
            write_error: sometimes(200_000, 100, 5_000) as u32,
            damage,
            lost_write: sometimes(700_000, 500, 40_000) as u32,
            misdirected: sometimes(700_000, 500, 40_000) as u32,
            flip: sometimes(700_000, 100_000, 900_000) as u32,
            view_error: sometimes(300_000, 1_000, 300_000) as u32,
            keep_entries,
            keep_segments,
            crash_every: ms(sometimes(700_000, 500, 4_000)),
            pause_every: ms(sometimes(400_000, 300, 4_000)),
            partition_every: ms(sometimes(600_000, 500, 4_000)),
            cut_every: ms(sometimes(700_000, 100, 2_000)),
            jump_every: ms(sometimes(400_000, 200, 3_000)),
            change_every: ms(sometimes(400_000, 50, 1_000)),
            drift_ppm: sometimes(400_000, 10, 50_000) as u32,
            duration: ms(rng.between(3_000, 12_000)),
            keep_events: rng.chance(400_000).then(|| rng.between(5, 60)),
            mixed: rng.chance(300_000),
            full_every: ms(if rng.chance(300_000) { rng.between(300, 4_000) } else { 0 }),
        }
    }

    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            loss: 0,
            replay: 0,
            delay_max: Duration::from_millis(2),
            clog_every: Duration::ZERO,
            sync_max: Duration::from_millis(1),
            hang: 0,
            write_error: 0,
            damage: false,
            lost_write: 0,
            misdirected: 0,
            flip: 0,
            view_error: 0,
            keep_entries: u64::MAX,
            keep_segments: u64::MAX,
            keep_events: None,
            mixed: false,
            full_every: Duration::ZERO,
            crash_every: Duration::ZERO,
            pause_every: Duration::ZERO,
            partition_every: Duration::ZERO,
            cut_every: Duration::ZERO,
            jump_every: Duration::ZERO,
            change_every: Duration::ZERO,
            drift_ppm: 0,
            duration: Duration::from_secs(3),
        }
    }
}

/// Declares the counters once: field, and name in reports.
macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)*) => {
        /// How often each kind struck. Over a few hundred seeds none may stay at zero.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct FaultCounts {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl FaultCounts {
            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// All counters with their names.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field),)*]
            }
        }
    };
}

counts! {
    /// Messages between nodes lost.
    lost: "messages lost",
    /// Messages between nodes doubled.
    replayed: "messages replayed",
    /// Messages that overtook an earlier one on the same path.
    reordered: "messages reordered",
    /// Messages that died in a partition.
    partitioned: "messages cut off",
    /// Partitions begun: everybody splits in two.
    splits: "partitions, split",
    /// Partitions begun: one node apart, both ways.
    isolations: "partitions, one isolated",
    /// Partitions begun: one node mute or deaf.
    one_way: "partitions, one way",
    /// Partitions begun: a single directed path.
    single_path: "partitions, single path",
    /// Partitions begun: any directed pattern.
    patterns: "partitions, any pattern",
    /// Paths clogged.
    clogs: "paths clogged",
    /// Crashes.
    crashes: "crashes",
    /// Crashes of all nodes at once.
    blackouts: "all nodes stopped at once",
    /// Commits that a crash lost or kept although nobody had been told.
    unsynced_commits: "unsynced commits",
    /// Writes in flight that a crash tore.
    torn_writes: "torn writes",
    /// State batches that a crash lost.
    unflushed_batches: "unflushed batches",
    /// Nodes that were not scheduled for a while.
    pauses: "pauses",
    /// Writes that took very long.
    hangs: "hung writes",
    /// Writes that failed; the node ended.
    write_errors: "failed writes",
    /// Writes that the disk reported and did not make.
    lost_writes: "lost writes",
    /// Writes that went elsewhere.
    misdirected: "misdirected writes",
    /// Bits flipped at rest.
    flips: "bit flips",
    /// Times a group's log forgot entries.
    truncations: "truncations",
    /// Segments of the log that were used again.
    recycled: "segments recycled",
    /// Times the log was longer than it should be.
    pressed: "log over budget",
    /// Snapshots offered to a replica.
    snapshots_sent: "snapshots sent",
    /// Snapshots that became a group's state.
    snapshots_restored: "snapshots restored",
    /// Snapshots offered that came to nothing.
    snapshots_failed: "snapshots failed",
    /// Views of the state that broke.
    views_lost: "views lost",
    /// Copies that a crash left in the middle of their arrival.
    half_copies: "half copies left by a crash",
    /// Entries that could not be read back; the node ended.
    read_errors: "failed reads",
    /// Replicas that refused to start because their log was damaged.
    refused_starts: "damaged logs refused",
    /// Times a replica may have forgotten what it said, because its log ended in damage.
    suspects: "suspects",
    /// Times a leader cleared one of that.
    released: "suspects cleared",
    /// Commands handed to the metadata group.
    commands: "metadata commands",
    /// Changes of a group's members proposed.
    changes: "membership changes",
    /// Of these, in several steps that take effect together.
    joint_changes: "joint changes",
    /// Client connections cut.
    cuts: "connections cut",
    /// Wall-clock jumps.
    clock_jumps: "clock jumps",
    /// Nodes whose clocks drifted.
    drifting: "drifting clocks",
    /// Nodes that began with a program of the version before.
    old_programs: "older programs",
    /// Nodes whose program was replaced by the newer one.
    upgrades: "upgrades",
    /// Holds set or lifted.
    holds: "holds",
    /// Commands that retention proposed.
    retentions: "floors proposed",
    /// Disks that were nearly full for a while.
    full_disks: "full disks",
}

impl FaultCounts {
    /// Faults that somebody or something caused; consequences (what a crash lost, what was refused, snapshots) are not
    /// counted again.
    pub fn total(&self) -> u64 {
        let consequences = [
            self.unsynced_commits,
            self.unflushed_batches,
            self.refused_starts,
            self.read_errors,
            self.blackouts,
            self.truncations,
            self.recycled,
            self.pressed,
            self.snapshots_sent,
            self.snapshots_restored,
            self.snapshots_failed,
            self.half_copies,
            self.suspects,
            self.released,
            self.joint_changes,
            self.retentions,
        ];
        let all: u64 = self.named().iter().map(|(_, count)| count).sum();
        all - consequences.iter().sum::<u64>()
    }

    /// Of these, all that are more than one message lost, doubled, late or cut off.
    pub fn beside_messages(&self) -> u64 {
        self.total() - self.lost - self.replayed - self.reordered - self.partitioned
    }
}
