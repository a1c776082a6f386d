//! Reads what dm-log-writes recorded.
//!
//! ```text
//!  sector 0   magic u64 │ version u64 │ entries u64 │ sector size u32                            (little-endian)
//!  then, for each entry, one sector:  sector u64 │ sectors u64 │ flags u64 │ length u64 │ text of a mark
//!  and behind it, unless it is a discard or a mark, the data written
//! ```
//!
//! The kernel appends a write when it can no longer be lost: plain writes that had completed when a flush was issued,
//! in the order of their completion, with that flush, when the flush has completed; a FUA write when it has completed.
//! Marks are appended at once. So whatever stands before a mark was durable when the mark was made, and an unbroken run
//! of plain writes belongs to the flush behind it. That is checked here, because the legal cuts follow from it.
//!
//! One thing the kernel gets wrong: a write is kept with the first flush that was issued after it, and appended when *that*
//! flush has completed. If the file system's own flush is slow, the one that the writer waited for is recorded before
//! the write that it made durable. Our log shows it, since it writes a group commit only when the one before is synced:
//! a commit recorded behind a later one. Cuts in between are of a disk that never was ([`Recording::untold`]).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Result;
use crate::marks::Mark;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const ENTRY_BYTES: usize = 32;
/// The only size that our guest's disks have.
pub(crate) const SECTOR: u64 = 512;
/// No recording of ours is near it; a damaged count must not fill the memory.
const ENTRIES_MAX: u64 = 4 << 20;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
const METADATA: u64 = 1 << 4;
const FLUSH_FUA: u64 = FLUSH | FUA;

/// Some sectors of the disk, and where in the recording their new content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// First sector.
    pub(crate) sector: u64,
    /// Number of sectors.
    pub(crate) sectors: u64,
    /// Offset of the data in the recording.
    pub(crate) data: u64,
    /// Whether the file system says that it is metadata.
    pub(crate) is_metadata: bool,
}

/// One thing that happened to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A write that stays in the disk's cache until the next flush.
    Plain(Write),
    /// A write that was durable when it completed.
    Fua(Write),
    /// Sectors whose content nobody needs.
    Discard { sector: u64, sectors: u64 },
    /// Everything before it is durable.
    Flush,
    /// A mark of the workload; `None` is the kernel's own at the end.
    Mark(Option<Mark>),
}

impl Entry {
    /// Whether a cut right behind it needs no choice of what the disk kept.
    pub(crate) fn is_boundary(&self) -> bool {
        matches!(self, Self::Fua(_) | Self::Flush | Self::Mark(_))
    }
}

/// A recording.
pub(crate) struct Recording {
    file: File,
    pub(crate) entries: Vec<Entry>,
    /// Entries before which the recording does not tell what was durable.
    pub(crate) untold: Vec<Range<usize>>,
}

impl Recording {
    /// Reads all entries, but not the data, of the recording of a disk of so many bytes.
    ///
    /// # Errors
    /// It is none, is cut short, or is not ordered as described above.
    pub(crate) fn open(path: &Path, disk_bytes: u64) -> Result<Self> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let entries = read(&file, disk_bytes / SECTOR).map_err(|why| format!("{}: {why}", path.display()))?;
        check_order(&entries)?;
        let numbers = commits(&file, &entries)?;
        Ok(Self { untold: untold(&entries, &numbers), file, entries })
    }

    /// The data of a write, from its sector `from` on.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn data(&self, write: &Write, from: u64, sectors: u64) -> Result<Vec<u8>> {
        assert!(from + sectors <= write.sectors, "a part of the write");
        let mut bytes = vec![0; (sectors * SECTOR) as usize];
        let read = self.file.read_exact_at(&mut bytes, write.data + from * SECTOR);
        read.map_err(|error| format!("recording: {error}"))?;
        Ok(bytes)
    }
}

fn read(file: &File, disk_sectors: u64) -> Result<Vec<Entry>> {
    let failed = |error: std::io::Error| error.to_string();
    let end = file.metadata().map_err(failed)?.len();
    let mut sector = [0; SECTOR as usize];
    file.read_exact_at(&mut sector, 0).map_err(failed)?;
    let (count, size) = (u64_at(&sector, 16), u64_at(&sector, 24) & 0xffff_ffff);
    if (u64_at(&sector, 0), u64_at(&sector, 8), size) != (MAGIC, VERSION, SECTOR) || count > ENTRIES_MAX {
        return Err("no recording of a disk with 512-byte sectors".to_owned());
    }
    let (mut entries, mut at) = (Vec::with_capacity(count as usize), SECTOR);
    for number in 0..count {
        file.read_exact_at(&mut sector, at).map_err(failed)?;
        let (entry, data_bytes) = decode(&sector, at + SECTOR, disk_sectors)
            .map_err(|why| format!("entry {number} at byte {at}: {why}"))?;
        at += SECTOR + data_bytes;
        if at > end {
            return Err(format!("entry {number} is cut short"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// One entry, and the length of the data behind it.
fn decode(bytes: &[u8], data: u64, disk_sectors: u64) -> Result<(Entry, u64)> {
    let [sector, sectors, flags, len] = [0, 8, 16, 24].map(|at| u64_at(bytes, at));
    if sector.checked_add(sectors).is_none_or(|end| end > disk_sectors) {
        return Err(format!("{sectors} sectors at {sector} lie outside of the disk"));
    }
    let write = Write { sector, sectors, data, is_metadata: flags & METADATA != 0 };
    Ok(match (flags & !METADATA, sectors) {
        (MARK, 0) => {
            let text = bytes.get(ENTRY_BYTES..).and_then(|rest| rest.get(..len as usize));
            let text = text.and_then(|text| str::from_utf8(text).ok()).ok_or("a mark is no text")?;
            (Entry::Mark(Mark::parse(text)?), 0)
        }
        // The device mapper splits a flush with data into a flush, which keeps the flags, and a write.
        (FLUSH | FLUSH_FUA, 0) => (Entry::Flush, 0),
        (DISCARD, 1..) => (Entry::Discard { sector, sectors }, 0),
        (FUA, 1..) => (Entry::Fua(write), sectors * SECTOR),
        (0, 1..) => (Entry::Plain(write), sectors * SECTOR),
        _ => return Err(format!("{sectors} sectors with flags {flags:#x}")),
    })
}

/// The group commits of the log: where they are recorded, and their numbers (`docs/internals/log.md`).
fn commits(file: &File, entries: &[Entry]) -> Result<Vec<(usize, u64)>> {
    let mut found = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let Entry::Plain(write) = entry else { continue };
        let mut head = [0; 24];
        file.read_exact_at(&mut head, write.data).map_err(|error| format!("recording: {error}"))?;
        if head.starts_with(b"TLCM") {
            found.push((at, u64_at(&head, 16)));
        }
    }
    Ok(found)
}

/// From the flush behind the last commit before a misplaced one through the flush that it was recorded with.
fn untold(entries: &[Entry], commits: &[(usize, u64)]) -> Vec<Range<usize>> {
    let flush_behind = |at: usize| {
        let flush = entries[at..].iter().position(|entry| *entry == Entry::Flush);
        at + flush.map_or(entries.len() - at, |behind| behind + 1)
    };
    let (mut ranges, mut newest) = (Vec::new(), 0);
    for (place, &(at, number)) in commits.iter().enumerate() {
        if number < newest {
            let before = commits[..place].iter().rev().find(|(_, earlier)| *earlier < number);
            let from = before.map_or(0, |(before, _)| flush_behind(*before));
            ranges.push(from + 1..flush_behind(at));
        }
        newest = newest.max(number);
    }
    ranges
}

/// Plain writes end in a flush, except at the end of the recording.
fn check_order(entries: &[Entry]) -> Result<()> {
    let is_cached = |entry: &Entry| matches!(entry, Entry::Plain(_) | Entry::Discard { .. });
    for (number, pair) in entries.windows(2).enumerate() {
        let follows = is_cached(&pair[1]) || matches!(pair[1], Entry::Flush | Entry::Mark(None));
        if is_cached(&pair[0]) && !follows {
            return Err(format!("entry {number} is a plain write without a flush behind it"));
        }
    }
    Ok(())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::acks::Ack;

    /// Bytes of an entry's sector.
    fn head(sector: u64, sectors: u64, flags: u64, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [sector, sectors, flags, text.len() as u64] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(SECTOR as usize, 0);
        bytes
    }

    fn recording(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [MAGIC, VERSION, entries.len() as u64, SECTOR] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.resize(SECTOR as usize, 0);
        entries.iter().for_each(|entry| bytes.extend_from_slice(entry));
        bytes
    }

    fn data(entry: Vec<u8>, fill: u8, sectors: usize) -> Vec<u8> {
        [entry, vec![fill; sectors * SECTOR as usize]].concat()
    }

    /// Two plain writes, a flush, a mark, a FUA write of metadata, a discard, a flush.
    pub(crate) fn example() -> Vec<u8> {
        recording(&[
            data(head(8, 2, 0, ""), 0x11, 2),
            data(head(9, 1, METADATA, ""), 0x22, 1),
            head(0, 0, FLUSH | FUA | METADATA, ""),
            head(0, 0, MARK, "acks:3.1.4"),
            data(head(16, 1, FUA | METADATA, ""), 0x33, 1),
            head(8, 2, DISCARD, ""),
            head(0, 0, FLUSH, ""),
            head(0, 0, MARK, "dm-log-writes-end"),
        ])
    }

    pub(crate) fn open(bytes: &[u8]) -> Result<Recording> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("recording");
        std::fs::write(&path, bytes).expect("write");
        Recording::open(&path, 32 * SECTOR)
    }

    #[test]
    fn a_commit_behind_a_later_one_leaves_a_gap_in_what_is_told() {
        let commit = |number: u64| {
            let mut bytes = data(head(8, 1, 0, ""), 0, 1);
            bytes[SECTOR as usize..][..4].copy_from_slice(b"TLCM");
            bytes[SECTOR as usize + 16..][..8].copy_from_slice(&number.to_le_bytes());
            bytes
        };
        let (flush, ack) = (|| head(0, 0, FLUSH, ""), || head(0, 0, MARK, "acks:3.1.4"));
        let entries = |numbers: [u64; 3]| {
            let [a, b, c] = numbers.map(commit);
            recording(&[a, flush(), ack(), flush(), b, flush(), ack(), c, flush(), ack()])
        };
        assert_eq!(open(&entries([6, 7, 8])).expect("sound").untold, []);
        let gap: Vec<_> = std::iter::once(3..9).collect();
        assert_eq!(open(&entries([6, 8, 7])).expect("sound").untold, gap, "from behind 6 to the flush of 7");
    }

    #[test]
    fn entries_are_read_in_order() {
        let recording = open(&example()).expect("sound");
        let is_metadata = false;
        assert_eq!(recording.entries.len(), 8);
        assert_eq!(
            recording.entries[0],
            Entry::Plain(Write { sector: 8, sectors: 2, data: 2 * SECTOR, is_metadata })
        );
        let Entry::Fua(fua) = &recording.entries[4] else { panic!("{:?}", recording.entries[4]) };
        assert_eq!(recording.data(fua, 0, 1).expect("readable"), [0x33; SECTOR as usize]);
        assert!(fua.is_metadata);
        let ack = Ack { channel: 3, n: 1, seq: 4 };
        assert_eq!(recording.entries[3], Entry::Mark(Some(Mark::Acks(vec![ack]))));
        assert_eq!(recording.entries[5], Entry::Discard { sector: 8, sectors: 2 });
        assert_eq!(recording.entries[7], Entry::Mark(None));
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let example = example();
        for (at, byte) in [(0, 0), (8, 2), (24, 1), (31, 0x7f)] {
            let mut bytes = example.clone();
            bytes[at] = byte;
            assert_eq!(open(&bytes).is_err(), at < 28, "byte {at}");
        }
        assert!(open(&example[..example.len() - 1]).is_err(), "cut short");
        for entry in [head(31, 2, 0, ""), head(u64::MAX, 2, 0, ""), head(0, 1, FLUSH, ""), head(0, 0, 0, "")]
        {
            assert!(open(&recording(&[data(entry, 0, 2)])).is_err());
        }
    }

    #[test]
    fn a_plain_write_belongs_to_the_flush_behind_it() {
        let plain = || data(head(8, 1, 0, ""), 0, 1);
        let other = head(0, 0, MARK, "serving");
        assert!(open(&recording(&[plain(), other])).is_err());
        assert!(open(&recording(&[plain(), data(head(9, 1, FUA, ""), 0, 1)])).is_err());
        assert!(open(&recording(&[plain(), head(0, 0, MARK, "dm-log-writes-end")])).is_ok());
    }
}
