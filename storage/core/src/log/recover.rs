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
//!
//! A log that was recycled begins later than at segment 1. The newest commit says where: a segment that is missing from
//! there on is refused, and so is a begin that a segment's header knows and no commit states.

use core::fmt;

use throng_base::planted::{Bug, is_planted};

use super::commit::{self, CommitError, Link};
use super::layout::{BLOCK, CommitNo, Generation, HeaderError, LogId, SegmentHeader, is_blank};
use super::record::RecordView;
use super::segments::{Begin, SegmentStart, Segments};

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
    /// The log begins earlier than its oldest segment.
    FrontLost {
        /// Where it begins.
        begin: Generation,
        /// The oldest segment there is.
        oldest: Generation,
    },
    /// A segment's header knows of a begin that no commit states: the commit that did is lost.
    BeginLost {
        /// The begin that the header knows.
        known: Generation,
    },
    /// The segment at the begin is not the one that the newest commit speaks of.
    OtherBegin,
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
            Fault::FrontLost { begin, oldest } => {
                write!(f, "the log begins with segment {begin}, the oldest one here is {oldest}")
            }
            Fault::BeginLost { known } => {
                write!(f, "the log begins with segment {known} or later, but the commit that says so is lost")
            }
            Fault::OtherBegin => f.write_str("this is not the segment with which the log begins"),
            Fault::Commit(error) => write!(f, "{error}"),
            Fault::Records(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LogError {}

/// A log that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where it goes on.
    pub end: LogEnd,
    /// What lies behind its end.
    pub tail: Tail,
    /// Its segments up to the one of `end`. What lies before them on disk are leftovers, behind them spares.
    pub segments: Segments,
}

/// A segment that was read.
#[derive(Clone, Copy, Debug)]
struct Read {
    generation: Generation,
    /// The commit that was next when its reading began, if that was known.
    stand: Option<(CommitNo, u32)>,
    capacity: u64,
}

/// Reads segments in order.
#[derive(Debug)]
pub struct Recovery {
    log: LogId,
    /// The segment that must come next.
    next: Generation,
    /// The first place without a commit, once a segment was read. Invariant: every commit before it stands.
    end: Option<LogEnd>,
    /// The next commit's number and what it stands on; `None` until the first commit of a log that was recycled.
    stand: Option<(CommitNo, u32)>,
    /// What `stand` was at the first commit.
    anchor: Option<(CommitNo, u32)>,
    tail: Tail,
    /// All segments read, each as it would be as the log's first one.
    starts: Vec<Read>,
    /// What the newest commit states.
    begin: Option<Begin>,
    /// The latest begin that a header knows.
    known: Generation,
}

impl Recovery {
    /// A log whose oldest segment on disk is `first`.
    pub fn new(log: LogId, first: Generation) -> Self {
        let stand = (first == Generation::FIRST).then(|| (CommitNo::FIRST, log.salt()));
        let (tail, known) = (Tail::Clean, Generation::FIRST);
        Self {
            log,
            next: first,
            end: None,
            stand,
            anchor: stand,
            tail,
            starts: Vec::new(),
            begin: None,
            known,
        }
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
        if self.stand.is_none() {
            self.stand = commit::probe(bytes, BLOCK, self.log, generation);
            self.anchor = self.stand;
        }
        self.starts.push(Read { generation, stand: self.stand, capacity: bytes.len() as u64 });
        let mut offset = BLOCK;
        while let Some((number, previous)) = self.stand {
            let link = Link { log: self.log, generation, number, previous };
            match commit::decode(bytes, offset, &link) {
                Ok(commit) => {
                    for record in commit.records {
                        found(generation, record)
                            .map_err(|why| error(generation, offset, Fault::Records(why)))?;
                    }
                    offset += commit.len;
                    self.begin = Some(commit.begin);
                    self.advance(number, commit.crc);
                }
                Err(CommitError::Blank | CommitError::Torn(_)) => break,
                Err(CommitError::Misplaced(found)) => {
                    let place = (generation, offset as u64);
                    return Err(self.hole(place, place, found));
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

    /// What was read, after the last segment; `None` if there was no segment.
    ///
    /// # Errors
    /// [`LogError`] if the log does not begin where it says.
    pub fn finish(self) -> Result<Option<Recovered>, LogError> {
        let (Some(end), Some(&Read { generation: oldest, .. })) = (self.end, self.starts.first()) else {
            return Ok(None);
        };
        let begin = self.begin.unwrap_or(Begin::of_new(self.log));
        if begin.generation < oldest {
            return Err(error(oldest, 0, Fault::FrontLost { begin: begin.generation, oldest }));
        }
        if begin.generation < self.known {
            return Err(error(end.generation, end.offset as usize, Fault::BeginLost { known: self.known }));
        }
        let segments = self.segments(begin, end.generation)?;
        let (number, previous) =
            self.stand.expect("a log that is not new has a commit, which states its begin");
        Ok(Some(Recovered { end: LogEnd { number, previous, ..end }, tail: self.tail, segments }))
    }

    /// The segments from the begin to the end.
    fn segments(&self, begin: Begin, end: Generation) -> Result<Segments, LogError> {
        let mut segments: Option<Segments> = None;
        for &Read { generation, stand, capacity } in &self.starts {
            if generation < begin.generation || generation > end {
                continue;
            }
            // Where the first segments are empty, their first commit is the one that follows.
            let (number, previous) = stand.or(self.anchor).expect("a commit was found");
            let start = SegmentStart { begin: Begin { generation, number, previous }, capacity };
            match &mut segments {
                Some(segments) => segments.push(start),
                None if start.begin != begin => return Err(error(generation, 0, Fault::OtherBegin)),
                None => segments = Some(Segments::new(start)),
            }
        }
        segments.ok_or_else(|| error(end, 0, Fault::OtherBegin))
    }

    /// Checks what does not depend on commits.
    fn check_header(&mut self, generation: Generation, bytes: &[u8]) -> Result<(), LogError> {
        let header = SegmentHeader::decode(bytes, self.log)
            .map_err(|fault| error(generation, 0, Fault::Header(fault)))?;
        if header.generation != generation {
            return Err(error(generation, 0, Fault::OtherGeneration(header.generation)));
        }
        if header.capacity != bytes.len() as u64 {
            let fault = Fault::Size { capacity: header.capacity, found: bytes.len() as u64 };
            return Err(error(generation, 0, fault));
        }
        self.known = self.known.max(header.begin);
        Ok(())
    }

    /// A commit stood: whatever lay at the end of an earlier segment never counted.
    fn advance(&mut self, number: CommitNo, crc: u32) {
        self.stand = Some((number.next(), crc));
        self.end = None;
        self.tail = Tail::Clean;
    }

    /// Looks for an intact commit of this segment behind the place where its commits end. An older number (which no
    /// writer leaves there) proves no loss and is passed over.
    fn refuse_holes(&self, generation: Generation, bytes: &[u8], offset: usize) -> Result<(), LogError> {
        if is_planted(Bug::HoleAccepted) {
            return Ok(());
        }
        let expected = self.expected();
        let later = (offset..bytes.len()).step_by(BLOCK).find_map(|at| {
            let (number, _) = commit::probe(bytes, at, self.log, generation)?;
            Some((at, number)).filter(|hit| hit.1 >= expected)
        });
        match later {
            None => Ok(()),
            Some((at, number)) => {
                Err(self.hole((generation, offset as u64), (generation, at as u64), number))
            }
        }
    }

    /// The number of the next commit. Before the first one that was found, every commit is too far ahead.
    fn expected(&self) -> CommitNo {
        self.stand.map_or(CommitNo::FIRST, |stand| stand.0)
    }

    /// `found` stands at `place`, while the log ends at `end` or in an earlier segment.
    fn hole(&self, end: (Generation, u64), place: (Generation, u64), found: CommitNo) -> LogError {
        let (generation, offset) = self.end.map_or(end, |end| (end.generation, end.offset));
        let fault = Fault::Hole { missing: self.expected(), found, generation: place.0, offset: place.1 };
        LogError { generation, offset, fault }
    }

    /// The log ends here, unless an earlier segment's end was not passed: then this one is a spare.
    fn note_end(&mut self, generation: Generation, bytes: &[u8], offset: usize) {
        if self.end.is_none() {
            self.end = Some(LogEnd {
                generation,
                offset: offset as u64,
                capacity: bytes.len() as u64,
                // Known when the last segment was read.
                number: CommitNo::FIRST,
                previous: 0,
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
