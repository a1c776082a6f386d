//! What is going to happen, in the order of virtual time.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use throng_base::Instant;

/// A queue by time. What is due at the same time comes in the order in which it was put in, and keeps its place in that
/// order when it is put off.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Scheduled<T>>>,
    pushed: u64,
}

/// Something and when it is due.
pub(crate) struct Scheduled<T> {
    pub(crate) at: Instant,
    number: u64,
    pub(crate) what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), pushed: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, at: Instant, what: T) {
        self.pushed += 1;
        self.heap.push(Reverse(Scheduled { at, number: self.pushed, what }));
    }

    /// What is due next.
    pub(crate) fn pop(&mut self) -> Option<Scheduled<T>> {
        self.heap.pop().map(|Reverse(next)| next)
    }

    /// Puts it back for a later time. Before everything that was pushed after it and is due then: on an ordered path what
    /// waits must not be overtaken by what came later, however often it has to wait.
    pub(crate) fn put_off(&mut self, until: Instant, scheduled: Scheduled<T>) {
        self.heap.push(Reverse(Scheduled { at: until, ..scheduled }));
    }
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Scheduled<T> {}

impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Scheduled<T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(mut queue: Queue<&'static str>) -> Vec<&'static str> {
        core::iter::from_fn(|| queue.pop().map(|next| next.what)).collect()
    }

    #[test]
    fn time_goes_first_and_then_the_order_of_pushes() {
        let mut queue = Queue::default();
        queue.push(Instant(2), "third");
        queue.push(Instant(1), "first");
        queue.push(Instant(1), "second");
        assert_eq!(rest(queue), ["first", "second", "third"]);
    }

    /// A pause that another pause prolongs: the first message waits twice, the second once.
    #[test]
    fn what_waits_is_not_overtaken() {
        let mut queue = Queue::default();
        queue.push(Instant(1), "first");
        queue.push(Instant(3), "second");
        let first = queue.pop().expect("pushed");
        queue.put_off(Instant(4), first);
        let second = queue.pop().expect("pushed");
        assert_eq!(second.what, "second");
        queue.put_off(Instant(9), second);
        let first = queue.pop().expect("put off");
        queue.put_off(Instant(9), first);
        assert_eq!(rest(queue), ["first", "second"]);
    }
}
