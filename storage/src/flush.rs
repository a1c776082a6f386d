//! The flush thread: writes batches of applied state at once, makes them durable a few times a second at most.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use throng_storage_core::state::{Change, StateError, WriteBatch};

use crate::background;
use crate::limits::{FLUSH_BYTES, FLUSH_DELAY, FLUSH_QUEUE_MAX, PRESSURE_POLL};
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
        Self::start_watched(state, policy, report, |_| {})
    }

    /// Like [`Flusher::start`]; `pressure` is called on the thread when RocksDB begins not to keep up (true) and when it
    /// does again (false). Between the two, batches may wait, and the caller takes no new work from clients.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start_watched(
        state: RocksState,
        policy: FlushPolicy,
        report: impl FnMut(Report<T>) + Send + 'static,
        pressure: impl FnMut(bool) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = bounded(FLUSH_QUEUE_MAX);
        let worker = Worker { state, policy, open: None, is_slow: false, pressure: Box::new(pressure) };
        let thread = std::thread::Builder::new().name("throng-flush".to_owned()).spawn(move || {
            background::yield_to_loops();
            guarded("flush", report, move |report| run(worker, queue, report))
        })?;
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
    /// What `pressure` was told last.
    is_slow: bool,
    pressure: Box<dyn FnMut(bool) + Send>,
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
        let poll_at = worker.is_slow.then(|| Instant::now() + PRESSURE_POLL);
        let flush_at = worker.open.as_ref().map(|written| written.flush_at);
        let next = match [poll_at, flush_at].into_iter().flatten().min() {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wake_at) => queue.recv_deadline(wake_at),
        };
        let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
        let is_due = ended || flush_at.is_some_and(|at| at <= Instant::now());
        let durable = match next {
            Ok((token, batch)) => worker.write(token, &batch),
            Err(_) if is_due => worker.flush(),
            Err(_) => worker.look().map(|()| None),
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
        if !self.state.try_write_batch(batch)? {
            self.say(true);
            self.state.write_batch(batch)?;
        }
        self.look()?;
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
        self.look()?; // the flush waits where it would make writers wait
        self.state.flush_all()?;
        self.look()?;
        Ok(Some(written.token))
    }

    fn look(&mut self) -> Result<(), StateError> {
        let is_slow = self.state.pressure()?.is_slow();
        self.say(is_slow);
        Ok(())
    }

    fn say(&mut self, is_slow: bool) {
        if self.is_slow != is_slow {
            self.is_slow = is_slow;
            (self.pressure)(is_slow);
        }
    }
}

fn weight(change: &Change) -> usize {
    match change {
        Change::Put(_, key, value) => key.len() + value.len(),
        Change::Delete(_, key) => key.len(),
        Change::DeleteRange(_, from, to) => from.len() + to.len(),
    }
}
