//! Limits of the gateway drivers, with their arithmetic.

use core::time::Duration;

/// The read buffer that all sessions of a loop share, bytes. One read takes at most this much from a session per turn,
/// so a session with a full socket waits for all others before it is read again.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Connections accepted per turn: a storm of connects must not keep the sessions that exist from being served.
pub const ACCEPTS_PER_TURN: usize = 64;

/// After a failed accept (no descriptor left) the listener rests this long; it would be readable at every turn.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After our last byte a connection stays half open this long, so that the peer can read a close frame: closing a
/// socket with unread input resets it, and a reset throws away what the peer has not read.
pub const LINGER: Duration = Duration::from_secs(2);

/// Input that is read and thrown away while a connection lingers, bytes.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Connections of the echo listener, which is for conformance suites and holds whole messages.
pub const ECHO_CONNECTIONS_MAX: usize = 64;

/// Longest message the echo listener takes (the largest of Autobahn's cases).
pub const ECHO_MESSAGE_MAX: u32 = 16 * 1024 * 1024;

/// The echo listener stops reading a connection to which this much waits to be sent. 64 connections hold at most
/// 64 × (16 MiB message + 16 MiB + 16 MiB queue) = 3 GiB, in a listener for tests.
pub const ECHO_QUEUE_MAX: usize = 16 * 1024 * 1024;

/// Session events handled before their effects are carried out: what many sessions ask of one router shares a message,
/// and no session waits for more than 64 others' frames.
pub const EVENTS_PER_SETTLE: usize = 64;

/// Inputs from routers taken per turn; each is a batch.
pub const INPUTS_PER_TURN: usize = 256;

/// Messages in inputs after which a turn takes no further input: at about 1 µs each (and more with fan-out) a few
/// milliseconds during which no session is read.
pub const INPUT_MESSAGES_PER_TURN: usize = 4096;

/// Inputs that may wait for a loop. Routers get [`crossbeam_channel::TrySendError::Full`] above it and drop
/// deliveries (contract C4) or hold answers back.
pub const INPUTS_MAX: usize = 4096;

/// Tokens verified per turn: an Ed25519 check is about 60 µs, so 32 of them delay other sessions by 2 ms.
pub const VERIFICATIONS_PER_TURN: usize = 32;

/// Messages that wait for routers above which a loop stops reading its sessions. The machine bounds what can be
/// waiting beyond it: it answers BUSY above its limit of pending requests.
pub const CONGESTED_MESSAGES: usize = 1024;

/// How often a loop tries again to pass on what a router did not take.
pub const CONGESTED_RETRY: Duration = Duration::from_millis(1);

/// How often the machine is told the wall clock.
pub const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Plaintext encrypted at a time; one TLS record (RFC 8446 §5.1). While a session's socket is full, it holds at most
/// one record of ciphertext and its outbox.
pub const TLS_RECORD_BYTES: usize = 16 * 1024;

/// Ciphertext kept of an incomplete record or handshake message: one record (16 KiB + 256 + 5), twice, because a
/// ClientHello may span records.
pub const TLS_TAIL_BYTES_MAX: usize = 34 * 1024;

/// TLS handshakes of a loop at a time, 64 per core and some slack for slow networks; the oldest gives way
/// (each costs about 10 KiB and a signature).
pub const TLS_HANDSHAKES_MAX: usize = 256;

/// Bytes that may wait on the link to one router node.
pub const LINK_OUTGOING_BYTES: usize = 8 * 1024 * 1024;

/// A peer that did not finish connect and hello by then is given up: in a network that loses packets a new try is quicker
/// than TCP's later ones (after 1 and 3 s).
pub const LINK_HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a link asks for a sign of life.
pub const LINK_PING_EVERY: Duration = Duration::from_millis(200);

/// Silence after which a link is broken. Its requests are retried elsewhere, so it is about what an election takes; a
/// shorter one would make a router that is merely busy lose its registrations.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(1);

/// First pause before a link is made again; doubles up to [`LINK_BACKOFF_MAX`].
pub const LINK_BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Longest pause before a link is made again.
pub const LINK_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Pause after a peer refused the hello: a configuration error heals by hand.
pub const LINK_REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Rounds of reading links per turn; each round reads every ready link once.
pub const LINK_ROUNDS_PER_TURN: usize = 8;

/// QUIC handshakes (and streams not opened yet) at a time; above it an Initial is refused.
pub const QUIC_HANDSHAKES_MAX: usize = 1024;

/// QUIC handshakes at a time above which a client must prove its address by Retry (RFC 9000 §8.1.2).
pub const QUIC_RETRY_ABOVE: usize = 64;

/// From the first packet to the stream's first byte.
pub const QUIC_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which QUIC drops a connection without a word; the machine's heartbeat is the real limit.
pub const QUIC_IDLE: Duration = Duration::from_secs(120);

/// QUIC stream and connection windows in both directions, bytes. What a peer may make us hold, not what is allocated.
pub const QUIC_WINDOW_BYTES: u32 = 64 * 1024;

/// Out-of-order handshake data per connection, bytes.
pub const QUIC_CRYPTO_BUFFER_BYTES: usize = 16 * 1024;

/// Packets of connections that are not accepted yet, bytes: per connection and in all.
pub const QUIC_INCOMING_BYTES: u64 = 16 * 1024;
/// See [`QUIC_INCOMING_BYTES`].
pub const QUIC_INCOMING_TOTAL_BYTES: u64 = 8 * 1024 * 1024;

/// Reads of one QUIC session per poll; then others have their turn.
pub const QUIC_READS_PER_POLL: usize = 4;

const _: () = assert!(EVENTS_PER_SETTLE <= throng_runtime::limits::EVENTS_MAX);
const _: () = assert!(LINK_PING_EVERY.as_millis() * 2 < LINK_SILENCE_MAX.as_millis());
const _: () = assert!(QUIC_RETRY_ABOVE < QUIC_HANDSHAKES_MAX);

/// Buffers asked for the UDP socket in each direction, bytes; the kernel caps them at `net.core.rmem_max`.
pub const QUIC_SOCKET_BYTES: usize = 4 * 1024 * 1024;
