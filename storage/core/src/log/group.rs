//! What the log holds of one group, and the rules by which records follow each other.
//!
//! ```text
//!  entries        1 2 3 4 5 6 7 8 9
//!  mark at 4      ─────── │ 5 6 7 8 9        forgets through 4, keeps the rest
//!  reset at 20    ─────────────────────── │  forgets all; 21 is next
//! ```

use super::index::{Gap, Place, Places};
use super::layout::Generation;
use crate::entry::{HardState, Mark, Record};

/// One group's hard state, mark and places, with the segments that hold the newest copy of the first two.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupContents {
    hard_state: HardState,
    /// The segment of the newest record with the hard state; `None` before the first one.
    hard_state_in: Option<Generation>,
    mark: Option<Mark>,
    /// The segment of the newest record with this very mark; `None` while it is in memory only.
    mark_in: Option<Generation>,
    /// Invariant once complete: `places.first() == mark.index + 1`, or 1 without a mark.
    places: Places,
}

impl GroupContents {
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The oldest segment with an entry that is kept.
    pub(super) fn pinned(&self) -> Option<Generation> {
        self.places.front().map(Place::generation)
    }

    /// Takes the hard state and the mark of a record in segment `at`. `is_whole`: every record before it is known.
    pub(super) fn update(
        &mut self,
        at: Generation,
        hard_state: Option<HardState>,
        mark: Option<&Mark>,
        is_whole: bool,
    ) -> Result<(), String> {
        let may_fall = may_fall(self.mark.as_ref(), mark);
        if let Some(state) = hard_state {
            refuse_fall(&self.hard_state, &state, may_fall)?;
            (self.hard_state, self.hard_state_in) = (state, Some(at));
        }
        match mark {
            None => Ok(()),
            Some(mark) if mark.reset => {
                self.places = Places::after(mark.index);
                self.set_mark(mark, Some(at));
                Ok(())
            }
            Some(mark) => self.forget(mark, Some(at), is_whole),
        }
    }

    /// Forgets the entries through `mark.index`.
    fn forget(&mut self, mark: &Mark, at: Option<Generation>, is_whole: bool) -> Result<(), String> {
        if is_whole {
            if is_stale(self.places.first(), mark) {
                // Overtaken by a truncation: where the log begins stays, what the mark says of this replica counts.
                let ours = self.mark.as_mut().expect("a log that begins later has a mark");
                (ours.peer, ours.replica, ours.is_suspect) = (mark.peer, mark.replica, mark.is_suspect);
                self.mark_in = None;
                return Ok(());
            }
            check_mark(mark, self.places.next(), self.term(mark.index))?;
            self.places.drop_through(mark.index);
        } else if let Some(ours) = self.mark.as_mut().filter(|ours| ours.index > mark.index) {
            (ours.peer, ours.replica, ours.is_suspect) = (mark.peer, mark.replica, mark.is_suspect);
            self.mark_in = None;
            return Ok(());
        } else if self.places.is_empty() {
            self.places = Places::after(mark.index);
        } else {
            let found = self.places.get(mark.index).map(|place| place.term);
            check_mark(mark, self.places.next(), found.or(Some(mark.term)))?;
        }
        self.set_mark(mark, at);
        Ok(())
    }

    fn set_mark(&mut self, mark: &Mark, at: Option<Generation>) {
        self.mark = Some(Mark { reset: false, ..mark.clone() });
        self.mark_in = at;
    }

    /// The term of an entry, or of the one before the first.
    fn term(&self, index: u64) -> Option<u64> {
        let begin = self.mark.as_ref().map_or((0, 0), |mark| (mark.index, mark.term));
        if index == begin.0 { Some(begin.1) } else { self.places.get(index).map(|place| place.term) }
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, index: u64, place: Place, is_whole: bool) -> Result<(), String> {
        if !is_whole && (self.places.is_empty() || index < self.places.first()) {
            self.places = Places::after(index.saturating_sub(1));
        }
        self.places.add(index, place).map_err(|gap| gap.to_string())
    }

    /// Ends a replay that did not see the log's first records.
    pub(super) fn complete(&mut self) -> Result<(), String> {
        let begin = self.mark.as_ref().map_or(0, |mark| mark.index);
        if self.places.is_empty() {
            self.places = Places::after(begin);
        }
        let (first, next) = (self.places.first(), self.places.next());
        if begin + 1 < first || begin >= next {
            return Err(format!("the log holds entries {first} to {next}, its mark is at {begin}"));
        }
        self.places.drop_through(begin);
        Ok(())
    }

    /// Forgets the entries through `mark.index` in memory: the log says so durably only when the mark is written.
    /// Says whether this truncation is settled: done, or overtaken. Otherwise it may be asked for again later: the
    /// entry at the mark is committed, but not yet written here. Only a record makes a replica a suspect, or clears it.
    pub(super) fn truncate(&mut self, mark: &Mark) -> bool {
        let is_suspect = self.mark.as_ref().map_or(mark.is_suspect, |ours| ours.is_suspect);
        let mark = &Mark { is_suspect, ..mark.clone() };
        if let Some(ours) = &self.mark {
            if (ours.peer, ours.replica) != (mark.peer, mark.replica) {
                return false;
            }
            if mark.index <= ours.index {
                return true;
            }
        }
        if mark.index == 0 {
            return true;
        }
        self.forget(mark, None, true).is_ok()
    }

    /// What must be written at the head before the segments below `before` may go.
    pub(super) fn rewrite(&self, record: Record, before: Generation) -> Option<Record> {
        let is_old = |at: Option<Generation>| at.is_none_or(|at| at < before);
        let hard_state = self.hard_state_in.map(|_| self.hard_state);
        let needed = (hard_state.is_some() && is_old(self.hard_state_in))
            || (self.mark.is_some() && is_old(self.mark_in));
        needed.then(|| Record { hard_state, mark: self.mark.clone(), ..record })
    }

    /// What a writer's check starts from.
    pub(super) fn head(&self) -> Head<'_> {
        let mark = self.mark.clone();
        let (first, kept) = (self.places.first(), self.places.next());
        Head { group: Some(self), hard_state: self.hard_state, mark, first, kept, terms: Vec::new() }
    }
}

/// A group as it would be after records that are not written yet.
#[derive(Debug)]
pub(super) struct Head<'a> {
    group: Option<&'a GroupContents>,
    hard_state: HardState,
    mark: Option<Mark>,
    first: u64,
    /// Entries below are the group's own.
    kept: u64,
    /// Terms of the entries from `kept` on.
    terms: Vec<u64>,
}

impl Head<'_> {
    /// A group without records.
    pub(super) fn empty() -> Self {
        let (hard_state, mark) = (HardState::default(), None);
        Self { group: None, hard_state, mark, first: 1, kept: 1, terms: Vec::new() }
    }

    /// Takes a record, or says why a replay would refuse it.
    pub(super) fn accept(&mut self, record: &Record) -> Result<(), String> {
        if let Some(state) = record.hard_state {
            refuse_fall(&self.hard_state, &state, may_fall(self.mark.as_ref(), record.mark.as_ref()))?;
            self.hard_state = state;
        }
        if let Some(mark) = &record.mark {
            self.accept_mark(mark)?;
        }
        for entry in &record.entries {
            if entry.index < self.first || entry.index > self.next() {
                return Err(Gap { expected: self.next(), found: entry.index }.to_string());
            }
            if entry.index < self.kept {
                self.kept = entry.index;
                self.terms.clear();
            }
            self.terms.truncate((entry.index - self.kept) as usize);
            self.terms.push(entry.term);
        }
        Ok(())
    }

    fn accept_mark(&mut self, mark: &Mark) -> Result<(), String> {
        if mark.reset {
            (self.first, self.kept) = (mark.index + 1, mark.index + 1);
            self.terms.clear();
        } else if is_stale(self.first, mark) {
            let ours = self.mark.as_mut().ok_or("a mark lies before the log's first entry")?;
            (ours.peer, ours.replica, ours.is_suspect) = (mark.peer, mark.replica, mark.is_suspect);
            return Ok(());
        } else {
            check_mark(mark, self.next(), self.term(mark.index))?;
            self.first = mark.index + 1;
            if self.kept < self.first {
                self.terms.drain(..(self.first - self.kept) as usize);
                self.kept = self.first;
            }
        }
        self.mark = Some(mark.clone());
        Ok(())
    }

    fn next(&self) -> u64 {
        self.kept + self.terms.len() as u64
    }

    fn term(&self, index: u64) -> Option<u64> {
        let begin = self.mark.as_ref().map_or((0, 0), |mark| (mark.index, mark.term));
        if index == begin.0 {
            Some(begin.1)
        } else if index < self.kept {
            self.group?.term(index)
        } else {
            self.terms.get((index - self.kept) as usize).copied()
        }
    }
}

/// Whether the log already begins later than a mark without reset says.
fn is_stale(first: u64, mark: &Mark) -> bool {
    mark.index + 1 < first
}

fn check_mark(mark: &Mark, next: u64, found: Option<u64>) -> Result<(), String> {
    if mark.index >= next {
        return Err(format!("a mark is at entry {}, where {next} is the next", mark.index));
    }
    match found {
        Some(term) if term == mark.term => Ok(()),
        _ => Err(format!(
            "a mark is at entry {} of term {}, which the log does not hold",
            mark.index, mark.term
        )),
    }
}

/// Another replica under the same roof begins with a past of its own.
fn may_fall(last: Option<&Mark>, new: Option<&Mark>) -> bool {
    new.is_some_and(|new| new.reset && last.is_none_or(|last| last.peer != new.peer))
}

fn refuse_fall(last: &HardState, new: &HardState, may_fall: bool) -> Result<(), String> {
    if may_fall || (new.term >= last.term && new.commit >= last.commit) {
        return Ok(());
    }
    Err(format!(
        "the hard state falls from term {}, commit {} to term {}, commit {}",
        last.term, last.commit, new.term, new.commit
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(index: u64, is_suspect: bool) -> Mark {
        Mark { index, term: index.min(1), peer: 1, is_suspect, ..Mark::default() }
    }

    #[test]
    fn a_mark_that_was_overtaken_says_only_who_the_replica_is() {
        let mut group = GroupContents::default();
        for (at, mark) in [(5, mark(100, false)), (6, mark(0, true))] {
            group.update(Generation(at), None, Some(&mark), false).expect("it follows");
        }
        group.complete().expect("the log begins behind 100");
        assert_eq!(group.mark(), Some(&mark(100, true)));
    }

    #[test]
    fn a_truncation_makes_no_suspect_and_clears_none() {
        for is_suspect in [true, false] {
            let mut group = GroupContents::default();
            group.update(Generation(5), None, Some(&mark(100, is_suspect)), false).expect("it follows");
            group.complete().expect("the log begins behind 100");
            let place = Place::new(Generation(5), 4096, 64, 1);
            group.add(101, place, true).expect("it follows");
            assert!(group.truncate(&mark(101, !is_suspect)));
            assert_eq!(group.mark(), Some(&mark(101, is_suspect)));
        }
    }
}
