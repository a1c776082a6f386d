//! Reads the segment files of a log at start.

use std::io;
use std::path::Path;
use std::sync::Arc;

use throng_storage_core::log::{
    Appender, Contents, Fault, Generation, LogError, LogId, Recovered, Recovery, Tail, limits,
};
use throng_storage_core::store::PersistToken;

use super::disk::{LogDisk, PlainDisk, Segment, SegmentFiles};
use super::fs::{LogFs, OsFs};
use super::make::Maker;
use super::reader::LogReader;
use super::uring::UringDisk;
use super::writer::{LogWriter, Start};
use super::{LogConfig, LogDriver, files};
use crate::error::OpenError;
use crate::format::Format;
use crate::lock::DataLock;
use crate::report::Report;

/// A log directory that was read.
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    pub(crate) contents: Contents,
    /// Segments on disk, in order, leftovers and spares included.
    pub(crate) on_disk: Vec<Segment>,
}

/// Why a log directory was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// A segment is missing.
    Missing(Generation),
    /// What is there is not a log that may be used.
    Corrupt(LogError),
    /// The file system refused.
    Io(&'static str, Option<Generation>, io::Error),
}

/// Reads all segments and syncs them: what a process wrote before it was killed may be in the page cache only, and from
/// here on it counts as durable.
pub(crate) fn read(fs: &dyn LogFs, log: LogId, shards: u32) -> Result<Found, ReadError> {
    // A killed process may have renamed a segment without making the name durable.
    fs.sync_names().map_err(|error| ReadError::Io("sync", None, error))?;
    let generations = files::list(fs).map_err(|error| ReadError::Io("list", None, error))?;
    let (Some(&first), Some(&last)) = (generations.first(), generations.last()) else {
        return Err(ReadError::Missing(Generation::FIRST));
    };
    let mut contents = Contents::before_replay(shards, first);
    let mut recovery = Recovery::new(log, first);
    let (mut on_disk, mut bytes) = (Vec::new(), Vec::new());
    let mut generation = first;
    while generation <= last {
        read_segment(fs, generation, &mut bytes)?;
        recovery
            .segment(&bytes, |generation, record| contents.replay(generation, &record))
            .map_err(ReadError::Corrupt)?;
        on_disk.push(Segment { generation, capacity: bytes.len() as u64 });
        generation = generation.next();
    }
    let recovered = recovery.finish().map_err(ReadError::Corrupt)?.expect("at least one segment was read");
    contents.complete().map_err(|why| {
        let begin = recovered.segments.begin().generation;
        ReadError::Corrupt(LogError { generation: begin, offset: 0, fault: Fault::Records(why) })
    })?;
    Ok(Found { recovered, contents, on_disk })
}

fn read_segment(fs: &dyn LogFs, generation: Generation, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
    let failed = |doing| move |error| ReadError::Io(doing, Some(generation), error);
    let file = match files::open(fs, generation) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::Missing(generation)),
        other => other.map_err(failed("open"))?,
    };
    file.sync().map_err(failed("sync"))?;
    // Nothing below the largest size is refused here: the header says how large it must be.
    let size = file.size().map_err(failed("read"))?.min(limits::SEGMENT_BYTES_MAX + 1);
    bytes.clear();
    bytes.resize(size as usize, 0);
    file.read_at(bytes, 0).map_err(failed("read"))
}

/// A recovered log, not yet written to.
pub struct Log {
    fs: Arc<dyn LogFs>,
    log: LogId,
    config: LogConfig,
    recovered: Recovered,
    on_disk: Vec<Segment>,
    reader: LogReader,
    lock: Arc<DataLock>,
}

impl Log {
    /// Reads the log in `path`, of the data directory `dir`.
    pub(crate) fn recover(
        dir: &Path,
        path: &Path,
        format: &Format,
        config: LogConfig,
        lock: Arc<DataLock>,
    ) -> Result<Self, OpenError> {
        if !path.is_dir() {
            return Err(OpenError::Incomplete { path: path.to_owned() });
        }
        let fs: Arc<dyn LogFs> = Arc::new(OsFs(path.to_owned()));
        let found = read(&*fs, format.log, format.groups()).map_err(|error| refusal(dir, path, error))?;
        let Found { recovered, contents, on_disk } = found;
        if let Tail::Torn { generation, offset } = recovered.tail {
            tracing::warn!(%generation, offset, "the log has a torn tail; what it held was never acknowledged");
        }
        let reader = LogReader::new(Arc::clone(&fs), format.log, contents, &recovered, config.budget_bytes);
        Ok(Self { fs, log: format.log, config, recovered, on_disk, reader, lock })
    }

    /// Whether the log ends in bytes that are no commit. They were never synced, or the last commit was damaged after
    /// it was: a replica that knows only this much may have forgotten its last vote.
    pub fn tail(&self) -> Tail {
        self.recovered.tail
    }

    /// Reads entries; also while the writer runs.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Starts the log thread. It calls `report` on its own thread: once per commit with the highest token that is
    /// durable, at most once with the reason why nothing more will be. It must not wait for the
    /// thread that drops the handle, which waits for this one.
    ///
    /// # Errors
    /// A segment or thread cannot be had.
    pub fn start(self, report: impl FnMut(Report<PersistToken>) + Send + 'static) -> io::Result<LogWriter> {
        files::remove_unfinished(&*self.fs)?;
        let segments = SegmentFiles::new(self.recovered.end.generation, self.maker())?;
        match self.config.driver {
            LogDriver::Thread => self.start_on(|| Ok(PlainDisk(segments)), report),
            LogDriver::Uring => self.start_on(|| Ok(uring_or_plain(segments)), report),
        }
    }

    /// Like [`Log::start`], on another kind of disk, which `make` makes on the log thread.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub fn start_on<D: LogDisk>(
        self,
        make: impl FnOnce() -> io::Result<D> + Send + 'static,
        report: impl FnMut(Report<PersistToken>) + Send + 'static,
    ) -> io::Result<LogWriter> {
        let Self { log, config, recovered, reader, lock, .. } = self;
        let appender = Appender::new(log, recovered.end, recovered.segments);
        let LogConfig { segment_bytes, budget_bytes, .. } = config;
        LogWriter::start(Start { appender, reader, segment_bytes, budget_bytes, lock }, make, report)
    }

    fn maker(&self) -> Maker {
        maker(Arc::clone(&self.fs), self.log, self.config.segment_bytes, &self.recovered, &self.on_disk)
    }
}

/// What makes the next segments of a log that was read.
pub(crate) fn maker(
    fs: Arc<dyn LogFs>,
    log: LogId,
    capacity: u64,
    recovered: &Recovered,
    on_disk: &[Segment],
) -> Maker {
    let (begin, end) = (recovered.segments.begin().generation, recovered.end.generation);
    let last = on_disk.last().expect("a log has a segment").generation;
    let spares = on_disk.iter().filter(|segment| segment.generation > end).copied().collect();
    let leftovers = on_disk.iter().map(|segment| segment.generation).filter(|found| *found < begin);
    Maker { fs, log, capacity, spares, free: leftovers.collect(), next: last.next(), begin }
}

fn uring_or_plain(segments: SegmentFiles) -> Box<dyn LogDisk> {
    match UringDisk::new(segments) {
        Ok(disk) => Box::new(disk),
        Err((segments, error)) => {
            tracing::warn!(%error, "the kernel refuses io_uring; the log is written by the plain thread");
            Box::new(PlainDisk(segments))
        }
    }
}

fn refusal(dir: &Path, path: &Path, error: ReadError) -> OpenError {
    let file = |generation| path.join(files::name_of(generation));
    match error {
        ReadError::Missing(generation) => OpenError::Incomplete { path: file(generation) },
        ReadError::Corrupt(error) => OpenError::LogCorrupt { dir: dir.to_owned(), error },
        ReadError::Io(doing, generation, source) => {
            OpenError::Io { doing, path: generation.map_or_else(|| path.to_owned(), file), source }
        }
    }
}
