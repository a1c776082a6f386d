//! Limits of the runtime, with their arithmetic.

use throng_base::Instant;

/// Pending connections a listener asks for. The kernel caps it at `net.core.somaxconn`, 4096 by default: a burst of
/// 9,000 connects against tokio's 1024 was seen to hang for more than 10 s.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Events fetched by one [`crate::Poller::wait`]. 1024 × 12 bytes = 12 KiB; more would only delay the timers.
pub const EVENTS_MAX: usize = 1024;

/// Slices given to one `writev`; the kernel's own limit is 1024 (`UIO_MAXIOV`).
pub const WRITE_SLICES_MAX: usize = 64;

/// How much unsent data the kernel takes from one socket (`TCP_NOTSENT_LOWAT`). Queues belong into our own bounded
/// outbox, where they can be dropped and counted: 1M sockets with a kernel queue of 4 KiB each are 4 GiB.
pub const NOTSENT_LOWAT_BYTES: i32 = 16 * 1024;

/// Sent but unacknowledged data older than this ends a TCP connection (`TCP_USER_TIMEOUT`): a peer that vanished
/// without a word must not hold its slot for the kernel's 15 minutes.
pub const USER_TIMEOUT_MS: u32 = 30_000;

/// What one [`crate::FrameLink::read`] takes from its socket at a time.
pub const LINK_READ_BYTES: usize = 64 * 1024;

/// Plaintext of a link that is encrypted at a time: sixteen records of 16 KiB. What the socket does not take of it is
/// all the ciphertext that ever waits.
pub const LINK_SEAL_BYTES: usize = 256 * 1024;

/// Ciphertext kept of an incomplete record or handshake message. rustls refuses handshake messages above 64 KiB; one
/// record (16 KiB + 256 + 5) of slack.
pub const TLS_TAIL_BYTES_MAX: usize = 82 * 1024;

/// A link that is at rest gives a buffer above this size back.
pub const LINK_KEEP_BYTES: usize = 256 * 1024;

/// Longest sleep of a poller without a timeout of its own; bounds the harm of a lost wake-up to one second.
pub const WAIT_MAX_MS: u64 = 1_000;

/// Time from `now` until `deadline` as the wait of a loop, at most [`WAIT_MAX_MS`].
pub fn wait_until(deadline: Option<Instant>, now: Instant) -> core::time::Duration {
    let longest = core::time::Duration::from_millis(WAIT_MAX_MS);
    deadline.map_or(longest, |deadline| deadline.since(now).min(longest))
}
