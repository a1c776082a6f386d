//! Retention on the nodes that lead: now and then a few channels of one shard are looked at, and floors that are due are
//! proposed like any other command.
//!
//! ```text
//!   every pause: the next shard that this node serves ─► Machines::retention_due, a few channels ─► its desk ─► log
//! ```
//!
//! Which channels a turn reached is soft state: a new leader begins anywhere, and proposing a floor twice is harmless.
//! Pressure does not stop it, because it is what gives space back.

use throng_base::Instant;
use throng_storage_core::state::StateRead;
use throng_wire::ids::ShardId;

use super::desk::Waiter;
use super::{Router, RouterConfig};
use crate::entry::RETENTION_VERSION;
use crate::fatal::Fatal;
use crate::limits::{RETENTION_COMMANDS, RETENTION_UNDER_WAY_MAX};
use crate::machines::RetentionBudget;

/// Where retention is on this node.
#[derive(Debug)]
pub(super) struct Retainer {
    /// When the next shard is looked at; never if everything is kept.
    next_at: Option<Instant>,
    /// The shard that is looked at next.
    shard: u32,
    /// Commands that are queued or proposed and not answered.
    under_way: usize,
    /// Commands so far.
    proposed: u64,
}

impl Retainer {
    pub(super) fn new(config: &RouterConfig, now: Instant) -> Self {
        let next_at = (!config.retention.is_off()).then(|| now + config.retention_pause);
        Self { next_at, shard: 0, under_way: 0, proposed: 0 }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Commands that this node has proposed since it started.
    pub(super) fn proposed(&self) -> u64 {
        self.proposed
    }

    /// A command was applied, or will not be.
    pub(super) fn settled(&mut self) {
        self.under_way -= 1;
    }
}

impl<S: StateRead> Router<S> {
    /// Looks at the next shard if it is time.
    pub(super) fn retention_turn(&mut self) -> Result<(), Fatal> {
        if self.retainer.next_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.retainer.next_at = Some(self.now + self.config.retention_pause);
        if !self.allows(RETENTION_VERSION) {
            return Ok(()); // a node that cannot apply it would have to stop
        }
        if self.retainer.under_way + RETENTION_COMMANDS > RETENTION_UNDER_WAY_MAX {
            return Ok(());
        }
        let (first, shards) = (self.retainer.shard, self.config.shards);
        let mut round = (0..shards).map(|step| ShardId((first + step) % shards));
        let Some(shard) = round.find(|shard| self.serves(*shard)) else { return Ok(()) };
        self.retainer.shard = (shard.0 + 1) % shards;
        let (policy, wall) = (self.config.retention, self.wall);
        for command in self.machines.retention_due(shard, &policy, wall, RetentionBudget::default())? {
            if !self.desk(shard).has_room() {
                break;
            }
            self.retainer.under_way += 1;
            self.retainer.proposed += 1;
            self.push(shard, Waiter::Retention, |entry| entry.push(&command));
        }
        Ok(())
    }
}

const _: () = assert!(RETENTION_COMMANDS <= RETENTION_UNDER_WAY_MAX);
