//! RETAIN at apply, and what a leader needs to know before it proposes one.

use throng_storage_core::state::{StateRead, Table};
use throng_wire::ids::{Seq, ServerTs};

use super::{Channel, chain_over, row};
use crate::fatal::Fatal;
use crate::limits::RETAIN_EVENTS_MAX;
use crate::state::keys::{self, Replica};

/// Event rows read at a time.
const SCAN_ROWS: u64 = 128;

impl Channel {
    /// Raises the floor towards `wanted` and carries the chain up to it; the floor before if it rose.
    pub(crate) fn retain(
        &mut self,
        state: &impl StateRead,
        replica: Replica,
        wanted: Seq,
    ) -> Result<Option<Seq>, Fatal> {
        let highest = self.head.next().min(Seq(self.floor.0.saturating_add(RETAIN_EVENTS_MAX)));
        let floor = wanted.min(highest);
        if self.is_held || floor <= self.floor {
            return Ok(None);
        }
        let before = self.floor;
        while self.floor < floor {
            let end = floor.min(Seq(self.floor.0 + SCAN_ROWS));
            self.carry_chain(state, replica, end)?;
            assert_eq!(self.floor, end, "every event was passed");
        }
        Ok(Some(before))
    }

    /// Carries the chain over the events `floor..end` and makes `end` the floor.
    fn carry_chain(&mut self, state: &impl StateRead, replica: Replica, end: Seq) -> Result<(), Fatal> {
        let resting = end.min(self.recent_first());
        if self.floor < resting {
            let (low, high) =
                (keys::event(replica, &self.id, self.floor), keys::event(replica, &self.id, resting));
            let rows = state.scan(Table::Events, &low, &high, (resting.0 - self.floor.0) as usize)?;
            for (key, value) in rows {
                if key[..] != *keys::event(replica, &self.id, self.floor) {
                    return Err(Fatal::corrupt_row("event range: a number is missing"));
                }
                self.floor_chain = chain_over(&self.floor_chain, &row::decode_event(self.floor, &value)?);
                self.floor = self.floor.next();
            }
            if self.floor != resting {
                return Err(Fatal::corrupt_row("event range: a number is missing"));
            }
        }
        let mut passed = (self.floor, self.floor_chain);
        for event in self.recent_after(Seq(self.floor.0 - 1)).take_while(|event| event.seq < end) {
            passed = (event.seq.next(), chain_over(&passed.1, event));
        }
        (self.floor, self.floor_chain) = passed;
        Ok(())
    }

    /// The lowest floor in `floor..=highest` that leaves no event with a stamp through `cutoff` below `highest`: stamps
    /// never fall, so halving finds it in a few reads.
    pub(crate) fn floor_by_age(
        &self,
        state: &impl StateRead,
        replica: Replica,
        cutoff: ServerTs,
        highest: Seq,
    ) -> Result<Seq, Fatal> {
        let (mut low, mut high) = (self.floor, highest);
        if low >= high || self.stamp_of(state, replica, low)? > cutoff {
            return Ok(low);
        }
        while low < high {
            let middle = Seq(low.0 + (high.0 - low.0) / 2);
            let is_young = self.stamp_of(state, replica, middle)? > cutoff;
            if is_young { high = middle } else { low = middle.next() }
        }
        Ok(low)
    }

    /// The stamp of an event that is kept.
    fn stamp_of(&self, state: &impl StateRead, replica: Replica, seq: Seq) -> Result<ServerTs, Fatal> {
        if seq >= self.recent_first() {
            let event = self.recent.get((seq.0 - self.recent_first().0) as usize);
            return Ok(event.expect("events through the head are consecutive").ts);
        }
        let row = state.get(Table::Events, &keys::event(replica, &self.id, seq))?;
        let row = row.ok_or_else(|| Fatal::corrupt_row("event range: a number is missing"))?;
        Ok(row::decode_event(seq, &row)?.ts)
    }
}
