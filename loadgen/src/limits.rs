//! Limits of the generator, with their arithmetic.

/// Sessions from one source address on loopback: 28,232 local ports would do, but with a new address every 1,000
/// sockets the kernel's port search stayed at 70,000 connects per second (it fell to 2,000 otherwise).
pub(crate) const SESSIONS_PER_SOURCE: usize = 1000;

/// Descriptors beside the sessions' own: standard streams, epoll, eventfds, tokio, report files.
pub(crate) const DESCRIPTORS_SPARE: u64 = 64;

/// Bytes read from a socket at a time, into one buffer shared by all sessions.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Bytes of a session on their way through the tokio thread; more wait in the client machine.
pub(crate) const PUMP_QUEUED_MAX: usize = 256 * 1024;

/// Messages from the tokio thread that the loop has not looked at. Beyond it, that thread waits.
pub(crate) const PUMP_REPORTS_MAX: usize = 16 * 1024;

/// Sends handed to the fleet in one turn; the rest of a burst follows after the sockets had theirs.
pub(crate) const SENDS_PER_TURN: usize = 512;

/// Sends that wait because an outbox is full. Beyond it the schedule stops and the run is over its head.
pub(crate) const BACKLOG_MAX: usize = 1_000_000;

/// Channels whose history is read at the same time at the end.
pub(crate) const VERIFIES_MAX: usize = 64;

/// Sends of a lane remembered for repetition after their ack: half of what the channel remembers (contract C3), so a
/// repetition never meets UNKNOWN_OUTCOME while up to eight more sends overtake it.
pub(crate) const REMEMBERED: usize = 8;
