//! The disk at a point: the recording applied to the image that it began with.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use throng_base::Rng;

use crate::Result;
use crate::cut::{self, Point};
use crate::recording::{Entry, Recording, SECTOR, Write};

/// Images are copied in such pieces; those that are all zeros stay holes.
const PIECE: u64 = 64 << 10;

/// An image that only goes forward, and copies of it.
pub(crate) struct Image {
    disk: Vec<u8>,
    /// Pieces that are not all zeros, by number.
    filled: BTreeSet<u64>,
    /// Entries applied.
    applied: usize,
}

impl Image {
    /// The disk as it was when the recording began.
    ///
    /// # Errors
    /// The image cannot be read.
    pub(crate) fn open(base: &Path) -> Result<Self> {
        let disk = std::fs::read(base).map_err(|error| format!("{}: {error}", base.display()))?;
        let pieces = (0u64..).zip(disk.chunks(PIECE as usize));
        let filled =
            pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)).map(|(n, _)| n).collect();
        Ok(Self { disk, filled, applied: 0 })
    }

    /// Bytes of the disk.
    pub(crate) fn len(&self) -> u64 {
        self.disk.len() as u64
    }

    /// Goes forward to a point's base.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub(crate) fn advance(&mut self, recording: &Recording, base: usize) -> Result<()> {
        assert!(base >= self.applied, "points come in order");
        for entry in &recording.entries[self.applied..base] {
            match entry {
                Entry::Plain(write) | Entry::Fua(write) => {
                    self.put(write.sector, &recording.data(write, 0, write.sectors)?);
                }
                Entry::Discard { sector, sectors } => {
                    self.put(*sector, &vec![0; (sectors * SECTOR) as usize]);
                }
                Entry::Flush | Entry::Mark(_) => {}
            }
        }
        self.applied = base;
        Ok(())
    }

    fn put(&mut self, sector: u64, bytes: &[u8]) {
        let at = sector * SECTOR;
        self.disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        self.filled.extend(at / PIECE..(at + bytes.len() as u64).div_ceil(PIECE));
    }

    /// Writes the disk to a file as a point leaves it; the image itself stays at the base. Returns how many of the
    /// writes under way are in it, whole or in part.
    ///
    /// # Errors
    /// The file cannot be written or the recording not be read.
    pub(crate) fn write_cut(&self, recording: &Recording, point: Point, path: &Path) -> Result<usize> {
        assert!(point.base == self.applied, "the image was brought to the point");
        let failed = |error| format!("{}: {error}", path.display());
        let file = File::create(path).map_err(failed)?;
        file.set_len(self.len()).map_err(failed)?;
        for piece in &self.filled {
            let (from, to) = (piece * PIECE, ((piece + 1) * PIECE).min(self.len()));
            file.write_all_at(&self.disk[from as usize..to as usize], from).map_err(failed)?;
        }
        let Some(seed) = point.kept else { return Ok(0) };
        let mut rng = Rng::new(seed);
        let keep = cut::keep_per_million(&mut rng);
        let mut kept = 0;
        for entry in &recording.entries[cut::under_way(&recording.entries, point.base)] {
            let (write, is_fua): (&Write, bool) = match entry {
                Entry::Plain(write) => (write, false),
                Entry::Fua(write) => (write, true),
                // Whether the disk forgets discarded sectors is its affair; it may as well not.
                Entry::Discard { .. } | Entry::Flush | Entry::Mark(_) => continue,
            };
            let parts = cut::remains(write, is_fua, &mut rng, keep);
            kept += usize::from(!parts.is_empty());
            for part in parts {
                let data = recording.data(write, part.start, part.end - part.start)?;
                file.write_all_at(&data, (write.sector + part.start) * SECTOR).map_err(failed)?;
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::{example, open};

    fn cut_of(point: Point) -> (Vec<u8>, usize) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (base, cut) = (dir.path().join("base"), dir.path().join("cut"));
        std::fs::write(&base, vec![0xee; 32 * SECTOR as usize]).expect("write");
        let recording = open(&example()).expect("sound");
        let mut image = Image::open(&base).expect("readable");
        image.advance(&recording, point.base).expect("sound");
        let kept = image.write_cut(&recording, point, &cut).expect("a file");
        (std::fs::read(&cut).expect("read"), kept)
    }

    /// The first byte of sectors 8, 9 and 16.
    fn bytes(base: usize, kept: Option<u64>) -> [u8; 3] {
        let (disk, _) = cut_of(Point { base, kept });
        assert_eq!(disk.len(), 32 * SECTOR as usize);
        [8, 9, 16].map(|sector| disk[sector * SECTOR as usize])
    }

    #[test]
    fn a_cut_holds_everything_before_it_and_nothing_behind() {
        assert_eq!(bytes(0, None), [0xee, 0xee, 0xee]);
        assert_eq!(bytes(3, None), [0x11, 0x22, 0xee], "the later of two writes wins");
        assert_eq!(bytes(5, None), [0x11, 0x22, 0x33]);
        assert_eq!(bytes(8, None), [0, 0, 0x33], "discarded");
    }

    #[test]
    fn of_writes_under_way_any_part_is_kept() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let found = bytes(0, Some(seed));
            assert_eq!(found[2], 0xee, "the FUA write lies behind the flush");
            seen.insert([found[0], found[1]]);
        }
        assert_eq!(seen.len(), 6, "both, none, and each combination between: {seen:x?}");
        let fua: BTreeSet<u8> = (0..50).map(|seed| bytes(4, Some(seed))[2]).collect();
        assert_eq!(fua, BTreeSet::from([0x33, 0xee]));
    }
}
