//! Where the bytes lie. All numbers are little-endian.
//!
//! ```text
//!  segment file, preallocated, and zeroed before every use
//!  ┌───────────────┬──────────────┬───────────────────────────────┬──────────────┬──────────────────────┐
//!  │ segment header│ commit 17    │ commit 18                     │ commit 19    │ zeros                │
//!  │ 1 block       │ 1 block      │ 3 blocks                      │ 1 block      │ … to the capacity    │
//!  └───────────────┴──────────────┴───────────────────────────────┴──────────────┴──────────────────────┘
//!
//!  segment header (the rest of its block is zero)
//!  0                8         12        16               24               32               40               48
//!  ┌────────────────┬─────────┬─────────┬────────────────┬────────────────┬────────────────┬────────────────┐
//!  │ "THRNGSEG"     │ version │ crc32c  │ log id         │ generation     │ capacity       │ begin          │
//!  └────────────────┴─────────┴─────────┴────────────────┴────────────────┴────────────────┴────────────────┘
//!
//!  commit: header of 64 bytes, records, zeros to the end of the last block
//!  0         4     6     8               16              24        28        32        36        40
//!  ┌─────────┬─────┬─────┬───────────────┬───────────────┬─────────┬─────────┬─────────┬─────────┐
//!  │ "TLCM"  │ ver │  0  │ generation    │ commit number │ payload │ records │ previous│ crc32c  │
//!  ├─────────┴─────┴─────┼───────────────┼─────────┬─────┴───┬─────┴─────────┴─────────┴─────────┘
//!  │ begin: generation   │ commit number │ previous│    0    │ records …
//!  └─────────────────────┴───────────────┴─────────┴─────────┘
//!  40                    48              56        60        64
//! ```
//!
//! - A checksum covers every byte of its header block or commit except the field itself, **padding included**: no bit
//!   of a commit can change unseen.
//! - It is seeded with the log id, 64 random bits drawn when the store is formatted: neither another store's log nor
//!   bytes that a user sends as a message (at rest inside some commit, perhaps at a block's start) can pass for a commit.
//! - `generation` must be the segment's: whatever a file held before it was recycled does not parse.
//! - `previous` is the checksum of the commit before, across segments: a commit stands only on the one it was written
//!   after. The first commit of a log has the log id's own checksum there.
//! - `begin` says where the log begins: the oldest segment that is still needed, and what its first commit is and
//!   stands on. The newest commit's word counts. A segment's header repeats the generation as of when it was made.

use core::fmt;

/// Everything is written in whole blocks: partly filled ones and growing files make fdatasync up to 80 times slower.
pub const BLOCK: usize = 4096;

/// Bytes of a commit's header.
pub const COMMIT_HEADER: usize = 64;

/// Version of this layout.
pub const VERSION: u16 = 2;

pub(super) const COMMIT_MAGIC: [u8; 4] = *b"TLCM";
const SEGMENT_MAGIC: [u8; 8] = *b"THRNGSEG";
const SEGMENT_CRC: core::ops::Range<usize> = 12..16;

/// Names one store's log; drawn at random when the store is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId(pub u64);

/// Number of a segment, from 1; never used twice, whichever file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Number of a commit in its log, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitNo(pub u64);

impl LogId {
    /// The seed of all checksums, and the "previous checksum" of the first commit.
    pub fn salt(self) -> u32 {
        crc32c::crc32c(&self.0.to_le_bytes())
    }

    /// The checksum of a block or commit whose own checksum field lies at `field`.
    pub(super) fn checksum(self, bytes: &[u8], field: core::ops::Range<usize>) -> u32 {
        let crc = crc32c::crc32c_append(self.salt(), &bytes[..field.start]);
        crc32c::crc32c_append(crc, &bytes[field.end..])
    }
}

impl Generation {
    /// The first segment of a log.
    pub const FIRST: Self = Self(1);

    /// The next segment.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl CommitNo {
    /// The first commit of a log.
    pub const FIRST: Self = Self(1);

    /// The next commit.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CommitNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `len` rounded up to whole blocks.
pub fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

/// Whether nothing was ever written here.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    let (head, words, tail) = (bytes.len() % 16, bytes.chunks_exact(16), bytes);
    words.into_iter().all(|word| word == [0; 16]) && tail[tail.len() - head..].iter().all(|&byte| byte == 0)
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log it belongs to.
    pub log: LogId,
    /// Its number.
    pub generation: Generation,
    /// Size of the file in bytes, header included.
    pub capacity: u64,
    /// Where the log began, durably, when this header was written. Only ever earlier than where it begins.
    pub begin: Generation,
}

/// Why a segment's first block is no header of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Not a segment at all, or shorter than a block.
    NotASegment,
    /// Written by another version.
    OtherVersion(u32),
    /// It belongs to another store.
    OtherLog,
    /// Its checksum does not match.
    Checksum,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASegment => f.write_str("is not a log segment"),
            Self::OtherVersion(version) => {
                write!(f, "has log version {version}, this program reads {VERSION}")
            }
            Self::OtherLog => f.write_str("belongs to another store"),
            Self::Checksum => f.write_str("has a damaged header"),
        }
    }
}

impl SegmentHeader {
    /// The header's block.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        block[16..24].copy_from_slice(&self.log.0.to_le_bytes());
        block[24..32].copy_from_slice(&self.generation.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.capacity.to_le_bytes());
        block[40..48].copy_from_slice(&self.begin.0.to_le_bytes());
        let crc = self.log.checksum(&block, SEGMENT_CRC);
        block[SEGMENT_CRC].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the header of a segment of `log`.
    ///
    /// # Errors
    /// [`HeaderError`] says what it is instead.
    pub fn decode(bytes: &[u8], log: LogId) -> Result<Self, HeaderError> {
        let block = bytes.get(..BLOCK).ok_or(HeaderError::NotASegment)?;
        if block[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::NotASegment);
        }
        let version = u32_at(block, 8);
        if version != u32::from(VERSION) {
            return Err(HeaderError::OtherVersion(version));
        }
        let found = LogId(u64_at(block, 16));
        if found.checksum(block, SEGMENT_CRC) != u32_at(block, SEGMENT_CRC.start) {
            return Err(HeaderError::Checksum);
        }
        if found != log {
            return Err(HeaderError::OtherLog);
        }
        Ok(Self {
            log,
            generation: Generation(u64_at(block, 24)),
            capacity: u64_at(block, 32),
            begin: Generation(u64_at(block, 40)),
        })
    }
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes make a u16"))
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes make a u32"))
}

/// The number at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes make a u64"))
}
