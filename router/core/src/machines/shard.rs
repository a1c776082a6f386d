//! What a shard has beside its channels and users.

use bytes::{BufMut, Bytes};
use throng_storage_core::entry::Conf;
use throng_storage_core::state::{Change, StateRead, Table};
use throng_wire::ids::ShardId;

use crate::codec::{Corrupt, Reader, put_var};
use crate::entry;
use crate::fatal::Fatal;
use crate::outbox::Outbox;
use crate::state::batch::Batch;
use crate::state::keys::{self, Replica};

/// First byte of a shard's row.
pub(crate) const ROW_VERSION: u8 = 2;

/// The newest entry that a shard has applied; 0 of term 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What a copy of a shard says about itself. The default is that of a copy without rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedRow {
    /// The index of the newest entry it has applied; 0 before the first.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The group's membership after that entry; `None` while it is the one that the cluster was formatted with.
    pub conf: Option<Conf>,
}

impl AppliedRow {
    /// The newest entry that is in the copy.
    pub fn applied(&self) -> Applied {
        Applied { index: self.index, term: self.term }
    }

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(ROW_VERSION);
        out.put_u8(entry::VERSION);
        put_var(out, self.index);
        put_var(out, self.term);
        out.put_u8(u8::from(self.conf.is_some()));
        if let Some(conf) = &self.conf {
            let mut bytes = Vec::with_capacity(conf.encoded_len());
            conf.encode(&mut bytes);
            out.put_slice(&bytes);
        }
    }

    /// Reads a row.
    pub(crate) fn decode(row: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(row);
        if reader.u8("shard.version")? != ROW_VERSION {
            return Err(Corrupt("shard.version"));
        }
        // A copy that a newer machine has written may mean what this one does not know.
        if reader.u8("shard.machine")? > entry::VERSION {
            return Err(Corrupt("shard.machine"));
        }
        let (index, term) = (reader.var("shard.index")?, reader.var("shard.term")?);
        let has_conf = reader.u8("shard.conf")?;
        let mut rest = &row[reader.position()..];
        let conf = match has_conf {
            0 => None,
            1 => Some(Conf::decode(&mut rest).map_err(|_| Corrupt("shard.conf"))?),
            _ => return Err(Corrupt("shard.conf")),
        };
        if rest.is_empty() { Ok(Self { index, term, conf }) } else { Err(Corrupt("shard")) }
    }
}

/// What is flushed of the copy `replica` of `shard`: from here the log is replayed. What a driver tells the store at
/// start.
///
/// # Errors
/// [`Fatal`] if the row cannot be read.
pub fn applied(state: &impl StateRead, shard: ShardId, replica: u32) -> Result<AppliedRow, Fatal> {
    let row: Option<Bytes> = state.get(Table::Meta, &keys::shard_meta(shard, Replica(replica)))?;
    Ok(row.map(|row| AppliedRow::decode(&row)).transpose()?.unwrap_or_default())
}

/// The change that writes a copy's row, for whoever makes a store from a backup.
pub fn applied_row(shard: ShardId, replica: u32, row: &AppliedRow) -> Change {
    let mut value = Vec::new();
    row.encode(&mut value);
    let key = keys::shard_meta(shard, Replica(replica));
    Change::Put(Table::Meta, Bytes::copy_from_slice(&key), value.into())
}

/// One shard.
pub(crate) struct Shard {
    pub(crate) replica: Replica,
    /// Invariant: rises by one with every entry.
    pub(crate) applied: Applied,
    pub(crate) conf: Option<Conf>,
    pub(crate) outbox: Outbox,
    /// Applied something since the last batch was cut.
    pub(crate) is_dirty: bool,
    /// Where retention looks next: the least key behind the replica number that it has not looked at in this round. Soft
    /// state of a leader.
    pub(super) retention_from: Vec<u8>,
}

impl Shard {
    pub(super) fn load(
        state: &impl StateRead,
        shard: ShardId,
        shards: u32,
        replica: u32,
    ) -> Result<Self, Fatal> {
        let row = applied(state, shard, replica)?;
        let outbox = Outbox::load(state, Replica(replica), shard, shards)?;
        let applied = row.applied();
        let replica = Replica(replica);
        let retention_from = Vec::new();
        Ok(Self { replica, applied, conf: row.conf, outbox, is_dirty: false, retention_from })
    }

    /// The metadata's group, which sends nothing to others.
    pub(super) fn load_metadata(state: &impl StateRead, shard: ShardId, replica: u32) -> Result<Self, Fatal> {
        let row = applied(state, shard, replica)?;
        let (applied, replica) = (row.applied(), Replica(replica));
        let (outbox, retention_from) = (Outbox::default(), Vec::new());
        Ok(Self { replica, applied, conf: row.conf, outbox, is_dirty: false, retention_from })
    }

    /// Writes the applied index and the outbox; the objects' rows are in the same batch.
    pub(super) fn cut(&mut self, shard: ShardId, shards: u32, batch: &mut Batch) {
        if !core::mem::take(&mut self.is_dirty) {
            return;
        }
        self.outbox.cut(self.replica, shard, shards, batch);
        self.cut_row(shard, batch);
    }

    /// Writes the shard's own row.
    pub(super) fn cut_row(&self, shard: ShardId, batch: &mut Batch) {
        let Applied { index, term } = self.applied;
        let row = AppliedRow { index, term, conf: self.conf.clone() };
        batch.put_at(Table::Meta, &keys::shard_meta(shard, self.replica), |out| row.encode(out));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn conf() -> impl Strategy<Value = Conf> {
        let peers = || vec(1..u64::MAX, 1..6);
        (peers(), vec(1..u64::MAX, 0..3)).prop_map(|(voters, outgoing)| {
            let mut conf = Conf { voters, voters_outgoing: outgoing, ..Conf::default() };
            conf.sort();
            conf
        })
    }

    proptest! {
        #[test]
        fn rows_come_back_and_truncated_ones_are_refused(
            index: u64, term: u64, conf in prop::option::of(conf()),
        ) {
            let row = AppliedRow { index, term, conf };
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            for len in 0..bytes.len() {
                prop_assert!(AppliedRow::decode(&bytes[..len]).is_err());
            }
            prop_assert_eq!(AppliedRow::decode(&bytes), Ok(row));
        }

        #[test]
        fn any_bytes_are_a_row_or_an_error(mut bytes in vec(any::<u8>(), 0..80), version: bool) {
            if version && bytes.len() > 1 {
                (bytes[0], bytes[1]) = (ROW_VERSION, entry::VERSION);
            }
            let _ = AppliedRow::decode(&bytes);
        }
    }

    #[test]
    fn a_copy_written_by_a_newer_machine_is_refused() {
        let mut bytes = Vec::new();
        AppliedRow::default().encode(&mut bytes);
        bytes[1] = entry::VERSION + 1;
        assert_eq!(AppliedRow::decode(&bytes), Err(Corrupt("shard.machine")));
    }
}
