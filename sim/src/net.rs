//! Paths between nodes: who cannot hear whom, and when things arrive.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use throng_base::{Instant, Rng};

/// Directed paths that carry nothing at the moment.
#[derive(Default)]
pub(crate) struct Net {
    cut: BTreeSet<(usize, usize)>,
    /// Newest arrival on a path, to count what overtakes.
    newest: BTreeMap<(usize, usize), Instant>,
}

impl Net {
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts a random set of directed paths: one node off, one direction only, or any pattern.
    pub(crate) fn partition(&mut self, nodes: usize, rng: &mut Rng) {
        let victim = rng.below(nodes as u64) as usize;
        let mode = rng.below(4);
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let cut = match mode {
                    0 => from == victim || to == victim,
                    1 => from == victim,
                    2 => to == victim,
                    _ => rng.chance(500_000),
                };
                if cut {
                    self.cut.insert((from, to));
                }
            }
        }
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
        let at = now + Duration::from_nanos(rng.between(20_000, delay_max.as_nanos() as u64));
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
