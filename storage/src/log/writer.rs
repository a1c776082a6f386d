//! The log thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use throng_storage_core::log::{Appender, BLOCK, LogEnd, LogId, Record, commit, limits};
use throng_storage_core::store::PersistToken;

use super::disk::LogDisk;
use super::reader::LogReader;
use crate::limits::{COMMIT_BUFFER_KEPT, LOG_QUEUE_MAX};
use crate::lock::DataLock;
use crate::report::{Report, SubmitError, guarded};

/// The writing end of the log: hands group commits to its thread. Dropping it finishes what is queued.
pub struct LogWriter {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    token: PersistToken,
    records: Vec<Record>,
}

impl LogWriter {
    pub(crate) fn start(
        log: LogId,
        end: LogEnd,
        segment_bytes: u64,
        reader: LogReader,
        disk: impl LogDisk + 'static,
        lock: Arc<DataLock>,
        report: impl FnMut(Report<PersistToken>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = bounded(LOG_QUEUE_MAX);
        let commit_max = (segment_bytes as usize - BLOCK).min(limits::COMMIT_BYTES_MAX);
        let appender = Appender::new(log, end);
        let committer = Committer { appender, disk, reader, commit_max, buffer: Vec::new(), _lock: lock };
        let thread = std::thread::Builder::new().name("throng-log".to_owned()).spawn(move || {
            // Outlives the failure report: closing the disk may wait for a segment in the making.
            let mut committer = committer;
            let committer = &mut committer;
            guarded("log", report, move |report| run(committer, queue, report));
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a group commit. Its token is reported when it is durable, or a higher one.
    ///
    /// # Errors
    /// [`SubmitError`]; either way nothing more will be durable.
    pub fn submit(&self, token: PersistToken, records: Vec<Record>) -> Result<(), SubmitError> {
        let jobs = self.jobs.as_ref().ok_or(SubmitError::Stopped)?;
        jobs.try_send(Job { token, records }).map_err(|error| match error {
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
    queue: Receiver<Job>,
    report: &mut impl FnMut(Report<PersistToken>),
) -> Result<(), String> {
    while let Ok(first) = queue.recv() {
        let group = gather(first, &queue);
        let token = group.last().expect("it holds the first job").token;
        committer.commit(&group)?;
        report(Report::Durable(token));
    }
    Ok(())
}

/// Everything that is queued, up to a size: whoever came while the last commit was synced shares the next one.
fn gather(first: Job, queue: &Receiver<Job>) -> Vec<Job> {
    let mut bytes = commit::encoded_len(&first.records);
    let mut group = vec![first];
    while bytes < limits::COMMIT_BYTES_TARGET && group.len() < LOG_QUEUE_MAX {
        let Ok(job) = queue.try_recv() else { break };
        assert!(job.token >= group[group.len() - 1].token, "tokens rise");
        bytes += commit::encoded_len(&job.records);
        group.push(job);
    }
    group
}

struct Committer<D> {
    appender: Appender,
    disk: D,
    reader: LogReader,
    /// Bytes of the largest commit that fits a segment.
    commit_max: usize,
    buffer: Vec<u8>,
    _lock: Arc<DataLock>,
}

impl<D: LogDisk> Committer<D> {
    /// Makes a group durable: in one commit, unless it is larger than a segment.
    fn commit(&mut self, group: &[Job]) -> Result<(), String> {
        let records: Vec<&Record> = group.iter().flat_map(|job| &job.records).collect();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let count = self.fitting(rest)?;
            let (now, later) = rest.split_at(count);
            self.write(now)?;
            rest = later;
        }
        Ok(())
    }

    /// How many of the records fit one commit. A record is atomic and never split.
    fn fitting(&self, records: &[&Record]) -> Result<usize, String> {
        if commit::encoded_len(records.iter().copied()) <= self.commit_max {
            return Ok(records.len());
        }
        let mut bytes = 0;
        let fits = |record: &&&Record| {
            // Counted as if each were padded: a little early, never late.
            bytes += commit::encoded_len([**record]);
            bytes <= self.commit_max
        };
        match records.iter().take_while(fits).count() {
            0 => Err(format!(
                "a record of {} bytes does not fit a segment ({} at most)",
                commit::encoded_len([records[0]]),
                self.commit_max
            )),
            count => Ok(count),
        }
    }

    fn write(&mut self, records: &[&Record]) -> Result<(), String> {
        self.reader.with_contents(|contents| contents.check(records.iter().copied()))?;
        let len = commit::encoded_len(records.iter().copied());
        while !self.appender.fits(len) {
            let segment =
                self.disk.next_segment().map_err(|error| format!("cannot take the next segment: {error}"))?;
            self.appender.rotate(segment.generation, segment.capacity);
        }
        let staged = self
            .appender
            .stage(records.iter().copied(), &mut self.buffer)
            .map_err(|error| error.to_string())?;
        self.disk
            .write_and_sync(staged.offset, &self.buffer)
            .map_err(|error| format!("cannot write and sync segment {}: {error}", staged.generation))?;
        if self.buffer.capacity() > COMMIT_BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        self.reader.update_contents(|contents| contents.append(staged, records.iter().copied()))
    }
}
