//! Making a data directory from a backup.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use throng_router_core::snapshot::{Import, Imported};
use throng_router_core::{AppliedRow, applied_row};
use throng_storage::{OpenOptions, Opened, Report};
use throng_storage_core::entry::{Conf, HardState, Mark, Record};
use throng_storage_core::store::PersistToken;
use throng_wire::frame::{Split, split};
use throng_wire::limits::PEER_FRAME_MAX;
use throng_wire::peer::{PeerFrame, SnapshotMessage};
use throng_wire::{Epoch, NodeId, ShardId};

use super::manifest::{Manifest, Part, part_name};
use crate::cli::RestoreArgs;
use crate::config;
use crate::error::Failure;
use crate::serve::random_id;

/// How long the log may take for its first commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Restores.
///
/// # Errors
/// [`Failure`]: the backup is damaged, or the directory is not empty.
pub(crate) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let manifest = Manifest::read(&args.from)?;
    let nodes = config::node_list(args.peers.as_deref(), args.node_id)?;
    let cluster = match &args.cluster_id {
        Some(text) => config::cluster_id(text)?,
        None if nodes.len() > 1 => {
            return Err(Failure::Config(
                "a restored cluster of several nodes needs --cluster-id, the same on all of them".into(),
            ));
        }
        None => random_id()?,
    };
    let mut options = OpenOptions::new(cluster, NodeId(args.node_id), manifest.shards);
    options.epoch = Epoch(manifest.epoch + 1);
    options.founders.clone_from(&nodes);
    // Under another name until it is whole: nobody can serve half a backup.
    let unfinished = unfinished(&args.data_dir)?;
    let opened =
        throng_storage::open(&unfinished, &options).map_err(|error| Failure::Runtime(error.to_string()))?;
    let conf = Conf { voters: nodes.iter().map(|node| node.0).collect(), ..Conf::default() };
    let mut records = Vec::new();
    for part in &manifest.parts {
        restore_part(&opened, part, manifest.shards, &args.from, &conf)?;
        records.push(begin(part, NodeId(args.node_id), &conf));
    }
    opened.state.flush_all().map_err(|error| Failure::runtime("state store", error))?;
    commit(opened, records)?;
    finish(&unfinished, &args.data_dir)?;
    println!(
        "restored {} shards of cluster {} into {} as node {}, history epoch {}",
        manifest.parts.len(),
        manifest.cluster,
        args.data_dir.display(),
        args.node_id,
        manifest.epoch + 1
    );
    Ok(())
}

/// The directory's name while it is being made.
fn unfinished(dir: &Path) -> Result<PathBuf, Failure> {
    let refuse = |why: &str| Err(Failure::Runtime(format!("{} {why}", dir.display())));
    match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return refuse("is not empty; a restore makes a new data directory"),
        Ok(false) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::runtime(dir.display(), error)),
    }
    let Some(name) = dir.file_name() else { return refuse("has no name") };
    let unfinished = dir.with_file_name(format!("{}.restoring", name.to_string_lossy()));
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::runtime(format!("cannot remove {}", unfinished.display()), error))
        }
        _ => Ok(unfinished),
    }
}

fn finish(unfinished: &Path, dir: &Path) -> Result<(), Failure> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // An empty directory of that name gives way.
    fs::rename(unfinished, dir)
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(|error| Failure::runtime(format!("cannot make {}", dir.display()), error))
}

/// Where the log of a restored group begins: behind the newest entry that is in the state.
fn begin(part: &Part, node: NodeId, conf: &Conf) -> Record {
    let mark = Mark {
        index: part.index,
        term: part.term,
        peer: node.0,
        replica: part.shard,
        conf: conf.clone(),
        reset: true,
        ..Mark::default()
    };
    let hard_state = Some(HardState { term: part.term, vote: 0, commit: part.index });
    Record { shard: ShardId(part.shard), hard_state, mark: Some(mark), entries: Vec::new() }
}

fn restore_part(opened: &Opened, part: &Part, shards: u32, from: &Path, conf: &Conf) -> Result<(), Failure> {
    let path = from.join(part_name(part.shard));
    let refuse = |why: &dyn std::fmt::Display| Failure::Runtime(format!("{}: {why}", path.display()));
    let shard = ShardId(part.shard);
    let mut import = Import::new(shard, shards, part.shard);
    let mut reader = Frames::open(&path).map_err(|error| refuse(&error))?;
    while let Some(frame) = reader.next().map_err(|error| refuse(&error))? {
        let PeerFrame::Snapshot(SnapshotMessage::Chunk { number, rows, digest, .. }) = frame else {
            return Err(refuse(&"it holds something else than rows"));
        };
        let batch = match import.take(number, rows, digest).map_err(|bad| refuse(&bad))? {
            Imported::Skipped => return Err(refuse(&"its chunks are out of order")),
            Imported::Rows(batch) => batch,
            Imported::Whole(mut batch, row) => {
                if (row.index, row.term) != (part.index, part.term) {
                    return Err(refuse(&"it is of another moment than the manifest says"));
                }
                // The new cluster's members, not the old one's.
                let row = AppliedRow { conf: Some(conf.clone()), ..row };
                batch.push(applied_row(shard, part.shard, &row));
                reader.is_whole = true;
                batch
            }
        };
        opened.state.write_batch(&batch).map_err(|error| Failure::runtime("state store", error))?;
    }
    if reader.is_whole { Ok(()) } else { Err(refuse(&"it is cut short")) }
}

/// Writes the log's first commit and closes everything in order.
fn commit(opened: Opened, records: Vec<Record>) -> Result<(), Failure> {
    let Opened { state, log, lock, .. } = opened;
    if !records.is_empty() {
        let (said, heard) = mpsc::channel();
        let writer = log
            .start(move |report| drop(said.send(report)))
            .map_err(|error| Failure::runtime("cannot start the log", error))?;
        writer.submit(PersistToken(1), records).map_err(|error| Failure::runtime("log", error))?;
        match heard.recv_timeout(COMMIT_TIMEOUT) {
            Ok(Report::Durable(_)) => {}
            Ok(other) => return Err(Failure::Runtime(format!("log: {other:?}"))),
            Err(_) => return Err(Failure::Runtime("log: it did not answer".into())),
        }
    }
    drop(state);
    drop(lock);
    Ok(())
}

/// Frames of a file, one by one.
struct Frames {
    file: BufReader<File>,
    buffer: Vec<u8>,
    is_whole: bool,
}

impl Frames {
    fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), buffer: Vec::new(), is_whole: false })
    }

    /// The next frame; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<PeerFrame>, String> {
        loop {
            let cut = split(&self.buffer, PEER_FRAME_MAX).map_err(|error| error.to_string())?;
            if let Split::Frame { payload, consumed } = cut {
                let frame = PeerFrame::decode(&self.buffer[payload]).map_err(|error| error.to_string())?;
                self.buffer.drain(..consumed);
                return frame.map(Some).ok_or_else(|| "it holds an unknown frame".to_owned());
            }
            let before = self.buffer.len();
            (&mut self.file)
                .take(512 << 10)
                .read_to_end(&mut self.buffer)
                .map_err(|error| error.to_string())?;
            match self.buffer.len() {
                len if len > before => {}
                0 => return Ok(None),
                _ => return Err("it ends within a chunk".to_owned()),
            }
        }
    }
}
