//! The two clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use throng_base::Instant;

/// Monotonic time as cores take it: nanoseconds since this clock (or the one it was copied from) was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock whose origin lies one second back, so that [`Instant::ZERO`] is never a present time.
    #[expect(clippy::new_without_default, reason = "reading the clock is an effect, not a default")]
    pub fn new() -> Self {
        let now = std::time::Instant::now();
        Self { origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now) }
    }

    /// Time since the origin.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }
}

/// Wall-clock time: milliseconds since 1970; 0 if the clock is set before that.
pub fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_rises_and_copies_agree() {
        let clock = Clock::new();
        let (copy, first) = (clock, clock.now());
        assert!(first > Instant::ZERO);
        assert!(copy.now() >= first);
        assert!(unix_millis() > 1_700_000_000_000, "the machine's clock is past 2023");
    }
}
