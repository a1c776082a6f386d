//! Where a group's entries lie: index → place in a segment.

use std::collections::VecDeque;

use super::layout::Generation;

/// Where one entry lies. 24 bytes an entry: a million entries of log are 24 MB of index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The entry's term.
    pub term: u64,
    /// Its offset in the segment ([`super::limits::SEGMENT_BYTES_MAX`] keeps it within 32 bits).
    pub offset: u32,
    /// Its encoded length.
    pub len: u32,
    /// Low bits of the segment's generation: at 64 MiB each, 2³² segments are 256 PiB.
    generation: u32,
}

impl Place {
    /// A place in a segment.
    ///
    /// # Panics
    /// If the numbers are beyond a segment's limits.
    pub fn new(generation: Generation, offset: u64, len: usize, term: u64) -> Self {
        Self {
            term,
            offset: u32::try_from(offset).expect("a segment is below 4 GiB"),
            len: u32::try_from(len).expect("an entry is below 4 GiB"),
            generation: u32::try_from(generation.0).expect("no log reaches 2^32 segments"),
        }
    }

    /// The segment.
    pub fn generation(&self) -> Generation {
        Generation(u64::from(self.generation))
    }
}

/// A group's entries do not continue its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The index that would have been next at the latest.
    pub expected: u64,
    /// The one that came.
    pub found: u64,
}

impl core::fmt::Display for Gap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "entry {} follows where {} is the next", self.found, self.expected)
    }
}

/// Places of a group's entries, contiguous.
///
/// Invariant: `places[i]` is entry `first + i`. Grows with the log; [`Places::drop_through`] takes the front away.
#[derive(Clone, Debug)]
pub struct Places {
    first: u64,
    places: VecDeque<Place>,
}

impl Default for Places {
    fn default() -> Self {
        Self::after(0)
    }
}

impl Places {
    /// No entries; the next one is `index + 1`.
    pub fn after(index: u64) -> Self {
        Self { first: index + 1, places: VecDeque::new() }
    }

    /// The index of the first entry, or of the next one if there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last entry.
    pub fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Entries that memory is held for.
    pub fn held(&self) -> usize {
        self.places.capacity()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The first entry's place.
    pub fn front(&self) -> Option<&Place> {
        self.places.front()
    }

    /// Where an entry lies.
    pub fn get(&self, index: u64) -> Option<Place> {
        self.places.get(usize::try_from(index.checked_sub(self.first)?).ok()?).copied()
    }

    /// Adds one entry; it replaces everything from its index on, as Raft requires.
    ///
    /// # Errors
    /// [`Gap`] if entries before this one are missing; nothing changes then.
    pub fn add(&mut self, index: u64, place: Place) -> Result<(), Gap> {
        if index < self.first || index > self.next() {
            return Err(Gap { expected: self.next(), found: index });
        }
        self.places.truncate((index - self.first) as usize);
        self.places.push_back(place);
        assert!(self.next() == index + 1, "the newest entry ends its group");
        Ok(())
    }

    /// Forgets the entries through `index`. Memory goes back in steps, so that a log that is truncated regularly does
    /// not keep what its largest extent needed.
    pub fn drop_through(&mut self, index: u64) {
        let gone = (index + 1).saturating_sub(self.first).min(self.places.len() as u64);
        self.places.drain(..gone as usize);
        self.first += gone;
        if self.places.capacity() > 4 * self.places.len().max(64) {
            self.places.shrink_to(2 * self.places.len());
        }
    }

    /// Places of `low..high`, all of them or `None`.
    pub fn range(&self, low: u64, high: u64) -> Option<impl Iterator<Item = Place> + '_> {
        let from = usize::try_from(low.checked_sub(self.first)?).ok()?;
        let to = usize::try_from(high.checked_sub(self.first)?).ok()?;
        (from <= to && to <= self.places.len()).then(|| self.places.range(from..to).copied())
    }

    /// Terms of the entries below `index`, as runs: the first index of each run and its term.
    pub fn term_runs(&self, index: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (at, place) in (self.first..index).zip(&self.places) {
            if runs.last().is_none_or(|run| run.1 != place.term) {
                runs.push((at, place.term));
            }
        }
        runs
    }
}
