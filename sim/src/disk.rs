//! The simulated disk of one node: a log whose unsynced commits and a state store whose unflushed batches a crash loses.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use throng_router_core::snapshot::{Cursor, next_chunk};
use throng_router_core::{AppliedRow, ViewId, applied};
use throng_storage_core::entry::{Entry, HardState, Record};
use throng_storage_core::state::{MemState, StateError, StateRead, StateWrite, Table, WriteBatch};
use throng_storage_core::store::{LogRead, LogReadError, PersistToken, RecoveredGroup, TermRun};
use throng_wire::ids::ShardId;
use throng_wire::peer::SnapshotRow;

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

/// One group's part of the log.
#[derive(Clone, Debug, Default)]
struct GroupLog {
    hard_state: HardState,
    entries: BTreeMap<u64, Entry>,
}

impl GroupLog {
    fn append(&mut self, record: &Record) {
        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = record.entries.first() {
            self.entries.split_off(&first.index);
        }
        for entry in &record.entries {
            self.entries.insert(entry.index, entry.clone());
        }
    }
}

/// The log as readers see it. A mutex only because readers must be `Send`; nobody else is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLog(Arc<Mutex<BTreeMap<ShardId, GroupLog>>>);

impl LogRead for SharedLog {
    fn entries(
        &self,
        shard: ShardId,
        low: u64,
        high: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogReadError> {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || LogReadError(format!("entry {low} of shard {shard} is not in the log"));
        let group = groups.get(&shard).ok_or_else(missing)?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for (_, entry) in group.entries.range(low..high) {
            if entry.index != low + found.len() as u64 {
                return Err(missing());
            }
            bytes += entry.data.len();
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(entry.clone());
        }
        if found.is_empty() { Err(missing()) } else { Ok(found) }
    }
}

/// The disk of one node.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) state: SharedState,
    pub(crate) log: SharedLog,
    /// Group commits written and not yet synced, oldest first.
    in_flight: VecDeque<(PersistToken, Vec<Record>)>,
    /// Views of the state that the process holds open.
    views: BTreeMap<ViewId, View>,
}

/// The state as of one moment.
struct View {
    state: MemState,
    shard: ShardId,
    replica: u32,
    cursor: Option<Cursor>,
}

/// Small, so that snapshots have many chunks.
const VIEW_CHUNK_BYTES: usize = 2_000;

/// Entries below the applied index that a restart keeps in memory.
const TAIL_ENTRIES: u64 = 4;

impl Disk {
    pub(crate) fn write(&mut self, token: PersistToken, records: Vec<Record>) {
        self.in_flight.push_back((token, records));
    }

    /// A sync that began when `token` was the newest has ended.
    pub(crate) fn sync(&mut self, token: PersistToken) {
        while self.in_flight.front().is_some_and(|(first, _)| *first <= token) {
            let (_, records) = self.in_flight.pop_front().expect("looked at just now");
            self.append(&records);
        }
    }

    fn append(&mut self, records: &[Record]) {
        let mut groups = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            groups.entry(record.shard).or_default().append(record);
        }
    }

    pub(crate) fn write_state(&mut self, batch: &WriteBatch) {
        self.state.0.borrow_mut().write(batch).expect("memory takes every batch");
    }

    pub(crate) fn flush_state(&mut self) {
        self.state.0.borrow_mut().flush().expect("memory flushes");
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

    /// Commits that a crash may lose.
    pub(crate) fn unsynced(&self) -> usize {
        self.in_flight.len()
    }

    /// Batches that a crash may lose.
    pub(crate) fn unflushed(&self) -> usize {
        self.state.0.borrow().unflushed()
    }

    /// Power is lost: of what was not synced the first `commits` survive, of what was not flushed the first `batches`.
    pub(crate) fn crash(&mut self, commits: usize, batches: usize) {
        let survivors: Vec<_> = self.in_flight.drain(..).take(commits).collect();
        for (_, records) in survivors {
            self.append(&records);
        }
        self.views.clear();
        // A new allocation: the machines of the dead process must not see the future of the disk.
        let mut state = self.state.0.borrow().clone();
        state.crash_keeping(batches);
        self.state = SharedState(Rc::new(RefCell::new(state)));
    }

    /// What a restart finds for one group.
    pub(crate) fn recovered(&self, shard: ShardId, applied: u64, applied_term: u64) -> RecoveredGroup {
        let groups = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = groups.get(&shard) else { return RecoveredGroup::empty(shard) };
        let last = group.entries.last_key_value().map_or(0, |(index, _)| *index);
        let tail_first = (applied + 1).min((last + 1).saturating_sub(TAIL_ENTRIES)).max(1);
        let mut terms: Vec<TermRun> = Vec::new();
        for (index, entry) in group.entries.range(..tail_first) {
            if terms.last().is_none_or(|run| run.term != entry.term) {
                terms.push(TermRun { first_index: *index, term: entry.term });
            }
        }
        RecoveredGroup {
            hard_state: group.hard_state,
            terms,
            entries: group.entries.range(tail_first..).map(|(_, entry)| entry.clone()).collect(),
            applied,
            applied_term,
            ..RecoveredGroup::empty(shard)
        }
    }
}
