//! Storage with keys that go stale.

/// Names an entry of a [`Slab`]: index and generation. A key of a removed entry never finds its successor (until the
/// 32-bit generation of that place has wrapped).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Place in the slab.
    pub index: u32,
    /// How often the place was reused.
    pub generation: u32,
}

impl Key {
    /// Both halves in one number, for poll tokens and session references.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key that [`Key::to_u64`] wrote.
    pub fn from_u64(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[derive(Clone, Debug)]
enum Place<T> {
    Free { next: u32, generation: u32 },
    Used { value: T, generation: u32 },
}

/// End of the free list.
const NONE: u32 = u32::MAX;

/// Entries in one growing array, with places reused last-freed first and at most `limit` entries.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: u32,
    used: u32,
    limit: u32,
}

impl<T> Slab<T> {
    /// An empty slab for at most `limit` entries.
    pub fn new(limit: u32) -> Self {
        assert!(limit < NONE, "the last index marks the end of the free list");
        Self { places: Vec::new(), free: NONE, used: 0, limit }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`crate::Full`] with the value if the slab holds `limit` entries.
    pub fn insert(&mut self, value: T) -> Result<Key, crate::Full<T>> {
        if self.used >= self.limit {
            return Err(crate::Full(value));
        }
        self.used += 1;
        if self.free == NONE {
            let index = self.places.len() as u32;
            self.places.push(Place::Used { value, generation: 0 });
            return Ok(Key { index, generation: 0 });
        }
        let index = self.free;
        let place = &mut self.places[index as usize];
        let Place::Free { next, generation } = *place else {
            unreachable!("the free list links free places")
        };
        self.free = next;
        *place = Place::Used { value, generation };
        Ok(Key { index, generation })
    }

    /// Removes an entry; `None` if the key is stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let place = &mut self.places[key.index as usize];
        let free = Place::Free { next: self.free, generation: key.generation.wrapping_add(1) };
        let Place::Used { value, .. } = core::mem::replace(place, free) else {
            unreachable!("get() found the entry")
        };
        self.free = key.index;
        self.used -= 1;
        Some(value)
    }

    /// The entry; `None` if the key is stale.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.places.get(key.index as usize)? {
            Place::Used { value, generation } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry; `None` if the key is stale.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.places.get_mut(key.index as usize)? {
            Place::Used { value, generation } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The current key of a place, if it is in use.
    pub fn key_at(&self, index: u32) -> Option<Key> {
        match self.places.get(index as usize)? {
            Place::Used { generation, .. } => Some(Key { index, generation: *generation }),
            Place::Free { .. } => None,
        }
    }

    /// One more than the highest index that was ever in use; bounds a walk over the places.
    pub fn index_end(&self) -> u32 {
        self.places.len() as u32
    }

    /// Entries in use.
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// Whether no entry is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Entries by rising index.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Used { value, generation } => {
                Some((Key { index: index as u32, generation: *generation }, value))
            }
            Place::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_removed_entries_find_nothing() {
        let mut slab = Slab::new(2);
        let a = slab.insert("a").expect("room");
        let b = slab.insert("b").expect("room");
        assert_eq!(slab.insert("c"), Err(crate::Full("c")));
        assert_eq!(slab.remove(a), Some("a"));
        let c = slab.insert("c").expect("room");
        assert_eq!(slab.remove(a), None);
        assert_eq!((c.index, slab.get(a)), (a.index, None));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(c, &"c"), (b, &"b")]);
        assert_eq!(Key::from_u64(c.to_u64()), c);
    }
}
