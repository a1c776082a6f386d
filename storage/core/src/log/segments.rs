//! Which segments a log has: where it begins, and what the first commit of each one is.
//!
//! ```text
//!  leftovers      the log                                            spare
//!  ┌───┐ ┌───┐    ┌───┐ ┌───┐ ┌───┐ ┌───────────┐                    ┌───┐
//!  │ 4 │ │ 5 │    │ 6 │ │ 7 │ │ 8 │ │ 9 (active)│                    │10 │
//!  └───┘ └───┘    └───┘ └───┘ └───┘ └───────────┘                    └───┘
//!  recycled       ▲ begin: stated by the newest commit, in segment 9
//! ```

use std::collections::VecDeque;

use super::layout::{CommitNo, Generation, LogId};

/// Where a log begins. Every commit states it; the newest one's word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The oldest segment that belongs to the log.
    pub generation: Generation,
    /// Number of the first commit in it, or behind it if it holds none.
    pub number: CommitNo,
    /// The checksum of the commit before that one.
    pub previous: u32,
}

impl Begin {
    /// A log from which nothing was ever recycled.
    pub fn of_new(log: LogId) -> Self {
        Self { generation: Generation::FIRST, number: CommitNo::FIRST, previous: log.salt() }
    }
}

/// One segment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStart {
    /// Where the log would begin if this were its oldest segment.
    pub begin: Begin,
    /// Size of the file in bytes.
    pub capacity: u64,
}

/// The segments of a log, oldest first: those that [`Begin`] leaves, and the active one last.
///
/// Invariant: not empty; generations rise by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    starts: VecDeque<SegmentStart>,
}

impl Segments {
    /// A log of one segment.
    pub fn new(first: SegmentStart) -> Self {
        Self { starts: VecDeque::from([first]) }
    }

    /// Where the log begins.
    pub fn begin(&self) -> Begin {
        self.starts.front().expect("a log has a segment").begin
    }

    /// The segment that is written.
    pub fn active(&self) -> Generation {
        self.starts.back().expect("a log has a segment").begin.generation
    }

    /// Bytes on disk from the begin to the end of the active segment.
    pub fn live_bytes(&self) -> u64 {
        self.starts.iter().map(|start| start.capacity).sum()
    }

    /// Goes on in the next segment.
    ///
    /// # Panics
    /// If it is not the next one.
    pub fn push(&mut self, start: SegmentStart) {
        assert!(start.begin.generation == self.active().next(), "segments follow each other");
        self.starts.push_back(start);
    }

    /// What the begin would be at `generation`; `None` if it is not a segment of this log.
    pub fn begin_at(&self, generation: Generation) -> Option<Begin> {
        let at = generation.0.checked_sub(self.begin().generation.0)?;
        Some(self.starts.get(usize::try_from(at).ok()?)?.begin)
    }

    /// Lets the log begin at `generation`.
    ///
    /// # Panics
    /// If it is not a segment of this log: the active one always stays.
    pub fn drop_before(&mut self, generation: Generation) {
        assert!(self.begin_at(generation).is_some(), "the log begins at one of its segments");
        while self.begin().generation < generation {
            self.starts.pop_front();
        }
    }
}
