//! What a log holds: each group's hard state and mark, and the place of every entry. Recovery builds it, the writer
//! keeps it; the entries themselves stay on disk.

use std::collections::BTreeMap;

use throng_wire::ids::ShardId;

use super::append::Staged;
use super::group::{GroupContents, Head};
use super::index::{Place, Places};
use super::layout::{COMMIT_HEADER, Generation};
use super::record::{self, RecordView};
use crate::entry::{HardState, Mark, Record};

/// Contents of one log.
///
/// Invariant: whatever [`Contents::check`] lets a writer append, [`Contents::replay`] accepts at the next start.
#[derive(Clone, Debug)]
pub struct Contents {
    shards: u32,
    groups: BTreeMap<ShardId, GroupContents>,
    /// Whether every record since the log's first is known. Not while a log that was recycled is replayed: what its
    /// first segments say may stand on records that are gone, until [`Contents::complete`].
    is_whole: bool,
}

impl Contents {
    /// An empty log of a store with shards `0..shards`.
    pub fn new(shards: u32) -> Self {
        Self { shards, groups: BTreeMap::new(), is_whole: true }
    }

    /// The contents before the replay of a log that begins at `begin`.
    pub fn before_replay(shards: u32, begin: Generation) -> Self {
        Self { is_whole: begin == Generation::FIRST, ..Self::new(shards) }
    }

    /// A group's last hard state.
    pub fn hard_state(&self, shard: ShardId) -> HardState {
        self.groups.get(&shard).map(GroupContents::hard_state).unwrap_or_default()
    }

    /// A group's newest mark, durable or not.
    pub fn mark(&self, shard: ShardId) -> Option<&Mark> {
        self.groups.get(&shard)?.mark()
    }

    /// Places of a group's entries.
    pub fn places(&self, shard: ShardId) -> Option<&Places> {
        self.groups.get(&shard).map(GroupContents::places)
    }

    /// The first index a group has, and the one after its last: the same if it has no entries.
    pub fn bounds(&self, shard: ShardId) -> (u64, u64) {
        self.places(shard).map_or((1, 1), |places| (places.first(), places.next()))
    }

    /// Adds the next record that recovery found in segment `generation`. Its entries replace those of earlier
    /// records from the first one's index on.
    ///
    /// # Errors
    /// One sentence if the record cannot follow the ones before: a fault of the writer; the log is not opened then.
    pub fn replay(&mut self, generation: Generation, record: &RecordView<'_>) -> Result<(), String> {
        let is_whole = self.is_whole;
        let group = self.group(record.shard)?;
        let named = |why: String| format!("shard {}: {why}", record.shard);
        group.update(generation, record.hard_state, record.mark.as_ref(), is_whole).map_err(named)?;
        for entry in &record.entries {
            let place = Place::new(generation, entry.offset as u64, entry.len, entry.term);
            group.add(entry.index, place, is_whole).map_err(named)?;
        }
        Ok(())
    }

    /// Ends a replay: every group's log must begin where its mark says.
    ///
    /// # Errors
    /// One sentence if records are missing that the log's begin promised.
    pub fn complete(&mut self) -> Result<(), String> {
        for (shard, group) in &mut self.groups {
            group.complete().map_err(|why| format!("shard {shard}: {why}"))?;
        }
        self.is_whole = true;
        Ok(())
    }

    /// Whether these records may be written next, in this order.
    ///
    /// # Errors
    /// One sentence if a replay would refuse them.
    pub fn check<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Result<(), String> {
        let mut heads = BTreeMap::new();
        for record in records {
            let shard = record.shard;
            self.known(shard)?;
            let head = heads
                .entry(shard)
                .or_insert_with(|| self.groups.get(&shard).map_or_else(Head::empty, GroupContents::head));
            head.accept(record).map_err(|why| format!("shard {shard}: {why}"))?;
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
            let named = |why: String| format!("shard {}: {why}", one.shard);
            let group = self.group(one.shard)?;
            group.update(staged.generation, one.hard_state, one.mark.as_ref(), true).map_err(named)?;
            offset += record::header_len(one) as u64;
            for entry in &one.entries {
                let len = record::entry_len(entry);
                let place = Place::new(staged.generation, offset, len, entry.term);
                group.add(entry.index, place, true).map_err(named)?;
                offset += len as u64;
            }
        }
        Ok(())
    }

    /// Forgets entries through the marks, in memory. Returns the truncations that cannot be carried out yet.
    pub fn truncate(&mut self, marks: impl IntoIterator<Item = (ShardId, Mark)>) -> Vec<(ShardId, Mark)> {
        let mut later = Vec::new();
        for (shard, mark) in marks {
            let settled = self.groups.get_mut(&shard).is_some_and(|group| group.truncate(&mark));
            if !settled {
                later.push((shard, mark));
            }
        }
        later
    }

    /// The oldest segment with an entry that is kept; `None` if no group has any.
    pub fn pinned(&self) -> Option<Generation> {
        self.groups.values().filter_map(GroupContents::pinned).min()
    }

    /// The groups that keep entries in segment `generation` or before, with their first index.
    pub fn pins(&self, generation: Generation) -> Vec<(ShardId, u64)> {
        let groups = self.groups.iter();
        let pinning = groups.filter(|(_, group)| group.pinned().is_some_and(|pinned| pinned <= generation));
        pinning.map(|(shard, group)| (*shard, group.places().first())).collect()
    }

    /// What must be written at the head before the segments below `before` may go: hard states and marks whose newest
    /// copy lies there or in memory only.
    pub fn rewrites(&self, before: Generation) -> Vec<Record> {
        let groups = self.groups.iter();
        groups
            .filter_map(|(shard, group)| {
                let record = Record { shard: *shard, hard_state: None, mark: None, entries: Vec::new() };
                group.rewrite(record, before)
            })
            .collect()
    }

    fn known(&self, shard: ShardId) -> Result<(), String> {
        if shard.0 < self.shards {
            return Ok(());
        }
        Err(format!("a record of shard {shard} in a store of {} shards", self.shards))
    }

    fn group(&mut self, shard: ShardId) -> Result<&mut GroupContents, String> {
        self.known(shard)?;
        Ok(self.groups.entry(shard).or_default())
    }
}
