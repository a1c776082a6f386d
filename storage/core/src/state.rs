//! The contract of the state store: where applied state rests. RocksDB implements it, and so does the simulated disk;
//! one suite tests both.

mod mem;
pub mod suite;

use bytes::Bytes;

pub use mem::MemState;

/// Column families: a fixed handful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Applied index, term and ConfState per shard; format record.
    Meta = 0,
    /// Channel and user objects, members, dedup records, outbox and inbox rows.
    Objects = 1,
    /// Events by `(replica, slot, channel, seq)`.
    Events = 2,
}

/// All tables.
pub const TABLES: [Table; 3] = [Table::Meta, Table::Objects, Table::Events];

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Insert or replace.
    Put(Table, Bytes, Bytes),
    /// Remove.
    Delete(Table, Bytes),
    /// Remove all rows with `from <= key < to`; none if `from >= to`.
    DeleteRange(Table, Bytes, Bytes),
}

/// Changes that become visible and durable together.
pub type WriteBatch = Vec<Change>;

/// An error of the store underneath; never retried (failure is loud).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError(pub String);

impl core::fmt::Display for StateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "state store: {}", self.0)
    }
}

impl std::error::Error for StateError {}

/// Reads of the state store. Writes go through the driver: the machine emits a batch with a flush token, the driver
/// writes it atomically, flushes, and reports the token. A batch is visible to reads from the moment the driver has
/// written it, at the latest when its token is reported.
pub trait StateRead {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot read it; the node stops.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// Rows with `from <= key < to` in key order, at most `limit`.
    ///
    /// # Errors
    /// [`StateError`] if the store cannot read them; the node stops.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError>;
}

/// Writes of the state store, for drivers and the contract suite.
pub trait StateWrite: StateRead {
    /// Makes a batch visible, all or nothing; durable only after [`StateWrite::flush`].
    ///
    /// # Errors
    /// [`StateError`]; the node stops.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StateError>;

    /// Makes everything written before durable, atomically over all tables.
    ///
    /// # Errors
    /// [`StateError`]; the node stops, a failed flush is never retried.
    fn flush(&mut self) -> Result<(), StateError>;
}
