//! One timer structure for all sessions of a loop.

use core::time::Duration;

use crate::Instant;

/// Buckets in the wheel.
const BUCKETS: usize = 256;

/// A hashed timing wheel (Varghese and Lauck, SOSP 1987, scheme 6): a timer costs 16 bytes while it waits and O(1) to
/// set. Timers are not cancelled: the owner looks at its own deadline when one fires and sets it again if it is early,
/// so a session that moves its deadline at every frame touches nothing here.
#[derive(Clone, Debug)]
pub struct TimerWheel<K> {
    buckets: Vec<Vec<(Instant, K)>>,
    tick: Duration,
    /// Everything due before this tick has fired.
    current_tick: u64,
    len: usize,
}

impl<K: Copy> TimerWheel<K> {
    /// An empty wheel; timers fire up to one `tick` late, never early.
    pub fn new(tick: Duration, now: Instant) -> Self {
        assert!(!tick.is_zero(), "a wheel turns by ticks");
        let mut wheel =
            Self { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), tick, current_tick: 0, len: 0 };
        wheel.current_tick = wheel.tick_of(now);
        wheel
    }

    /// Sets a timer.
    pub fn insert(&mut self, deadline: Instant, key: K) {
        // Rounded up: a timer never fires before its deadline.
        let tick = (self.tick_of(deadline) + 1).max(self.current_tick);
        self.buckets[(tick % BUCKETS as u64) as usize].push((deadline, key));
        self.len += 1;
    }

    /// Moves everything due at `now` into `due`.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<K>) {
        let target = self.tick_of(now);
        let turns = (target + 1).saturating_sub(self.current_tick).min(BUCKETS as u64);
        let first = (target + 1).saturating_sub(turns).max(self.current_tick);
        for tick in first..=target {
            let bucket = &mut self.buckets[(tick % BUCKETS as u64) as usize];
            let before = bucket.len();
            bucket.retain(|&(deadline, key)| {
                let waits = deadline > now;
                if !waits {
                    due.push(key);
                }
                waits
            });
            self.len -= before - bucket.len();
            if bucket.is_empty() && bucket.capacity() > 1024 {
                *bucket = Vec::new(); // a burst of timers should not keep its memory
            }
        }
        self.current_tick = self.current_tick.max(target);
    }

    /// When to call [`TimerWheel::expire`] next; `None` if no timer waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let nanos = self.tick.as_nanos() as u64;
        // The next non-empty bucket within one turn; its timers may belong to a later turn, which costs a look.
        let ahead = (0..BUCKETS as u64).find(|ahead| {
            !self.buckets[((self.current_tick + ahead) % BUCKETS as u64) as usize].is_empty()
        })?;
        Some(Instant((self.current_tick + ahead.max(1)) * nanos))
    }

    /// Timers waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn tick_of(&self, at: Instant) -> u64 {
        at.0 / self.tick.as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn timers_fire_once_never_early_and_at_most_a_tick_late() {
        let tick = Duration::from_millis(10);
        let mut rng = Rng::new(3);
        let mut wheel = TimerWheel::new(tick, Instant::from_millis(7));
        let deadlines: Vec<_> = (0..5_000).map(|_| Instant::from_millis(rng.between(7, 20_000))).collect();
        for (key, &deadline) in deadlines.iter().enumerate() {
            wheel.insert(deadline, key);
        }
        let (mut fired, mut due) = (vec![None; deadlines.len()], Vec::new());
        while let Some(at) = wheel.poll_timeout() {
            wheel.expire(at, &mut due);
            for key in due.drain(..) {
                assert_eq!(fired[key].replace(at), None);
            }
        }
        for (deadline, at) in deadlines.iter().zip(fired) {
            let at = at.expect("every timer fires");
            assert!(at >= *deadline && at - *deadline <= tick * 2, "{deadline:?} fired at {at:?}");
        }
    }

    #[test]
    fn a_late_call_fires_everything() {
        let mut wheel = TimerWheel::new(Duration::from_millis(1), Instant::ZERO);
        (0..1000).for_each(|ms| wheel.insert(Instant::from_millis(ms), ms));
        let mut due = Vec::new();
        wheel.expire(Instant::from_millis(5_000), &mut due);
        assert_eq!((due.len(), wheel.is_empty()), (1000, true));
    }
}
