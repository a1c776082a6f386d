//! What operators ask of the node that leads a shard.

use throng_base::Instant;
use throng_storage_core::state::StateRead;
use throng_wire::code::Code;
use throng_wire::ids::{ChannelId, NodeId, ShardId};
use throng_wire::link::Refusal;

use super::desk::Waiter;
use super::lead::unavailable;
use super::{Output, Router};
use crate::entry::{Hold, RETENTION_VERSION};
use crate::limits::BUSY_RETRY_MS;
use crate::outcome::Outcome;

/// What an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// While a channel is held, nothing in it is deleted, whatever retention says.
    Hold {
        /// The channel.
        channel: ChannelId,
        /// Whether it is held from here on.
        is_held: bool,
    },
    /// Another node shall lead a shard. Done means begun: the leader hands over within a second or goes on leading.
    Transfer {
        /// The shard.
        shard: ShardId,
        /// The node.
        to: NodeId,
    },
    /// The replica here, of a shard or (with the number behind the last) of the metadata, is a suspect that forgot nothing:
    /// [`Store::acquit`](throng_storage_core::store::Store::acquit).
    Acquit {
        /// The shard.
        shard: ShardId,
    },
}

impl<S: StateRead> Router<S> {
    /// An operator asks. [`Output::Operated`] answers once: at once if this node does not lead the shard (the refusal
    /// names the leader if one is known) or if not every node can do it yet (UNSUPPORTED), when the command is applied, or when its outcome is open (UNAVAILABLE; asking
    /// again is harmless).
    pub fn handle_operation(&mut self, now: Instant, ask: u64, operation: Operation) {
        self.advance(now);
        let shard = match operation {
            Operation::Hold { channel, .. } => ShardId::of_channel(&channel, self.config.shards),
            Operation::Transfer { shard, .. } | Operation::Acquit { shard } => shard,
        };
        if let Operation::Acquit { .. } = operation {
            return self.acquit(ask, shard);
        }
        if shard.0 >= self.config.shards {
            return self.operated(ask, Err(refusal(Code::NOT_FOUND, 0)));
        }
        if self.is_stopped || !self.serves(shard) {
            let leader = self.other_leader(shard);
            return self.operated(ask, Err(unavailable(leader)));
        }
        match operation {
            Operation::Hold { .. } if !self.allows(RETENTION_VERSION) => {
                self.operated(ask, Err(refusal(Code::UNSUPPORTED, 0)));
            }
            Operation::Hold { .. } if !self.desk(shard).has_room() => {
                self.operated(ask, Err(refusal(Code::BUSY, BUSY_RETRY_MS)));
            }
            Operation::Hold { channel, is_held } => {
                let hold = Hold { channel, is_held };
                self.push(shard, Waiter::Operator { ask }, |entry| entry.hold(&hold));
            }
            Operation::Transfer { to, .. } if to == self.config.node => self.operated(ask, Ok(())),
            Operation::Transfer { to, .. } => {
                let begun = self.store.transfer_leader(now, shard, to);
                self.operated(ask, if begun { Ok(()) } else { Err(refusal(Code::BUSY, BUSY_RETRY_MS)) });
            }
            Operation::Acquit { .. } => unreachable!("it needs no leader"),
        }
    }

    fn acquit(&mut self, ask: u64, shard: ShardId) {
        let is_acquitted = self.has_group(shard) && !self.is_stopped && self.store.acquit(self.now, shard);
        self.operated(ask, if is_acquitted { Ok(()) } else { Err(refusal(Code::NOT_FOUND, 0)) });
    }

    /// An operator's command was applied.
    pub(super) fn operation_applied(&mut self, ask: u64, outcome: Outcome) {
        let result = match outcome {
            Outcome::Refused(code) => Err(refusal(code, 0)),
            _ => Ok(()),
        };
        self.operated(ask, result);
    }

    pub(super) fn operated(&mut self, ask: u64, result: Result<(), Refusal>) {
        self.output(Output::Operated { ask, result });
    }
}

fn refusal(code: Code, retry_after_ms: u32) -> Refusal {
    Refusal { code, retry_after_ms, leader: None }
}
