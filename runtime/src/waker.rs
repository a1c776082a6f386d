//! Ends another thread's wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the loop whose poller this is registered with. Cloned into every thread that sends to that loop.
///
/// Many wakes before the loop runs cost one system call: `pending` says that the descriptor is readable already. The
/// loop calls [`Waker::reset`] *before* it empties its channels, so an item sent after the loop looked finds `pending`
/// clear and wakes again.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    descriptor: OwnedFd,
    pending: AtomicBool,
}

impl Waker {
    /// A waker that nobody waits for yet.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { descriptor, pending: AtomicBool::new(false) }) })
    }

    /// Makes the descriptor readable. Call it after the item was put into the channel.
    pub fn wake(&self) {
        if !self.shared.pending.swap(true, Ordering::AcqRel) {
            // Fails only if the counter is at its maximum, and then the descriptor is readable anyway.
            let _ = rustix::io::write(&self.shared.descriptor, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable again. Call it before looking into the channels.
    pub fn reset(&self) {
        let mut counter = [0u8; 8];
        // "Would block" means that nobody woke: nothing to clear.
        let _ = rustix::io::read(&self.shared.descriptor, &mut counter);
        // A swap, not a store: it reads what the last waker wrote, so that waker's item is visible from here on.
        self.shared.pending.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::{Interest, Poller};

    #[test]
    fn every_item_sent_from_other_threads_is_seen() {
        const ITEMS: usize = 20_000;
        let (mut poller, waker) = (Poller::new().expect("epoll"), Waker::new().expect("eventfd"));
        poller.register(&waker, 0, Interest::Read).expect("registered");
        let (sender, receiver) = mpsc::channel();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (sender, waker) = (sender.clone(), waker.clone());
                std::thread::spawn(move || {
                    for item in 0..ITEMS {
                        sender.send(item).expect("the receiver lives");
                        waker.wake();
                    }
                })
            })
            .collect();
        let (mut seen, mut ready) = (0, Vec::new());
        while seen < ITEMS * 2 {
            poller.wait(&mut ready, Some(Duration::from_secs(10))).expect("waited");
            assert!(!ready.is_empty(), "a wake-up was lost after {seen} items");
            waker.reset();
            seen += receiver.try_iter().count();
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}
