//! The flush thread: writes batches of applied state at once, makes them durable a few times a second at most.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use throng_storage_core::state::{Change, StateError, WriteBatch};

use crate::limits::{FLUSH_BYTES, FLUSH_DELAY, FLUSH_QUEUE_MAX};
use crate::report::{Report, SubmitError, guarded};
use crate::state::RocksState;

/// When written batches are flushed: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// So many bytes are written.
    pub bytes: usize,
    /// The oldest has waited this long.
    pub delay: Duration,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self { bytes: FLUSH_BYTES, delay: FLUSH_DELAY }
    }
}

/// Hands batches to the flush thread. A batch is visible to reads soon after it was submitted and at the latest when
/// its token is reported; `T` is the caller's token, which rises. Dropping it writes and flushes what is queued.
pub struct Flusher<T> {
    jobs: Option<Sender<(T, WriteBatch)>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Copy + Send + 'static> Flusher<T> {
    /// Starts the thread. It calls `report` on its own thread: with the highest token that is durable, and at most
    /// once with the reason why nothing more will be. It must not wait for the
    /// thread that drops the handle, which waits for this one.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        state: RocksState,
        policy: FlushPolicy,
        report: impl FnMut(Report<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = bounded(FLUSH_QUEUE_MAX);
        let worker = Worker { state, policy, open: None };
        let thread = std::thread::Builder::new()
            .name("throng-flush".to_owned())
            .spawn(move || guarded("flush", report, move |report| run(worker, queue, report)))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a batch.
    ///
    /// # Errors
    /// [`SubmitError`]. If the queue is full, RocksDB does not keep up: the caller keeps the changes and cuts a larger
    /// batch later.
    pub fn submit(&self, token: T, batch: WriteBatch) -> Result<(), SubmitError> {
        let jobs = self.jobs.as_ref().ok_or(SubmitError::Stopped)?;
        jobs.try_send((token, batch)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }
}

impl<T> Drop for Flusher<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported as Fatal.
            let _ended = thread.join();
        }
    }
}

struct Worker<T> {
    state: RocksState,
    policy: FlushPolicy,
    open: Option<Written<T>>,
}

/// What is written and not flushed.
struct Written<T> {
    token: T,
    bytes: usize,
    flush_at: Instant,
}

fn run<T: Copy>(
    mut worker: Worker<T>,
    queue: Receiver<(T, WriteBatch)>,
    report: &mut impl FnMut(Report<T>),
) -> Result<(), String> {
    loop {
        let next = match &worker.open {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(written) => queue.recv_deadline(written.flush_at),
        };
        let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
        let durable = match next {
            Ok((token, batch)) => worker.write(token, &batch),
            Err(_) => worker.flush(),
        };
        if let Some(token) = durable.map_err(|error| error.to_string())? {
            report(Report::Durable(token));
        }
        if ended {
            return Ok(());
        }
    }
}

impl<T: Copy> Worker<T> {
    /// Makes a batch visible, and flushes if enough is written.
    fn write(&mut self, token: T, batch: &WriteBatch) -> Result<Option<T>, StateError> {
        self.state.write_batch(batch)?;
        let bytes: usize = batch.iter().map(weight).sum();
        let flush_at = Instant::now() + self.policy.delay;
        let written = self.open.get_or_insert(Written { token, bytes: 0, flush_at });
        written.token = token;
        written.bytes += bytes;
        let enough = written.bytes >= self.policy.bytes || written.flush_at <= Instant::now();
        if enough { self.flush() } else { Ok(None) }
    }

    fn flush(&mut self) -> Result<Option<T>, StateError> {
        let Some(written) = self.open.take() else { return Ok(None) };
        self.state.flush_all()?;
        Ok(Some(written.token))
    }
}

fn weight(change: &Change) -> usize {
    match change {
        Change::Put(_, key, value) => key.len() + value.len(),
        Change::Delete(_, key) => key.len(),
    }
}
