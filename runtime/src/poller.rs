//! Readiness of sockets: epoll.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::limits::EVENTS_MAX;

/// What a registration waits for. Errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing but errors: a session that is not read at the moment (back-pressure).
    None,
    /// Bytes to read, or the end of the stream.
    Read,
    /// Room to write.
    Write,
    /// Either.
    Both,
}

impl Interest {
    /// From the two wishes of a connection.
    pub fn of(options: Wishes) -> Self {
        match (options.read, options.write) {
            (false, false) => Self::None,
            (true, false) => Self::Read,
            (false, true) => Self::Write,
            (true, true) => Self::Both,
        }
    }

    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::None => epoll::EventFlags::empty(),
            Self::Read => epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
            Self::Write => epoll::EventFlags::OUT,
            Self::Both => epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::OUT,
        }
    }
}

/// Argument of [`Interest::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Wait for bytes.
    pub read: bool,
    /// Wait for room.
    pub write: bool,
}

/// One socket is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The token of its registration.
    pub token: u64,
    /// Reading makes progress: bytes, the end of the stream or an error.
    pub readable: bool,
    /// Writing makes progress.
    pub writable: bool,
    /// The connection failed or both directions are closed.
    pub broken: bool,
}

/// An epoll instance, **level-triggered**: an event is reported again until its cause is gone. So a loop may read one
/// buffer's worth per socket and turn (fair, bounded) without remembering which sockets have more, and a driver that
/// forgets one readiness is slow rather than stuck. The price is one `epoll_ctl` when a socket's outbox starts and ends
/// to block, which is rare; idle sockets cost the same in both modes.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A poller without registrations.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Starts to watch a descriptor; closing it ends the registration.
    ///
    /// # Errors
    /// Out of memory or watches, or it is registered already.
    pub fn register(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what a descriptor is watched for.
    ///
    /// # Errors
    /// It is not registered.
    pub fn modify(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Stops watching a descriptor that stays open.
    ///
    /// # Errors
    /// It is not registered.
    pub fn deregister(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until something is ready or the timeout passes, and replaces the content of `ready`: at most
    /// [`EVENTS_MAX`] events, the rest at the next call. An interrupted wait reports nothing.
    ///
    /// # Errors
    /// The epoll descriptor is broken; nothing a loop can go on with.
    pub fn wait(&mut self, ready: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(timespec);
        // On the stack and never initialised: rustix' events hold a pointer and would make the poller thread-bound.
        let mut space = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        match epoll::wait(&self.epoll, &mut space[..], timeout.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(event)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl AsFd for Poller {
    /// Readable while any registration is ready, so that a poller can wait inside another one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn event(raw: &epoll::Event) -> Event {
    let (flags, data) = (raw.flags, raw.data);
    let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
    Event {
        token: data.u64(),
        readable: broken || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
        writable: broken || flags.contains(epoll::EventFlags::OUT),
        broken,
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SHORT: Option<Duration> = Some(Duration::from_millis(1));
    const LONG: Option<Duration> = Some(Duration::from_secs(10));

    #[test]
    fn an_event_is_reported_until_its_cause_is_gone() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let (mut poller, mut ready) = (Poller::new().expect("epoll"), Vec::new());
        poller.register(&far, 7, Interest::Read).expect("registered");
        poller.wait(&mut ready, SHORT).expect("waited");
        assert_eq!(ready, []);
        near.write_all(b"x").expect("written");
        for _ in 0..2 {
            poller.wait(&mut ready, LONG).expect("waited");
            assert_eq!(ready, [Event { token: 7, readable: true, writable: false, broken: false }]);
        }
    }

    #[test]
    fn interest_can_change_and_a_hang_up_is_always_reported() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let (mut poller, mut ready) = (Poller::new().expect("epoll"), Vec::new());
        poller.register(&far, 1, Interest::None).expect("registered");
        poller.modify(&far, 2, Interest::Both).expect("modified");
        poller.wait(&mut ready, LONG).expect("waited");
        assert_eq!(ready, [Event { token: 2, readable: false, writable: true, broken: false }]);
        poller.modify(&far, 3, Interest::None).expect("modified");
        drop(near);
        poller.wait(&mut ready, LONG).expect("waited");
        assert!(ready.len() == 1 && ready[0].broken && ready[0].token == 3, "{ready:?}");
        poller.deregister(&far).expect("deregistered");
        poller.wait(&mut ready, SHORT).expect("waited");
        assert_eq!(ready, []);
    }
}
