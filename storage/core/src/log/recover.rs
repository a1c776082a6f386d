//! Reads a log back: which commits stand, where the log ends, and whether that end is one that a crash can leave.
//!
//! ```text
//!  ██ commit that stands on the one before     ░░ zeros     ▒▒ bytes that are no such commit
//!
//!  ██ ██ ██ ░░ ░░ ░░ ░░        clean end
//!  ██ ██ ██ ▒▒ ▒▒ ░░ ░░        torn tail: a write that was never synced. Legal; those bytes were never acked
//!  ██ ██ ▒▒ ░░ │ ██ ██ ░░      sealed: the next segment's first commit stands on the last one here, so ▒▒ never counted
//!  ██ ▒▒ ██ ██ ░░ ░░ ░░        hole: intact commits of this log behind the end. Synced data is gone: refuse
//!  ██ ░░ ██ ██ ░░ ░░ ░░        hole as well
//! ```

use core::fmt;

use super::commit::{self, CommitError, Link};
use super::layout::{BLOCK, CommitNo, Generation, HeaderError, LogId, SegmentHeader, is_blank};
use super::record::RecordView;

/// Where a log ends and what its next commit stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The segment of the next commit.
    pub generation: Generation,
    /// The next commit's offset in it.
    pub offset: u64,
    /// The segment's size.
    pub capacity: u64,
    /// The next commit's number.
    pub number: CommitNo,
    /// The last commit's checksum.
    pub previous: u32,
}

/// What lies behind the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// Bytes that are no commit. A crash before the sync leaves that, and so does damage to the last commit after it:
    /// the two look alike, so a replica with a torn tail may have forgotten a vote or an acked entry of its last commit.
    Torn {
        /// The segment.
        generation: Generation,
        /// Where the bytes begin.
        offset: u64,
    },
}

/// Why a log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogError {
    /// The segment.
    pub generation: Generation,
    /// The offset in it.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The segment's header.
    Header(HeaderError),
    /// The header names another generation than the file's place in the log.
    OtherGeneration(Generation),
    /// The file does not have the size that its header says.
    Size {
        /// What the header says.
        capacity: u64,
        /// What is there.
        found: u64,
    },
    /// Intact commits lie behind this place, where the log ends.
    Hole {
        /// The missing commit.
        missing: CommitNo,
        /// The intact one.
        found: CommitNo,
        /// Its segment.
        generation: Generation,
        /// Its offset.
        offset: u64,
    },
    /// An intact commit that cannot be used.
    Commit(CommitError),
    /// The records do not fit together.
    Records(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log segment {} at byte {}: ", self.generation, self.offset)?;
        match &self.fault {
            Fault::Header(error) => write!(f, "the segment {error}"),
            Fault::OtherGeneration(found) => write!(f, "the header says segment {found}"),
            Fault::Size { capacity, found } => write!(f, "the file has {found} bytes instead of {capacity}"),
            Fault::Hole { missing, found, generation, offset } => write!(
                f,
                "commit {missing} is damaged or missing, but commit {found} is intact in segment {generation} at byte {offset}"
            ),
            Fault::Commit(error) => write!(f, "{error}"),
            Fault::Records(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LogError {}

/// Reads segments in order.
#[derive(Debug)]
pub struct Recovery {
    log: LogId,
    /// The segment that must come next.
    next: Generation,
    /// The first place without a commit, once a segment was read. Invariant: every commit before it stands.
    end: Option<LogEnd>,
    /// The next commit's number and what it stands on.
    number: CommitNo,
    previous: u32,
    tail: Tail,
}

impl Recovery {
    /// A log whose oldest segment is `first`.
    pub fn new(log: LogId, first: Generation) -> Self {
        Self { log, next: first, end: None, number: CommitNo::FIRST, previous: log.salt(), tail: Tail::Clean }
    }

    /// Reads the next segment's bytes and hands out its records in order.
    ///
    /// # Errors
    /// [`LogError`] if the log lost synced data or is not this store's; nothing may be written to it then.
    pub fn segment(
        &mut self,
        bytes: &[u8],
        mut found: impl FnMut(Generation, RecordView<'_>) -> Result<(), String>,
    ) -> Result<(), LogError> {
        let generation = self.next;
        self.check_header(generation, bytes)?;
        let mut offset = BLOCK;
        loop {
            let link = Link { log: self.log, generation, number: self.number, previous: self.previous };
            match commit::decode(bytes, offset, &link) {
                Ok(commit) => {
                    for record in commit.records {
                        found(generation, record)
                            .map_err(|why| error(generation, offset, Fault::Records(why)))?;
                    }
                    offset += commit.len;
                    self.advance(commit.crc);
                }
                Err(CommitError::Blank | CommitError::Torn(_)) => break,
                Err(CommitError::Misplaced(number)) => {
                    let place = (generation, offset as u64);
                    return Err(self.hole(place, place, number));
                }
                Err(fault @ CommitError::Records(_)) => {
                    return Err(error(generation, offset, Fault::Commit(fault)));
                }
            }
        }
        self.refuse_holes(generation, bytes, offset)?;
        self.note_end(generation, bytes, offset);
        self.next = generation.next();
        Ok(())
    }

    /// Where the log ends, after its last segment. `None` if there was no segment.
    pub fn finish(self) -> Option<(LogEnd, Tail)> {
        let end = self.end?;
        Some((LogEnd { number: self.number, previous: self.previous, ..end }, self.tail))
    }

    /// Checks what does not depend on commits.
    fn check_header(&self, generation: Generation, bytes: &[u8]) -> Result<(), LogError> {
        let header = SegmentHeader::decode(bytes, self.log)
            .map_err(|fault| error(generation, 0, Fault::Header(fault)))?;
        if header.generation != generation {
            return Err(error(generation, 0, Fault::OtherGeneration(header.generation)));
        }
        if header.capacity != bytes.len() as u64 {
            let fault = Fault::Size { capacity: header.capacity, found: bytes.len() as u64 };
            return Err(error(generation, 0, fault));
        }
        Ok(())
    }

    /// A commit stood: whatever lay at the end of an earlier segment never counted.
    fn advance(&mut self, crc: u32) {
        self.number = self.number.next();
        self.previous = crc;
        self.end = None;
        self.tail = Tail::Clean;
    }

    /// Looks for an intact commit of this segment behind the place where its commits end. An older number (which no
    /// writer leaves there) proves no loss and is passed over.
    fn refuse_holes(&self, generation: Generation, bytes: &[u8], offset: usize) -> Result<(), LogError> {
        let later = (offset..bytes.len()).step_by(BLOCK).find_map(|at| {
            Some((at, commit::probe(bytes, at, self.log, generation)?)).filter(|hit| hit.1 >= self.number)
        });
        match later {
            None => Ok(()),
            Some((at, number)) => {
                Err(self.hole((generation, offset as u64), (generation, at as u64), number))
            }
        }
    }

    /// `found` stands at `place`, while the log ends at `end` or in an earlier segment.
    fn hole(&self, end: (Generation, u64), place: (Generation, u64), found: CommitNo) -> LogError {
        let (generation, offset) = self.end.map_or(end, |end| (end.generation, end.offset));
        let fault = Fault::Hole { missing: self.number, found, generation: place.0, offset: place.1 };
        LogError { generation, offset, fault }
    }

    /// The log ends here, unless an earlier segment's end was not passed: then this one is a spare.
    fn note_end(&mut self, generation: Generation, bytes: &[u8], offset: usize) {
        if self.end.is_none() {
            self.end = Some(LogEnd {
                generation,
                offset: offset as u64,
                capacity: bytes.len() as u64,
                number: self.number,
                previous: self.previous,
            });
        }
        let torn = (offset..bytes.len())
            .step_by(BLOCK)
            .find(|&at| !is_blank(&bytes[at..(at + BLOCK).min(bytes.len())]));
        if let (Tail::Clean, Some(at)) = (self.tail, torn) {
            self.tail = Tail::Torn { generation, offset: at as u64 };
        }
    }
}

fn error(generation: Generation, offset: usize, fault: Fault) -> LogError {
    LogError { generation, offset: offset as u64, fault }
}
