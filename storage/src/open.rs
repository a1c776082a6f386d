//! Opening and formatting a data directory.
//!
//! ```text
//!  empty ──► LOCK ──► FORMAT.tmp ──► log/0000000001.log ──► state/ ──► rename FORMAT.tmp to FORMAT ──► a data directory
//!                        └── a crash from here to the rename: the next start wipes log/ and state/ and begins anew
//! ```
//!
//! FORMAT is the last name to appear, and nothing is written to the log before it: a directory without it never held
//! anything worth keeping. With it, whatever is missing was lost, and the directory is refused.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use throng_storage_core::log::{Generation, LogId, SegmentHeader, limits};
use throng_wire::ids::{Epoch, NodeId};

use crate::durable::{rename_synced, sync_dir, write_synced};
use crate::error::{Doing, OpenError};
use crate::format::{FORMAT, FORMATTING, Format, read_format};
use crate::limits::OPEN_ROOM;
use crate::lock::{DataLock, LOCK};
use crate::log::fs::OsFs;
use crate::log::{Log, LogConfig, files};
use crate::reserve::Reserve;
use crate::space::Space;
use crate::state::{RocksState, StateConfig};

const LOG_DIR: &str = "log";
const STATE_DIR: &str = "state";

/// Whose data is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The cluster's id. A node that was not told one takes it from [`read_format`], or draws one to format with.
    pub cluster: [u8; 16],
    /// The node.
    pub node: NodeId,
    /// The nodes to format with: the cluster's first ones; this node alone unless told otherwise.
    pub founders: Vec<NodeId>,
    /// The cluster's number of shards.
    pub shards: u32,
    /// Whether to format the directory if it is missing or empty.
    pub create: bool,
    /// The history epoch to format with.
    pub epoch: Epoch,
    /// Names that others keep in the same directory (keys, certificates): with nothing else it still counts as empty.
    pub foreign: Vec<String>,
    /// How the log is written.
    pub log: LogConfig,
    /// How RocksDB is set up.
    pub state: StateConfig,
}

impl OpenOptions {
    /// Opens what is there or formats an empty directory, with default sizes.
    pub fn new(cluster: [u8; 16], node: NodeId, shards: u32) -> Self {
        Self {
            cluster,
            node,
            founders: vec![node],
            shards,
            create: true,
            epoch: Epoch(1),
            foreign: Vec::new(),
            log: LogConfig::default(),
            state: StateConfig::default(),
        }
    }
}

/// An open data directory.
pub struct Opened {
    /// What it says about itself.
    pub format: Format,
    /// Applied state, as of its last flush.
    pub state: RocksState,
    /// The log: [`Log::reader`] has what each group starts from, [`Log::start`] begins to write.
    pub log: Log,
    /// The directory's lock; log, state and their threads keep it too.
    pub lock: Arc<DataLock>,
}

/// Locks, checks and recovers a data directory, or formats an empty one.
///
/// # Errors
/// [`OpenError`]. Nothing was changed then, except that a directory and a lock file may have been made.
pub fn open(dir: &Path, options: &OpenOptions) -> Result<Opened, OpenError> {
    // One group more than shards: that of the metadata.
    if options.shards == 0 || options.shards >= limits::SHARDS_MAX {
        return Err(OpenError::Options(format!("a cluster has 1 to {} shards", limits::SHARDS_MAX - 1)));
    }
    options.log.check()?;
    let lock = Arc::new(lock(dir, options)?);
    let format = match read_format(dir)? {
        Some(found) => found,
        None => format(dir, options)?,
    };
    check(dir, &format, options)?;
    let log_dir = dir.join(LOG_DIR);
    let space = Space::of(dir).doing("ask for the space of", dir)?;
    let log = Log::recover(dir, &log_dir, &format, options.log.fitted_to(space), Arc::clone(&lock))?;
    let state_dir = dir.join(STATE_DIR);
    if !state_dir.is_dir() {
        return Err(OpenError::Incomplete { path: state_dir });
    }
    Reserve::of(dir).make_room(OPEN_ROOM);
    let state = RocksState::open(&state_dir, Arc::clone(&lock), &options.state)
        .map_err(|error| OpenError::State(error.0))?;
    Ok(Opened { format, state, log, lock })
}

/// Looks before it touches: nothing is made in a directory that is somebody else's.
fn lock(dir: &Path, options: &OpenOptions) -> Result<DataLock, OpenError> {
    match names(dir) {
        Ok(names) => {
            let ours = names.iter().any(|name| name == FORMAT || name == FORMATTING);
            if !ours && !names.iter().all(|name| is_nothing(name, options)) {
                return Err(OpenError::NotThrong(dir.to_owned()));
            }
            if !ours && !options.create {
                return Err(OpenError::Missing(dir.to_owned()));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.create => {
            fs::create_dir_all(dir).doing("create", dir)?;
            if let Some(parent) = dir.canonicalize().doing("find", dir)?.parent() {
                sync_dir(parent).doing("sync", parent)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing(dir.to_owned()));
        }
        Err(source) => return Err(OpenError::Io { doing: "list", path: dir.to_owned(), source }),
    }
    DataLock::take(dir)
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// What a directory may hold and still be empty.
fn is_nothing(name: &str, options: &OpenOptions) -> bool {
    name == LOCK || name == "lost+found" || options.foreign.iter().any(|foreign| foreign == name)
}

fn check(dir: &Path, format: &Format, options: &OpenOptions) -> Result<(), OpenError> {
    let dir = || dir.to_owned();
    if format.cluster != options.cluster {
        return Err(OpenError::OtherCluster { dir: dir(), found: format.cluster, wanted: options.cluster });
    }
    if format.node != options.node {
        return Err(OpenError::OtherNode { dir: dir(), found: format.node.0, wanted: options.node.0 });
    }
    if format.shards != options.shards {
        return Err(OpenError::OtherShards { dir: dir(), found: format.shards, wanted: options.shards });
    }
    Ok(())
}

/// Makes a data directory of an empty one, or of one whose formatting was interrupted.
fn format(dir: &Path, options: &OpenOptions) -> Result<Format, OpenError> {
    // Under the lock nobody else formats; but somebody may have done so before it was taken away from them.
    let allowed =
        |name: &String| is_nothing(name, options) || [FORMATTING, LOG_DIR, STATE_DIR].contains(&&**name);
    let names = names(dir).doing("list", dir)?;
    let interrupted = names.iter().any(|name| name == FORMATTING);
    if !names.iter().all(allowed) || (!interrupted && !names.iter().all(|name| is_nothing(name, options))) {
        return Err(OpenError::NotThrong(dir.to_owned()));
    }
    if !options.create {
        return Err(OpenError::Missing(dir.to_owned()));
    }
    let format = Format {
        cluster: options.cluster,
        node: options.node,
        founders: options.founders.clone(),
        shards: options.shards,
        epoch: options.epoch,
        log: draw_log_id()?,
        created_ms: throng_runtime::unix_millis(),
    };
    let formatting = dir.join(FORMATTING);
    write_synced(&formatting, format.text().as_bytes()).doing("write", &formatting)?;
    sync_dir(dir).doing("sync", dir)?;
    for part in [LOG_DIR, STATE_DIR] {
        let path = dir.join(part);
        remove_dir(&path).doing("remove", &path)?;
        fs::create_dir(&path).doing("create", &path)?;
    }
    let log_dir = dir.join(LOG_DIR);
    let first = SegmentHeader {
        log: format.log,
        generation: Generation::FIRST,
        capacity: options.log.segment_bytes,
        begin: Generation::FIRST,
    };
    files::make(&OsFs(log_dir.clone()), None, first, &|_| false)
        .doing("create the first log segment in", &log_dir)?;
    RocksState::create(&dir.join(STATE_DIR)).map_err(|error| OpenError::State(error.0))?;
    sync_dir(dir).doing("sync", dir)?;
    rename_synced(&formatting, &dir.join(FORMAT)).doing("rename", &formatting)?;
    Ok(format)
}

fn remove_dir(path: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// 64 bits that no other log has and no user can guess.
fn draw_log_id() -> Result<LogId, OpenError> {
    let path = Path::new("/dev/urandom");
    let mut bits = [0; 8];
    let drawn = fs::File::open(path).and_then(|mut source| source.read_exact(&mut bits));
    drawn.doing("read", path)?;
    Ok(LogId(u64::from_le_bytes(bits)))
}
