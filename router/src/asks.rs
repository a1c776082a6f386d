//! Questions of operators: who waits for which answer of the machine.

use std::collections::BTreeMap;

use crossbeam_channel::Sender;
use throng_router_core::Checkpoint;
use throng_wire::code::Code;
use throng_wire::link::Refusal;

use crate::limits::ASKS_MAX;

/// The answer to an operation.
pub type Operated = Result<(), Refusal>;

/// Open questions. A receiver that has gone away no longer wants to know.
#[derive(Default)]
pub(crate) struct Asks {
    last: u64,
    operations: BTreeMap<u64, Sender<Operated>>,
    checkpoints: BTreeMap<u64, Sender<(u64, Checkpoint)>>,
}

impl Asks {
    /// The number of a new operation; `None` if too many are open, and the asker is told.
    pub(crate) fn operation(&mut self, reply: Sender<Operated>) -> Option<u64> {
        if self.operations.len() >= ASKS_MAX {
            let _ = reply.try_send(Err(Refusal { code: Code::BUSY, retry_after_ms: 100, leader: None }));
            return None;
        }
        self.last += 1;
        self.operations.insert(self.last, reply);
        Some(self.last)
    }

    /// The number of a new checkpoint; `None` if too many are open, and the asker is told.
    pub(crate) fn checkpoint(&mut self, reply: Sender<(u64, Checkpoint)>) -> Option<u64> {
        if self.checkpoints.len() >= ASKS_MAX {
            let _ = reply.try_send((0, Checkpoint::Busy));
            return None;
        }
        self.last += 1;
        self.checkpoints.insert(self.last, reply);
        Some(self.last)
    }

    pub(crate) fn operated(&mut self, ask: u64, result: Operated) {
        let _ = self.operations.remove(&ask).map(|reply| reply.try_send(result));
    }

    /// Hands on what became of a checkpoint; false if nobody waits for it any more.
    pub(crate) fn checkpointed(&mut self, ask: u64, outcome: Checkpoint) -> bool {
        self.checkpoints.remove(&ask).is_some_and(|reply| reply.try_send((ask, outcome)).is_ok())
    }
}
