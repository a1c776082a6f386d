//! A queue that grows without moving what it holds.

use std::collections::VecDeque;

/// A first-in first-out sequence in chunks of `N` items. A `VecDeque` that is full moves everything into twice the room:
/// with a million items that is a pause of tens of milliseconds, and many that grow in step pause together. This one
/// allocates a chunk for every `N` items and frees it with them; only the list of chunks ever moves. A short sequence
/// takes as little as a `VecDeque`.
#[derive(Clone, Debug)]
pub struct ChunkedDeque<T, const N: usize> {
    /// Invariant: none is empty or longer than `N`; all but the first and the last are `N` long.
    chunks: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T, const N: usize> ChunkedDeque<T, N> {
    /// An empty sequence; it allocates nothing.
    pub const fn new() -> Self {
        const { assert!(N > 0, "a chunk holds something") };
        Self { chunks: VecDeque::new(), len: 0 }
    }

    /// Items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an item.
    pub fn push_back(&mut self, item: T) {
        match self.chunks.back_mut().filter(|chunk| chunk.len() < N) {
            Some(chunk) => chunk.push_back(item),
            None => {
                // The only chunk of a short sequence grows as needed.
                let room = if self.chunks.is_empty() { 0 } else { N };
                let mut chunk = VecDeque::with_capacity(room);
                chunk.push_back(item);
                self.chunks.push_back(chunk);
            }
        }
        self.len += 1;
    }

    /// Takes the oldest item.
    pub fn pop_front(&mut self) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        let item = chunk.pop_front();
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new(); // an empty sequence owns nothing
        }
        self.len -= 1;
        item
    }

    /// The newest item.
    pub fn back(&self) -> Option<&T> {
        self.chunks.back()?.back()
    }

    /// The item at `index`, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&T> {
        let (chunk, within) = self.place(index);
        self.chunks.get(chunk)?.get(within)
    }

    /// Items from the one at `index` on, oldest first; none if there are not so many.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = &T> {
        let (chunk, within) = self.place(index);
        let first = self.chunks.get(chunk).filter(|chunk| within < chunk.len());
        let rest = self.chunks.iter().skip(chunk.saturating_add(1)).flatten();
        first.into_iter().flat_map(move |chunk| chunk.range(within..)).chain(rest)
    }

    /// Items from oldest to newest.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Chunk and place within it.
    fn place(&self, index: usize) -> (usize, usize) {
        let first = self.chunks.front().map_or(0, VecDeque::len);
        match index.checked_sub(first) {
            None => (0, index),
            Some(after) => (1 + after / N, after % N),
        }
    }
}

impl<T, const N: usize> Default for ChunkedDeque<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn it_does_what_a_deque_does() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let (mut ours, mut model) = (ChunkedDeque::<_, 4>::new(), VecDeque::new());
            for number in 0..200 {
                if rng.below(5) < 3 {
                    ours.push_back(number);
                    model.push_back(number);
                } else {
                    assert_eq!(ours.pop_front(), model.pop_front(), "seed {seed}");
                }
                let index = rng.below(40) as usize;
                assert_eq!((ours.len(), ours.is_empty()), (model.len(), model.is_empty()), "seed {seed}");
                assert_eq!((ours.back(), ours.get(index)), (model.back(), model.get(index)), "seed {seed}");
                assert!(ours.iter().eq(model.iter()), "seed {seed}");
                assert!(ours.iter_from(index).eq(model.iter().skip(index)), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_is_in_it_never_moves() {
        let mut deque = ChunkedDeque::<u64, 8>::new();
        (0..16).for_each(|item| deque.push_back(item));
        let at =
            |deque: &ChunkedDeque<u64, 8>, index| std::ptr::from_ref(deque.get(index).expect("it is there"));
        let (first, last) = (at(&deque, 0), at(&deque, 15));
        (16..10_000).for_each(|item| deque.push_back(item));
        assert_eq!((at(&deque, 0), at(&deque, 15)), (first, last));
    }

    #[test]
    fn nothing_is_left_of_an_empty_one() {
        let mut deque = ChunkedDeque::<u64, 8>::new();
        (0..100).for_each(|item| deque.push_back(item));
        assert_eq!((0..100).map_while(|_| deque.pop_front()).count(), 100);
        assert_eq!((deque.chunks.capacity(), deque.pop_front()), (0, None));
    }
}
