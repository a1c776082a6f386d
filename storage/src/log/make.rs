//! Which file the next segment comes from: a spare that is there, a recycled one, a new one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use throng_storage_core::log::{Generation, LogId, SegmentHeader};

use super::disk::Segment;
use super::files::{self, Between};
use super::fs::LogFs;
use crate::limits::FREE_SEGMENTS_KEPT;

/// Makes segments, one at a time.
pub(crate) struct Maker {
    pub(crate) fs: Arc<dyn LogFs>,
    pub(crate) log: LogId,
    /// Size of new segments.
    pub(crate) capacity: u64,
    /// Segments that are there already and empty; handed out first.
    pub(crate) spares: VecDeque<Segment>,
    /// Segments that the log does not need any more, oldest first.
    pub(crate) free: VecDeque<Generation>,
    /// The first one to make.
    pub(crate) next: Generation,
    /// Where the log begins, durably.
    pub(crate) begin: Generation,
}

impl Maker {
    /// The log durably begins at `begin`: what is before it is free. More free files than will be needed soon are
    /// removed.
    pub(crate) fn release(&mut self, begin: Generation) {
        while self.begin < begin {
            self.free.push_back(self.begin);
            self.begin = self.begin.next();
        }
        while self.free.len() > FREE_SEGMENTS_KEPT {
            self.remove_oldest();
        }
    }

    /// The next segment, ready to be written.
    pub(crate) fn make(&mut self, between: Between<'_>) -> io::Result<Segment> {
        if let Some(spare) = self.spares.pop_front() {
            return Ok(spare);
        }
        let (generation, capacity) = (self.next, self.capacity);
        let header = SegmentHeader { log: self.log, generation, capacity, begin: self.begin };
        let old = self.next_free()?;
        // It would take what little room there is from the flushes that let the log begin later, only to fail.
        if old.is_none() && self.fs.free().is_some_and(|free| free < capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        files::make(&*self.fs, old, header, between)?;
        self.next = generation.next();
        Ok(Segment { generation, capacity })
    }

    /// The oldest free file of the right size.
    fn next_free(&mut self) -> io::Result<Option<Generation>> {
        while let Some(&old) = self.free.front() {
            if files::open(&*self.fs, old)?.size()? == self.capacity {
                return Ok(self.free.pop_front());
            }
            self.remove_oldest();
        }
        Ok(None)
    }

    /// Oldest first, so that no gap ever lies between leftovers and the log.
    fn remove_oldest(&mut self) {
        let Some(old) = self.free.pop_front() else { return };
        let removed = self.fs.remove(&files::name_of(old)).and_then(|()| self.fs.sync_names());
        if let Err(error) = removed {
            // It stays a leftover; the next start finds it.
            tracing::warn!(generation = %old, %error, "cannot remove a log segment that nobody needs");
        }
    }
}
