//! Threads that nobody waits for.

use std::io;

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;

use crate::limits::BACKGROUND_NICE;

/// The lowest priority that there is.
const NICE_MAX: i32 = 19;

/// Lowers the calling thread's priority, and so that of the threads that it will start: on Linux each thread has a nice
/// value of its own (setpriority(2)). A system that refuses gets the work done at normal priority.
pub(crate) fn yield_to_loops() {
    let thread = Some(gettid());
    let lowered = getpriority_process(thread)
        .and_then(|nice| setpriority_process(thread, (nice + BACKGROUND_NICE).min(NICE_MAX)));
    if let Err(error) = lowered {
        tracing::debug!(%error, "cannot lower the priority of a background thread");
    }
}

/// Runs `body` on a thread of lower priority and waits for it: threads that a library starts in it inherit that.
pub(crate) fn with_low_priority<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("throng-open".to_owned()).spawn_scoped(scope, || {
                yield_to_loops();
                body()
            })?;
        thread.join().map_err(|_| io::Error::other("a panic, which printed itself"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_started_at_low_priority_keep_it() {
        let nice = || getpriority_process(Some(gettid())).expect("a thread may ask about itself");
        let before = nice();
        let (own, inherited) = with_low_priority(|| {
            let inherited = std::thread::spawn(nice).join().expect("no panic");
            (nice(), inherited)
        })
        .expect("a thread can be had");
        let lower = (before + BACKGROUND_NICE).min(NICE_MAX);
        assert_eq!((own, inherited), (lower, lower));
        assert_eq!(nice(), before, "the caller's own is as it was");
    }

    #[test]
    fn a_panic_becomes_an_error() {
        assert!(with_low_priority(|| panic!("on purpose")).is_err());
    }
}
