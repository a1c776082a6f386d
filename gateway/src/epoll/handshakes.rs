//! How many TLS handshakes are under way. A flood of half-open ones must not keep honest clients out, so the oldest
//! gives way: an honest handshake is over in a round trip or two.

use std::collections::VecDeque;

use throng_base::Key;

use crate::limits::TLS_HANDSHAKES_MAX;

#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// Under way.
    count: usize,
    /// In the order of their beginning, with some that are over.
    begun: VecDeque<Key>,
}

impl Handshakes {
    /// One has begun. Returns the one to drop, if there are too many.
    pub(super) fn begin(&mut self, key: Key, mut is_handshaking: impl FnMut(Key) -> bool) -> Option<Key> {
        self.count += 1;
        self.begun.push_back(key);
        if self.begun.len() > TLS_HANDSHAKES_MAX * 2 {
            self.begun.retain(|key| is_handshaking(*key));
        }
        if self.count <= TLS_HANDSHAKES_MAX {
            return None;
        }
        while let Some(oldest) = self.begun.pop_front() {
            if is_handshaking(oldest) {
                return Some(oldest);
            }
        }
        None
    }

    /// One is over, one way or the other.
    pub(super) fn finish(&mut self) {
        assert!(self.count > 0, "handshakes begin before they end");
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_still_goes_on_gives_way() {
        let key = |index| Key { index, generation: 0 };
        let mut handshakes = Handshakes::default();
        let limit = TLS_HANDSHAKES_MAX as u32;
        assert!((0..limit).all(|index| handshakes.begin(key(index), |_| true).is_none()));
        // The first one has finished: there is room for one more, and then the second gives way.
        handshakes.finish();
        let goes_on = |candidate: Key| candidate != key(0);
        assert_eq!(handshakes.begin(key(limit), goes_on), None);
        assert_eq!(handshakes.begin(key(limit + 1), goes_on), Some(key(1)));
    }
}
