//! The import thread: writes rows of received snapshots, and drops copies of shards. Apart from the flush thread, so that
//! a snapshot never stands before what the machines flush; RocksDB orders the writers itself.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use throng_storage_core::state::WriteBatch;

use crate::limits::IMPORT_QUEUE_MAX;
use crate::report::{Report, SubmitError, guarded};
use crate::state::RocksState;

struct Job<T> {
    token: T,
    batch: WriteBatch,
    flush: bool,
}

/// Hands batches to the import thread, which reports each token when its batch is written, or flushed if that was asked
/// for. Dropping it finishes what is queued.
pub struct Importer<T> {
    jobs: Option<Sender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Copy + Send + 'static> Importer<T> {
    /// Starts the thread. It calls `report` on its own thread: once per token, in order, as [`Report::Durable`]
    /// (flushed only where that was asked for), and at most once with the reason why nothing more will be written. It
    /// must not wait for the thread that drops the handle, which waits for this one.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(state: RocksState, report: impl FnMut(Report<T>) + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = bounded(IMPORT_QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("throng-import".to_owned())
            .spawn(move || guarded("import", report, move |report| run(&state, &queue, report)))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a batch; with `flush` it is durable when its token is reported, and so is everything before it.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing of it will be written.
    pub fn submit(&self, token: T, batch: WriteBatch, flush: bool) -> Result<(), SubmitError> {
        let jobs = self.jobs.as_ref().ok_or(SubmitError::Stopped)?;
        jobs.try_send(Job { token, batch, flush }).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }
}

impl<T> Drop for Importer<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported as Fatal.
            let _ended = thread.join();
        }
    }
}

fn run<T>(
    state: &RocksState,
    queue: &Receiver<Job<T>>,
    report: &mut impl FnMut(Report<T>),
) -> Result<(), String> {
    while let Ok(Job { token, batch, flush }) = queue.recv() {
        state.write_batch(&batch).map_err(|error| error.to_string())?;
        if flush {
            state.flush_all().map_err(|error| error.to_string())?;
        }
        report(Report::Durable(token));
    }
    Ok(())
}
