//! Snapshots: all rows of a shard's copy, in chunks, from a view that does not change (decision 0017).
//!
//! ```text
//!   view ─ next_chunk(cursor) ─► rows in key order, keys behind the replica number ─► Import ─► batch under another one
//!              ▲                                                                        │
//!              └── cursor: where the chunk ended, digest so far      the shard's own row in Meta is the last of all
//! ```
//!
//! A chunk is a function of the view, the cursor and the size, so that a sender which kept the cursor makes the same
//! chunk again. The digest runs over all rows, chunk after chunk, and is compared at the end: SHA-256, because it stands
//! beside the channels' chains as what tells whether two copies are the same, and costs less than reading the rows.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::{Change, StateRead, Table, WriteBatch};
use throng_wire::ids::{ShardId, Slot};
use throng_wire::peer::SnapshotRow;

use super::keys::{self, PREFIX_LEN, Replica};
use crate::fatal::Fatal;
use crate::machines::AppliedRow;

/// Bytes of the replica number that a row's key travels without.
const REPLICA_LEN: usize = 4;

/// Shortest key behind the replica number: slot and id.
const SUFFIX_MIN: usize = PREFIX_LEN - REPLICA_LEN;

/// Rows read at a time: few, because rows may be as large as bodies.
const SCAN_ROWS: usize = 64;

/// Where a snapshot goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    part: Part,
    /// The least key that is not sent yet, behind the replica number.
    from: Vec<u8>,
    /// Over all rows sent so far.
    digest: u64,
}

/// What a snapshot consists of, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Objects,
    Events,
    Meta,
}

impl Cursor {
    /// The begin of a snapshot.
    pub fn start() -> Self {
        Self { part: Part::Objects, from: Vec::new(), digest: 0 }
    }
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// In the order of tables and keys; keys without their replica number. The shard's own row, the last of a snapshot,
    /// has an empty one.
    pub rows: Vec<SnapshotRow>,
    /// In the last chunk: the digest over all rows.
    pub digest: Option<u64>,
    /// Where the next one begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// The next chunk of the copy `replica` of `shard`: at least one row, and rows until they take `max_bytes`. `view` must
/// not change between the chunks of a snapshot.
///
/// # Errors
/// [`Fatal`] if the view cannot be read, or has no such copy.
pub fn next_chunk(
    view: &impl StateRead,
    shard: ShardId,
    replica: u32,
    cursor: &Cursor,
    max_bytes: usize,
) -> Result<Chunk, Fatal> {
    let mut chunk = Filling { rows: Vec::new(), bytes: 0, max_bytes };
    let Cursor { mut part, mut from, digest } = cursor.clone();
    while part != Part::Meta {
        match chunk.fill(view, part, replica, &from)? {
            Some(next) => {
                let digest = fold(digest, &chunk.rows);
                let next = Some(Cursor { part, from: next, digest });
                return Ok(Chunk { rows: chunk.rows, digest: None, next });
            }
            None => {
                (part, from) = (if part == Part::Objects { Part::Events } else { Part::Meta }, Vec::new())
            }
        }
    }
    let row = view.get(Table::Meta, &keys::shard_meta(shard, Replica(replica)))?;
    let value = row.ok_or_else(|| Fatal::corrupt_row("snapshot: no such copy"))?;
    chunk.rows.push(SnapshotRow { table: Table::Meta as u8, key: Bytes::new(), value });
    let digest = fold(digest, &chunk.rows);
    Ok(Chunk { rows: chunk.rows, digest: Some(digest), next: None })
}

struct Filling {
    rows: Vec<SnapshotRow>,
    bytes: usize,
    max_bytes: usize,
}

impl Filling {
    /// Adds rows of one table from `from` on; where it stopped, `None` if the table has no more.
    fn fill(
        &mut self,
        view: &impl StateRead,
        part: Part,
        replica: u32,
        from: &[u8],
    ) -> Result<Option<Vec<u8>>, Fatal> {
        let table = if part == Part::Objects { Table::Objects } else { Table::Events };
        let (begin, end) = keys::copy_range(Replica(replica));
        let mut from = [&begin[..], from].concat();
        loop {
            let rows = view.scan(table, &from, &end, SCAN_ROWS)?;
            let count = rows.len();
            for (key, value) in rows {
                if is_planted(Bug::DedupNotInSnapshot)
                    && part == Part::Objects
                    && key[PREFIX_LEN..].first() == Some(&keys::tag::DEVICE)
                {
                    from = [&key[..], &[0][..]].concat();
                    continue;
                }
                let bytes = key.len() + value.len();
                if self.bytes + bytes > self.max_bytes && !self.rows.is_empty() {
                    return Ok(Some(key[REPLICA_LEN..].to_vec()));
                }
                self.bytes += bytes;
                from.clear();
                from.extend_from_slice(&key);
                from.push(0); // the least key above this one
                self.rows.push(SnapshotRow { table: table as u8, key: key.slice(REPLICA_LEN..), value });
            }
            if count < SCAN_ROWS {
                return Ok(None);
            }
        }
    }
}

/// Carries a digest on over the rows of a chunk.
fn fold(before: u64, rows: &[SnapshotRow]) -> u64 {
    let mut sha = Sha256::new().chain_update(before.to_be_bytes());
    for row in rows {
        let mut head = [row.table; 9];
        head[1..5].copy_from_slice(&(row.key.len() as u32).to_be_bytes());
        head[5..].copy_from_slice(&(row.value.len() as u32).to_be_bytes());
        sha.update(head);
        sha.update(&row.key);
        sha.update(&row.value);
    }
    u64::from_be_bytes(*sha.finalize().first_chunk().expect("32 bytes hold 8"))
}

/// Why a snapshot cannot be taken: it is given up, and its rows are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSnapshot(pub &'static str);

impl core::fmt::Display for BadSnapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "bad snapshot: {}", self.0)
    }
}

impl std::error::Error for BadSnapshot {}

/// A snapshot that arrives.
#[derive(Clone, Debug)]
pub struct Import {
    shard: ShardId,
    shards: u32,
    replica: u32,
    /// Number of the chunk that is wanted.
    next: u64,
    digest: u64,
    /// The newest row's place. Rows come in order, each once.
    last: Option<(Part, Bytes)>,
    meta: Option<AppliedRow>,
}

/// What to do with a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is not the one that is wanted: nothing.
    Skipped,
    /// Write this and acknowledge; more is to come.
    Rows(WriteBatch),
    /// Write this and flush: the copy is whole, and this is what is applied to it.
    Whole(WriteBatch, AppliedRow),
}

impl Import {
    /// A snapshot of `shard` that is to become the copy `replica`, a number nobody has used.
    pub fn new(shard: ShardId, shards: u32, replica: u32) -> Self {
        Self { shard, shards, replica, next: 0, digest: 0, last: None, meta: None }
    }

    /// Number of the copy.
    pub fn replica(&self) -> u32 {
        self.replica
    }

    /// Number of the chunk that is wanted.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes chunk `number` in. A repeated one, and one that is too early, is skipped.
    ///
    /// # Errors
    /// [`BadSnapshot`]: drop the copy; nothing of this chunk may be written.
    pub fn take(
        &mut self,
        number: u64,
        rows: Vec<SnapshotRow>,
        digest: Option<u64>,
    ) -> Result<Imported, BadSnapshot> {
        if number != self.next || self.meta.is_some() {
            return Ok(Imported::Skipped);
        }
        self.digest = fold(self.digest, &rows);
        self.next += 1;
        let mut batch = WriteBatch::with_capacity(rows.len());
        for row in rows {
            batch.push(self.row(row)?);
        }
        match (digest, &self.meta) {
            (None, None) => Ok(Imported::Rows(batch)),
            (Some(digest), Some(meta)) if digest == self.digest => Ok(Imported::Whole(batch, meta.clone())),
            (Some(_), Some(_)) => Err(BadSnapshot("rows differ from what was sent")),
            _ => Err(BadSnapshot("it does not end with the shard's row")),
        }
    }

    fn row(&mut self, row: SnapshotRow) -> Result<Change, BadSnapshot> {
        let SnapshotRow { table, key, value } = row;
        let part = match table {
            table if table == Table::Objects as u8 => Part::Objects,
            table if table == Table::Events as u8 => Part::Events,
            table if table == Table::Meta as u8 => Part::Meta,
            _ => return Err(BadSnapshot("unknown table")),
        };
        let in_order = self.last.as_ref().is_none_or(|(last, before)| (*last, before) < (part, &key));
        if !in_order {
            return Err(BadSnapshot("rows out of order"));
        }
        self.last = Some((part, key.clone()));
        if part == Part::Meta {
            self.meta = Some(AppliedRow::decode(&value).map_err(|corrupt| BadSnapshot(corrupt.0))?);
            let key = keys::shard_meta(self.shard, Replica(self.replica));
            return Ok(Change::Put(Table::Meta, Bytes::copy_from_slice(&key), value));
        }
        self.check_key(&key)?;
        let table = if part == Part::Objects { Table::Objects } else { Table::Events };
        let key = [&self.replica.to_be_bytes()[..], &key].concat();
        Ok(Change::Put(table, key.into(), value))
    }

    fn check_key(&self, key: &[u8]) -> Result<(), BadSnapshot> {
        // The metadata's group stands behind all shards; its rows are under the first slot.
        let is_metadata = self.shard.0 == self.shards;
        let slot = key.first_chunk().map(|slot| Slot(u16::from_be_bytes(*slot)));
        let fits = key.len() > SUFFIX_MIN && key.len() <= keys::KEY_LEN_MAX - REPLICA_LEN;
        match slot {
            Some(slot) if fits && is_metadata && slot == Slot(0) => Ok(()),
            Some(slot) if fits && ShardId::of_slot(slot, self.shards) == self.shard => Ok(()),
            _ => Err(BadSnapshot("a key that is not the shard's")),
        }
    }
}
