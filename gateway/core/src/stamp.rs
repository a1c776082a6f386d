//! Time in four bytes, for per-session deadlines.

use core::time::Duration;

use throng_base::Instant;

/// Length of a tick: fine enough for deadlines of seconds, and 2³² of them are 13 years of uptime.
pub(crate) const TICK: Duration = Duration::from_millis(100);

const TICK_NANOS: u64 = TICK.as_nanos() as u64;

/// A time in ticks since the gateway loop started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(pub(crate) u32);

impl Stamp {
    /// `duration` later, rounded up.
    pub(crate) fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(u32::try_from(nanos.div_ceil(TICK_NANOS)).unwrap_or(u32::MAX)))
    }
}

/// Converts between [`Instant`] and [`Stamp`], and knows the wall clock as the driver last told it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Unix milliseconds at the origin of [`Instant`].
    wall_origin_ms: u64,
}

impl Clock {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, wall_origin_ms: 0 }
    }

    /// The tick that `now` is in.
    pub(crate) fn stamp(&self, now: Instant) -> Stamp {
        let ticks = now.0.saturating_sub(self.start.0) / TICK_NANOS;
        Stamp(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// The first instant at which [`Clock::stamp`] says `stamp`.
    pub(crate) fn instant(&self, stamp: Stamp) -> Instant {
        Instant(self.start.0.saturating_add(u64::from(stamp.0) * TICK_NANOS))
    }

    /// A deadline `duration` from `now` that never comes early.
    pub(crate) fn deadline(&self, now: Instant, duration: Duration) -> Stamp {
        Stamp(self.stamp(now).0.saturating_add(1)).after(duration)
    }

    pub(crate) fn set_wall(&mut self, now: Instant, unix_ms: u64) {
        self.wall_origin_ms = unix_ms.saturating_sub(now.as_millis());
    }

    /// Unix milliseconds.
    pub(crate) fn wall_ms(&self, now: Instant) -> u64 {
        self.wall_origin_ms.saturating_add(now.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_never_come_early_and_at_most_two_ticks_late() {
        let clock = Clock::new(Instant::from_millis(7_777));
        for ms in 7_777..8_200 {
            let now = Instant::from_millis(ms);
            let at = clock.instant(clock.deadline(now, Duration::from_millis(250)));
            assert!(
                at - now >= Duration::from_millis(250) && at - now <= Duration::from_millis(450),
                "{at:?}"
            );
            assert_eq!(clock.stamp(clock.instant(clock.stamp(now))), clock.stamp(now));
        }
    }
}
