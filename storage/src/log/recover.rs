//! Reads the segment files of a log at start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use throng_storage_core::log::{Contents, Generation, LogEnd, LogId, Recovery, Tail};
use throng_storage_core::store::PersistToken;

use super::disk::{PlainDisk, Segment};
use super::prepare::Plan;
use super::reader::LogReader;
use super::writer::LogWriter;
use super::{LogConfig, files};
use crate::error::{Doing, OpenError};
use crate::format::Format;
use crate::lock::DataLock;
use crate::report::Report;

/// A recovered log, not yet written to.
pub struct Log {
    dir: PathBuf,
    log: LogId,
    config: LogConfig,
    end: LogEnd,
    tail: Tail,
    spares: Vec<Segment>,
    last: Generation,
    reader: LogReader,
    lock: Arc<DataLock>,
}

impl Log {
    /// Reads all segments in `path`, of the data directory `dir`, and syncs them: what a process wrote before it was killed may be in the page cache only,
    /// and from here on it counts as durable.
    pub(crate) fn recover(
        dir: &Path,
        path: &Path,
        format: &Format,
        config: LogConfig,
        lock: Arc<DataLock>,
    ) -> Result<Self, OpenError> {
        let log = format.log;
        if !path.is_dir() {
            return Err(OpenError::Incomplete { path: path.to_owned() });
        }
        let generations = files::list(path).doing("list", path)?;
        let Some(&last) = generations.last() else {
            return Err(OpenError::Incomplete { path: files::path_of(path, Generation::FIRST) });
        };
        let mut contents = Contents::new(format.shards);
        let mut recovery = Recovery::new(log, Generation::FIRST);
        let mut segments = Vec::new();
        let mut bytes = Vec::new();
        let mut generation = Generation::FIRST;
        while generation <= last {
            read(path, generation, &mut bytes)?;
            recovery
                .segment(&bytes, |generation, record| contents.replay(generation, &record))
                .map_err(|error| OpenError::LogCorrupt { dir: dir.to_owned(), error })?;
            segments.push(Segment { generation, capacity: bytes.len() as u64 });
            generation = generation.next();
        }
        let (end, tail) = recovery.finish().expect("at least one segment was read");
        if let Tail::Torn { generation, offset } = tail {
            tracing::warn!(%generation, offset, "the log has a torn tail; what it held was never acknowledged");
        }
        let spares = segments.into_iter().filter(|segment| segment.generation > end.generation).collect();
        let reader = LogReader::new(path.to_owned(), log, contents);
        Ok(Self { dir: path.to_owned(), log, config, end, tail, spares, last, reader, lock })
    }

    /// Whether the log ends in bytes that are no commit. They were never synced, or the last commit was damaged after
    /// it was: a replica that knows only this much may have forgotten its last vote.
    pub fn tail(&self) -> Tail {
        self.tail
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
        let plan = Plan {
            dir: self.dir.clone(),
            log: self.log,
            capacity: self.config.segment_bytes,
            spares: self.spares.clone(),
            next: self.last.next(),
        };
        files::remove_unfinished(&self.dir)?;
        let disk = PlainDisk::new(self.end.generation, plan)?;
        self.start_on(disk, report)
    }

    /// Like [`Log::start`], on another kind of disk.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub fn start_on(
        self,
        disk: impl super::LogDisk + 'static,
        report: impl FnMut(Report<PersistToken>) + Send + 'static,
    ) -> io::Result<LogWriter> {
        LogWriter::start(self.log, self.end, self.config.segment_bytes, self.reader, disk, self.lock, report)
    }
}

fn read(dir: &Path, generation: Generation, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    let path = files::path_of(dir, generation);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Incomplete { path }),
        other => other.doing("open", &path)?,
    };
    file.sync_data().doing("sync", &path)?;
    bytes.clear();
    // Nothing below 2 GiB is refused here: the header says how large it must be.
    let limit = throng_storage_core::log::limits::SEGMENT_BYTES_MAX + 1;
    (&mut file).take(limit).read_to_end(bytes).doing("read", &path)?;
    Ok(())
}
