//! The log of one node on its simulated disk, driven as the log thread drives the real one: whatever is queued becomes
//! one commit, one write, one sync; the next begins when it has ended. Truncations take effect behind the commit that
//! they were queued with: when the oldest segments hold nothing that is needed, what must be kept of them is written at
//! the head, the last of these commits states the new begin, and then their files are used again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use throng_base::Rng;
use throng_base::planted::{Bug, is_planted};
use throng_storage_core::entry::{Mark, Record};
use throng_storage_core::log::{
    Appender, BLOCK, Contents, Generation, LogId, Recovered, Recovery, Staged, Tail, commit,
};
use throng_storage_core::store::PersistToken;
use throng_wire::ids::ShardId;

use super::platter::{Platter, Spot};
use super::reading::{Shared, SharedLog};

/// Half of all flips happen so few blocks before the newest commit.
const NEAR_BLOCKS: usize = 8;

/// What is queued for the log at once.
#[derive(Debug, Default)]
struct Job {
    token: Option<PersistToken>,
    records: Vec<Record>,
    truncations: Vec<(ShardId, Mark)>,
    /// The log begins here, as these records say; they may be none.
    begins_at: Option<Generation>,
}

/// A commit on its way to the disk.
#[derive(Debug)]
struct Writing {
    staged: Staged,
    bytes: Vec<u8>,
    job: Job,
}

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    /// Where it belongs.
    Placed,
    /// The disk says so, and has written nothing.
    Lost,
    /// The disk says so, and has written to another place.
    Misdirected,
}

/// The log of one node.
#[derive(Debug)]
pub(crate) struct LogDisk {
    pub(super) shards: u32,
    pub(super) shared: SharedLog,
    appender: Option<Appender>,
    queue: VecDeque<Job>,
    /// Commits that come before whatever is queued.
    due: VecDeque<Job>,
    /// Truncations of entries that are committed, but not yet written here, by shard.
    later: Vec<(ShardId, Mark)>,
    /// Whether a segment was begun since the log's begin was looked at.
    rotated: bool,
    writing: Option<Writing>,
    /// A write that the disk lost, while it is the newest: a crash right behind it could not be told from a crash
    /// before it by anybody who reads this log alone, so then the disk did write it after all.
    lost: Option<(Spot, Vec<u8>)>,
    /// Where the newest commit begins, and ends.
    newest: Option<(Spot, usize)>,
    /// Hard states that a planted bug writes one commit late.
    late: Vec<Record>,
    /// The log ended in bytes that are no commit.
    pub(super) is_suspect: bool,
    /// The last crash left an unfinished write that no start has looked at.
    is_torn: bool,
}

/// Reads a log back.
fn replay(platter: &Platter, shards: u32) -> Result<(Recovered, Contents), String> {
    let first = *platter.segments.keys().next().expect("a log has a segment");
    let mut contents = Contents::before_replay(shards, first);
    let mut recovery = Recovery::new(platter.log, first);
    for bytes in platter.segments.values() {
        recovery
            .segment(bytes, |generation, record| contents.replay(generation, &record))
            .map_err(|error| error.to_string())?;
    }
    let recovered = recovery.finish().map_err(|error| error.to_string())?.expect("a log has a segment");
    contents.complete()?;
    Ok((recovered, contents))
}

impl LogDisk {
    pub(crate) fn new(log: LogId, shards: u32, capacity: usize) -> Self {
        let (platter, contents) = (Platter::new(log, capacity), Contents::new(shards));
        let shared = Shared { platter, contents, is_unreadable: false };
        Self {
            shards,
            shared: SharedLog(Arc::new(Mutex::new(shared))),
            appender: None,
            queue: VecDeque::new(),
            due: VecDeque::new(),
            later: Vec::new(),
            rotated: false,
            writing: None,
            lost: None,
            newest: None,
            late: Vec::new(),
            is_suspect: false,
            is_torn: false,
        }
    }

    pub(crate) fn reader(&self) -> SharedLog {
        self.shared.clone()
    }

    /// Reads the log back, as every start does.
    ///
    /// # Errors
    /// One sentence if it lost synced data or cannot be used; nothing may be written to it then.
    pub(crate) fn recover(&mut self) -> Result<Tail, String> {
        let mut shared = self.shared.lock();
        let log = shared.platter.log;
        let (recovered, contents) = replay(&shared.platter, self.shards)?;
        let (end, tail) = (recovered.end, recovered.tail);
        shared.platter.recovered(recovered.segments.begin().generation);
        shared.platter.prepare(end.generation.next());
        shared.contents = contents;
        drop(shared);
        self.appender = Some(Appender::new(log, end, recovered.segments));
        self.is_suspect = matches!(tail, Tail::Torn { .. });
        self.is_torn = false;
        Ok(tail)
    }

    /// Whether a start would find a log that it can use, whatever is written until then.
    pub(crate) fn is_sound(&self) -> bool {
        let tail = replay(&self.shared.lock().platter, self.shards).map(|(recovered, _)| recovered.tail);
        let runs = self.appender.is_some();
        tail.is_ok_and(|tail| !runs || tail == Tail::Clean) && self.lost.is_none()
    }

    /// Whether the next start finds replicas that may have forgotten something.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let shared = self.shared.lock();
        let mut marks = (0..self.shards).filter_map(|shard| shared.contents.mark(ShardId(shard)));
        self.is_torn || marks.any(|mark| mark.is_suspect)
    }

    /// Takes a group commit into the queue; true if a write begins with it.
    pub(crate) fn submit(&mut self, token: PersistToken, records: Vec<Record>) -> bool {
        self.queue.push_back(Job { token: Some(token), records, ..Job::default() });
        self.begin()
    }

    /// Entries are not needed any more; true if a write begins with it.
    pub(crate) fn truncate(&mut self, shard: ShardId, mark: Mark) -> bool {
        self.queue.push_back(Job { truncations: vec![(shard, mark)], ..Job::default() });
        self.begin()
    }

    /// Begins the next write, unless one is under way; true if one began.
    fn begin(&mut self) -> bool {
        if self.writing.is_some() {
            return false;
        }
        while self.writing.is_none() {
            if self.due.is_empty() {
                self.gather();
            }
            let Some(job) = self.due.pop_front() else { return false };
            if job.records.is_empty() && job.begins_at.is_none() {
                self.forget(job.truncations);
            } else {
                self.stage(job);
            }
        }
        true
    }

    fn stage(&mut self, job: Job) {
        let mut shared = self.shared.lock();
        shared.contents.check(&job.records).expect("the store hands out what a replay accepts");
        let appender = self.appender.as_mut().expect("the log was recovered");
        if let Some(begin) = job.begins_at {
            appender.begin_at(begin);
        }
        if !appender.fits(commit::encoded_len(&job.records)) {
            let next = appender.end().generation.next();
            shared.platter.prepare(next);
            shared.platter.prepare(next.next());
            appender.rotate(next, shared.platter.capacity as u64);
            self.rotated = true;
        }
        let mut bytes = Vec::new();
        let staged = appender.stage(&job.records, &mut bytes).expect("a simulated commit is small");
        drop(shared);
        self.writing = Some(Writing { staged, bytes, job });
    }

    /// Everything queued that fits one commit, at least one job; in several commits if that is more than a segment holds.
    fn gather(&mut self) {
        let limit = self.commit_max();
        let Some(Job { mut token, mut records, mut truncations, .. }) = self.queue.pop_front() else {
            return;
        };
        while let Some(next) = self.queue.front() {
            if commit::encoded_len(records.iter().chain(&next.records)) > limit {
                break;
            }
            let next = self.queue.pop_front().expect("looked at just now");
            token = next.token.or(token);
            records.extend(next.records);
            truncations.extend(next.truncations);
        }
        let records = self.bend(records);
        let last = Job { token, truncations, ..Job::default() };
        self.cut(records, last);
    }

    fn commit_max(&self) -> usize {
        self.shared.lock().platter.capacity - BLOCK
    }

    /// Makes commits of these records; the last one brings what `last` says.
    fn cut(&mut self, records: Vec<Record>, last: Job) {
        let limit = self.commit_max();
        let mut fitting: Vec<Record> = Vec::new();
        for record in records {
            assert!(commit::encoded_len([&record]) <= limit, "a record does not fit a segment");
            if commit::encoded_len(fitting.iter().chain([&record])) > limit {
                self.due.push_back(Job { records: std::mem::take(&mut fitting), ..Job::default() });
            }
            fitting.push(record);
        }
        self.due.push_back(Job { records: fitting, ..last });
    }

    /// Forgets entries in memory; if the oldest segments hold none that is needed, the log is to begin later.
    fn forget(&mut self, marks: Vec<(ShardId, Mark)>) {
        for (shard, mark) in marks {
            match self.later.iter_mut().find(|later| later.0 == shard) {
                Some(later) => later.1 = mark,
                None => self.later.push((shard, mark)),
            }
        }
        if self.later.is_empty() && !self.rotated {
            return;
        }
        self.rotated = false;
        let marks = std::mem::take(&mut self.later);
        let mut shared = self.shared.lock();
        self.later = shared.contents.truncate(marks);
        let appender = self.appender.as_ref().expect("the log was recovered");
        let active = appender.end().generation;
        let needed = shared.contents.pinned().unwrap_or(active).min(active);
        if needed <= appender.segments().begin().generation {
            return;
        }
        let rewrites = shared.contents.rewrites(needed);
        drop(shared);
        self.cut(rewrites, Job { begins_at: Some(needed), ..Job::default() });
    }

    /// What planted bugs make of the records of a commit.
    fn bend(&mut self, mut records: Vec<Record>) -> Vec<Record> {
        let (split, forgotten) = (is_planted(Bug::HardStateSplit), is_planted(Bug::HardStateForgotten));
        if !split && !forgotten {
            return records;
        }
        let mut late = Vec::new();
        for record in records.iter_mut().filter(|record| !record.entries.is_empty()) {
            if let Some(hard_state) = record.hard_state.take() {
                late.push(Record { hard_state: Some(hard_state), entries: Vec::new(), ..record.clone() });
            }
        }
        if split {
            let early = std::mem::replace(&mut self.late, late);
            records.splice(0..0, early);
        }
        records
    }

    /// The write under way has ended; returns what is durable with it, and whether the next one began.
    pub(crate) fn written(&mut self, end: WriteEnd, rng: &mut Rng) -> (Option<PersistToken>, bool) {
        let Writing { staged, bytes, job } = self.writing.take().expect("a write is under way");
        let spot = (staged.generation, staged.offset as usize);
        let mut shared = self.shared.lock();
        self.lost = None;
        self.newest = Some((spot, bytes.len()));
        match end {
            WriteEnd::Placed => shared.platter.write(spot, &bytes),
            WriteEnd::Lost => self.lost = Some((spot, bytes)),
            WriteEnd::Misdirected => {
                let blocks = spot.1 / BLOCK;
                // Behind the header, before the place it was meant for.
                let block = if blocks > 1 { 1 + rng.below(blocks as u64 - 1) as usize } else { blocks + 1 };
                shared.platter.write((spot.0, block * BLOCK), &bytes);
            }
        }
        shared.contents.append(staged, &job.records).expect("it was checked before");
        if let Some(begin) = job.begins_at {
            shared.platter.release(begin);
        }
        drop(shared);
        if job.begins_at.is_none() && self.due.is_empty() {
            self.forget(job.truncations);
        }
        (job.token, self.begin())
    }

    /// The groups that hold the oldest segment, if the log is longer than so many segments.
    pub(crate) fn pins_beyond(&self, segments: u64) -> Vec<ShardId> {
        let shared = self.shared.lock();
        let appender = self.appender.as_ref().expect("the log was recovered");
        if appender.segments().live_bytes() <= segments.saturating_mul(shared.platter.capacity as u64) {
            return Vec::new();
        }
        let oldest = appender.segments().begin().generation;
        shared.contents.pins(oldest).into_iter().map(|(shard, _)| shard).collect()
    }

    /// Files of segments that were used again.
    pub(crate) fn recycled(&self) -> u64 {
        self.shared.lock().platter.recycled
    }

    /// Commits that a crash may lose.
    pub(crate) fn unsynced(&self) -> usize {
        usize::from(self.writing.is_some())
    }

    /// Whether an entry could not be read back.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.shared.lock().is_unreadable
    }

    /// Whether a write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// The process, or the machine, is gone: the write under way is there, is not, or, if it may be, is torn.
    pub(crate) fn crash(&mut self, may_tear: bool, rng: &mut Rng) -> bool {
        self.queue.clear();
        self.due.clear();
        self.later.clear();
        self.late.clear();
        self.rotated = false;
        let writing = self.writing.take();
        let mut shared = self.shared.fork();
        if let Some(appender) = self.appender.take().filter(|_| rng.chance(200_000)) {
            shared.platter.lose_spare(appender.end().generation);
        }
        if let Some((spot, bytes)) = self.lost.take() {
            shared.platter.write(spot, &bytes);
        }
        if let (true, Some((spot, len))) = (is_planted(Bug::NoFsync), self.newest) {
            shared.platter.write(spot, &vec![0; len]);
        }
        let mut torn = false;
        if let Some(writing) = writing {
            let spot = (writing.staged.generation, writing.staged.offset as usize);
            // A crash corrupts the write in flight with 80 to 100 per cent.
            match rng.below(10) {
                0 => shared.platter.write(spot, &writing.bytes),
                1 => {}
                _ if !may_tear => {}
                _ => {
                    torn = true;
                    shared.platter.tear(spot, &writing.bytes, rng);
                }
            }
        }
        // Also what an earlier crash has torn, and suspicion whose end did not reach the disk.
        self.is_torn = torn
            || replay(&shared.platter, self.shards).is_ok_and(|(recovered, contents)| {
                let mut marks = (0..self.shards).filter_map(|shard| contents.mark(ShardId(shard)));
                recovered.tail != Tail::Clean || marks.any(|mark| mark.is_suspect)
            });
        self.shared = SharedLog(Arc::new(Mutex::new(shared)));
        torn
    }

    /// Flips a bit of what is written, at rest.
    pub(crate) fn flip(&mut self, rng: &mut Rng) -> bool {
        let Some((spot, len)) = self.newest else { return false };
        let mut shared = self.shared.lock();
        if rng.chance(500_000) && spot.1 > BLOCK {
            // Where a restart feels it: in the newest commit, which looks like a crash, or shortly before.
            let (from, to) = match rng.chance(500_000) {
                true => (spot.1, spot.1 + len),
                false => (spot.1.saturating_sub(NEAR_BLOCKS * BLOCK).max(BLOCK), spot.1),
            };
            let offset = from + rng.below((to - from) as u64) as usize;
            shared.platter.flip((spot.0, offset), rng.next_u64() as u8);
            return true;
        }
        let generations: Vec<Generation> =
            shared.platter.segments.keys().copied().filter(|one| *one <= spot.0).collect();
        let generation = generations[rng.below(generations.len() as u64) as usize];
        let end = if generation == spot.0 { spot.1 + len } else { shared.platter.capacity };
        let offset = rng.below(end as u64) as usize;
        shared.platter.flip((generation, offset), rng.next_u64() as u8);
        true
    }
}
