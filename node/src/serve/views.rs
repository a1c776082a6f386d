//! Views of the state for snapshots that are sent: a thread holds each, because reading rows takes as long as the disk
//! takes, and the router loop waits for nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use throng_router::{RouterHandle, RouterInput, Views};
use throng_router_core::limits::SNAPSHOT_CHUNK_BYTES;
use throng_router_core::snapshot::{Cursor, next_chunk};
use throng_router_core::{Fatal, ViewId, applied};
use throng_storage::RocksState;
use throng_storage_core::state::StateRead;
use throng_wire::ShardId;

/// A view pins files and memtables of RocksDB, so one that nobody reads is given up.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Views over RocksDB.
pub(crate) struct StateViews {
    state: RocksState,
    handle: RouterHandle,
    /// By view: asks its thread for the next chunk.
    open: BTreeMap<ViewId, Sender<()>>,
}

impl StateViews {
    /// Views of `state`; answers go to `handle`.
    pub(crate) fn new(state: RocksState, handle: RouterHandle) -> Self {
        Self { state, handle, open: BTreeMap::new() }
    }
}

impl Views for StateViews {
    fn open(&mut self, view: ViewId, shard: ShardId, replica: u32) {
        let (ask, asked) = bounded(1);
        let copy = Copy { view, shard, replica };
        let (state, handle) = (self.state.clone(), self.handle.clone());
        let thread = std::thread::Builder::new().name("throng-view".to_owned()).spawn(move || {
            let served = state.with_view(|rows| copy.serve(rows, &asked, &handle));
            if !matches!(served, Ok(Ok(()))) {
                handle.send(RouterInput::ViewLost(view));
            }
        });
        match thread {
            // It ends when it is asked nothing more.
            Ok(_detached) => drop(self.open.insert(view, ask)),
            Err(error) => {
                tracing::warn!(%error, "no thread for a view of the state");
                if self.handle.try_send(RouterInput::ViewLost(view)).is_err() {
                    tracing::debug!("the loop gives the view up by itself");
                }
            }
        }
    }

    fn read(&mut self, view: ViewId) {
        // A thread that has ended has said so.
        let _ = self.open.get(&view).map(|ask| ask.try_send(()));
    }

    fn close(&mut self, view: ViewId) {
        self.open.remove(&view);
    }
}

struct Copy {
    view: ViewId,
    shard: ShardId,
    replica: u32,
}

impl Copy {
    fn serve(&self, rows: &impl StateRead, asked: &Receiver<()>, handle: &RouterHandle) -> Result<(), Fatal> {
        let row = applied(rows, self.shard, self.replica)?;
        handle.send(RouterInput::View(self.view, Some(Box::new(row))));
        let mut cursor = Some(Cursor::start());
        while let Some(at) = cursor.take() {
            if asked.recv_timeout(IDLE_MAX).is_err() {
                return Ok(()); // Closed, or forgotten.
            }
            let chunk = next_chunk(rows, self.shard, self.replica, &at, SNAPSHOT_CHUNK_BYTES)?;
            cursor = chunk.next;
            handle.send(RouterInput::ViewRows(self.view, chunk.rows, chunk.digest));
        }
        Ok(())
    }
}
