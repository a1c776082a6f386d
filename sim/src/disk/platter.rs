//! Bytes of segments, and what disks do to them.

use std::collections::{BTreeMap, VecDeque};

use throng_base::Rng;
use throng_base::planted::{Bug, is_planted};
use throng_storage_core::log::{BLOCK, Generation, LogId, SegmentHeader};

/// Released segments whose files wait to be used again; more are removed.
const FREE_KEPT: usize = 1;

/// Segments as they lie on the disk, and the thread that prepares the next one.
#[derive(Clone, Debug)]
pub(crate) struct Platter {
    pub(crate) log: LogId,
    pub(crate) capacity: usize,
    /// Leftovers, the log's own, and one spare, without a gap.
    pub(crate) segments: BTreeMap<Generation, Vec<u8>>,
    /// Where the log begins, durably.
    begin: Generation,
    /// Leftovers, oldest first.
    free: VecDeque<Generation>,
    /// Files used again so far.
    pub(crate) recycled: u64,
}

/// A place in a segment.
pub(crate) type Spot = (Generation, usize);

impl Platter {
    pub(crate) fn new(log: LogId, capacity: usize) -> Self {
        let (begin, free) = (Generation::FIRST, VecDeque::new());
        let mut platter = Self { log, capacity, segments: BTreeMap::new(), begin, free, recycled: 0 };
        platter.prepare(Generation::FIRST);
        platter
    }

    /// Makes a segment, of a file that nobody needs if there is one: header written, the rest zero, all of it durable.
    pub(crate) fn prepare(&mut self, generation: Generation) {
        if self.segments.contains_key(&generation) {
            return;
        }
        let old = self.free.pop_front().and_then(|old| self.segments.remove(&old));
        self.recycled += u64::from(old.is_some());
        let mut bytes = old.unwrap_or_else(|| vec![0; self.capacity]);
        if !is_planted(Bug::StaleBytesParsed) {
            bytes.fill(0);
        }
        let (log, capacity, begin) = (self.log, self.capacity as u64, self.begin);
        let header = SegmentHeader { log, generation, capacity, begin };
        bytes[..BLOCK].copy_from_slice(&header.encode());
        self.segments.insert(generation, bytes);
    }

    /// The log durably begins at `begin`: the files before it may be used again.
    pub(crate) fn release(&mut self, begin: Generation) {
        while self.begin < begin {
            self.free.push_back(self.begin);
            self.begin = self.begin.next();
        }
        while self.free.len() > FREE_KEPT {
            self.segments.pop_first();
            self.free.pop_front();
        }
    }

    /// A start has read all segments: the log begins at `begin`, what lies before it is left over.
    pub(crate) fn recovered(&mut self, begin: Generation) {
        self.begin = begin;
        self.free = self.segments.keys().copied().take_while(|found| *found < begin).collect();
    }

    /// A crash while a spare was made: what there was of it is removed at the next start.
    pub(crate) fn lose_spare(&mut self, active: Generation) {
        while self.segments.last_key_value().is_some_and(|(newest, _)| *newest > active) {
            self.segments.pop_last();
        }
    }

    /// Writes whole blocks; what does not fit the segment is not written.
    pub(crate) fn write(&mut self, (generation, offset): Spot, bytes: &[u8]) {
        let Some(segment) = self.segments.get_mut(&generation) else { return };
        let len = bytes.len().min(segment.len().saturating_sub(offset));
        segment[offset..offset + len].copy_from_slice(&bytes[..len]);
    }

    /// A write that a crash interrupts: any of its sectors may have reached the disk, in any order.
    pub(crate) fn tear(&mut self, (generation, offset): Spot, bytes: &[u8], rng: &mut Rng) {
        const SECTOR: usize = 512;
        let mode = rng.below(4);
        let kept = rng.below(bytes.len() as u64 / SECTOR as u64 + 1) as usize;
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = offset + number * SECTOR;
            match mode {
                0 if number >= kept => {}      // a prefix
                1 if number < kept => {}       // a suffix
                2 if rng.chance(500_000) => {} // a random choice
                3 if number == kept => {
                    // one sector is garbage
                    let garbage: Vec<u8> = sector.iter().map(|_| rng.next_u64() as u8).collect();
                    self.write((generation, at), &garbage);
                }
                _ => self.write((generation, at), sector),
            }
        }
    }

    /// Flips one bit.
    pub(crate) fn flip(&mut self, (generation, offset): Spot, bit: u8) {
        if let Some(byte) = self.segments.get_mut(&generation).and_then(|bytes| bytes.get_mut(offset)) {
            *byte ^= 1 << (bit % 8);
        }
    }
}
