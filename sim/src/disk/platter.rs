//! Bytes of segments, and what disks do to them.

use std::collections::BTreeMap;

use throng_base::Rng;
use throng_storage_core::log::{BLOCK, Generation, LogId, SegmentHeader};

/// Segments as they lie on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Platter {
    pub(crate) log: LogId,
    pub(crate) capacity: usize,
    pub(crate) segments: BTreeMap<Generation, Vec<u8>>,
}

/// A place in a segment.
pub(crate) type Spot = (Generation, usize);

impl Platter {
    pub(crate) fn new(log: LogId, capacity: usize) -> Self {
        let mut platter = Self { log, capacity, segments: BTreeMap::new() };
        platter.prepare(Generation::FIRST);
        platter
    }

    /// Makes a segment: header written, the rest zero, all of it durable.
    pub(crate) fn prepare(&mut self, generation: Generation) {
        let (log, capacity) = (self.log, self.capacity);
        self.segments.entry(generation).or_insert_with(|| {
            let mut bytes = vec![0; capacity];
            let header =
                SegmentHeader { log, generation, capacity: capacity as u64, begin: Generation::FIRST };
            bytes[..BLOCK].copy_from_slice(&header.encode());
            bytes
        });
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
