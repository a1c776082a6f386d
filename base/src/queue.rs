//! A queue with a limit.

use std::collections::VecDeque;

/// The queue is at its limit; the item comes back, and the caller's policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A first-in first-out queue of at most `limit` items.
#[derive(Clone, Debug)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    limit: usize,
}

impl<T> BoundedQueue<T> {
    /// An empty queue; storage grows as needed, never beyond `limit` items.
    pub fn new(limit: usize) -> Self {
        Self { items: VecDeque::new(), limit }
    }

    /// Appends an item.
    ///
    /// # Errors
    /// [`Full`] with the item if the queue holds `limit` items.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.items.len() >= self.limit {
            return Err(Full(item));
        }
        self.items.push_back(item);
        assert!(self.items.len() <= self.limit, "the limit was checked above");
        Ok(())
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// The oldest item.
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// Items waiting.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Places left.
    pub fn room(&self) -> usize {
        self.limit - self.items.len()
    }

    /// Items from oldest to newest.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }

    /// Removes and yields all items, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.items.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_returns_the_item_and_order_is_kept() {
        let mut queue = BoundedQueue::new(2);
        assert_eq!(queue.push('a'), Ok(()));
        assert_eq!(queue.push('b'), Ok(()));
        assert_eq!(queue.push('c'), Err(Full('c')));
        assert_eq!((queue.pop(), queue.room()), (Some('a'), 1));
        assert_eq!(queue.drain().collect::<Vec<_>>(), ['b']);
        assert!(queue.is_empty());
    }
}
