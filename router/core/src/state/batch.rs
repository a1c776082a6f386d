//! A flush batch in the making.

use bytes::{Bytes, BytesMut};
use throng_storage_core::state::{Change, Table, WriteBatch};

use super::keys::Key;

/// What the arena asks the allocator for at a time: more would be fresh pages for every batch.
const ARENA_BYTES: usize = 64 * 1024;

/// Rows that become durable together. Keys and values are cut from a shared arena, so a row costs no allocation of its
/// own.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    arena: BytesMut,
    changes: WriteBatch,
    bytes: usize,
}

impl Batch {
    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.changes.len()
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row.
    pub(crate) fn put(&mut self, table: Table, key: &Key, value: impl FnOnce(&mut BytesMut)) {
        self.put_at(table, key, value);
    }

    /// Adds a row under a key that is no object's.
    pub(crate) fn put_at(&mut self, table: Table, key: &[u8], value: impl FnOnce(&mut BytesMut)) {
        if self.arena.capacity() < key.len() {
            self.arena.reserve(ARENA_BYTES);
        }
        self.arena.extend_from_slice(key);
        let key = self.arena.split().freeze();
        value(&mut self.arena);
        let value = self.arena.split().freeze();
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(table, key, value));
    }

    /// Adds a change that is made already.
    pub(crate) fn push(&mut self, change: Change) {
        if let Change::Put(_, key, value) = &change {
            self.bytes += key.len() + value.len();
        }
        self.changes.push(change);
    }

    /// Removes a row.
    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        let key = self.key(key);
        self.changes.push(Change::Delete(table, key));
    }

    /// Removes the rows with `from <= key < to`.
    pub(crate) fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        let (from, to) = (self.key(from), self.key(to));
        self.changes.push(Change::DeleteRange(table, from, to));
    }

    fn key(&mut self, key: &[u8]) -> Bytes {
        self.arena.extend_from_slice(key);
        self.bytes += key.len();
        self.arena.split().freeze()
    }

    /// The changes, in the order they were made.
    pub(crate) fn finish(self) -> WriteBatch {
        self.changes
    }
}
