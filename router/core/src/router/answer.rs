//! Outcomes to answers.

use throng_storage_core::state::StateRead;
use throng_wire::ids::ShardId;
use throng_wire::link::{Answer, Refusal};
use throng_wire::peer::RouterMessage;

use super::Router;
use super::desk::Waiter;
use crate::outcome::Outcome;

impl<S: StateRead> Router<S> {
    /// Answers everybody who waited for an entry that was just applied.
    pub(super) fn answer_all(&mut self, shard: ShardId, waiters: Vec<Waiter>) {
        let outcomes = core::mem::take(&mut self.outcomes);
        assert_eq!(outcomes.len(), waiters.len(), "every command has one outcome and one waiter");
        for (waiter, outcome) in waiters.into_iter().zip(&outcomes) {
            self.answer(shard, waiter, *outcome);
        }
        self.outcomes = outcomes;
        self.busy.insert(shard); // a place among the proposals is free
    }

    fn answer(&mut self, shard: ShardId, waiter: Waiter, outcome: Outcome) {
        match waiter {
            Waiter::Request { link, id, flight } => {
                self.flights.end(&flight);
                self.fanout.reply(&link, id, answer_of(outcome));
            }
            Waiter::Inbox { node, channels, batch } => {
                let stored = RouterMessage::InboxStored { to_shard: channels, from_shard: shard, batch };
                self.send_router(node, stored);
            }
            Waiter::Clear { dest, batch } => self.post_cleared(shard, dest, batch),
            Waiter::Retention => self.retainer.settled(),
            Waiter::Operator { ask } => self.operation_applied(ask, outcome),
        }
    }
}

fn answer_of(outcome: Outcome) -> Result<Answer, Refusal> {
    match outcome {
        Outcome::Published { seq, ts, duplicate } => Ok(Answer::Published { seq, ts, duplicate }),
        Outcome::Channel { class, head, member } => Ok(Answer::Channel { class, head, member }),
        Outcome::Refused(code) => Err(Refusal { code, retry_after_ms: 0, leader: None }),
        Outcome::Done => unreachable!("no gateway asks for a command between shards"),
    }
}
