//! The metadata machine's copy on this node: a group behind those of the shards, with rows, an applied index and members
//! like theirs.

use bytes::Bytes;
use throng_storage_core::state::StateRead;
use throng_wire::ids::ShardId;

use super::{Applied, Machines, Shard};
use crate::fatal::Fatal;
use crate::meta::{Meta, MetaDone, MetaRefused, read_entry};
use crate::state::batch::Batch;

/// Bytes that a command may change, by estimate: what counts towards the size of a flush batch.
const COMMAND_BYTES: usize = 256;

pub(super) struct Copy {
    pub(super) shard: Shard,
    pub(super) meta: Meta,
}

impl Copy {
    /// Writes what changed, and the applied index beside it.
    pub(super) fn cut(&mut self, group: ShardId, batch: &mut Batch) {
        if !core::mem::take(&mut self.shard.is_dirty) {
            return;
        }
        self.meta.take_changes(self.shard.replica.0).into_iter().for_each(|change| batch.push(change));
        self.shard.cut_row(group, batch);
    }
}

impl<S: StateRead> Machines<S> {
    /// Loads the copy of the metadata; [`NO_REPLICA`](throng_storage_core::store::limits::NO_REPLICA) is one without rows.
    ///
    /// # Errors
    /// [`Fatal`] if it cannot be read.
    pub fn load_metadata(&mut self, replica: u32) -> Result<(), Fatal> {
        self.switch_metadata(replica)
    }

    /// The metadata, as far as it is applied here; `None` without its group.
    pub fn meta(&self) -> Option<&Meta> {
        self.metadata.as_ref().map(|copy| &copy.meta)
    }

    /// Whether a group is that of the metadata.
    pub(crate) fn is_metadata(&self, shard: ShardId) -> bool {
        self.metadata.is_some() && shard.0 == self.shard_count()
    }

    pub(super) fn switch_metadata(&mut self, replica: u32) -> Result<(), Fatal> {
        let shards = self.shard_count();
        let shard = Shard::load_metadata(&self.state, ShardId(shards), replica)?;
        let meta = Meta::load(&self.state, replica, shards)?;
        self.metadata = Some(Copy { shard, meta });
        Ok(())
    }

    /// Applies the next entry of the metadata's group: one result per command.
    ///
    /// # Errors
    /// [`Fatal`]: the replica must stop.
    pub(crate) fn apply_metadata(
        &mut self,
        at: Applied,
        payload: &Bytes,
    ) -> Result<Vec<Result<MetaDone, MetaRefused>>, Fatal> {
        let copy = self.metadata.as_mut().expect("the caller knows its groups");
        assert_eq!(
            at.index,
            copy.shard.applied.index + 1,
            "entries are applied once, in order, without a hole"
        );
        let (_, commands) = read_entry(payload)?;
        let results = commands.iter().map(|command| copy.meta.apply(command)).collect();
        copy.shard.applied = at;
        copy.shard.is_dirty = true;
        self.flush.add(commands.len(), commands.len() * COMMAND_BYTES);
        Ok(results)
    }
}
