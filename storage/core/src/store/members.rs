//! The store's side of membership, truncation and snapshots.

use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftMessage;

use super::Store;
use super::output::{ApplyConfError, ConfStep, ProposalId, ProposeConfError, SnapshotMeta};
use crate::entry::{Conf, PeerId};

impl Store {
    /// The state of the shard is durable through `applied`: the log may forget what only a restart would need.
    pub fn handle_flushed(&mut self, now: Instant, shard: ShardId, applied: u64) {
        let _ = (now, shard, applied);
    }

    /// Proposes a change of the shard's members. All steps take effect together, by joint consensus if they touch more
    /// than one vote.
    ///
    /// # Errors
    /// [`ProposeConfError`]; nothing was proposed.
    pub fn propose_conf(
        &mut self,
        now: Instant,
        shard: ShardId,
        steps: Vec<ConfStep>,
    ) -> Result<ProposalId, ProposeConfError> {
        let _ = (now, shard, steps);
        Err(ProposeConfError::Refused("this version has static membership"))
    }

    /// Applies a committed entry of kind [`crate::entry::EntryKind::ConfChangeV2`]; to be called exactly once, when all
    /// entries before it are applied, before [`Self::handle_applied`] reports it. Returns the members from then on,
    /// which belong into the same batch of the state as the applied index.
    ///
    /// # Errors
    /// [`ApplyConfError`]; the node must stop.
    pub fn apply_conf(&mut self, shard: ShardId, index: u64, payload: &[u8]) -> Result<Conf, ApplyConfError> {
        let _ = (shard, index, payload);
        Err(ApplyConfError::Members("this version has static membership".to_owned()))
    }

    /// The shard's members, as far as this node has applied them.
    pub fn conf(&self, shard: ShardId) -> Conf {
        let _ = shard;
        Conf::of_voters(self.config.voters.iter().map(|node| node.0))
    }

    /// The Raft id of this node's replica, [`PeerId::NONE`] if it is no member.
    pub fn peer(&self, shard: ShardId) -> PeerId {
        let _ = shard;
        PeerId(self.config.node.0)
    }

    /// Answers `SnapshotWanted`: a view of the state at `meta.index` is ready. True if `SendSnapshot` follows; false if
    /// it is not needed any more, and the view may go.
    pub fn snapshot_prepared(
        &mut self,
        now: Instant,
        shard: ShardId,
        to: PeerId,
        meta: SnapshotMeta,
    ) -> bool {
        let _ = (now, shard, to, meta);
        false
    }

    /// Reports the outcome of a `SnapshotWanted` or `SendSnapshot`: `ok` if the receiver said that it has taken it.
    pub fn snapshot_sent(&mut self, now: Instant, shard: ShardId, to: PeerId, ok: bool) {
        let _ = (now, shard, to, ok);
    }

    /// Whether a snapshot with this message would be taken if it came whole, so that a stale offer is refused before
    /// its rows travel. `message.index` and `message.log_term` say what it stands for.
    pub fn wants_snapshot(&self, message: &RaftMessage) -> bool {
        let _ = message;
        false
    }

    /// A whole snapshot has come from a node; its rows lie flushed in the copy `replica`. True if `Restored` follows
    /// (unless the node stops before); false if it is stale or not needed, and the rows may go.
    pub fn handle_snapshot(
        &mut self,
        now: Instant,
        from: NodeId,
        message: RaftMessage,
        meta: SnapshotMeta,
        replica: u32,
    ) -> bool {
        let _ = (now, from, message, meta, replica);
        false
    }
}
