//! The store's side of membership, truncation and snapshots.

use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftMessage;

use super::Store;
use super::limits;
use super::output::{ApplyConfError, ConfStep, ProposalId, ProposeConfError, SnapshotMeta};
use crate::entry::{Conf, PeerId};

impl Store {
    /// The state of the shard is durable through `applied`: the log may forget what only a restart would need. What
    /// followers may lack stays within a budget.
    pub fn handle_flushed(&mut self, now: Instant, shard: ShardId, applied: u64) {
        self.advance(now);
        self.truncate(shard, applied, false);
    }

    /// The log runs out of space because of this shard: it forgets everything that only followers may lack. Snapshots in
    /// flight still keep what comes after them.
    pub fn handle_log_pressure(&mut self, now: Instant, shard: ShardId) {
        self.advance(now);
        self.truncate(shard, 0, true);
    }

    fn truncate(&mut self, shard: ShardId, applied: u64, all: bool) {
        let output = self.change(shard, |group, _| group.flushed(applied, all));
        if let Some(output) = output {
            self.stats.truncations += 1;
            self.outputs.push_back(output);
        }
    }

    /// Proposes a change of the shard's members. All steps take effect together, by joint consensus if there are
    /// several. A change that takes this leader's own vote is `Busy` until another node leads, which this call begins.
    ///
    /// # Errors
    /// [`ProposeConfError`]; nothing was proposed.
    pub fn propose_conf(
        &mut self,
        now: Instant,
        shard: ShardId,
        steps: Vec<ConfStep>,
    ) -> Result<ProposalId, ProposeConfError> {
        self.advance(now);
        let id = ProposalId(self.next_id());
        let successor = self.balance.successor(self.group(shard), now);
        let proposed = self.group_mut(shard).propose_conf(&steps, id, now, successor);
        self.touch(shard);
        proposed.map(|()| id)
    }

    /// Applies a committed entry of kind [`crate::entry::EntryKind::ConfChangeV2`]; to be called exactly once, when all
    /// entries before it are applied, before [`Self::handle_applied`] reports it. Returns the members from then on,
    /// which belong into the same batch of the state as the applied index.
    ///
    /// # Errors
    /// [`ApplyConfError`]; the node must stop.
    pub fn apply_conf(&mut self, shard: ShardId, index: u64, payload: &[u8]) -> Result<Conf, ApplyConfError> {
        let conf = self.group_mut(shard).apply_conf(index, payload)?;
        self.touch(shard);
        Ok(conf)
    }

    /// The shard's members, as far as this node has applied them; nobody if it is no member.
    pub fn conf(&self, shard: ShardId) -> Conf {
        self.group(shard).members().conf().clone()
    }

    /// Whether a member of a shard that this node leads lacks at most [`limits::PROMOTE_LAG_MAX`] entries.
    pub fn keeps_up(&self, shard: ShardId, peer: PeerId) -> bool {
        self.group(shard).keeps_up(peer)
    }

    /// The Raft id of this node's replica: the newest it has had, [`PeerId::NONE`] if it never had any. It takes part if
    /// [`Self::conf`] holds it.
    pub fn peer(&self, shard: ShardId) -> PeerId {
        self.group(shard).members().peer()
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
        self.advance(now);
        let sends = self.group_mut(shard).snapshot_prepared(to, meta, now);
        self.stats.snapshots_sent += u64::from(sends);
        self.touch(shard);
        sends
    }

    /// Reports the outcome of a `SnapshotWanted` or `SendSnapshot`: `ok` if the receiver said that it has taken it.
    pub fn snapshot_sent(&mut self, now: Instant, shard: ShardId, to: PeerId, ok: bool) {
        self.advance(now);
        self.group_mut(shard).snapshot_sent(to, ok, now);
        self.touch(shard);
    }

    /// Whether a snapshot with this message would be taken if it came whole, so that a stale offer is refused before
    /// its rows travel. `message.index` and `message.log_term` say what it stands for.
    pub fn wants_snapshot(&self, message: &RaftMessage) -> bool {
        message.shard.0 < self.config.shards && self.group(message.shard).wants_snapshot(message).is_ok()
    }

    /// A snapshot was offered and refused: the leader is told how far the log reaches here, if that is far enough.
    pub fn decline_snapshot(&mut self, now: Instant, message: &RaftMessage) {
        self.advance(now);
        if message.shard.0 < self.config.shards {
            self.group_mut(message.shard).decline_snapshot(message);
            self.touch(message.shard);
        }
    }

    /// A whole snapshot has come from a node; its rows lie flushed in the copy `replica`. True if `Restored` follows
    /// (unless the node stops before); false if it is stale or not needed, and the rows may go.
    pub fn handle_snapshot(
        &mut self,
        now: Instant,
        from: NodeId,
        message: RaftMessage,
        meta: &SnapshotMeta,
        replica: u32,
    ) -> bool {
        self.advance(now);
        let shard = message.shard;
        if shard.0 >= self.config.shards {
            self.stats.dropped_shard += 1;
            return false;
        }
        if PeerId(message.from).node() != from || replica == limits::NO_REPLICA {
            self.stats.dropped_stranger += 1;
            return false;
        }
        let taken =
            self.change(shard, |group, persists| group.handle_snapshot(message, meta, replica, persists));
        self.touch(shard);
        match taken {
            Ok(taken) => {
                self.stats.snapshots_taken += u64::from(taken);
                taken
            }
            Err(refusal) => {
                refusal.count(&mut self.stats);
                false
            }
        }
    }
}
