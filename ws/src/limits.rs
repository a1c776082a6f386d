//! Limits of the WebSocket layer, with their arithmetic.

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// Longest frame header: 2 bytes, 8 of extended length, 4 of mask (RFC 6455 §5.2).
pub const HEADER_MAX: usize = 2 + 8 + 4;

/// What a caller may have to keep while a header or control frame is incomplete. A control frame has no extended
/// length, so its header is 6 bytes at most.
pub const TAIL_MAX: usize = 2 + 4 + CONTROL_PAYLOAD_MAX;

/// Longest reason in a close frame: the payload minus the code.
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// Longest HTTP request or response head in a handshake, with its empty line.
pub const HEAD_MAX: usize = 8 * 1024;

/// Header fields in a handshake.
pub const HEADER_FIELDS_MAX: usize = 64;

/// Frames that one message may be cut into, by default: a flood of one-byte or empty continuations costs its receiver
/// more than its sender.
pub const FRAGMENTS_MAX_DEFAULT: u16 = 32;

const _: () = assert!(TAIL_MAX > HEADER_MAX, "an incomplete header fits the tail");
