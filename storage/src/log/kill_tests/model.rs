//! What the log must hold: every acknowledged record, and after a crash at most a prefix of those in flight.

use bytes::Bytes;
use throng_base::Rng;
use throng_storage_core::entry::{Conf, Entry, HardState, Mark, Record};
use throng_storage_core::log::commit;
use throng_storage_core::store::LogRead;
use throng_wire::ids::ShardId;

use crate::log::reader::LogReader;

/// One group as its replica knows it.
#[derive(Clone, Debug, Default)]
struct Group {
    hard_state: HardState,
    /// The entry before the first one: its index and term.
    base: (u64, u64),
    peer: u64,
    replica: u32,
    is_marked: bool,
    entries: Vec<Entry>,
    /// Entries through here may be gone: the log was told that nobody needs them.
    truncated: u64,
}

impl Group {
    fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    fn term(&self, index: u64) -> u64 {
        if index == self.base.0 { self.base.1 } else { self.entries[(index - self.base.0) as usize - 1].term }
    }

    fn mark(&self, index: u64) -> Mark {
        Mark {
            index,
            term: self.term(index),
            peer: self.peer,
            replica: self.replica,
            conf: Conf::of_voters([1, 2, 3]),
            ..Mark::default()
        }
    }

    fn apply(&mut self, record: &Record) {
        if let Some(state) = record.hard_state {
            self.hard_state = state;
        }
        if let Some(mark) = &record.mark {
            (self.peer, self.replica, self.is_marked) = (mark.peer, mark.replica, true);
            if mark.reset {
                (self.base, self.truncated) = ((mark.index, mark.term), mark.index);
                self.entries.clear();
            } else {
                self.truncated = self.truncated.max(mark.index);
            }
        }
        if let Some(first) = record.entries.first() {
            self.entries.truncate((first.index - self.base.0) as usize - 1);
            self.entries.extend(record.entries.iter().cloned());
        }
    }

    /// How much of this a recovered log lacks: entries that were not truncated, the hard state, the mark.
    fn missing(&self, shard: ShardId, reader: &LogReader) -> u64 {
        let is_there = |index: &u64| {
            let entry = &self.entries[(index - self.base.0) as usize - 1];
            reader.entries(shard, *index, index + 1, usize::MAX).is_ok_and(|found| found == [entry.clone()])
        };
        let first = self.truncated.max(self.base.0) + 1;
        let entries = (first..=self.last()).filter(|index| !is_there(index)).count() as u64;
        let is_replica = |mark: Mark| (mark.peer, mark.replica) == (self.peer, self.replica);
        let has_mark = !self.is_marked || reader.mark(shard).is_some_and(is_replica);
        entries + u64::from(reader.hard_state(shard) != self.hard_state) + u64::from(!has_mark)
    }

    /// Whether a recovered log is this one; if so, what it has forgotten is forgotten here too.
    fn matches(&self, shard: ShardId, reader: &LogReader) -> Result<Self, String> {
        let group = reader.recovered_group(shard, 0, 0).map_err(|error| error.to_string())?;
        let begin = group.first_index - 1;
        if group.hard_state != self.hard_state {
            return Err(format!("{:?} instead of {:?}", group.hard_state, self.hard_state));
        }
        if begin < self.base.0 || begin > self.truncated {
            return Err(format!("begins at {begin}, not within {} to {}", self.base.0, self.truncated));
        }
        let kept = &self.entries[(begin - self.base.0) as usize..];
        let found = match kept.len() {
            0 => Vec::new(),
            _ => reader.entries(shard, begin + 1, u64::MAX, usize::MAX).map_err(|error| error.to_string())?,
        };
        if group.last_index() != self.last() || found != kept {
            return Err(format!("ends at {} instead of {}", group.last_index(), self.last()));
        }
        if let Some(mark) = &group.mark
            && (mark.peer, mark.replica, mark.index, mark.term)
                != (self.peer, self.replica, begin, self.term(begin))
        {
            return Err(format!("the mark is {mark:?}"));
        }
        if group.mark.is_none() && self.base.0 > 0 {
            return Err("its mark is lost".to_owned());
        }
        let entries = kept.to_vec();
        Ok(Self { base: (begin, self.term(begin)), entries, truncated: begin, ..self.clone() })
    }
}

/// All groups, and the states that a crash may leave.
pub(super) struct Model {
    /// The last acknowledged state, then those that writes in flight may lead to.
    states: Vec<Vec<Group>>,
    counter: u64,
}

impl Model {
    pub(super) fn new(shards: u32) -> Self {
        let group = Group { peer: 1, replica: 1, ..Group::default() };
        Self { states: vec![vec![group; shards as usize]], counter: 0 }
    }

    fn newest(&self) -> &[Group] {
        self.states.last().expect("there is always one")
    }

    /// A group commit that a store might write.
    pub(super) fn propose(&mut self, rng: &mut Rng) -> Vec<Record> {
        let mut groups = self.newest().to_vec();
        let mut records = Vec::new();
        for _ in 0..=rng.below(4) {
            let shard = rng.below(groups.len() as u64) as usize;
            let record = self.record(ShardId(shard as u32), &groups[shard], rng);
            groups[shard].apply(&record);
            records.push(record);
        }
        records
    }

    fn record(&mut self, shard: ShardId, group: &Group, rng: &mut Rng) -> Record {
        let mut state = group.hard_state;
        let blank = Record { shard, ..Record::default() };
        match rng.below(12) {
            // A snapshot was installed, sometimes as another replica.
            0 if group.last() > 0 => {
                let index = group.last() + 1 + rng.below(5);
                let mut mark = Mark { index, term: state.term, reset: true, ..group.mark(group.base.0) };
                mark.replica += 1;
                if rng.chance(300_000) {
                    mark.peer += 1 << 24;
                    state.term = 1 + rng.below(state.term.max(1));
                    mark.term = state.term;
                }
                Record { hard_state: Some(HardState { commit: index, ..state }), mark: Some(mark), ..blank }
            }
            // A vote.
            1 => {
                state.term += 1;
                state.vote = 1 + rng.below(3);
                Record { hard_state: Some(state), ..blank }
            }
            // The store says again what it is.
            2 if group.is_marked => Record { mark: Some(group.mark(group.truncated)), ..blank },
            _ => {
                state.term = state.term.max(1) + rng.below(2);
                let committed = state.commit.max(group.base.0).max(group.truncated);
                let first = committed + 1 + rng.below(group.last() - committed + 1);
                let count = 1 + rng.below(5);
                let entries: Vec<Entry> =
                    (first..first + count).map(|index| self.entry(state.term, index, rng)).collect();
                state.commit = committed + rng.below(first + count - committed);
                Record { hard_state: Some(state), entries, ..blank }
            }
        }
    }

    fn entry(&mut self, term: u64, index: u64, rng: &mut Rng) -> Entry {
        self.counter += 1;
        let len = if rng.chance(100_000) { rng.below(6000) } else { rng.below(200) };
        let data = self.counter.to_le_bytes().iter().copied().cycle().take(len as usize).collect::<Vec<u8>>();
        Entry { term, index, data: Bytes::from(data), ..Entry::default() }
    }

    /// These records are about to be written: as a whole, or one after the other if no commit can hold them.
    pub(super) fn attempt(&mut self, records: &[Record], commit_max: usize) {
        let is_one = commit::encoded_len(records) <= commit_max;
        let mut groups = self.newest().to_vec();
        for (n, record) in records.iter().enumerate() {
            groups[record.shard.0 as usize].apply(record);
            if !is_one || n + 1 == records.len() {
                self.states.push(groups.clone());
            }
        }
    }

    /// They are durable.
    pub(super) fn acknowledge(&mut self) {
        let newest = self.states.pop().expect("it was attempted");
        self.states = vec![newest];
    }

    /// What a store would not need any more.
    pub(super) fn truncate(&mut self, rng: &mut Rng) -> Vec<(ShardId, Mark)> {
        let mut marks = Vec::new();
        for (shard, group) in self.states[0].iter_mut().enumerate() {
            let through = group.hard_state.commit.min(group.last());
            if through <= group.truncated || rng.chance(100_000) {
                continue;
            }
            group.truncated = through - rng.below(through - group.truncated).min(3);
            marks.push((ShardId(shard as u32), group.mark(group.truncated)));
        }
        marks
    }

    /// Whether what a crash left is one of the legal states, and whether it is one that nobody acknowledged. Nothing is
    /// settled by looking: until the next start has synced what it found, another crash may still take it away.
    pub(super) fn check(&self, reader: &LogReader) -> Result<bool, String> {
        self.find(reader).map(|(n, _)| n > 0)
    }

    /// What is lost if a check failed: what the log lacks of the legal state that it comes nearest to, at least 1.
    pub(super) fn lost(&self, reader: &LogReader) -> u64 {
        let missing = |groups: &Vec<Group>| -> u64 {
            groups.iter().zip((0..).map(ShardId)).map(|(group, shard)| group.missing(shard, reader)).sum()
        };
        self.states.iter().map(missing).min().unwrap_or(0).max(1)
    }

    /// Everything acknowledged that was not truncated: what is lost if a log is refused.
    pub(super) fn held(&self) -> u64 {
        let held = |group: &Group| 1 + group.last() - group.truncated.max(group.base.0);
        self.states[0].iter().map(held).sum()
    }

    /// Goes on from what a start has found and synced.
    pub(super) fn adopt(&mut self, reader: &LogReader) -> Result<(), String> {
        let (_, found) = self.find(reader)?;
        self.states = vec![found];
        Ok(())
    }

    /// The legal state that the log is, by its number.
    fn find(&self, reader: &LogReader) -> Result<(usize, Vec<Group>), String> {
        let mut why = Vec::new();
        for (n, groups) in self.states.iter().enumerate() {
            let shards = (0..).map(ShardId);
            match groups.iter().zip(shards).map(|(group, shard)| group.matches(shard, reader)).collect() {
                Ok(found) => return Ok((n, found)),
                Err(error) => why.push(error),
            }
        }
        Err(format!("the log is none of {} legal states: {}", why.len(), why.join("; ")))
    }
}
