//! Exponential backoff with full jitter.

use core::time::Duration;

use throng_base::Rng;

/// Delays drawn uniformly from `0 ..= min(max, min · 2^tries)` ("full jitter": many clients that lost the same server
/// spread over the whole interval, so their number per second stays flat).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper end of the first delay.
    pub min: Duration,
    /// Upper end of every delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `tries` failures in a row, at least `floor` (what the server asked for).
    pub fn delay(&self, tries: u32, floor: Duration, rng: &mut Rng) -> Duration {
        let ceiling = self.min.saturating_mul(1u32 << tries.min(20)).min(self.max);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX - 1);
        floor + Duration::from_nanos(rng.between(0, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_between_floor_and_ceiling_and_spread() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
        let mut rng = Rng::new(1);
        for tries in 0..100 {
            let ceiling = Duration::from_millis(100 << tries.min(20)).min(backoff.max);
            assert!(backoff.delay(tries, Duration::ZERO, &mut rng) <= ceiling);
            assert!(backoff.delay(tries, Duration::from_secs(3), &mut rng) >= Duration::from_secs(3));
        }
        let draws: Vec<_> = (0..1000).map(|_| backoff.delay(30, Duration::ZERO, &mut rng)).collect();
        assert!(draws.iter().any(|d| *d < Duration::from_secs(1)));
        assert!(draws.iter().any(|d| *d > Duration::from_secs(9)));
    }
}
