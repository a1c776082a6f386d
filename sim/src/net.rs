//! Paths between nodes: who cannot hear whom, and when things arrive.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use throng_base::{Instant, Rng};

use crate::faults::FaultCounts;

/// Directed paths that carry nothing at the moment, or nothing soon.
#[derive(Default)]
pub(crate) struct Net {
    cut: BTreeSet<(usize, usize)>,
    clogged: BTreeMap<(usize, usize), Instant>,
    /// Newest arrival on a path, to count what overtakes.
    newest: BTreeMap<(usize, usize), Instant>,
}

/// Longest clog of a path.
const CLOG_MAX: Duration = Duration::from_secs(5);

/// How a partition divides the nodes.
enum Division {
    /// By sides.
    Split(Vec<bool>),
    /// One node hears nobody, and nobody it.
    Isolated(usize),
    /// One node is heard by nobody.
    Mute(usize),
    /// One node hears nobody.
    Deaf(usize),
    /// A single directed path.
    Path(usize, usize),
    /// Any directed paths.
    Pattern,
}

impl Net {
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts a random set of directed paths of a random kind.
    pub(crate) fn partition(&mut self, nodes: usize, rng: &mut Rng, faults: &mut FaultCounts) {
        let victim = rng.below(nodes as u64) as usize;
        let other = (victim + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
        let division = match rng.below(6) {
            0 => Division::Split((0..nodes).map(|_| rng.chance(500_000)).collect()),
            1 => Division::Isolated(victim),
            2 => Division::Mute(victim),
            3 => Division::Deaf(victim),
            4 => Division::Path(victim, other),
            _ => Division::Pattern,
        };
        *match division {
            Division::Split(_) => &mut faults.splits,
            Division::Isolated(_) => &mut faults.isolations,
            Division::Mute(_) | Division::Deaf(_) => &mut faults.one_way,
            Division::Path(..) => &mut faults.single_path,
            Division::Pattern => &mut faults.patterns,
        } += 1;
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let cut = match &division {
                    Division::Split(sides) => sides[from] != sides[to],
                    Division::Isolated(one) => from == *one || to == *one,
                    Division::Mute(one) => from == *one,
                    Division::Deaf(one) => to == *one,
                    Division::Path(a, b) => (from, to) == (*a, *b),
                    Division::Pattern => rng.chance(500_000),
                };
                if cut {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    /// Holds back everything on a random path for a while.
    pub(crate) fn clog(&mut self, nodes: usize, now: Instant, rng: &mut Rng) {
        let from = rng.below(nodes as u64) as usize;
        let to = (from + 1 + rng.below(nodes as u64 - 1) as usize) % nodes;
        let lasts = Duration::from_nanos(rng.below(CLOG_MAX.as_nanos() as u64));
        self.clogged.insert((from, to), now + lasts);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Draws the arrival of a message that may overtake others; whether it does.
    pub(crate) fn arrival(
        &mut self,
        now: Instant,
        path: (usize, usize),
        delay_max: Duration,
        rng: &mut Rng,
    ) -> (Instant, bool) {
        let free = self.clogged.get(&path).copied().unwrap_or(now).max(now);
        let at = free + Duration::from_nanos(rng.between(20_000, delay_max.as_nanos() as u64));
        let newest = self.newest.entry(path).or_default();
        let overtakes = at < *newest;
        *newest = (*newest).max(at);
        (at, overtakes)
    }
}

/// An ordered path (a TCP or QUIC stream): arrivals never overtake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ordered {
    last: Instant,
}

impl Ordered {
    pub(crate) fn arrival(&mut self, now: Instant, delay_max: Duration, rng: &mut Rng) -> Instant {
        let at = now + Duration::from_nanos(rng.between(20_000, delay_max.as_nanos() as u64));
        self.last = (self.last + Duration::from_nanos(1)).max(at);
        self.last
    }
}
