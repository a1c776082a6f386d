//! What a shard has beside its channels and users.

use bytes::BufMut;
use throng_storage_core::state::{StateRead, Table};
use throng_wire::ids::ShardId;

use crate::codec::{Corrupt, Reader, put_var};
use crate::fatal::Fatal;
use crate::outbox::Outbox;
use crate::state::batch::Batch;
use crate::state::keys::{self, Replica};

const ROW_VERSION: u8 = 1;

/// The newest entry that a shard has applied; 0 of term 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// The newest entry of `shard` that is flushed: from here the log is replayed. What a driver tells the store at start.
///
/// # Errors
/// [`Fatal`] if the row cannot be read.
pub fn applied(state: &impl StateRead, shard: ShardId) -> Result<Applied, Fatal> {
    Ok(meta(state, shard)?.map_or(Applied::default(), |(_, applied)| applied))
}

/// One shard.
pub(crate) struct Shard {
    pub(crate) replica: Replica,
    /// Invariant: rises by one with every entry.
    pub(crate) applied: Applied,
    pub(crate) outbox: Outbox,
    /// Applied something since the last batch was cut.
    pub(crate) is_dirty: bool,
}

impl Shard {
    pub(super) fn load(state: &impl StateRead, shard: ShardId, shards: u32) -> Result<Self, Fatal> {
        // A store's first copy of a shard has the shard's number; a copy received later draws one above all shards.
        let (replica, applied) = meta(state, shard)?.unwrap_or((Replica(shard.0), Applied::default()));
        let outbox = Outbox::load(state, replica, shard, shards)?;
        Ok(Self { replica, applied, outbox, is_dirty: false })
    }

    /// Writes the applied index and the outbox; the objects' rows are in the same batch.
    pub(super) fn cut(&mut self, shard: ShardId, shards: u32, batch: &mut Batch) {
        if !core::mem::take(&mut self.is_dirty) {
            return;
        }
        self.outbox.cut(self.replica, shard, shards, batch);
        let (replica, applied) = (self.replica, self.applied);
        batch.put_at(Table::Meta, &keys::shard_meta(shard), |out| {
            out.put_u8(ROW_VERSION);
            out.put_u32(replica.0);
            put_var(out, applied.index);
            put_var(out, applied.term);
        });
    }
}

fn meta(state: &impl StateRead, shard: ShardId) -> Result<Option<(Replica, Applied)>, Fatal> {
    let Some(row) = state.get(Table::Meta, &keys::shard_meta(shard))? else { return Ok(None) };
    let mut reader = Reader::new(&row);
    if reader.u8("shard.version")? != ROW_VERSION {
        return Err(Corrupt("shard.version").into());
    }
    let replica = Replica(reader.u32("shard.replica")?);
    let applied = Applied { index: reader.var("shard.index")?, term: reader.var("shard.term")? };
    reader.end("shard")?;
    Ok(Some((replica, applied)))
}
