//! Where a recording may be cut, and what the disk may have kept.
//!
//! ```text
//!  w w w F   m   U   w w F        w plain write   F flush   U FUA write   m mark
//!  └─┬─┘   ▲   ▲ └┬┘ └┬┘ ▲
//!    │     └───┴──│───│──┴── between two of them everything before is durable: one state
//!    └────────────┴───┴───── power fails while these are under way: each is there, is not there, or is there in part
//! ```
//!
//! Nothing behind the writes under way is kept: whoever waited for their flush had not gone on yet. Writes that others
//! had issued meanwhile may be on the disk as well, but need not be.

use std::ops::Range;

use throng_base::Rng;

use crate::marks::Mark;
use crate::recording::{Entry, Write};

/// A cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// All entries before this one are on the disk.
    pub(crate) base: usize,
    /// Draws what else is, of the writes that follow and were under way; `None`: nothing.
    pub(crate) kept: Option<u64>,
}

/// Every place where everything before is durable. Not those before a mark: behind it the disk is the same, and more
/// must be on it. Not those of which the recording does not tell.
pub(crate) fn bases(entries: &[Entry], untold: &[Range<usize>]) -> Vec<usize> {
    let behind = entries.iter().enumerate().filter(|(_, entry)| entry.is_boundary());
    let all = std::iter::once(0).chain(behind.map(|(number, _)| number + 1));
    let told = |base: &usize| !untold.iter().any(|range| range.contains(base));
    all.filter(|base| !matches!(entries.get(*base), Some(Entry::Mark(_))) && told(base)).collect()
}

/// The writes that may have been under way when everything before `base` was durable.
pub(crate) fn under_way(entries: &[Entry], base: usize) -> Range<usize> {
    let count = match entries.get(base) {
        Some(Entry::Fua(_)) => 1,
        _ => entries[base..].iter().take_while(|entry| !entry.is_boundary()).count(),
    };
    base..base + count
}

/// Draws so many points, in the order of the recording: three quarters of them anywhere, the others while the store
/// was opened, where few entries do much. Of those with writes under way three in four keep some.
pub(crate) fn choose(entries: &[Entry], untold: &[Range<usize>], seed: u64, count: usize) -> Vec<Point> {
    let mut rng = Rng::new(seed).fork(u64::from_le_bytes(*b"points\0\0"));
    let all = bases(entries, untold);
    let opening: Vec<usize> = all.iter().copied().filter(|base| is_opening(entries, *base)).collect();
    let mut points = Vec::with_capacity(count);
    for number in 0..count {
        let from = if number % 4 == 0 && !opening.is_empty() { &opening } else { &all };
        let base = from[rng.below(from.len() as u64) as usize];
        let keeps = !under_way(entries, base).is_empty() && rng.below(4) > 0;
        points.push(Point { base, kept: keeps.then(|| rng.next_u64()) });
    }
    points.sort_unstable();
    points
}

/// Whether the last mark before `base` says that the store is being opened.
fn is_opening(entries: &[Entry], base: usize) -> bool {
    let last = entries[..base].iter().rev().find_map(|entry| match entry {
        Entry::Mark(Some(mark)) => Some(mark),
        _ => None,
    });
    last == Some(&Mark::Opening)
}

/// Sectors that every disk writes as one, with more than our log's checksums or the journal to hold them together.
const BLOCK_SECTORS: u64 = 8;

/// How a write under way ended: which ranges of its sectors are on the disk. A write of file data may be torn at any
/// sector; one of the file system at any block of 4 KiB, and its superblock not at all: ext4 does not claim to survive
/// that, and it is not ours to show.
pub(crate) fn remains(write: &Write, is_fua: bool, rng: &mut Rng, keep_per_million: u32) -> Vec<Range<u64>> {
    if rng.below(4) > 0 || write.sector < BLOCK_SECTORS {
        let whole = core::iter::once(0..write.sectors);
        return whole.filter(|_| rng.chance(keep_per_million)).collect();
    }
    let unit = if is_fua || write.is_metadata { BLOCK_SECTORS } else { 1 };
    let units = (0..write.sectors).step_by(unit as usize);
    let kept = units.filter(|_| rng.chance(keep_per_million));
    kept.map(|first| first..(first + unit).min(write.sectors)).collect()
}

/// How much of what was under way a cut keeps.
pub(crate) fn keep_per_million(rng: &mut Rng) -> u32 {
    [100_000, 500_000, 900_000][rng.below(3) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::{example, open};

    #[test]
    fn a_cut_is_behind_a_flush_a_fua_write_or_a_mark() {
        let entries = open(&example()).expect("sound").entries;
        assert_eq!(bases(&entries, &[]), [0, 4, 5, 8]);
        let gap = std::iter::once(1..5).collect::<Vec<_>>();
        assert_eq!(bases(&entries, &gap), [0, 5, 8], "told before and behind");
        let under_way: Vec<_> =
            bases(&entries, &[]).into_iter().map(|base| under_way(&entries, base)).collect();
        assert_eq!(under_way, [0..2, 4..5, 5..6, 8..8]);
    }

    #[test]
    fn points_come_again_with_their_seed() {
        let entries = open(&example()).expect("sound").entries;
        let points = choose(&entries, &[], 5, 300);
        assert_eq!(points, choose(&entries, &[], 5, 300));
        assert_ne!(points, choose(&entries, &[], 6, 300));
        assert!(points.is_sorted());
        let bases_hit: std::collections::BTreeSet<usize> = points.iter().map(|point| point.base).collect();
        assert_eq!(bases_hit.len(), 4);
        let keeps = |base| points.iter().any(|point| point.base == base && point.kept.is_some());
        assert!(keeps(0) && keeps(4) && keeps(5) && !keeps(8));
    }

    #[test]
    fn what_remains_is_a_part_and_the_superblock_is_whole() {
        let write = |sector, is_metadata| Write { sector, sectors: 16, data: 0, is_metadata };
        let mut rng = Rng::new(1);
        let (mut torn, mut torn_block) = (0, 0);
        for _ in 0..500 {
            let whole = remains(&write(2, false), false, &mut rng, 500_000);
            assert!(whole.len() <= 1 && whole.iter().all(|range| *range == (0..16)));
            let file = remains(&write(64, false), false, &mut rng, 500_000);
            let blocks = remains(&write(64, true), false, &mut rng, 500_000);
            assert!(file.iter().chain(&blocks).all(|part| part.end <= 16));
            torn += usize::from(file.iter().any(|part| part.end - part.start == 1));
            torn_block += usize::from(blocks.len() == 1 && blocks[0].end - blocks[0].start == 8);
            assert!(blocks.iter().all(|part| part.start % 8 == 0));
        }
        assert!(torn > 50 && torn_block > 10, "{torn} {torn_block}");
    }
}
