//! Copies of shards on this store: which there are, changing over to another one, removing one.
//!
//! ```text
//!   rows of a copy that arrives ──► written under a new number, flushed ──► log: one synced mark ──► switch
//!                                                                                    │
//!                          a crash before the mark keeps the old copy ◄──────────────┘ and after it the new one;
//!                          the other one is an orphan that the next start drops
//! ```

use std::collections::BTreeMap;

use throng_storage_core::entry::Conf;
use throng_storage_core::state::{StateRead, Table};
use throng_storage_core::store::limits::NO_REPLICA;
use throng_wire::ids::ShardId;

use super::{Machines, Shard};
use crate::fatal::Fatal;
use crate::state::batch::Batch;
use crate::state::keys::{self, Replica};

/// Shard rows read at a time.
const SCAN_ROWS: usize = 1_000;

/// A copy of a shard that has rows in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCopy {
    /// Its number.
    pub replica: u32,
    /// The shard; `None` if the copy is not whole: its row in Meta comes last.
    pub shard: Option<ShardId>,
}

/// All copies in the store, by number: those that no log mark names are to be dropped, and a new copy takes a number
/// above all of them and above all shards. Costs two seeks a copy.
///
/// # Errors
/// [`Fatal`] if the store cannot be read.
pub fn copies(state: &impl StateRead) -> Result<Vec<StoredCopy>, Fatal> {
    let mut found = BTreeMap::new();
    for table in [Table::Objects, Table::Events] {
        let mut from = [0; 4];
        while let Some((key, _)) = state.scan(table, &from, &[0xff; 4], 1)?.pop() {
            let head = key.first_chunk().ok_or_else(|| Fatal::corrupt_row("key"))?;
            let replica = u32::from_be_bytes(*head);
            found.insert(replica, None);
            (_, from) = keys::copy_range(Replica(replica));
        }
    }
    let mut from = keys::SHARD_META.to_vec();
    loop {
        let rows = state.scan(Table::Meta, &from, keys::SHARD_META_END, SCAN_ROWS)?;
        for (key, _) in &rows {
            let (shard, Replica(replica)) = keys::decode_shard_meta(key)?;
            found.insert(replica, Some(shard));
        }
        let Some((last, _)) = rows.last().filter(|_| rows.len() == SCAN_ROWS) else { break };
        from = [last, &[0][..]].concat(); // the least key above the last
    }
    Ok(found.into_iter().map(|(replica, shard)| StoredCopy { replica, shard }).collect())
}

/// A number for a copy that is to arrive: above all `stored` ones and above the shards' own.
///
/// # Errors
/// [`Fatal`] when the numbers are used up: after 2³² copies on one store.
pub fn next_replica(stored: &[StoredCopy], shards: u32) -> Result<u32, Fatal> {
    let above = stored.iter().map(|copy| copy.replica).max().map_or(0, |replica| replica.saturating_add(1));
    let next = above.max(shards);
    // The last number has no end of its range.
    if next >= u32::MAX - 1 { Err(Fatal::corrupt_row("replica: numbers are used up")) } else { Ok(next) }
}

impl<S: StateRead> Machines<S> {
    /// Which copy a shard uses.
    pub fn replica(&self, shard: ShardId) -> u32 {
        self.shard(shard).replica.0
    }

    /// The group's membership after the newest applied entry; `None` while it is the one it was formatted with.
    pub fn conf(&self, shard: ShardId) -> Option<&Conf> {
        self.shard(shard).conf.as_ref()
    }

    /// The group's membership has changed with the entry that was just applied: it is flushed with its index.
    pub fn set_conf(&mut self, shard: ShardId, conf: Conf) {
        let machine = self.shard_mut(shard);
        machine.conf = Some(conf);
        machine.is_dirty = true;
        self.flush.add(1, 64);
    }

    /// Changes over to another copy of a shard, which is written and flushed; forgets what is in memory of the old one
    /// and drops its rows with the next batch. [`NO_REPLICA`] is a copy without rows. The log's mark that names the new copy must be durable.
    ///
    /// # Errors
    /// [`Fatal`] if the new copy cannot be read.
    pub fn switch(&mut self, shard: ShardId, replica: u32) -> Result<(), Fatal> {
        let (old, shards) = (self.replica(shard), self.shard_count());
        if self.is_metadata(shard) {
            self.switch_metadata(replica)?;
            self.drop_old(shard, old);
            return Ok(());
        }
        let recent = &mut self.recent;
        self.channels.forget(
            |channel| ShardId::of_channel(&channel.id, shards) == shard,
            |channel| recent.forget(channel.recent_bytes()),
        );
        self.users.forget(|user| ShardId::of_user(&user.id, shards) == shard, |_| {});
        self.shards[shard.0 as usize] = Shard::load(&self.state, shard, shards, replica)?;
        self.drop_old(shard, old);
        Ok(())
    }

    /// Drops the copy that a shard used until now.
    fn drop_old(&mut self, shard: ShardId, old: u32) {
        if old != self.replica(shard) && old != NO_REPLICA {
            self.drop_copy(StoredCopy { replica: old, shard: Some(shard) });
        }
    }

    /// Removes all rows of a copy that no shard uses, with the next batch.
    ///
    /// # Panics
    /// If a shard uses the copy.
    pub fn drop_copy(&mut self, copy: StoredCopy) {
        let replica = Replica(copy.replica);
        let mut in_use = self.shards.iter().chain(self.metadata.iter().map(|copy| &copy.shard));
        assert!(in_use.all(|shard| shard.replica != replica), "a copy in use is not dropped");
        drop_rows(copy, self.flush.events());
        self.flush.add(1, 64);
    }
}

/// The changes that remove a copy.
fn drop_rows(copy: StoredCopy, batch: &mut Batch) {
    let (from, to) = keys::copy_range(Replica(copy.replica));
    if let Some(shard) = copy.shard {
        batch.delete(Table::Meta, &keys::shard_meta(shard, Replica(copy.replica)));
    }
    batch.delete_range(Table::Objects, &from, &to);
    batch.delete_range(Table::Events, &from, &to);
}
