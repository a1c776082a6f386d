//! Limits of the client machine, with their arithmetic.

use throng_wire::limits::{BODY_MAX_CAP, FRAME_OVERHEAD_MAX, INFLIGHT_PER_CHANNEL_MAX};

/// Largest frame accepted from a server: the largest body any configuration may allow and what stands beside it.
pub const FRAME_MAX: usize = BODY_MAX_CAP + FRAME_OVERHEAD_MAX;

/// Frames are encoded while fewer bytes than this wait for the transport; 16 full windows of 16 KiB.
pub const OUTGOING_MAX: usize = 256 * 1024;

/// Frames share a WebSocket message up to this size; a larger frame travels alone.
pub const MESSAGE_MAX: usize = 16 * 1024;

/// Requests and sends that the server owes an answer, at a time: every server takes as many (SPEC W-LIM-3), and
/// answers BUSY above its limit. Others wait their turn.
pub const OPEN_MAX: usize = 64;

/// Of these, places that requests leave to sends: one channel's window.
pub const OPEN_KEPT_FOR_SENDS: usize = INFLIGHT_PER_CHANNEL_MAX;

/// Requests of the user unanswered at a time, by default.
pub const USER_REQUESTS_MAX: usize = 64;

/// Sends in the outbox over all channels, by default.
pub const OUTBOX_SENDS_MAX: usize = 4096;

/// Bytes of bodies in the outbox over all channels, by default.
pub const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events of a channel held back while a gap is repaired, by default; what does not fit is fetched again.
pub const HELD_EVENTS_MAX: usize = 256;

/// Bytes of bodies held back in a channel, by default.
pub const HELD_BYTES_MAX: usize = 1024 * 1024;

/// Channels with a subscription or unacknowledged sends.
pub const CHANNELS_MAX: usize = 65_536;

const _: () = assert!(MESSAGE_MAX < OUTGOING_MAX);
const _: () = assert!(OPEN_KEPT_FOR_SENDS < OPEN_MAX);
