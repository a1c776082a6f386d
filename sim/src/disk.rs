//! The simulated disk of one node: a log in bytes, written and recovered by the storage core's own code, and a state
//! store that loses everything since its last flush.

mod log;
mod platter;
mod reading;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use throng_base::planted::{Bug, is_planted};
use throng_router_core::snapshot::{Cursor, next_chunk};
use throng_router_core::{AppliedRow, ViewId, applied};
use throng_storage_core::state::{Change, MemState, StateError, StateRead, StateWrite, Table, WriteBatch};

use throng_wire::ids::ShardId;
use throng_wire::peer::SnapshotRow;

pub(crate) use log::{LogDisk, WriteEnd};

/// The state store, shared between the node's machines and its disk.
#[derive(Clone, Default)]
pub(crate) struct SharedState(Rc<RefCell<MemState>>);

impl StateRead for SharedState {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.0.borrow().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.0.borrow().scan(table, from, to, limit)
    }
}

fn is_meta(change: &Change) -> bool {
    matches!(change, Change::Put(Table::Meta, ..))
}

/// The disk of one node.
pub(crate) struct Disk {
    pub(crate) state: SharedState,
    pub(crate) log: LogDisk,
    /// Views of the state that the process holds open.
    views: BTreeMap<ViewId, View>,
    /// Rows of snapshots that wait to be written, oldest first; with a flag, everything is to be flushed as well.
    imports: VecDeque<(WriteBatch, bool)>,
}

/// The state as of one moment.
struct View {
    state: MemState,
    shard: ShardId,
    replica: u32,
    cursor: Option<Cursor>,
}

/// Small, so that snapshots have many chunks.
const VIEW_CHUNK_BYTES: usize = 1_000;

impl Disk {
    pub(crate) fn new(log: LogDisk) -> Self {
        Self { state: SharedState::default(), log, views: BTreeMap::new(), imports: VecDeque::new() }
    }

    pub(crate) fn write_state(&mut self, batch: &WriteBatch) {
        let mut state = self.state.0.borrow_mut();
        if is_planted(Bug::AppliedIndexSplit) {
            // The rows that say how far the log is applied go ahead of the others.
            let (ahead, rest): (WriteBatch, WriteBatch) = batch.iter().cloned().partition(is_meta);
            state.write(&ahead).expect("memory takes every batch");
            state.write(&rest).expect("memory takes every batch");
        } else {
            state.write(batch).expect("memory takes every batch");
        }
    }

    pub(crate) fn flush_state(&mut self) {
        self.state.0.borrow_mut().flush().expect("memory flushes");
    }

    /// Takes rows of a snapshot, to be written by [`Disk::write_import`].
    pub(crate) fn queue_import(&mut self, batch: WriteBatch, flush: bool) {
        self.imports.push_back((batch, flush));
    }

    /// Writes the oldest rows that wait, and flushes if that was asked for.
    pub(crate) fn write_import(&mut self) {
        let Some((batch, flush)) = self.imports.pop_front() else { return };
        self.write_state(&batch);
        if flush {
            self.flush_state();
        }
    }

    /// Opens a view of the state as it is written; what the shard's row says in it.
    pub(crate) fn open_view(&mut self, view: ViewId, shard: ShardId, replica: u32) -> AppliedRow {
        let state = self.state.0.borrow().clone();
        let row = applied(&state, shard, replica).expect("memory can be read");
        self.views.insert(view, View { state, shard, replica, cursor: Some(Cursor::start()) });
        row
    }

    /// The next chunk of a view, if it is open.
    pub(crate) fn read_view(&mut self, view: ViewId) -> Option<(Vec<SnapshotRow>, Option<u64>)> {
        let View { state, shard, replica, cursor } = self.views.get_mut(&view)?;
        let at = cursor.take()?;
        let chunk = next_chunk(state, *shard, *replica, &at, VIEW_CHUNK_BYTES).expect("memory can be read");
        *cursor = chunk.next;
        Some((chunk.rows, chunk.digest))
    }

    pub(crate) fn close_view(&mut self, view: ViewId) {
        self.views.remove(&view);
    }

    /// Batches that a crash may lose.
    pub(crate) fn unflushed(&self) -> usize {
        self.state.0.borrow().unflushed()
    }

    /// The process is gone: of what was not flushed the first `batches` survive.
    pub(crate) fn crash_state(&mut self, batches: usize) {
        self.views.clear();
        self.imports.clear();
        // A new allocation: the machines of the dead process must not see the future of the disk.
        let mut state = self.state.0.borrow().clone();
        state.crash_keeping(batches);
        self.state = SharedState(Rc::new(RefCell::new(state)));
    }
}
