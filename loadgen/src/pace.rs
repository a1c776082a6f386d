//! When sends are due: a schedule fixed beforehand (open model).

use std::time::Duration;

use throng_base::Instant;

/// Above one send in this time the generator wakes only this often, and what is due by then goes out together: waking for
/// every send would take the processor that the target needs on the same machine. The latency counts from the intended
/// instant all the same.
const QUANTUM: Duration = Duration::from_micros(500);

/// An even schedule. A send that the generator or the target could not take in time keeps its intended instant, so its
/// latency counts the wait (wrk2).
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    start: Instant,
    per_second: f64,
    taken: u64,
    total: u64,
}

impl Pace {
    /// `per_second` sends from `start` on, for `duration`, at most `most`.
    pub(crate) fn new(start: Instant, per_second: f64, duration: Duration, most: Option<u64>) -> Self {
        let fits = (per_second * duration.as_secs_f64()).round() as u64;
        Self { start, per_second, taken: 0, total: fits.min(most.unwrap_or(u64::MAX)) }
    }

    /// The intended instant of the next send if it is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next()?;
        if at > now {
            return None;
        }
        self.taken += 1;
        Some(at)
    }

    /// When the next send is due; `None` after the last.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.taken < self.total)
            .then(|| self.start + Duration::from_secs_f64(self.taken as f64 / self.per_second))
    }

    /// When to look for sends that are due; `None` after the last.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let at = self.next()?;
        if self.per_second * QUANTUM.as_secs_f64() <= 1.0 {
            return Some(at);
        }
        let quanta = at.since(self.start).as_nanos().div_ceil(QUANTUM.as_nanos());
        Some(self.start + QUANTUM * u32::try_from(quanta).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_are_even_and_keep_their_instants_when_late() {
        let mut pace = Pace::new(Instant::from_millis(100), 10.0, Duration::from_secs(1), None);
        assert_eq!(pace.take(Instant::from_millis(99)), None);
        let late: Vec<_> =
            core::iter::from_fn(|| pace.take(Instant::from_millis(5000))).map(Instant::as_millis).collect();
        assert_eq!(late, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
        assert_eq!(pace.next(), None);
    }

    #[test]
    fn fast_schedules_are_looked_at_in_steps_and_slow_ones_at_each_send() {
        let second = Duration::from_secs(1);
        let start = Instant::from_millis(100);
        let mut fast = Pace::new(start, 10_000.0, second, None);
        assert_eq!(fast.wake(), Some(start));
        fast.take(start);
        assert_eq!((fast.next(), fast.wake()), (Some(start + QUANTUM / 5), Some(start + QUANTUM)));
        let mut slow = Pace::new(start, 200.0, second, None);
        slow.take(start);
        assert_eq!(slow.wake(), Some(start + second / 200));
    }

    #[test]
    fn a_number_of_messages_ends_it_earlier() {
        let pace = Pace::new(Instant::ZERO, 1000.0, Duration::from_secs(60), Some(3));
        assert_eq!(pace.total, 3);
    }
}
