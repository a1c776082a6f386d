//! The log thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use throng_storage_core::entry::Mark;
use throng_storage_core::log::{Appender, Record, commit, limits};
use throng_storage_core::store::PersistToken;
use throng_wire::ids::ShardId;

use super::committer::Committer;
use super::disk::LogDisk;
use super::reader::LogReader;
use crate::limits::LOG_QUEUE_MAX;
use crate::lock::DataLock;
use crate::report::{Report, SubmitError, guarded};

/// The writing end of the log: hands group commits to its thread. Dropping it finishes what is queued.
pub struct LogWriter {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Truncations that were not sent yet, the newest of each group. They ride on the next job.
    unsent: Mutex<BTreeMap<ShardId, Mark>>,
}

#[derive(Default)]
struct Job {
    /// What to report, if anybody waits.
    token: Option<PersistToken>,
    records: Vec<Record>,
    truncations: BTreeMap<ShardId, Mark>,
}

/// What the log thread starts from.
pub(crate) struct Start {
    pub(crate) appender: Appender,
    pub(crate) reader: LogReader,
    pub(crate) segment_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) lock: Arc<DataLock>,
}

impl LogWriter {
    /// `make` makes the disk on the log thread: a ring belongs to one thread.
    pub(crate) fn start<D: LogDisk>(
        start: Start,
        make: impl FnOnce() -> io::Result<D> + Send + 'static,
        report: impl FnMut(Report<PersistToken>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = bounded(LOG_QUEUE_MAX);
        let thread = std::thread::Builder::new().name("throng-log".to_owned()).spawn(move || {
            let Start { appender, reader, segment_bytes, budget_bytes, lock: _held } = start;
            // Outlives the failure report: closing the disk may wait for a segment in the making.
            let mut committer = None;
            let committer = &mut committer;
            guarded("log", report, move |report| {
                let disk = make().map_err(|error| format!("cannot open the disk: {error}"))?;
                let committer = committer.insert(Committer::new(appender, disk, reader, segment_bytes));
                run(committer, budget_bytes, &queue, report)
            });
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), unsent: Mutex::default() })
    }

    /// Queues a group commit. Its token is reported when it is durable, or a higher one.
    ///
    /// # Errors
    /// [`SubmitError`]; either way nothing more will be durable.
    pub fn submit(&self, token: PersistToken, records: Vec<Record>) -> Result<(), SubmitError> {
        let truncations = std::mem::take(&mut *self.unsent());
        self.send(Job { token: Some(token), records, truncations })
    }

    /// Tells the log that the entries through each mark's index are not needed any more. They are forgotten at once; the
    /// log says so durably when the oldest segments hold nothing else and are recycled, so that a crash may bring
    /// entries back, never take one away. A mark that the log already passed does nothing; one whose entry is
    /// committed but not written here yet waits for it.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`].
    ///
    /// # Panics
    /// If a mark resets its group's log: that is a record, to be submitted.
    pub fn truncate(&self, marks: Vec<(ShardId, Mark)>) -> Result<(), SubmitError> {
        assert!(marks.iter().all(|(_, mark)| !mark.reset), "a truncation drops no entry behind it");
        let mut unsent = self.unsent();
        unsent.extend(marks);
        let jobs = self.jobs.as_ref().ok_or(SubmitError::Stopped)?;
        // Half of the queue is left to group commits, for which a full one means a dead thread.
        if jobs.len() >= LOG_QUEUE_MAX / 2 {
            return Ok(());
        }
        let truncations = std::mem::take(&mut *unsent);
        self.send(Job { truncations, ..Job::default() })
    }

    fn unsent(&self) -> std::sync::MutexGuard<'_, BTreeMap<ShardId, Mark>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, job: Job) -> Result<(), SubmitError> {
        let jobs = self.jobs.as_ref().ok_or(SubmitError::Stopped)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported as Fatal.
            let _ended = thread.join();
        }
    }
}

fn run<D: LogDisk>(
    committer: &mut Committer<D>,
    budget_bytes: u64,
    queue: &Receiver<Job>,
    report: &mut impl FnMut(Report<PersistToken>),
) -> Result<(), String> {
    let mut was_over = false;
    while let Ok(first) = queue.recv() {
        let group = gather(first, queue);
        let records: Vec<&Record> = group.iter().flat_map(|job| &job.records).collect();
        committer.commit(&records)?;
        if let Some(token) = group.iter().rev().find_map(|job| job.token) {
            report(Report::Durable(token));
        }
        committer.truncate(group.into_iter().flat_map(|job| job.truncations))?;
        let is_over = committer.live_bytes() > budget_bytes;
        if is_over && !was_over {
            let live_bytes = committer.live_bytes();
            tracing::warn!(
                live_bytes,
                budget_bytes,
                "the log is beyond its budget: entries are still needed"
            );
        }
        was_over = is_over;
    }
    Ok(())
}

/// Everything that is queued, up to a size: whoever came while the last commit was synced shares the next one.
fn gather(first: Job, queue: &Receiver<Job>) -> Vec<Job> {
    let mut bytes = commit::encoded_len(&first.records);
    let mut newest = first.token;
    let mut group = vec![first];
    while bytes < limits::COMMIT_BYTES_TARGET && group.len() < LOG_QUEUE_MAX {
        let Ok(job) = queue.try_recv() else { break };
        assert!(job.token.is_none() || job.token >= newest, "tokens rise");
        newest = job.token.or(newest);
        bytes += commit::encoded_len(&job.records);
        group.push(job);
    }
    group
}
