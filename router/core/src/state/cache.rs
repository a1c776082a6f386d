//! Decoded objects in memory. Dirty ones stay until they are flushed; clean ones go by second chance (the clock
//! algorithm: an object that was used since the hand last passed is spared once).

use core::hash::Hash;

use throng_base::{Key, Slab};

use crate::hash::{Keyed, Table};

/// An object the cache can hold.
pub(crate) trait Object {
    /// Its name.
    type Id: Copy + Eq + Hash;

    /// About how much memory it takes.
    fn bytes(&self) -> usize;
}

/// Objects by id.
pub(crate) struct Cache<V: Object> {
    entries: Slab<Box<Entry<V>>>,
    key_by_id: Table<V::Id, Key>,
    /// Changed since the last batch was cut, in the order of their first change.
    dirty: Vec<Key>,
    /// Invariant: the sum of the entries' `bytes`.
    bytes: usize,
    hand: u32,
    /// Places the slab ever used: where the hand turns.
    places: u32,
}

struct Entry<V: Object> {
    id: V::Id,
    value: V,
    bytes: usize,
    was_used: bool,
    is_dirty: bool,
    /// The batch that last wrote it; it may leave when that one is flushed.
    batch: u64,
}

/// Objects in memory; far above what the byte limit admits.
const ENTRIES_MAX: u32 = 1 << 28;

/// Places the hand passes per call, so that no call takes long.
const STEPS_MAX: u32 = 128;

impl<V: Object> Cache<V> {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self {
            entries: Slab::new(ENTRIES_MAX),
            key_by_id: Table::with_hasher(keyed),
            dirty: Vec::new(),
            bytes: 0,
            hand: 0,
            places: 0,
        }
    }

    /// The key of an object in memory; it counts as used.
    pub(crate) fn find(&mut self, id: &V::Id) -> Option<Key> {
        let key = *self.key_by_id.get(id)?;
        self.entries.get_mut(key).expect("the table names entries").was_used = true;
        Some(key)
    }

    /// An object in memory, without counting that as a use.
    pub(crate) fn peek(&self, id: &V::Id) -> Option<&V> {
        self.get(*self.key_by_id.get(id)?)
    }

    /// Adds an object that is not in memory yet.
    pub(crate) fn insert(&mut self, id: V::Id, value: V) -> Key {
        let bytes = value.bytes();
        let entry = Entry { id, value, bytes, was_used: true, is_dirty: false, batch: 0 };
        let Ok(key) = self.entries.insert(Box::new(entry)) else {
            unreachable!("the byte limit is met long before {ENTRIES_MAX} objects")
        };
        let before = self.key_by_id.insert(id, key);
        assert_eq!(before, None, "an object is in memory once");
        self.bytes += bytes;
        self.places = self.places.max(key.index + 1);
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Notes a change; true if the object was clean.
    pub(crate) fn changed(&mut self, key: Key) -> bool {
        let entry = self.entries.get_mut(key).expect("only an object in memory changes");
        let bytes = entry.value.bytes();
        self.bytes = self.bytes + bytes - entry.bytes;
        entry.bytes = bytes;
        let was_clean = !entry.is_dirty;
        if was_clean {
            entry.is_dirty = true;
            self.dirty.push(key);
        }
        was_clean
    }

    /// Hands every dirty object to `write`; they count as clean and stay until `batch` is flushed.
    pub(crate) fn cut(&mut self, batch: u64, mut write: impl FnMut(&mut V)) {
        for key in core::mem::take(&mut self.dirty) {
            let entry = self.entries.get_mut(key).expect("dirty objects stay in memory");
            entry.is_dirty = false;
            entry.batch = batch;
            write(&mut entry.value);
        }
    }

    /// Drops objects that are clean, flushed and not used lately, until at most `limit` bytes remain or the hand has
    /// passed enough of them for one call.
    pub(crate) fn shrink(&mut self, limit: usize, flushed: u64, mut dropped: impl FnMut(&V)) {
        let mut steps = 0;
        while self.bytes > limit && steps < STEPS_MAX && self.places > 0 {
            steps += 1;
            self.hand = (self.hand + 1) % self.places;
            let Some(key) = self.entries.key_at(self.hand) else { continue };
            let entry = self.entries.get_mut(key).expect("key_at names entries");
            if entry.was_used || entry.is_dirty || entry.batch > flushed {
                entry.was_used = false;
                continue;
            }
            let entry = self.entries.remove(key).expect("it was there");
            self.key_by_id.remove(&entry.id);
            self.bytes -= entry.bytes;
            dropped(&entry.value);
        }
    }

    /// Drops the objects that `is_doomed` names, changed or not.
    pub(crate) fn forget(&mut self, is_doomed: impl Fn(&V) -> bool, mut dropped: impl FnMut(&V)) {
        for key in (0..self.places).filter_map(|place| self.entries.key_at(place)).collect::<Vec<_>>() {
            let entry = self.entries.get(key).expect("key_at names entries");
            if !is_doomed(&entry.value) {
                continue;
            }
            let entry = self.entries.remove(key).expect("it was there");
            self.key_by_id.remove(&entry.id);
            self.bytes -= entry.bytes;
            dropped(&entry.value);
        }
        let entries = &self.entries;
        self.dirty.retain(|key| entries.get(*key).is_some());
    }

    /// Bytes in memory, by estimate.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Objects in memory.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(usize);

    impl Object for Thing {
        type Id = u32;

        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn only_clean_flushed_unused_objects_leave() {
        let mut cache = Cache::new(Keyed::new(1));
        let keys: Vec<_> = (0..4).map(|id| cache.insert(id, Thing(10))).collect();
        assert!(cache.changed(keys[1]));
        assert!(!cache.changed(keys[1]));
        cache.cut(7, |_| {});
        assert!(cache.changed(keys[2]));
        let mut gone = 0;
        cache.shrink(0, 6, |_| gone += 1); // first round spares the used, second drops two
        assert_eq!((gone, cache.len()), (2, 2));
        assert!(cache.get(keys[1]).is_some() && cache.get(keys[2]).is_some());
        cache.shrink(0, 7, |_| gone += 1);
        assert_eq!((gone, cache.len()), (3, 1));
        assert_eq!(cache.find(&2), Some(keys[2]));
        assert_eq!(cache.find(&1), None);
    }

    #[test]
    fn forgotten_objects_are_gone_changed_or_not() {
        let mut cache = Cache::new(Keyed::new(1));
        let keys: Vec<_> = (0..4).map(|id| cache.insert(id, Thing(10 + id as usize % 2))).collect();
        keys.iter().for_each(|&key| assert!(cache.changed(key)));
        let mut bytes = 0;
        cache.forget(|thing| thing.0 == 11, |thing| bytes += thing.0);
        assert_eq!((bytes, cache.len(), cache.bytes(), cache.find(&1)), (22, 2, 20, None));
        let mut written = 0;
        cache.cut(1, |thing| written += thing.0);
        assert_eq!(written, 20);
    }

    #[test]
    fn grown_objects_are_weighed_again() {
        let mut cache = Cache::new(Keyed::new(1));
        let key = cache.insert(1, Thing(10));
        cache.get_mut(key).expect("inserted").0 = 50;
        cache.changed(key);
        assert_eq!(cache.bytes, 50);
    }
}
