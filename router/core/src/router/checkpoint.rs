//! Checkpoints: the state of a shard as of one entry, so that replicas can be compared.
//!
//! ```text
//!   asked for entry i ─► entries are applied ─► i is applied: a flush batch is cut ─► Ready ─► a view is opened ─► done
//!                                                              └── no other batch is cut until then, or for a second
//! ```
//!
//! Applying goes on meanwhile, in memory. Replicas that have applied the same entries have the same rows, so a digest of
//! all of them tells whether they do ([`crate::machines::verify`]).

use throng_base::Instant;
use throng_storage_core::state::StateRead;
use throng_storage_core::store::limits::NO_REPLICA;
use throng_wire::ids::ShardId;

use super::{Output, Router};
use crate::limits::{CHECKPOINT_HOLD_MAX, CHECKPOINT_WAIT_MAX};

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// The batch that was just handed out, or one before it, makes the shard's row say this entry.
    Ready {
        /// The shard's copy.
        replica: u32,
    },
    /// It has applied more already, or did not apply so much in time: this much.
    Elsewhere {
        /// The highest entry applied.
        applied: u64,
    },
    /// This node has no replica of the shard.
    NoReplica,
    /// Another checkpoint is under way, or the state store does not keep up.
    Busy,
}

/// The one checkpoint that may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    ask: u64,
    shard: ShardId,
    index: u64,
    /// It is cut, and later batches wait.
    is_cut: bool,
    until: Instant,
}

impl<S: StateRead> Router<S> {
    /// Somebody wants the state store to hold a shard exactly as of an entry. [`Output::Checkpoint`] answers once.
    /// Whoever is told [`Checkpoint::Ready`] looks soon and then calls [`Router::handle_checkpoint_done`].
    pub fn handle_checkpoint(&mut self, now: Instant, ask: u64, shard: ShardId, index: u64) {
        self.advance(now);
        if !self.has_group(shard) || self.machines.replica(shard) == NO_REPLICA {
            return self.output(Output::Checkpoint { ask, outcome: Checkpoint::NoReplica });
        }
        if self.checkpoint.is_some() || self.is_stopped {
            return self.output(Output::Checkpoint { ask, outcome: Checkpoint::Busy });
        }
        let until = now + CHECKPOINT_WAIT_MAX;
        self.checkpoint = Some(Awaited { ask, shard, index, is_cut: false, until });
        self.look_at_checkpoint(shard);
    }

    /// A checkpoint was seen, or nobody wants it any more.
    pub fn handle_checkpoint_done(&mut self, now: Instant, ask: u64) {
        self.advance(now);
        self.checkpoint = self.checkpoint.filter(|awaited| awaited.ask != ask);
    }

    /// An entry of a shard was applied, or a checkpoint was asked for.
    pub(super) fn look_at_checkpoint(&mut self, shard: ShardId) {
        let Some(awaited) = self.checkpoint.filter(|awaited| awaited.shard == shard && !awaited.is_cut)
        else {
            return;
        };
        let applied = self.machines.applied(shard).index;
        let (ask, replica) = (awaited.ask, self.machines.replica(shard));
        if applied < awaited.index {
            return;
        }
        let outcome = if applied > awaited.index {
            Checkpoint::Elsewhere { applied }
        } else if self.machines.is_dirty() && !self.machines.may_cut() {
            Checkpoint::Busy
        } else {
            if self.machines.is_dirty() {
                self.cut();
            }
            Checkpoint::Ready { replica }
        };
        let until = self.now + CHECKPOINT_HOLD_MAX;
        let is_ready = matches!(outcome, Checkpoint::Ready { .. });
        self.checkpoint = is_ready.then_some(Awaited { is_cut: true, until, ..awaited });
        self.output(Output::Checkpoint { ask, outcome });
    }

    /// Gives up what takes too long.
    pub(super) fn checkpoint_due(&mut self) {
        let Some(awaited) = self.checkpoint.take_if(|awaited| awaited.until <= self.now) else { return };
        if !awaited.is_cut {
            let applied = self.machines.applied(awaited.shard).index;
            let outcome = Checkpoint::Elsewhere { applied };
            self.output(Output::Checkpoint { ask: awaited.ask, outcome });
        }
    }

    pub(super) fn checkpoint_timeout(&self) -> Option<Instant> {
        self.checkpoint.map(|awaited| awaited.until)
    }

    /// Whether no batch may be cut, so that what was cut last is seen.
    pub(super) fn is_cut_held(&self) -> bool {
        self.checkpoint.is_some_and(|awaited| awaited.is_cut)
    }
}
