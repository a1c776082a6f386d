//! The state store in memory, for the simulator and tests: a crash loses what was not flushed.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Change, StateError, StateRead, StateWrite, Table, WriteBatch};

type Rows = BTreeMap<(Table, Bytes), Bytes>;

/// An ordered map that remembers what was flushed.
#[derive(Clone, Debug, Default)]
pub struct MemState {
    visible: Rows,
    /// Batches since the last flush, oldest first. Invariant: `durable` with these applied is `visible`.
    unflushed: Vec<WriteBatch>,
    durable: Rows,
}

impl MemState {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses everything since the last flush.
    pub fn crash(&mut self) {
        self.crash_keeping(0);
    }

    /// Loses everything since the last flush but its first `batches`: RocksDB may flush on its own when its buffers
    /// are full, always at the border of a batch.
    pub fn crash_keeping(&mut self, batches: usize) {
        self.unflushed.iter().take(batches).for_each(|batch| apply(&mut self.durable, batch));
        self.unflushed.clear();
        self.visible.clone_from(&self.durable);
    }

    /// Batches that a crash would lose.
    pub fn unflushed(&self) -> usize {
        self.unflushed.len()
    }

    /// Rows of all tables.
    pub fn len(&self) -> usize {
        self.visible.len()
    }

    /// Whether no table has a row.
    pub fn is_empty(&self) -> bool {
        self.visible.is_empty()
    }
}

impl StateRead for MemState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.visible.get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let bound = |key: &[u8]| (table, Bytes::copy_from_slice(key));
        let rows = self.visible.range((Bound::Included(bound(from)), Bound::Excluded(bound(to))));
        Ok(rows.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

impl StateWrite for MemState {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StateError> {
        apply(&mut self.visible, batch);
        self.unflushed.push(batch.clone());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.unflushed.drain(..).for_each(|batch| apply(&mut self.durable, &batch));
        Ok(())
    }
}

fn apply(rows: &mut Rows, batch: &WriteBatch) {
    for change in batch {
        match change {
            Change::Put(table, key, value) => {
                rows.insert((*table, key.clone()), value.clone());
            }
            Change::Delete(table, key) => {
                rows.remove(&(*table, key.clone()));
            }
            Change::DeleteRange(table, from, to) => delete_range(rows, *table, from, to),
        }
    }
}

fn delete_range(rows: &mut Rows, table: Table, from: &Bytes, to: &Bytes) {
    if from < to {
        let doomed = rows.range((table, from.clone())..(table, to.clone())).map(|(key, _)| key.clone());
        doomed.collect::<Vec<_>>().iter().for_each(|key| {
            rows.remove(key);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite::{self, Bench};
    use super::*;

    struct InMemory;

    impl Bench for InMemory {
        type State = MemState;

        fn fresh(&mut self) -> MemState {
            MemState::new()
        }

        fn crash(&mut self, mut state: MemState) -> MemState {
            state.crash();
            state
        }
    }

    #[test]
    fn passes_the_contract_suite() {
        suite::run(&mut InMemory);
    }

    #[test]
    fn a_crash_may_keep_whole_batches() {
        let mut state = MemState::new();
        for n in 0..3u8 {
            let batch = vec![Change::Put(Table::Meta, Bytes::from(vec![n]), Bytes::new())];
            state.write(&batch).expect("memory does not fail");
        }
        state.crash_keeping(2);
        assert_eq!((state.len(), state.unflushed()), (2, 0));
    }
}
