//! Makes group commits durable, and lets the log begin later when its oldest entries are not needed any more.
//!
//! ```text
//!  truncations ─► contents forget entries ─► the oldest segments hold none ─► hard states and marks that live only
//!  there are written at the head, and the last of those commits states the new begin ─► synced ─► segments released
//! ```

use throng_storage_core::entry::Mark;
use throng_storage_core::log::{Appender, BLOCK, Contents, Record, commit, limits};
use throng_wire::ids::ShardId;

use super::disk::LogDisk;
use super::reader::LogReader;
use crate::limits::COMMIT_BUFFER_KEPT;

/// The log thread's work, without its queue.
pub(crate) struct Committer<D> {
    appender: Appender,
    disk: D,
    reader: LogReader,
    /// Bytes of the largest commit that fits a segment.
    commit_max: usize,
    buffer: Vec<u8>,
    /// Truncations of entries that are committed, but not yet written here. One per group: bounded by the shards.
    later: Vec<(ShardId, Mark)>,
    /// Whether a segment was begun since the log's begin was looked at.
    rotated: bool,
}

impl<D: LogDisk> Committer<D> {
    pub(crate) fn new(appender: Appender, disk: D, reader: LogReader, segment_bytes: u64) -> Self {
        let commit_max = (segment_bytes as usize - BLOCK).min(limits::COMMIT_BYTES_MAX);
        Self { appender, disk, reader, commit_max, buffer: Vec::new(), later: Vec::new(), rotated: false }
    }

    /// Makes records durable: in one commit, unless they are larger than a segment.
    pub(crate) fn commit(&mut self, records: &[&Record]) -> Result<(), String> {
        let mut rest = records;
        while !rest.is_empty() {
            let count = self.fitting(rest)?;
            let (now, later) = rest.split_at(count);
            self.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// Forgets entries, and gives back the segments that nobody needs then. Does nothing when there is nothing to do.
    pub(crate) fn truncate(
        &mut self,
        marks: impl IntoIterator<Item = (ShardId, Mark)>,
    ) -> Result<(), String> {
        for (shard, mark) in marks {
            match self.later.iter_mut().find(|later| later.0 == shard) {
                Some(later) => later.1 = mark,
                None => self.later.push((shard, mark)),
            }
        }
        if self.later.is_empty() && !self.rotated {
            return Ok(());
        }
        self.rotated = false;
        let due = std::mem::take(&mut self.later);
        self.later = self.reader.update_contents(|contents| contents.truncate(due));
        self.advance_begin()
    }

    /// Bytes from the log's begin to the end of its active segment.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.appender.segments().live_bytes()
    }

    /// Lets the log begin at the oldest segment that is needed.
    fn advance_begin(&mut self) -> Result<(), String> {
        let active = self.appender.end().generation;
        let pinned = self.reader.with_contents(Contents::pinned);
        let needed = pinned.unwrap_or(active).min(active);
        if needed <= self.appender.segments().begin().generation {
            return Ok(());
        }
        let rewrites = self.reader.with_contents(|contents| contents.rewrites(needed));
        let mut rest: &[&Record] = &rewrites.iter().collect::<Vec<_>>();
        loop {
            let count = self.fitting(rest)?;
            let (now, later) = rest.split_at(count);
            if later.is_empty() {
                // Only the last one may state it: a crash before it leaves the begin where it was.
                self.appender.begin_at(needed);
            }
            self.write(now)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.reader.note_segments(self.appender.segments().clone());
        self.disk.release(needed);
        tracing::debug!(begin = %needed, rewritten = rewrites.len(), "the log begins later");
        Ok(())
    }

    /// How many of the records fit one commit. A record is atomic and never split.
    fn fitting(&self, records: &[&Record]) -> Result<usize, String> {
        if commit::encoded_len(records.iter().copied()) <= self.commit_max {
            return Ok(records.len());
        }
        let mut bytes = 0;
        let fits = |record: &&&Record| {
            // Counted as if each were padded: a little early, never late.
            bytes += commit::encoded_len([**record]);
            bytes <= self.commit_max
        };
        match records.iter().take_while(fits).count() {
            0 => Err(format!(
                "a record of {} bytes does not fit a segment ({} at most)",
                commit::encoded_len([records[0]]),
                self.commit_max
            )),
            count => Ok(count),
        }
    }

    fn write(&mut self, records: &[&Record]) -> Result<(), String> {
        self.reader.with_contents(|contents| contents.check(records.iter().copied()))?;
        let len = commit::encoded_len(records.iter().copied());
        while !self.appender.fits(len) {
            let segment =
                self.disk.next_segment().map_err(|error| format!("cannot take the next segment: {error}"))?;
            self.appender.rotate(segment.generation, segment.capacity);
            self.reader.note_segments(self.appender.segments().clone());
            self.rotated = true;
        }
        let staged = self
            .appender
            .stage(records.iter().copied(), &mut self.buffer)
            .map_err(|error| error.to_string())?;
        self.disk
            .write_and_sync(staged.offset, &mut self.buffer)
            .map_err(|error| format!("cannot write and sync segment {}: {error}", staged.generation))?;
        if self.buffer.capacity() > COMMIT_BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        self.reader.update_contents(|contents| contents.append(staged, records.iter().copied()))
    }
}
