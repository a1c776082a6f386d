//! Writing a backup from a view of the state.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bytes::BytesMut;
use throng_router_core::limits::SNAPSHOT_CHUNK_BYTES;
use throng_router_core::snapshot::{Cursor, next_chunk};
use throng_router_core::{AppliedRow, applied};
use throng_runtime::unix_millis;
use throng_storage::RocksState;
use throng_storage_core::state::StateRead;
use throng_wire::peer::{PeerFrame, SnapshotMessage};
use throng_wire::{Epoch, NodeId, ShardId};

use super::manifest::{MANIFEST, Manifest, Part, part_name};
use crate::error::Failure;

/// Whose state is written.
#[derive(Clone)]
pub(crate) struct Source {
    /// The node's state store.
    pub(crate) state: RocksState,
    /// The cluster.
    pub(crate) cluster: [u8; 16],
    /// The history epoch.
    pub(crate) epoch: Epoch,
    /// The node.
    pub(crate) node: NodeId,
    /// Its shards, without the metadata group.
    pub(crate) shards: u32,
}

/// Writes a backup into a new or empty directory; `replicas` says which copy each group uses.
///
/// # Errors
/// [`Failure::Runtime`]; what was written then has no manifest and is no backup.
pub(crate) fn write(source: &Source, replicas: &[u32], dir: &Path) -> Result<Manifest, Failure> {
    let failed = |error: io::Error| Failure::runtime(format!("cannot write to {}", dir.display()), error);
    make_empty(dir)?;
    let unreadable = |error| Failure::runtime("state store", error);
    let parts = source.state.with_view(|view| -> Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        for (shard, replica) in (0..).map(ShardId).zip(replicas) {
            parts.extend(write_part(view, shard, *replica, dir)?);
        }
        Ok(parts)
    });
    let parts = parts.map_err(unreadable)??;
    let Source { cluster, epoch, node, shards, .. } = source;
    let manifest = Manifest::new(*cluster, *shards, epoch.0, node.0, unix_millis(), parts);
    let path = dir.join(MANIFEST);
    let mut file = File::create_new(&path).map_err(failed)?;
    file.write_all(manifest.text().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(manifest)
}

fn make_empty(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|e| Failure::runtime(format!("cannot make {}", dir.display()), e))?;
    let mut entries =
        fs::read_dir(dir).map_err(|e| Failure::runtime(format!("cannot list {}", dir.display()), e))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            Err(Failure::Runtime(format!("{} is not empty; a backup needs a directory", dir.display())))
        }
    }
}

/// Writes one shard; nothing if nothing was ever applied to it.
fn write_part(
    view: &impl StateRead,
    shard: ShardId,
    replica: u32,
    dir: &Path,
) -> Result<Option<Part>, Failure> {
    let unreadable = |error| Failure::runtime(format!("cannot read shard {shard}"), error);
    let AppliedRow { index, term, .. } = applied(view, shard, replica).map_err(unreadable)?;
    if index == 0 {
        return Ok(None);
    }
    let path = dir.join(part_name(shard.0));
    let failed = |error: io::Error| Failure::runtime(format!("cannot write {}", path.display()), error);
    let mut file = BufWriter::new(File::create_new(&path).map_err(failed)?);
    let (mut cursor, mut bytes, mut frame) = (Some(Cursor::start()), 0, BytesMut::new());
    for number in 0.. {
        let Some(at) = cursor else { break };
        let chunk = next_chunk(view, shard, replica, &at, SNAPSHOT_CHUNK_BYTES).map_err(unreadable)?;
        cursor = chunk.next;
        let (rows, digest, stream) = (chunk.rows, chunk.digest, u64::from(shard.0));
        frame.clear();
        PeerFrame::Snapshot(SnapshotMessage::Chunk { stream, number, rows, digest }).encode(&mut frame);
        file.write_all(&frame).map_err(failed)?;
        bytes += frame.len() as u64;
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(Some(Part { shard: shard.0, index, term, bytes }))
}
