//! One commit as bytes: whole blocks under one checksum (picture in [`super::layout`]).

use core::fmt;

use throng_base::planted::{Bug, is_planted};

use super::layout::{
    BLOCK, COMMIT_HEADER, COMMIT_MAGIC, CommitNo, Generation, LogId, VERSION, is_blank, padded, u16_at,
    u32_at, u64_at,
};
use super::limits::COMMIT_BYTES_MAX;
use super::record::{self, RecordError, RecordView};
use super::segments::Begin;
use crate::entry::Record;

const CRC: core::ops::Range<usize> = 36..40;

/// Where a commit stands: what its header must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The log.
    pub log: LogId,
    /// The segment that holds it.
    pub generation: Generation,
    /// Its number.
    pub number: CommitNo,
    /// The checksum of the commit before it.
    pub previous: u32,
}

/// Why the bytes at a place are not the commit that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The block was never written.
    Blank,
    /// No commit of this segment's generation begins here, or its bytes are incomplete: as a crash leaves them.
    Torn(&'static str),
    /// A commit whose checksum holds, but it stands on another one than the last.
    Misplaced(CommitNo),
    /// A commit whose checksum holds, but its records do not parse.
    Records(RecordError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("nothing was written here"),
            Self::Torn(why) => f.write_str(why),
            Self::Misplaced(number) => write!(f, "commit {number} does not follow the one before it"),
            Self::Records(error) => write!(f, "{error}"),
        }
    }
}

/// A decoded commit.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// Its records, in order.
    pub records: Vec<RecordView<'a>>,
    /// Where it says that the log begins.
    pub begin: Begin,
    /// Its length in the segment, padding included.
    pub len: usize,
    /// Its checksum, on which the next commit stands.
    pub crc: u32,
}

/// Length of a commit of these records, padding included.
pub fn encoded_len<'a>(records: impl IntoIterator<Item = &'a Record>) -> usize {
    padded(COMMIT_HEADER + records.into_iter().map(record::encoded_len).sum::<usize>())
}

/// Replaces `out` by the commit's bytes, which state that the log begins at `begin`, and returns its checksum.
///
/// # Panics
/// If it is longer than [`COMMIT_BYTES_MAX`]; the caller has asked [`encoded_len`].
pub fn encode<'a>(
    link: &Link,
    begin: &Begin,
    records: impl IntoIterator<Item = &'a Record>,
    out: &mut Vec<u8>,
) -> u32 {
    out.clear();
    out.resize(COMMIT_HEADER, 0);
    let mut count: u32 = 0;
    for one in records {
        record::encode(one, link.log, out);
        count += 1;
    }
    let payload = out.len() - COMMIT_HEADER;
    out.resize(padded(out.len()), 0);
    assert!(out.len() <= COMMIT_BYTES_MAX, "a commit is limited");
    out[..4].copy_from_slice(&COMMIT_MAGIC);
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[8..16].copy_from_slice(&link.generation.0.to_le_bytes());
    out[16..24].copy_from_slice(&link.number.0.to_le_bytes());
    out[24..28].copy_from_slice(&(payload as u32).to_le_bytes());
    out[28..32].copy_from_slice(&count.to_le_bytes());
    out[32..36].copy_from_slice(&link.previous.to_le_bytes());
    out[40..48].copy_from_slice(&begin.generation.0.to_le_bytes());
    out[48..56].copy_from_slice(&begin.number.0.to_le_bytes());
    out[56..60].copy_from_slice(&begin.previous.to_le_bytes());
    let crc = link.log.checksum(out, CRC);
    out[CRC].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Reads the commit at `offset` of a segment's bytes, if it is the one that `link` expects.
///
/// # Errors
/// [`CommitError`] says what is there instead.
pub fn decode<'a>(segment: &'a [u8], offset: usize, link: &Link) -> Result<Commit<'a>, CommitError> {
    let bytes = verified(segment, offset, link.log, link.generation)?;
    let number = CommitNo(u64_at(bytes, 16));
    let follows = number == link.number && u32_at(bytes, 32) == link.previous;
    if !follows && !is_planted(Bug::StaleBytesParsed) {
        return Err(CommitError::Misplaced(number));
    }
    let mut payload = &bytes[COMMIT_HEADER..COMMIT_HEADER + u32_at(bytes, 24) as usize];
    let mut at = offset + COMMIT_HEADER;
    let mut records = Vec::new();
    for _ in 0..u32_at(bytes, 28) {
        records.push(record::decode(&mut payload, &mut at, link.log).map_err(CommitError::Records)?);
    }
    if !payload.is_empty() {
        return Err(CommitError::Records(RecordError("a commit has bytes behind its records")));
    }
    let begin = Begin {
        generation: Generation(u64_at(bytes, 40)),
        number: CommitNo(u64_at(bytes, 48)),
        previous: u32_at(bytes, 56),
    };
    Ok(Commit { records, begin, len: bytes.len(), crc: u32_at(bytes, CRC.start) })
}

/// The number of the intact commit of this generation that begins at `offset`, and the checksum it stands on, whatever
/// that is.
pub fn probe(segment: &[u8], offset: usize, log: LogId, generation: Generation) -> Option<(CommitNo, u32)> {
    let bytes = verified(segment, offset, log, generation).ok()?;
    Some((CommitNo(u64_at(bytes, 16)), u32_at(bytes, 32)))
}

/// The bytes of the commit at `offset`, padding included, if its checksum holds.
fn verified(segment: &[u8], offset: usize, log: LogId, generation: Generation) -> Result<&[u8], CommitError> {
    let bytes = segment.get(offset..).filter(|bytes| bytes.len() >= BLOCK).ok_or(CommitError::Blank)?;
    if bytes[..4] != COMMIT_MAGIC {
        let blank = is_blank(&bytes[..BLOCK]);
        return Err(if blank { CommitError::Blank } else { CommitError::Torn("no commit begins here") });
    }
    if u16_at(bytes, 4) != VERSION || u16_at(bytes, 6) != 0 {
        return Err(CommitError::Torn("a commit's header has another version"));
    }
    if u64_at(bytes, 8) != generation.0 && !is_planted(Bug::StaleBytesParsed) {
        return Err(CommitError::Torn("a commit is of another generation than its segment"));
    }
    let len = padded(COMMIT_HEADER + u32_at(bytes, 24) as usize);
    if len > COMMIT_BYTES_MAX {
        return Err(CommitError::Torn("a commit claims to be longer than the limit"));
    }
    let bytes =
        bytes.get(..len).ok_or(CommitError::Torn("a commit is longer than the rest of its segment"))?;
    if log.checksum(bytes, CRC) != u32_at(bytes, CRC.start) && !is_planted(Bug::TornCommitAccepted) {
        return Err(CommitError::Torn("a commit's checksum does not match"));
    }
    Ok(bytes)
}
