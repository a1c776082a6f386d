//! One order over the recent events of all channels: the oldest flushed one leaves first. So the log entries whose
//! memory the bodies share are freed in the order they came.

use throng_base::{ChunkedDeque, Key};

/// Keys in one allocation: 32 KiB.
const KEYS_PER_CHUNK: usize = 4_096;

/// Recent events in the order of their apply, by the cache key of their channel.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    order: ChunkedDeque<Key, KEYS_PER_CHUNK>,
    /// Bytes of all of them. Invariant: what [`Recent::add`] was told minus what [`Recent::forget`] was told.
    bytes: usize,
    /// Events that left the order so far: the number of its first.
    gone: u64,
    /// Events that a flush has completed for, counted like `gone`.
    flushed: u64,
}

impl Recent {
    /// A new event.
    pub(crate) fn add(&mut self, channel: Key, bytes: usize) {
        self.order.push_back(channel);
        self.bytes += bytes;
    }

    /// Everything added so far is in the batch that is being cut; report this number when it is flushed.
    pub(crate) fn mark(&self) -> u64 {
        self.gone + self.order.len() as u64
    }

    /// Everything up to `mark` is flushed.
    pub(crate) fn flushed(&mut self, mark: u64) {
        assert!(mark >= self.flushed, "batches are flushed in order");
        self.flushed = mark;
    }

    /// The channel whose oldest event is to leave, if there is more than `limit`.
    pub(crate) fn evict(&mut self, limit: usize) -> Option<Key> {
        if self.bytes <= limit || self.gone >= self.flushed {
            return None;
        }
        let channel = self.order.pop_front()?;
        self.gone += 1;
        Some(channel)
    }

    /// Events of this many bytes left memory.
    pub(crate) fn forget(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "only added events leave");
        self.bytes -= bytes;
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_flushed_first_and_nothing_unflushed() {
        let key = |index| Key { index, generation: 0 };
        let mut recent = Recent::default();
        recent.add(key(1), 10);
        recent.add(key(2), 10);
        let mark = recent.mark();
        recent.add(key(3), 10);
        assert_eq!(recent.evict(0), None);
        recent.flushed(mark);
        assert_eq!(recent.evict(30), None);
        for n in [1, 2] {
            assert_eq!(recent.evict(0), Some(key(n)));
            recent.forget(10);
        }
        assert_eq!((recent.evict(0), recent.bytes()), (None, 10));
    }
}
