//! The thread that makes the next segment while the present one fills.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use throng_storage_core::log::{Generation, LogId};

use super::disk::Segment;
use super::files;

/// Makes segments one ahead of the writer.
pub(crate) struct Preparer {
    /// The rendezvous: a segment waits in the thread's hand, not in a buffer, so there is never more than one spare.
    ready: Option<Receiver<io::Result<Segment>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What to make.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) capacity: u64,
    /// Segments that are there already and empty; handed out first.
    pub(crate) spares: Vec<Segment>,
    /// The first one to make.
    pub(crate) next: Generation,
}

impl Preparer {
    pub(crate) fn start(plan: Plan) -> io::Result<Self> {
        let (sender, ready) = bounded(0);
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let thread = std::thread::Builder::new()
            .name("throng-log-next".to_owned())
            .spawn(move || run(&plan, &sender, &|| seen.load(Ordering::Relaxed)))?;
        Ok(Self { ready: Some(ready), stopped, thread: Some(thread) })
    }

    /// Waits for the next segment; an error is final.
    pub(crate) fn next(&mut self) -> io::Result<Segment> {
        let gone = || io::Error::other("the thread that prepares segments has stopped");
        self.ready.as_ref().ok_or_else(gone)?.recv().map_err(|_| gone())?
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // It has reported its error, or a panic printed itself.
            let _ended = thread.join();
        }
    }
}

fn run(plan: &Plan, ready: &Sender<io::Result<Segment>>, stopped: &dyn Fn() -> bool) {
    for spare in &plan.spares {
        if ready.send(Ok(*spare)).is_err() {
            return;
        }
    }
    let mut generation = plan.next;
    while !stopped() {
        let made = files::create(&plan.dir, plan.log, generation, plan.capacity, stopped);
        if let (Err(error), false) = (&made, stopped()) {
            tracing::error!(%generation, %error, "cannot prepare the next log segment");
        }
        let failed = made.is_err();
        if ready.send(made.map(|()| Segment { generation, capacity: plan.capacity })).is_err() || failed {
            return;
        }
        generation = generation.next();
    }
}
