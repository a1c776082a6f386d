//! The thread that makes the next segment while the present one fills.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use throng_storage_core::log::Generation;

use super::disk::Segment;
use super::make::Maker;
use crate::background;
use crate::limits::{SEGMENT_PATIENCE, SEGMENT_RETRY, ZERO_REST_MAX, ZERO_RESTS};

/// Makes segments one ahead of the writer.
pub(crate) struct Preparer {
    /// The rendezvous: a segment waits in the thread's hand, not in a buffer, so there is never more than one spare.
    ready: Option<Receiver<io::Result<Segment>>>,
    /// Wakes the thread when the log's begin moved.
    nudge: Option<Sender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stopped: AtomicBool,
    /// The writer waits for the next segment.
    wanted: AtomicBool,
    /// Where the log begins, durably: a generation.
    begin: AtomicU64,
}

impl Preparer {
    pub(crate) fn start(maker: Maker) -> io::Result<Self> {
        let ((sender, ready), (nudge, nudged)) = (bounded(0), bounded(1));
        let begin = AtomicU64::new(maker.begin.0);
        let shared =
            Arc::new(Shared { stopped: AtomicBool::default(), wanted: AtomicBool::default(), begin });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("throng-log-next".to_owned()).spawn(move || {
            background::yield_to_loops();
            run(maker, &seen, &sender, &nudged)
        })?;
        Ok(Self { ready: Some(ready), nudge: Some(nudge), shared, thread: Some(thread) })
    }

    /// Waits for the next segment; an error is final.
    pub(crate) fn next(&mut self) -> io::Result<Segment> {
        let gone = || io::Error::other("the thread that prepares segments has stopped");
        self.shared.wanted.store(true, Ordering::Relaxed);
        self.wake();
        let next = self.ready.as_ref().ok_or_else(gone)?.recv();
        self.shared.wanted.store(false, Ordering::Relaxed);
        next.map_err(|_| gone())?
    }

    fn wake(&self) {
        self.thread.iter().for_each(|thread| thread.thread().unpark());
    }

    /// The log durably begins at `begin`.
    pub(crate) fn release(&self, begin: Generation) {
        self.shared.begin.store(begin.0, Ordering::Release);
        // Full: it will look anyway.
        let _nudged = self.nudge.as_ref().map(|nudge| nudge.try_send(()));
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.wake();
        (self.ready, self.nudge) = (None, None);
        if let Some(thread) = self.thread.take() {
            // It has reported its error, or a panic printed itself.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    /// Between two chunks. Says whether the making ends.
    fn rest(&self, took: Duration) -> bool {
        // Whoever wants the segment ends the rest.
        std::thread::park_timeout(rest_after(took, self.wanted.load(Ordering::Relaxed)));
        self.stopped.load(Ordering::Relaxed)
    }
}

/// How long the thread rests after a chunk that took so long.
fn rest_after(took: Duration, wanted: bool) -> Duration {
    if wanted { Duration::ZERO } else { took.saturating_mul(ZERO_RESTS).min(ZERO_REST_MAX) }
}

/// Ends when the writer is gone, or has taken an error.
fn run(mut maker: Maker, shared: &Shared, ready: &Sender<io::Result<Segment>>, nudged: &Receiver<()>) {
    let stopped = || shared.stopped.load(Ordering::Relaxed);
    let mut failing = None;
    while !stopped() {
        maker.release(Generation(shared.begin.load(Ordering::Acquire)));
        let ends = match maker.make(&|took| shared.rest(took)) {
            Ok(segment) => {
                failing = None;
                hand_over(&mut maker, segment, shared, ready, nudged)
            }
            Err(_) if stopped() => true,
            Err(error) if !is_full(&error) => {
                complain(&maker, &error);
                let _taken = ready.send(Err(error));
                true
            }
            Err(error) => {
                let since = *failing.get_or_insert_with(|| complain(&maker, &error));
                wait(error, since, ready, nudged)
            }
        };
        if ends {
            return;
        }
    }
}

fn complain(maker: &Maker, error: &io::Error) -> Instant {
    tracing::error!(generation = %maker.next, %error, "cannot prepare the next log segment");
    Instant::now()
}

/// Room may come back; any other error of a disk is final.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Holds a segment out until the writer takes it. Says whether the writer is gone.
fn hand_over(
    maker: &mut Maker,
    segment: Segment,
    shared: &Shared,
    ready: &Sender<io::Result<Segment>>,
    nudged: &Receiver<()>,
) -> bool {
    loop {
        select! {
            send(ready, Ok(segment)) -> sent => return sent.is_err(),
            recv(nudged) -> nudge => match nudge {
                Ok(()) => maker.release(Generation(shared.begin.load(Ordering::Acquire))),
                Err(_) => return true,
            },
        }
    }
}

/// The disk is full. The writer has the present segment and may need no other for long: room may come back. If it waits
/// for one already and this has lasted, it is told. Says whether that is the end.
fn wait(
    error: io::Error,
    since: Instant,
    ready: &Sender<io::Result<Segment>>,
    nudged: &Receiver<()>,
) -> bool {
    let rest: Duration = SEGMENT_RETRY;
    if since.elapsed() < SEGMENT_PATIENCE {
        std::thread::sleep(rest);
        return false;
    }
    select! {
        send(ready, Err(error)) -> _ => true,
        recv(nudged) -> nudge => nudge.is_err(),
        default(rest) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_long_and_bounded_and_end_when_the_writer_waits() {
        let chunk = Duration::from_millis(1);
        assert_eq!(rest_after(chunk, false), 8 * chunk);
        assert_eq!(rest_after(Duration::MAX, false), ZERO_REST_MAX);
        assert_eq!(rest_after(chunk, true), Duration::ZERO);
    }
}
