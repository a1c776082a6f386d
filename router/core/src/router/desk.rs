//! A shard's desk on the node that leads it: who waits for what, in what order.
//!
//! ```text
//!   command ─► open batch ─ sealed when large or when its turn comes ─► proposed (at most 4) ─► applied ─► answered
//!                           (at once, or when the entry before it is applied, or after `GATHER_MAX`)
//!   read ────► waiting ───── one read index for all of a turn ────────► asked ─────────────► ready ───► answered
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use throng_base::Instant;
use throng_storage_core::store::{ProposalId, ReadId};
use throng_wire::ids::{ChannelId, NodeId, ServerTs, ShardId};
use throng_wire::link::Request;

use super::fanout::Link;
use super::flights::Flight;
use crate::entry::EntryBuilder;
use crate::limits;

/// Who waits for a command's outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// A gateway's request.
    Request { link: Link, id: u64, flight: Flight },
    /// The leader of a channel's shard: its rows are to be stored here.
    Inbox { node: NodeId, channels: ShardId, batch: u64 },
    /// This shard's outbox: rows that `dest` has stored are to be cleared.
    Clear { dest: ShardId, batch: u64 },
    /// Retention on this node: a floor is to rise.
    Retention,
    /// An operator.
    Operator { ask: u64 },
}

/// What waits for a read index.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Request {
        link: Link,
        request: Request,
    },
    /// Behind reads of the same gateway that might subscribe it.
    Unsubscribe {
        link: Link,
        channel: ChannelId,
    },
}

/// Commands of one entry, and who waits for each.
#[derive(Debug, Default)]
struct Open {
    entry: EntryBuilder,
    waiters: Vec<Waiter>,
}

/// An entry that is ready to be proposed.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) payload: Bytes,
    pub(super) waiters: Vec<Waiter>,
}

/// One shard's desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// This node leads and serves the shard.
    pub(super) is_serving: bool,
    pub(super) leader: Option<NodeId>,
    pub(super) term: u64,
    open: Open,
    sealed: VecDeque<Sealed>,
    /// Invariant: commands and bytes in `open` and `sealed`.
    queued_commands: usize,
    queued_bytes: usize,
    proposed: VecDeque<(ProposalId, Vec<Waiter>)>,
    /// When the newest of them was.
    proposed_at: Instant,
    reads: Vec<Read>,
    rounds: VecDeque<(ReadId, Vec<Read>)>,
    /// When to send from the outbox next.
    pub(super) post_at: Option<Instant>,
    /// When something was sent from the outbox last.
    pub(super) posted_at: Option<Instant>,
}

impl Desk {
    /// Whether another command finds room.
    pub(super) fn has_room(&self) -> bool {
        self.queued_commands < limits::QUEUE_COMMANDS_MAX && self.queued_bytes < limits::QUEUE_BYTES_MAX
    }

    /// Queues a command. The caller has asked [`Desk::has_room`].
    pub(super) fn push(&mut self, waiter: Waiter, ts: ServerTs, encode: impl FnOnce(&mut EntryBuilder)) {
        let before = self.open.entry.bytes();
        encode(&mut self.open.entry);
        self.open.waiters.push(waiter);
        assert_eq!(self.open.entry.len(), self.open.waiters.len(), "every command has its waiter");
        self.queued_commands += 1;
        self.queued_bytes += self.open.entry.bytes() - before;
        let full = self.open.entry.len() >= limits::ENTRY_COMMANDS_MAX
            || self.open.entry.bytes() >= limits::ENTRY_BYTES_SOFT;
        if full {
            self.seal(ts);
        }
    }

    fn seal(&mut self, ts: ServerTs) {
        let Open { entry, waiters } = core::mem::take(&mut self.open);
        self.sealed.push_back(Sealed { payload: entry.seal(ts), waiters });
    }

    /// The next entry to propose, if one may be: what is not large gathers while an entry is under way, but not for long.
    /// An entry of one command costs the replicas as much as one of ten (RFC 896 is the same thought).
    pub(super) fn next_entry(&mut self, now: Instant, ts: ServerTs) -> Option<Sealed> {
        let is_full = self.proposed.len() >= limits::PROPOSALS_INFLIGHT_MAX;
        if is_full || self.gathers_until().is_some_and(|until| now < until) {
            return None;
        }
        if self.sealed.is_empty() && !self.open.entry.is_empty() {
            self.seal(ts);
        }
        let sealed = self.sealed.pop_front()?;
        self.queued_commands -= sealed.waiters.len();
        self.queued_bytes = self.queued_bytes.saturating_sub(sealed.payload.len());
        Some(sealed)
    }

    /// The store had no room: the entry keeps its place.
    pub(super) fn put_back(&mut self, sealed: Sealed) {
        self.queued_commands += sealed.waiters.len();
        self.queued_bytes += sealed.payload.len();
        self.sealed.push_front(sealed);
    }

    /// Until when commands gather, if no entry is applied before; `None` if none do, or only an applied entry makes room.
    pub(super) fn gathers_until(&self) -> Option<Instant> {
        let under_way = 1..limits::PROPOSALS_INFLIGHT_MAX;
        let gathers = under_way.contains(&self.proposed.len()) && self.sealed.is_empty();
        (gathers && !self.open.entry.is_empty()).then(|| self.proposed_at + limits::GATHER_MAX)
    }

    /// An entry was proposed.
    pub(super) fn proposed(&mut self, now: Instant, id: ProposalId, waiters: Vec<Waiter>) {
        self.proposed.push_back((id, waiters));
        self.proposed_at = now;
    }

    /// Who waits for a proposal that was committed or lost.
    pub(super) fn take_proposal(&mut self, id: ProposalId) -> Option<Vec<Waiter>> {
        let at = self.proposed.iter().position(|(known, _)| *known == id)?;
        self.proposed.remove(at).map(|(_, waiters)| waiters)
    }

    /// Who waits for commands that were not proposed.
    pub(super) fn take_queued(&mut self) -> Vec<Waiter> {
        let mut waiters: Vec<Waiter> = self.sealed.drain(..).flat_map(|sealed| sealed.waiters).collect();
        waiters.append(&mut core::mem::take(&mut self.open).waiters);
        assert_eq!(waiters.len(), self.queued_commands, "every queued command is counted");
        (self.queued_commands, self.queued_bytes) = (0, 0);
        waiters
    }

    /// Queues a read; false if too many wait.
    pub(super) fn push_read(&mut self, read: Read) -> bool {
        let room = self.reads.len() < limits::READS_MAX;
        if room {
            self.reads.push(read);
        }
        room
    }

    /// Whether a read waits or is asked.
    pub(super) fn has_reads(&self) -> bool {
        !self.reads.is_empty() || !self.rounds.is_empty()
    }

    /// Whether a read index may be asked for.
    pub(super) fn wants_round(&self) -> bool {
        !self.reads.is_empty() && self.rounds.len() < limits::READ_ROUNDS_MAX
    }

    /// A read index was asked for everything that waits.
    pub(super) fn asked(&mut self, id: ReadId) {
        self.rounds.push_back((id, core::mem::take(&mut self.reads)));
    }

    /// What waits for a read index that is ready or lost.
    pub(super) fn take_round(&mut self, id: ReadId) -> Vec<Read> {
        let at = self.rounds.iter().position(|(known, _)| *known == id);
        at.and_then(|at| self.rounds.remove(at)).map(|(_, reads)| reads).unwrap_or_default()
    }

    /// Reads for which no index was asked.
    pub(super) fn take_reads(&mut self) -> Vec<Read> {
        core::mem::take(&mut self.reads)
    }

    /// Whether a turn might propose or ask something.
    pub(super) fn has_work(&self) -> bool {
        self.queued_commands > 0 || !self.reads.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::entry::Command;

    /// A desk, the time, and the number of the next proposal.
    #[derive(Default)]
    struct Bench {
        desk: Desk,
        now: Instant,
        next: u64,
    }

    impl Bench {
        fn push(&mut self, commands: usize) {
            for _ in 0..commands {
                self.desk.push(Waiter::Retention, ServerTs(1), |entry| entry.push(&Command::Noop));
            }
        }

        /// Proposes the next entry if it may be: its number, and the commands in it.
        fn propose(&mut self) -> Option<(ProposalId, usize)> {
            let sealed = self.desk.next_entry(self.now, ServerTs(1))?;
            let (id, commands) = (ProposalId(self.next), sealed.waiters.len());
            self.next += 1;
            self.desk.proposed(self.now, id, sealed.waiters);
            Some((id, commands))
        }

        fn apply(&mut self, id: ProposalId) -> Option<usize> {
            self.desk.take_proposal(id).map(|waiters| waiters.len())
        }
    }

    #[test]
    fn commands_gather_behind_an_entry_until_it_is_applied() {
        let mut bench = Bench::default();
        bench.push(1);
        assert_eq!(bench.desk.gathers_until(), None, "nothing is under way");
        let (first, commands) = bench.propose().expect("at once");
        assert_eq!(commands, 1);
        for _ in 0..10 {
            bench.push(1);
            assert_eq!(bench.propose(), None);
        }
        assert_eq!(bench.desk.gathers_until(), Some(bench.now + limits::GATHER_MAX));
        assert_eq!(bench.apply(first), Some(1));
        assert_eq!(bench.propose().map(|(_, commands)| commands), Some(10), "in one entry");
    }

    #[test]
    fn nothing_gathers_for_longer_than_it_may() {
        let mut bench = Bench::default();
        bench.push(1);
        bench.propose().expect("at once");
        bench.push(3);
        bench.now = bench.desk.gathers_until().expect("they gather");
        assert_eq!(bench.propose().map(|(_, commands)| commands), Some(3), "though none is applied");
        bench.push(1);
        bench.now += limits::GATHER_MAX - Duration::from_nanos(1);
        assert_eq!(bench.propose(), None, "the newest entry counts");
    }

    #[test]
    fn a_full_entry_does_not_wait_and_too_many_under_way_do() {
        let mut bench = Bench::default();
        bench.push(1);
        let (first, _) = bench.propose().expect("at once");
        bench.push(limits::ENTRY_COMMANDS_MAX);
        assert_eq!(bench.propose().map(|(_, commands)| commands), Some(limits::ENTRY_COMMANDS_MAX));
        for _ in bench.next..limits::PROPOSALS_INFLIGHT_MAX as u64 {
            bench.push(limits::ENTRY_COMMANDS_MAX);
            bench.propose().expect("there is room");
        }
        bench.push(limits::ENTRY_COMMANDS_MAX + 1);
        bench.now += 2 * limits::GATHER_MAX;
        assert_eq!(
            (bench.propose(), bench.desk.gathers_until()),
            (None, None),
            "only an applied entry makes room"
        );
        bench.apply(first);
        assert_eq!(bench.propose().map(|(_, commands)| commands), Some(limits::ENTRY_COMMANDS_MAX));
    }
}
