//! Where every entry lies: shard → index → place in a segment.

use std::collections::BTreeMap;

use throng_wire::ids::ShardId;

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

/// Places of all entries of a log. Grows with the log, which recycling will bound.
#[derive(Clone, Debug, Default)]
pub struct Index {
    groups: BTreeMap<ShardId, GroupPlaces>,
}

#[derive(Clone, Debug, Default)]
struct GroupPlaces {
    /// Index of the first place. Invariant: `places[i]` is entry `first + i`.
    first: u64,
    places: Vec<Place>,
}

impl GroupPlaces {
    fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }
}

impl Index {
    /// Adds one entry; it replaces everything of its group from its index on, as Raft requires.
    ///
    /// # Errors
    /// [`Gap`] if entries between the group's last and this one are missing; nothing changes then.
    pub fn add(&mut self, shard: ShardId, index: u64, place: Place) -> Result<(), Gap> {
        let group = self.groups.entry(shard).or_default();
        if group.places.is_empty() {
            group.first = index;
        }
        if index > group.next() {
            return Err(Gap { expected: group.next(), found: index });
        }
        match index.checked_sub(group.first) {
            Some(kept) => group.places.truncate(kept as usize),
            None => {
                group.places.clear();
                group.first = index;
            }
        }
        group.places.push(place);
        assert!(group.next() == index + 1, "the newest entry ends its group");
        Ok(())
    }

    /// The first index a group has, and the one after its last. Both are 1 for a group without entries.
    pub fn bounds(&self, shard: ShardId) -> (u64, u64) {
        self.groups
            .get(&shard)
            .filter(|group| !group.places.is_empty())
            .map_or((1, 1), |group| (group.first, group.next()))
    }

    /// Whether a group has no entries.
    pub fn is_empty(&self, shard: ShardId) -> bool {
        self.groups.get(&shard).is_none_or(|group| group.places.is_empty())
    }

    /// Where an entry lies.
    pub fn place(&self, shard: ShardId, index: u64) -> Option<Place> {
        let group = self.groups.get(&shard)?;
        group.places.get(usize::try_from(index.checked_sub(group.first)?).ok()?).copied()
    }

    /// Places of `low..high` of a group, all of them or `None`.
    pub fn range(&self, shard: ShardId, low: u64, high: u64) -> Option<&[Place]> {
        let group = self.groups.get(&shard)?;
        let from = usize::try_from(low.checked_sub(group.first)?).ok()?;
        let to = usize::try_from(high.checked_sub(group.first)?).ok()?;
        group.places.get(from..to)
    }

    /// Terms of a group's entries below `index`, as runs: the first index of each run and its term.
    pub fn term_runs(&self, shard: ShardId, index: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let Some(group) = self.groups.get(&shard) else { return runs };
        for (at, place) in (group.first..index).zip(&group.places) {
            if runs.last().is_none_or(|run| run.1 != place.term) {
                runs.push((at, place.term));
            }
        }
        runs
    }
}
