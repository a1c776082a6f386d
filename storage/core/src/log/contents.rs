//! What a log holds: each group's last hard state and the place of every entry. Recovery builds it, the writer keeps
//! it; the entries themselves stay on disk.

use std::collections::BTreeMap;

use throng_wire::ids::ShardId;

use super::append::Staged;
use super::index::{Gap, Index, Place};
use super::layout::{COMMIT_HEADER, Generation};
use super::record::{self, RecordView};
use crate::entry::{HardState, Record};

/// Contents of one log.
///
/// Invariant: whatever [`Contents::check`] lets a writer append, [`Contents::replay`] accepts at the next start.
#[derive(Clone, Debug)]
pub struct Contents {
    shards: u32,
    hard_states: BTreeMap<ShardId, HardState>,
    index: Index,
}

impl Contents {
    /// An empty log of a store with shards `0..shards`.
    pub fn new(shards: u32) -> Self {
        Self { shards, hard_states: BTreeMap::new(), index: Index::default() }
    }

    /// A group's last hard state.
    pub fn hard_state(&self, shard: ShardId) -> HardState {
        self.hard_states.get(&shard).copied().unwrap_or_default()
    }

    /// Places of all entries.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Adds the next record that recovery found in segment `generation`. Its entries replace those of earlier
    /// records from the first one's index on.
    ///
    /// # Errors
    /// One sentence if the record cannot follow the ones before: a fault of the writer; the log is not opened then.
    pub fn replay(&mut self, generation: Generation, record: &RecordView<'_>) -> Result<(), String> {
        self.update_hard_state(record.shard, record.hard_state)?;
        for entry in &record.entries {
            let place = Place::new(generation, entry.offset as u64, entry.len, entry.term);
            self.index.add(record.shard, entry.index, place).map_err(|gap| gap_of(record.shard, gap))?;
        }
        Ok(())
    }

    /// Whether these records may be written next, in this order.
    ///
    /// # Errors
    /// One sentence if a replay would refuse them.
    pub fn check<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Result<(), String> {
        let mut groups: BTreeMap<ShardId, (HardState, u64)> = BTreeMap::new();
        for record in records {
            let shard = record.shard;
            let (state, next) =
                groups.entry(shard).or_insert_with(|| (self.hard_state(shard), self.index.bounds(shard).1));
            *state = self.next_hard_state(shard, *state, record.hard_state)?;
            let mut entries = record.entries.iter();
            if let Some(first) = entries.next() {
                if first.index > *next && !(*next == 1 && self.index.is_empty(shard)) {
                    return Err(gap_of(shard, Gap { expected: *next, found: first.index }));
                }
                *next = first.index + 1;
            }
            for entry in entries {
                if entry.index != *next {
                    return Err(gap_of(shard, Gap { expected: *next, found: entry.index }));
                }
                *next += 1;
            }
        }
        Ok(())
    }

    /// Adds the records of a commit that was staged, written and synced.
    ///
    /// # Errors
    /// As [`Contents::check`], which the caller has asked before it wrote.
    pub fn append<'a>(
        &mut self,
        staged: Staged,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<(), String> {
        let mut offset = staged.offset + COMMIT_HEADER as u64;
        for one in records {
            self.update_hard_state(one.shard, one.hard_state)?;
            offset += record::header_len(one) as u64;
            for entry in &one.entries {
                let len = record::entry_len(entry);
                let place = Place::new(staged.generation, offset, len, entry.term);
                self.index.add(one.shard, entry.index, place).map_err(|gap| gap_of(one.shard, gap))?;
                offset += len as u64;
            }
        }
        Ok(())
    }

    fn update_hard_state(&mut self, shard: ShardId, state: Option<HardState>) -> Result<(), String> {
        let next = self.next_hard_state(shard, self.hard_state(shard), state)?;
        self.hard_states.insert(shard, next);
        Ok(())
    }

    fn next_hard_state(
        &self,
        shard: ShardId,
        last: HardState,
        new: Option<HardState>,
    ) -> Result<HardState, String> {
        if shard.0 >= self.shards {
            return Err(format!("a record of shard {shard} in a store of {} shards", self.shards));
        }
        match new {
            None => Ok(last),
            Some(new) if new.term < last.term || new.commit < last.commit => Err(format!(
                "the hard state of shard {shard} falls from term {}, commit {} to term {}, commit {}",
                last.term, last.commit, new.term, new.commit
            )),
            Some(new) => Ok(new),
        }
    }
}

fn gap_of(shard: ShardId, gap: Gap) -> String {
    format!("shard {shard}: {gap}")
}
