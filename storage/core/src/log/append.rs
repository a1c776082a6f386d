//! Where the next commit goes and what its bytes are. The driver writes, syncs and reports.

use core::fmt;

use super::commit::{self, Link};
use super::layout::{BLOCK, Generation, LogId};
use super::limits::{COMMIT_BYTES_MAX, SEGMENT_BYTES_MAX};
use super::recover::LogEnd;
use super::segments::{Begin, SegmentStart, Segments};
use crate::entry::Record;

/// The place of a staged commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The segment to write to.
    pub generation: Generation,
    /// The offset in it: whole blocks.
    pub offset: u64,
}

/// A record, or what must be written together, is beyond [`COMMIT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a log commit of {} bytes is beyond the limit of {COMMIT_BYTES_MAX}", self.0)
    }
}

impl std::error::Error for TooLarge {}

/// The writing end of a log.
///
/// Invariant: what was staged is written and synced before the next commit is staged, or nothing is ever staged again
/// (a failed write or sync is final). So at most one commit is unsynced, and only the end of the log can be torn.
#[derive(Clone, Debug)]
pub struct Appender {
    log: LogId,
    end: LogEnd,
    segments: Segments,
}

impl Appender {
    /// Continues a log where recovery found its end.
    ///
    /// # Panics
    /// If `end` is not in the last of `segments`.
    pub fn new(log: LogId, end: LogEnd, segments: Segments) -> Self {
        assert!(segments.active() == end.generation, "the log ends in its last segment");
        Self { log, end, segments }
    }

    /// Where the next commit would be written if it fits.
    pub fn end(&self) -> &LogEnd {
        &self.end
    }

    /// The log's segments, without spares and leftovers.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Lets the log begin at `generation`, which the next commit states. Once that is durable, the segments before it
    /// may be recycled.
    ///
    /// # Panics
    /// If that is not one of its segments.
    pub fn begin_at(&mut self, generation: Generation) {
        self.segments.drop_before(generation);
    }

    /// Whether a commit of `len` bytes fits the current segment; if not, [`Appender::rotate`] first.
    pub fn fits(&self, len: usize) -> bool {
        self.end.offset + len as u64 <= self.end.capacity
    }

    /// Goes on in the next segment, which is prepared: header written, the rest zero, all of it durable.
    ///
    /// # Panics
    /// If it is not the next one.
    pub fn rotate(&mut self, generation: Generation, capacity: u64) {
        assert!(generation == self.end.generation.next(), "segments follow each other");
        assert!(capacity <= SEGMENT_BYTES_MAX, "a segment is limited");
        self.end.generation = generation;
        self.end.offset = BLOCK as u64;
        self.end.capacity = capacity;
        let begin = Begin { generation, number: self.end.number, previous: self.end.previous };
        self.segments.push(SegmentStart { begin, capacity });
    }

    /// Encodes one commit of these records into `out`.
    ///
    /// # Errors
    /// [`TooLarge`]; nothing is staged then.
    ///
    /// # Panics
    /// If it does not fit the segment; the caller has asked [`Appender::fits`].
    pub fn stage<'a, I>(&mut self, records: I, out: &mut Vec<u8>) -> Result<Staged, TooLarge>
    where
        I: IntoIterator<Item = &'a Record> + Clone,
    {
        let len = commit::encoded_len(records.clone());
        if len > COMMIT_BYTES_MAX {
            return Err(TooLarge(len));
        }
        assert!(self.fits(len), "the caller rotates first");
        let staged = Staged { generation: self.end.generation, offset: self.end.offset };
        let link = Link {
            log: self.log,
            generation: self.end.generation,
            number: self.end.number,
            previous: self.end.previous,
        };
        self.end.previous = commit::encode(&link, &self.segments.begin(), records, out);
        assert!(out.len() == len, "the length was computed from the same records");
        self.end.number = self.end.number.next();
        self.end.offset += len as u64;
        Ok(staged)
    }
}
