//! Waiting for an instant with the precision of the kernel; tokio's own timers round up to milliseconds.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use throng_base::Instant;
use throng_runtime::Clock;
use tokio::io::unix::AsyncFd;

pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    // Deprecated for descriptors that somebody else may close; this one is owned, and its successor is unsafe.
    #[expect(deprecated, reason = "the descriptor is owned, so nobody closes it meanwhile")]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    /// Returns at `at`.
    pub(super) async fn until(&self, clock: &Clock, at: Instant) {
        let wait = at.since(clock.now());
        if wait.is_zero() {
            return tokio::task::yield_now().await;
        }
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: never, it_value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &spec).expect("a valid time");
        let mut guard = self.0.readable().await.expect("the runtime lives");
        let mut expirations = [0; 8];
        let _ = rustix::io::read(self.0.get_ref(), &mut expirations);
        guard.clear_ready();
    }
}
