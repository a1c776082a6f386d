//! Group commits: one is open and takes everything that becomes ready, some are in flight, none overtakes another.

use std::collections::VecDeque;

use raft::eraftpb::Message;
use throng_base::Instant;
use throng_wire::ids::ShardId;

use super::output::{PersistToken, StoreOutput};
use crate::entry::{Entry, HardState, Mark, Record};

/// A `Ready` that becomes durable with a group commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// The group.
    pub(super) shard: ShardId,
    /// Which of the raft nodes that the group has had since the start: it gets a new one with a new id.
    pub(super) life: u32,
    /// The number raft gave the `Ready`; 0 for what is no part of one.
    pub(super) number: u64,
}

/// What a group commit brings when it is durable.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// `Ready`s in it, by rising number within a group.
    pub(super) pending: Vec<Pending>,
    /// Messages that may leave only now.
    pub(super) messages: Vec<(ShardId, Message)>,
}

#[derive(Debug)]
struct InFlight {
    issued: Instant,
    commit: Commit,
}

/// All group commits of a store.
#[derive(Debug)]
pub(super) struct Persists {
    /// Token of the open group commit; those in flight have the ones just below it.
    open_token: u64,
    records: Vec<Record>,
    /// Where each group's record is in `records`, by shard.
    record_by_shard: Vec<Option<u32>>,
    open: Commit,
    in_flight: VecDeque<InFlight>,
    limit: usize,
}

impl Persists {
    /// At most `limit` group commits in flight.
    pub(super) fn new(shards: u32, limit: usize) -> Self {
        Self {
            open_token: 1,
            records: Vec::new(),
            record_by_shard: vec![None; shards as usize],
            open: Commit::default(),
            in_flight: VecDeque::new(),
            limit,
        }
    }

    /// Adds a group's `Ready` to the open group commit and returns its token. Hard state and entries of a group are one
    /// record, whatever number of `Ready`s it takes: torn apart, they would panic at every later start.
    pub(super) fn add(
        &mut self,
        pending: Pending,
        hard_state: Option<HardState>,
        mark: Option<Mark>,
        entries: Vec<Entry>,
    ) -> PersistToken {
        let place = &mut self.record_by_shard[pending.shard.0 as usize];
        match place {
            Some(place) => merge(&mut self.records[*place as usize], hard_state, mark, entries),
            None => {
                *place = Some(self.records.len() as u32);
                self.records.push(Record { shard: pending.shard, hard_state, mark, entries });
            }
        }
        self.open.pending.push(pending);
        PersistToken(self.open_token)
    }

    /// Holds a message back until `token` is durable.
    pub(super) fn hold(&mut self, token: PersistToken, shard: ShardId, message: Message) {
        let commit = match self.open_token - token.0 {
            0 => &mut self.open,
            behind => {
                let place = self.in_flight.len().checked_sub(behind as usize);
                &mut self.in_flight[place.expect("it is not durable, so it is in flight")].commit
            }
        };
        commit.messages.push((shard, message));
    }

    /// Hands out the open group commit, if it holds anything and not too many are in flight.
    pub(super) fn issue(&mut self, now: Instant) -> Option<StoreOutput> {
        if self.records.is_empty() || self.in_flight.len() >= self.limit {
            return None;
        }
        let records = std::mem::take(&mut self.records);
        for record in &records {
            self.record_by_shard[record.shard.0 as usize] = None;
        }
        self.in_flight.push_back(InFlight { issued: now, commit: std::mem::take(&mut self.open) });
        let token = PersistToken(self.open_token);
        self.open_token += 1;
        Some(StoreOutput::Persist { token, records })
    }

    /// Takes the oldest group commit, if `token` says that it is durable.
    pub(super) fn pop_durable(&mut self, token: PersistToken) -> Option<Commit> {
        assert!(token.0 < self.open_token, "only what was handed out becomes durable");
        let oldest = self.open_token - self.in_flight.len() as u64;
        if token.0 < oldest {
            return None; // Reported before, or implied by a later one.
        }
        self.in_flight.pop_front().map(|in_flight| in_flight.commit)
    }

    /// When the oldest group commit in flight was handed out.
    pub(super) fn oldest_issued(&self) -> Option<Instant> {
        self.in_flight.front().map(|in_flight| in_flight.issued)
    }
}

/// Joins a later `Ready` to a record: its entries replace whatever the record had from their first index on.
fn merge(record: &mut Record, hard_state: Option<HardState>, mark: Option<Mark>, entries: Vec<Entry>) {
    record.hard_state = hard_state.or(record.hard_state);
    if let Some(mut mark) = mark {
        if mark.reset {
            record.entries.clear();
        }
        mark.reset |= record.mark.as_ref().is_some_and(|held| held.reset);
        record.mark = Some(mark);
    }
    let Some(first) = entries.first() else { return };
    if let Some(held) = record.entries.first() {
        if first.index <= held.index {
            record.entries.clear();
        } else {
            record.entries.truncate((first.index - held.index) as usize);
            assert_eq!(
                record.entries.last().map(|last| last.index + 1),
                Some(first.index),
                "records have no gaps"
            );
        }
    }
    record.entries.extend(entries);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn entries(range: core::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        range.map(|index| Entry { index, term, ..Entry::default() }).collect()
    }

    fn pending(number: u64) -> Pending {
        Pending { shard: SHARD, life: 0, number }
    }

    fn state(term: u64) -> Option<HardState> {
        Some(HardState { term, vote: 0, commit: 0 })
    }

    fn issued(persists: &mut Persists) -> Option<(u64, Vec<Record>)> {
        match persists.issue(Instant::ZERO)? {
            StoreOutput::Persist { token, records } => Some((token.0, records)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_group_has_one_record_per_group_commit() {
        let mut persists = Persists::new(2, 1);
        persists.add(pending(1), state(1), None, entries(1..=4, 1));
        persists.add(pending(2), None, None, entries(5..=6, 1));
        persists.add(pending(3), state(2), None, entries(4..=4, 2));
        let (token, records) = issued(&mut persists).expect("something to write");
        let terms: Vec<_> = records[0].entries.iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!((token, records.len(), records[0].hard_state), (1, 1, state(2)));
        assert_eq!(terms, [(1, 1), (2, 1), (3, 1), (4, 2)]);
    }

    #[test]
    fn a_reset_drops_what_came_before_it_and_keeps_what_follows() {
        let mut persists = Persists::new(2, 1);
        let mark = |index, reset| Some(Mark { index, term: 1, reset, ..Mark::default() });
        persists.add(pending(1), state(1), None, entries(1..=4, 1));
        persists.add(pending(2), state(2), mark(9, true), entries(10..=11, 2));
        persists.add(pending(3), None, mark(9, false), vec![]);
        let (_, records) = issued(&mut persists).expect("something to write");
        let indices: Vec<_> = records[0].entries.iter().map(|entry| entry.index).collect();
        assert_eq!(
            (indices, &records[0].mark, records[0].hard_state),
            (vec![10, 11], &mark(9, true), state(2))
        );
    }

    #[test]
    fn the_open_one_fills_while_the_limit_is_in_flight() {
        let mut persists = Persists::new(2, 1);
        assert_eq!(issued(&mut persists), None);
        persists.add(pending(1), state(1), None, vec![]);
        assert_eq!(issued(&mut persists).map(|(token, _)| token), Some(1));
        persists.add(pending(2), state(2), None, vec![]);
        assert_eq!(issued(&mut persists), None);
        assert_eq!(
            persists.pop_durable(PersistToken(1)).map(|commit| commit.pending),
            Some(vec![pending(1)])
        );
        assert!(persists.pop_durable(PersistToken(1)).is_none());
        assert_eq!(issued(&mut persists).map(|(token, _)| token), Some(2));
    }

    #[test]
    fn one_report_implies_all_below_and_frees_their_messages_in_order() {
        let mut persists = Persists::new(2, 8);
        for number in 1..=3 {
            let token = persists.add(pending(number), state(number), None, vec![]);
            issued(&mut persists).expect("room");
            persists.hold(token, SHARD, Message { term: number, ..Default::default() });
        }
        let freed: Vec<u64> = std::iter::from_fn(|| persists.pop_durable(PersistToken(2)))
            .flat_map(|commit| commit.messages)
            .map(|(_, message)| message.term)
            .collect();
        assert_eq!(freed, [1, 2]);
        assert!(persists.oldest_issued().is_some());
    }
}
