//! The terms of a whole log in a few numbers: terms only rise along a log, so runs of equal terms say it all.

use super::config::TermRun;

/// Terms of the entries `first..=last` of a log, and of the entry just before `first`.
///
/// Invariant: runs rise in index and in term, and the first run begins at `first`.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// Index and term of the entry before the first: 0 and 0 if nothing was truncated.
    base: (u64, u64),
    runs: Vec<TermRun>,
    last: u64,
}

impl Terms {
    /// An empty log that begins after `base`.
    pub(super) fn new(base_index: u64, base_term: u64) -> Self {
        Self { base: (base_index, base_term), runs: Vec::new(), last: base_index }
    }

    /// The highest index.
    pub(super) fn last_index(&self) -> u64 {
        self.last
    }

    /// The lowest index.
    pub(super) fn first_index(&self) -> u64 {
        self.base.0 + 1
    }

    /// The term of the last entry.
    pub(super) fn last_term(&self) -> u64 {
        self.runs.last().map_or(self.base.1, |run| run.term)
    }

    /// The term of the entry at `index`, `None` outside `first - 1 ..= last`.
    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        if index < self.base.0 || index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first_index <= index);
        assert!(after > 0, "the first run begins at the first entry");
        Some(self.runs[after - 1].term)
    }

    /// Adds entries through `last`, all of `term`. False, and nothing is added, if that is not a continuation.
    pub(super) fn extend(&mut self, last: u64, term: u64) -> bool {
        if last <= self.last || term < self.last_term() || term == 0 {
            return false;
        }
        if self.runs.last().is_none_or(|run| run.term != term) {
            self.runs.push(TermRun { first_index: self.last + 1, term });
        }
        self.last = last;
        true
    }

    /// Forgets the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        assert!(index > self.base.0, "the base stays");
        while self.runs.last().is_some_and(|run| run.first_index >= index) {
            self.runs.pop();
        }
        self.last = self.last.min(index - 1);
    }

    /// Forgets the entries through `index`, which must be known.
    pub(super) fn forget(&mut self, index: u64) {
        let term = self.term(index).expect("only known entries are forgotten");
        let after = self.runs.partition_point(|run| run.first_index <= index + 1);
        let keeps_run = self.last > index && after > 0;
        self.runs.drain(..if keeps_run { after - 1 } else { after });
        if let Some(first) = self.runs.first_mut().filter(|_| keeps_run) {
            first.first_index = index + 1;
        }
        self.base = (index, term);
    }

    /// The highest index at or below `index` whose term is at most `term`: where a log that has `term` at `index` can
    /// agree with this one at best.
    pub(super) fn agreement(&self, index: u64, term: u64) -> u64 {
        let index = index.min(self.last);
        let after = self.runs.partition_point(|run| run.first_index <= index && run.term <= term);
        match self.runs.get(after) {
            Some(newer) if newer.first_index <= index => newer.first_index - 1,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Terms {
        let mut terms = Terms::new(0, 0);
        assert!(terms.extend(3, 1));
        assert!(terms.extend(4, 4));
        assert!(terms.extend(6, 4));
        terms
    }

    #[test]
    fn terms_of_every_index() {
        let terms = sample();
        let all: Vec<_> = (0..8).map(|index| terms.term(index)).collect();
        assert_eq!(all, [Some(0), Some(1), Some(1), Some(1), Some(4), Some(4), Some(4), None]);
        assert_eq!((terms.last_index(), terms.last_term()), (6, 4));
    }

    #[test]
    fn only_continuations_extend() {
        let mut terms = sample();
        assert!(!terms.extend(6, 4), "not beyond the end");
        assert!(!terms.extend(7, 3), "terms never fall");
        assert!(!Terms::new(0, 0).extend(1, 0), "terms begin at 1");
        assert_eq!(terms.last_index(), 6);
    }

    #[test]
    fn truncation_and_regrowth() {
        let mut terms = sample();
        terms.truncate(5);
        assert_eq!((terms.last_index(), terms.last_term()), (4, 4));
        terms.truncate(2);
        assert_eq!((terms.last_index(), terms.last_term(), terms.term(2)), (1, 1, None));
        assert!(terms.extend(2, 9));
        assert_eq!(terms.term(2), Some(9));
        terms.truncate(1);
        assert_eq!((terms.last_index(), terms.last_term()), (0, 0));
    }

    #[test]
    fn forgetting_moves_the_base_and_nothing_else() {
        for base in 0..=6 {
            let mut terms = sample();
            terms.forget(base);
            assert_eq!((terms.first_index(), terms.last_index(), terms.last_term()), (base + 1, 6, 4));
            for index in 0..8 {
                let known = sample().term(index).filter(|_| index >= base);
                assert_eq!(terms.term(index), known, "{index} after forgetting {base}");
            }
            assert!(terms.extend(7, 4) && terms.extend(8, 9));
            terms.truncate(base + 1);
            assert_eq!((terms.last_index(), Some(terms.last_term())), (base, sample().term(base)));
        }
    }

    #[test]
    fn agreement_is_the_last_entry_of_no_newer_term() {
        let terms = sample();
        // A plain walk, as raft does it one entry at a time.
        let walk = |index: u64, term: u64| {
            (0..=index.min(6)).rev().find(|&i| terms.term(i).is_some_and(|t| t <= term)).unwrap_or(0)
        };
        for index in 0..10 {
            for term in 0..7 {
                assert_eq!(terms.agreement(index, term), walk(index, term), "({index}, {term})");
            }
        }
    }
}
