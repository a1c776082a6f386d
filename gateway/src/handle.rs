//! How other threads talk to a gateway loop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use throng_base::Full;
use throng_runtime::Waker;
use throng_wire::NodeId;
use throng_wire::link::{GatewayId, ToGateway};
use tokio::sync::Notify;

use crate::limits::INPUTS_MAX;

/// What a loop is told by other threads (and, about remote routers, by its own links).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoopInput {
    /// Messages of a router, in order.
    Router {
        /// The node it runs on.
        node: NodeId,
        /// The messages.
        messages: Vec<ToGateway>,
    },
    /// A router can be reached (again): everything is registered anew.
    RouterUp(NodeId),
    /// A router cannot be reached.
    RouterDown(NodeId),
    /// Let the sessions go: no more accepts, GOAWAY, later CLOSE.
    Drain,
    /// End the loop at once.
    Stop,
}

/// Figures of a loop that other threads may read at any time.
#[derive(Debug, Default)]
pub struct LoopStats {
    /// Sessions with a transport.
    pub sessions: AtomicU64,
    /// Connects since the start, refused ones too.
    pub connects: AtomicU64,
    /// Sessions authenticated since the start.
    pub authenticated: AtomicU64,
    /// Copies of events queued for sessions since the start.
    pub deliveries: AtomicU64,
    /// Copies dropped because an outbox was full.
    pub deliveries_dropped: AtomicU64,
}

impl LoopStats {
    pub(crate) fn set(field: &AtomicU64, value: u64) {
        field.store(value, Ordering::Relaxed);
    }

    /// Sessions with a transport.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}

/// Ends the wait of a loop: an eventfd in epoll, a notification in tokio.
#[derive(Clone, Debug)]
pub(crate) enum Wake {
    Epoll(Waker),
    Tokio(Arc<Notify>),
}

/// Sends to a loop. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    id: GatewayId,
    sender: Sender<LoopInput>,
    wake: Wake,
    stats: Arc<LoopStats>,
}

/// The loop's end of its handle.
pub(crate) struct Inbox {
    pub(crate) receiver: Receiver<LoopInput>,
    pub(crate) stats: Arc<LoopStats>,
}

impl GatewayHandle {
    pub(crate) fn new(id: GatewayId, wake: Wake) -> (Self, Inbox) {
        let (sender, receiver) = bounded(INPUTS_MAX);
        let stats = Arc::new(LoopStats::default());
        (Self { id, sender, wake, stats: stats.clone() }, Inbox { receiver, stats })
    }

    /// The loop's id.
    pub fn id(&self) -> GatewayId {
        self.id
    }

    /// Its figures.
    pub fn stats(&self) -> &LoopStats {
        &self.stats
    }

    /// Sends an input and wakes the loop. An input for a loop that has ended goes nowhere.
    ///
    /// # Errors
    /// [`Full`] with the input if too many wait: a router drops deliveries and says LAGGED, and holds answers back.
    pub fn send(&self, input: LoopInput) -> Result<(), Full<LoopInput>> {
        match self.sender.try_send(input) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {
                self.wake();
                Ok(())
            }
            Err(TrySendError::Full(input)) => Err(Full(input)),
        }
    }

    fn wake(&self) {
        match &self.wake {
            Wake::Epoll(waker) => waker.wake(),
            Wake::Tokio(notify) => notify.notify_one(),
        }
    }
}

/// A running loop.
#[derive(Debug)]
pub struct GatewayThread {
    handle: GatewayHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl GatewayThread {
    pub(crate) fn new(handle: GatewayHandle, thread: JoinHandle<io::Result<()>>) -> Self {
        Self { handle, thread }
    }

    /// Sends to it.
    pub fn handle(&self) -> &GatewayHandle {
        &self.handle
    }

    /// Whether it has ended, by [`LoopInput::Stop`] or by an error.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why it ended, if not by [`LoopInput::Stop`].
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a gateway loop panicked")))
    }
}
