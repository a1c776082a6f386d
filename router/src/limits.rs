//! Limits of the router loop, with their arithmetic.

use core::time::Duration;

use throng_wire::limits::PEER_FRAME_MAX;

/// Inputs waiting for the loop. A gateway's batch is one input; at 64 requests a batch this is half a million
/// requests, far above what the machine admits.
pub const INPUTS_MAX: usize = 8 * 1024;

/// Inputs handled in one turn before outputs are drained: enough to fill an entry, little enough (about a
/// millisecond) not to delay heartbeats.
pub const INPUTS_PER_TURN: usize = 512;

/// Messages waiting for one gateway above which deliveries become LAGGED.
pub const GATEWAY_DELIVERIES_MAX: usize = 64 * 1024;

/// Messages waiting for one gateway above which it is cut off: replies and removals are never dropped, so a gateway
/// that takes none for this long has to register everything anew.
pub const GATEWAY_MESSAGES_MAX: usize = 256 * 1024;

/// Messages in one hand-over to a gateway.
pub const GATEWAY_BATCH_MAX: usize = 1024;

/// Bytes waiting on one link; beyond it Raft messages are dropped (Raft sends them again) and a gateway is cut off.
pub const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Limits of one peer link. A frame is at most a batch of Raft messages (1 MiB) or of messages for a gateway.
pub const LINK_LIMITS: throng_runtime::LinkLimits =
    throng_runtime::LinkLimits { frame_max: PEER_FRAME_MAX, outgoing_max: LINK_BYTES_MAX };

/// Connections to the peer port, nodes and gateways together.
pub const INBOUND_MAX: u32 = 4096;

/// Connections that have not said who they are. A cluster that restarts brings its nodes and gateway loops at once: some
/// hundreds at the very most, and who gives way dials again within a second.
pub const STRANGERS_MAX: usize = 256;

/// A new connection says who it is within this time.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A dialled node answers the hello within this time, or is dialled again: in a network that loses packets a new try is
/// quicker than TCP's second and third (after 1 and 3 s).
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a link to a node asks for an answer. One small frame in each direction; an answer takes about the turns of
/// two loops, some milliseconds under load.
pub const LINK_PING_EVERY: Duration = Duration::from_millis(50);

/// Without an answer for this long a node is not listened to: it cannot hear us, or we cannot hear it, and a leader that
/// hears nobody must not keep others from electing one. Six questions, and below the shortest election time-out.
pub const LINK_SILENCE: Duration = Duration::from_millis(300);

/// Without an answer for this long a link to a node is made anew.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(1);

/// An accepted connection on which nothing arrives for this long is closed: nodes and gateways ask for an answer several
/// times a second.
pub const INBOUND_SILENCE_MAX: Duration = Duration::from_secs(3);

/// A turn that begins this much later than it was to, or takes this long, is a pause of this loop, and no silence of
/// others.
pub const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Pause before dialling a node again, doubled up to the maximum.
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A disk that is late for this long beyond the store's own patience (2 s) ends the process.
pub const STALL_MAX: Duration = Duration::from_secs(10);

/// Questions of operators of a kind that wait for their answer.
pub const ASKS_MAX: usize = 64;

/// How long a loop that ends waits for the reason of the thread that stopped.
pub const CAUSE_WAIT: Duration = Duration::from_millis(100);

/// How soon a hand-over that found a full queue is tried again.
pub const RETRY_FULL: Duration = Duration::from_millis(1);

const _: () = assert!(GATEWAY_DELIVERIES_MAX < GATEWAY_MESSAGES_MAX);
const _: () = assert!(LINK_PING_EVERY.as_millis() * 4 <= LINK_SILENCE.as_millis());
const _: () = assert!(LINK_SILENCE.as_millis() * 2 <= LINK_SILENCE_MAX.as_millis());
