//! Linearizable reads (ReadIndex, thesis §6.4): all reads of a turn share one round of heartbeats.
//!
//! ```text
//!   waiting ──next turn, leader has committed in its term──► asked ──quorum answered──► known ──applied──► ready
//!      └───────────────────────────── leadership lost ────────┴────────────────────────────┘──► lost
//! ```

use std::collections::VecDeque;

use super::limits;
use super::output::ReadId;

/// One round of heartbeats.
#[derive(Debug)]
struct Round {
    number: u64,
    reads: Vec<ReadId>,
}

/// Reads of one group. All of them belong to one term of leadership.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<ReadId>,
    asked: VecDeque<Round>,
    /// Index that must be applied, rising.
    known: VecDeque<(u64, ReadId)>,
    next_round: u64,
    term: u64,
}

impl Reads {
    /// Adds a read asked for while leading in `term`; false if too many wait.
    pub(super) fn add(&mut self, read: ReadId, term: u64) -> bool {
        if self.len() >= limits::READS_MAX {
            return false;
        }
        assert!(self.is_empty() || self.term == term, "older terms were reported lost");
        self.term = term;
        self.waiting.push(read);
        true
    }

    fn len(&self) -> usize {
        self.waiting.len()
            + self.known.len()
            + self.asked.iter().map(|round| round.reads.len()).sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.known.is_empty() && self.asked.is_empty()
    }

    /// Whether reads wait for a round that may begin.
    pub(super) fn wants_round(&self) -> bool {
        !self.waiting.is_empty() && self.asked.len() < limits::READ_ROUNDS_MAX
    }

    /// Begins a round for everything that waits; the context names it.
    pub(super) fn begin_round(&mut self) -> [u8; 8] {
        assert!(self.wants_round(), "the caller asked");
        self.next_round += 1;
        self.asked.push_back(Round { number: self.next_round, reads: std::mem::take(&mut self.waiting) });
        self.next_round.to_be_bytes()
    }

    /// A round was answered by a quorum: its reads may be served at `index`. So may those of earlier rounds.
    pub(super) fn round_done(&mut self, context: &[u8], index: u64) {
        let Ok(number) = context.try_into().map(u64::from_be_bytes) else { return };
        while let Some(round) = self.asked.pop_front_if(|round| round.number <= number) {
            self.known.extend(round.reads.into_iter().map(|read| (index, read)));
        }
    }

    /// Takes the next read whose index is applied.
    pub(super) fn pop_ready(&mut self, applied: u64) -> Option<(u64, ReadId)> {
        self.known.pop_front_if(|(index, _)| *index <= applied)
    }

    /// Takes all reads if they were asked for in a term in which this node does not lead (any more).
    pub(super) fn lost(&mut self, leading_term: Option<u64>) -> Vec<ReadId> {
        if self.is_empty() || leading_term == Some(self.term) {
            return Vec::new();
        }
        let mut lost: Vec<ReadId> = self.known.drain(..).map(|(_, read)| read).collect();
        lost.extend(self.asked.drain(..).flat_map(|round| round.reads));
        lost.append(&mut self.waiting);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_serves_all_reads_that_waited_for_it() {
        let mut reads = Reads::default();
        assert!(reads.add(ReadId(1), 4) && reads.add(ReadId(2), 4));
        let first = reads.begin_round();
        assert!(reads.add(ReadId(3), 4));
        let second = reads.begin_round();
        reads.round_done(&second, 9);
        assert_eq!(reads.pop_ready(8), None);
        let ready: Vec<_> = std::iter::from_fn(|| reads.pop_ready(9)).collect();
        assert_eq!(ready, [(9, ReadId(1)), (9, ReadId(2)), (9, ReadId(3))]);
        reads.round_done(&first, 7);
        reads.round_done(b"garbage", 7);
        assert_eq!(reads.pop_ready(u64::MAX), None);
    }

    #[test]
    fn leaving_the_term_loses_every_stage_once() {
        let mut reads = Reads::default();
        assert!(reads.add(ReadId(1), 4));
        let round = reads.begin_round();
        reads.round_done(&round, 5);
        assert!(reads.add(ReadId(2), 4));
        reads.begin_round();
        assert!(reads.add(ReadId(3), 4));
        assert_eq!(reads.lost(Some(4)), []);
        assert_eq!(reads.lost(Some(6)), [ReadId(1), ReadId(2), ReadId(3)]);
        assert_eq!(reads.lost(None), []);
        assert!(reads.add(ReadId(4), 6));
    }

    #[test]
    fn rounds_in_flight_and_waiting_reads_are_bounded() {
        let mut reads = Reads::default();
        for n in 0..limits::READ_ROUNDS_MAX {
            assert!(reads.add(ReadId(n as u64), 1));
            reads.begin_round();
        }
        let room = limits::READS_MAX - limits::READ_ROUNDS_MAX;
        assert!((0..room).all(|n| reads.add(ReadId(100 + n as u64), 1)));
        assert!(!reads.add(ReadId(1), 1));
        assert!(!reads.wants_round());
    }
}
