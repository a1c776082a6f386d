//! Views of the state for snapshots that are sent. Reading rows takes as long as the disk takes, and the loop waits for
//! nobody, so whoever composes the node reads them on threads of their own.

use throng_router_core::ViewId;
use throng_wire::ShardId;

/// Opens and reads views of the state; answers come as [`RouterInput`]s. The machine bounds how many are open, and reads
/// one chunk at a time.
pub trait Views {
    /// Opens a view of the copy `replica` of `shard`.
    fn open(&mut self, view: ViewId, shard: ShardId, replica: u32);
    /// Reads its next chunk.
    fn read(&mut self, view: ViewId);
    /// Ends it, also while it is being opened.
    fn close(&mut self, view: ViewId);
}
