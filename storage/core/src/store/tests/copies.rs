//! The copies of applied state that a node has on its disk. A state is the one truth through an index, so the index says
//! it all.

use std::collections::BTreeMap;

use throng_wire::ids::ShardId;

use super::disk::DiskGroup;
use crate::entry::{Conf, Mark};
use crate::store::{RecoveredGroup, TermRun};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) conf: Conf,
}

/// By shard and local number.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    held: BTreeMap<(ShardId, u32), Copy>,
    /// Which copy each machine runs on, where that is not the shard's own number.
    current: BTreeMap<ShardId, u32>,
    drawn: u32,
}

impl Copies {
    fn current(&self, shard: ShardId) -> u32 {
        self.current.get(&shard).copied().unwrap_or(shard.0)
    }

    /// Writes what a machine has applied. False if the log has begun anew meanwhile, so that the store has no use for it.
    pub(super) fn flush(&mut self, shard: ShardId, copy: Copy, group: &DiskGroup) -> bool {
        let current = self.current(shard);
        self.held.insert((shard, current), copy);
        group.mark.as_ref().is_none_or(|mark| mark.replica == current)
    }

    /// Writes a snapshot beside what is there.
    pub(super) fn receive(&mut self, shard: ShardId, copy: Copy) -> u32 {
        self.drawn += 1;
        self.held.insert((shard, 1000 + self.drawn), copy);
        1000 + self.drawn
    }

    pub(super) fn drop_copy(&mut self, shard: ShardId, replica: u32) {
        self.held.remove(&(shard, replica));
    }

    /// A machine goes on from the copy that a mark names; all others go.
    pub(super) fn restore(&mut self, shard: ShardId, mark: &Mark) {
        self.current.insert(shard, mark.replica);
        self.held.retain(|(of, replica), _| *of != shard || *replica == mark.replica);
    }

    /// Whether a copy is durable through an index.
    pub(super) fn covers(&self, shard: ShardId, replica: u32, index: u64) -> bool {
        self.held.get(&(shard, replica)).is_some_and(|copy| copy.index >= index)
    }

    /// What a start finds of a group.
    pub(super) fn recovered(&mut self, shard: ShardId, group: &DiskGroup) -> RecoveredGroup {
        if let Some(mark) = &group.mark {
            self.current.insert(shard, mark.replica);
        }
        let copy = self.held.get(&(shard, self.current(shard)));
        let applied = copy.map_or(0, |copy| copy.index);
        // What is applied stays on disk, but for the last entry.
        let tail_first = (applied + 1).min(group.last_index()).max(group.base() + 1);
        let (older, tail) = group.entries.split_at((tail_first - group.base()) as usize - 1);
        let mut terms: Vec<TermRun> =
            older.iter().map(|entry| TermRun { first_index: entry.index, term: entry.term }).collect();
        terms.dedup_by_key(|run| run.term);
        RecoveredGroup {
            hard_state: group.hard_state,
            mark: group.mark.clone(),
            first_index: group.base() + 1,
            terms,
            entries: tail.to_vec(),
            applied,
            applied_term: copy.map_or(0, |copy| copy.term),
            conf: copy.map(|copy| copy.conf.clone()),
            ..RecoveredGroup::empty(shard)
        }
    }
}
