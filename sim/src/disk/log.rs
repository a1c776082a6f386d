//! The log of one node on its simulated disk, driven as the log thread drives the real one: whatever is queued becomes
//! one commit, one write, one sync; the next begins when it has ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use throng_base::Rng;
use throng_base::planted::{Bug, is_planted};
use throng_storage_core::entry::{Entry, Record};
use throng_storage_core::log::{
    Appender, BLOCK, Contents, Generation, LogId, Recovery, Staged, Tail, commit, record,
};
use throng_storage_core::store::{LogRead, LogReadError, PersistToken, RecoveredGroup, TermRun};
use throng_wire::ids::ShardId;

use super::platter::{Platter, Spot};

/// Entries below the applied index that a restart keeps in memory.
const TAIL_ENTRIES: u64 = 4;

/// What readers and the writer share. A mutex only because readers must be `Send`; nobody else is there.
#[derive(Debug)]
struct Shared {
    platter: Platter,
    contents: Contents,
    /// A read failed: as final as a failed write.
    is_unreadable: bool,
}

/// The log as the store reads it.
#[derive(Clone, Debug)]
pub(crate) struct SharedLog(Arc<Mutex<Shared>>);

/// A commit on its way to the disk.
#[derive(Debug)]
struct Writing {
    token: PersistToken,
    staged: Staged,
    bytes: Vec<u8>,
    records: Vec<Record>,
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
    shards: u32,
    shared: SharedLog,
    appender: Option<Appender>,
    queue: VecDeque<(PersistToken, Vec<Record>)>,
    writing: Option<Writing>,
    /// A write that the disk lost, while it is the newest: a crash right behind it could not be told from a crash
    /// before it by anybody who reads this log alone, so then the disk did write it after all.
    lost: Option<(Spot, Vec<u8>)>,
    /// Where the newest commit begins, and ends.
    newest: Option<(Spot, usize)>,
    /// Hard states that a planted bug writes one commit late.
    late: Vec<Record>,
    /// The log ended in bytes that are no commit.
    is_suspect: bool,
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
            writing: None,
            lost: None,
            newest: None,
            late: Vec::new(),
            is_suspect: false,
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
        let first = *shared.platter.segments.keys().next().expect("a log has a segment");
        let mut contents = Contents::before_replay(self.shards, first);
        let mut recovery = Recovery::new(log, first);
        for bytes in shared.platter.segments.values() {
            recovery
                .segment(bytes, |generation, record| contents.replay(generation, &record))
                .map_err(|error| error.to_string())?;
        }
        let recovered = recovery.finish().map_err(|error| error.to_string())?.expect("a log has a segment");
        contents.complete()?;
        let (end, tail) = (recovered.end, recovered.tail);
        shared.platter.prepare(end.generation.next());
        shared.contents = contents;
        drop(shared);
        self.appender = Some(Appender::new(log, end, recovered.segments));
        self.is_suspect = matches!(tail, Tail::Torn { .. });
        Ok(tail)
    }

    /// What the store starts from, after [`LogDisk::recover`].
    pub(crate) fn recovered(&self, shard: ShardId, applied: u64, applied_term: u64) -> RecoveredGroup {
        let shared = self.shared.lock();
        let hard_state = shared.contents.hard_state(shard);
        let (first_index, next) = shared.contents.bounds(shard);
        let tail_first = (applied + 1).min(next.saturating_sub(TAIL_ENTRIES)).max(first_index);
        let places = shared.contents.places(shard);
        let runs = places.map(|places| places.term_runs(tail_first)).unwrap_or_default();
        let mark = shared.contents.mark(shard).cloned();
        drop(shared);
        let terms = runs.into_iter().map(|(first_index, term)| TermRun { first_index, term }).collect();
        let entries = match tail_first < next {
            true => self.shared.entries(shard, tail_first, next, usize::MAX).expect("recovery has read them"),
            false => Vec::new(),
        };
        RecoveredGroup {
            hard_state,
            mark,
            is_suspect: self.is_suspect,
            first_index,
            terms,
            entries,
            applied,
            applied_term,
            ..RecoveredGroup::empty(shard)
        }
    }

    /// Takes a group commit into the queue; true if a write begins with it.
    pub(crate) fn submit(&mut self, token: PersistToken, records: Vec<Record>) -> bool {
        self.queue.push_back((token, records));
        self.begin()
    }

    /// Begins to write whatever is queued, unless a write is under way; true if one began.
    fn begin(&mut self) -> bool {
        if self.writing.is_some() || self.queue.is_empty() {
            return false;
        }
        let (token, records) = self.gather();
        let mut shared = self.shared.lock();
        shared.contents.check(&records).expect("the store hands out what a replay accepts");
        let appender = self.appender.as_mut().expect("the log was recovered");
        if !appender.fits(commit::encoded_len(&records)) {
            let next = appender.end().generation.next();
            shared.platter.prepare(next);
            shared.platter.prepare(next.next());
            appender.rotate(next, shared.platter.capacity as u64);
        }
        let mut bytes = Vec::new();
        let staged = appender.stage(&records, &mut bytes).expect("a simulated commit is small");
        drop(shared);
        self.writing = Some(Writing { token, staged, bytes, records });
        true
    }

    /// Everything queued that fits one commit, at least one.
    fn gather(&mut self) -> (PersistToken, Vec<Record>) {
        let limit = self.shared.lock().platter.capacity - BLOCK;
        let (mut token, mut records) = self.queue.pop_front().expect("something is queued");
        while let Some((next, more)) = self.queue.front() {
            if commit::encoded_len(records.iter().chain(more)) > limit {
                break;
            }
            token = *next;
            records.extend(self.queue.pop_front().expect("looked at just now").1);
        }
        (token, self.bend(records))
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
    pub(crate) fn written(&mut self, end: WriteEnd, rng: &mut Rng) -> (PersistToken, bool) {
        let writing = self.writing.take().expect("a write is under way");
        let spot = (writing.staged.generation, writing.staged.offset as usize);
        let mut shared = self.shared.lock();
        self.lost = None;
        match end {
            WriteEnd::Placed => shared.platter.write(spot, &writing.bytes),
            WriteEnd::Lost => self.lost = Some((spot, writing.bytes.clone())),
            WriteEnd::Misdirected => {
                let blocks = spot.1 / BLOCK;
                // Behind the header, before the place it was meant for.
                let block = if blocks > 1 { 1 + rng.below(blocks as u64 - 1) as usize } else { blocks + 1 };
                shared.platter.write((spot.0, block * BLOCK), &writing.bytes);
            }
        }
        self.newest = Some((spot, writing.bytes.len()));
        shared.contents.append(writing.staged, &writing.records).expect("it was checked before");
        drop(shared);
        let begun = self.begin();
        (writing.token, begun)
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

    /// The process, or the machine, is gone: the write under way is there, is not, or is torn.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> bool {
        self.queue.clear();
        self.late.clear();
        self.appender = None;
        let writing = self.writing.take();
        let mut shared = self.shared.fork();
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
                _ => {
                    torn = true;
                    shared.platter.tear(spot, &writing.bytes, rng);
                }
            }
        }
        self.shared = SharedLog(Arc::new(Mutex::new(shared)));
        torn
    }

    /// Flips a bit of what is written, at rest. `tail` says whether the newest commit may be hit.
    pub(crate) fn flip(&mut self, tail: bool, rng: &mut Rng) -> bool {
        let Some((spot, len)) = self.newest else { return false };
        let mut shared = self.shared.lock();
        let generations: Vec<Generation> =
            shared.platter.segments.keys().copied().filter(|one| *one <= spot.0).collect();
        let generation = generations[rng.below(generations.len() as u64) as usize];
        let last = generation == spot.0;
        let end = match (last, tail) {
            (true, true) => spot.1 + len,
            (true, false) => spot.1,
            (false, _) => shared.platter.capacity,
        };
        let offset = rng.below(end as u64) as usize;
        shared.platter.flip((generation, offset), rng.next_u64() as u8);
        true
    }
}

impl SharedLog {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy that the dead process does not share.
    fn fork(&self) -> Shared {
        let shared = self.lock();
        Shared { platter: shared.platter.clone(), contents: shared.contents.clone(), is_unreadable: false }
    }
}

impl LogRead for SharedLog {
    fn entries(
        &self,
        shard: ShardId,
        low: u64,
        high: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogReadError> {
        let mut shared = self.lock();
        let read = read(&shared, shard, (low, high), max_bytes);
        shared.is_unreadable |= read.is_err();
        read
    }
}

/// Reads entries `low..high`.
fn read(
    shared: &Shared,
    shard: ShardId,
    (low, high): (u64, u64),
    max_bytes: usize,
) -> Result<Vec<Entry>, LogReadError> {
    let missing = || LogReadError(format!("entry {low} of shard {shard} is not in the log"));
    let (_, end) = shared.contents.bounds(shard);
    let places = shared.contents.places(shard).and_then(|places| places.range(low, high.min(end)));
    let places = places.ok_or_else(missing)?;
    let (mut bytes, mut found) = (0, Vec::new());
    for (place, at) in places.zip(low..) {
        bytes += place.len as usize;
        if !found.is_empty() && bytes > max_bytes {
            break;
        }
        let segment = shared.platter.segments.get(&place.generation()).ok_or_else(missing)?;
        let from = place.offset as usize;
        let entry = record::decode_entry(
            &mut &segment[from..from + place.len as usize],
            &mut 0,
            shard,
            shared.platter.log,
        )
        .map_err(|error| LogReadError(error.to_string()))?;
        if entry.index != at || entry.term != place.term {
            return Err(LogReadError(format!("another entry lies at {at} of shard {shard}")));
        }
        found.push(entry.to_entry());
    }
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}
