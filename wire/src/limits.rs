//! Limits of the protocol, with their arithmetic.

/// Largest message body by default, announced in WELCOME.
pub const BODY_MAX_DEFAULT: usize = 64 * 1024;

/// Largest body any configuration may allow.
pub const BODY_MAX_CAP: usize = 1024 * 1024;

/// What a frame may hold beside a body: between body limit and frame limit a send gets ERROR, above it the connection
/// is closed (SPEC W-FRAME-4).
pub const FRAME_OVERHEAD_MAX: usize = 4 * 1024;

/// Unacknowledged sends of one device in one channel (contract C3); the shard remembers as many.
pub const INFLIGHT_PER_CHANNEL_MAX: usize = 16;

/// Events in one PAGE.
pub const PAGE_EVENTS_MAX: usize = 200;

/// Entries in one SYNCED.
pub const SYNC_ENTRIES_MAX: usize = 200;

/// Members in one MEMBERS page.
pub const MEMBERS_PAGE_MAX: usize = 200;

/// Members named in one CREATE: 200 × 16 bytes fits the 4 KiB beside the body.
pub const CREATE_MEMBERS_MAX: usize = 200;

/// Endpoints in one GOAWAY.
pub const ENDPOINTS_MAX: usize = 8;

/// Longest token in AUTH, bytes.
pub const TOKEN_MAX: usize = 2 * 1024;

/// Longest text field (client name, reason, detail, endpoint), bytes.
pub const TEXT_MAX: usize = 256;

/// Longest resume ticket, bytes.
pub const TICKET_MAX: usize = 256;

/// Smallest body limit a server may announce: with it the frame limit is 12 KiB, and every list fits one frame.
pub const BODY_MAX_FLOOR: usize = 8 * 1024;

/// Largest frame before WELCOME, bytes after the length field: HELLO is at most 2 + 4 + 4 + 2 + 256, AUTH at most
/// 2 + 2 + 2048 + 2 + 256.
pub const FRAME_MAX_BEFORE_WELCOME: usize = 4 * 1024;

/// Payload of one WebSocket message: one frame at its limit with its length field, or several smaller ones.
pub const fn message_max(frame_max: usize) -> usize {
    frame_max + 8
}

/// Largest peer frame, bytes after the length field: many times what batches are cut at, so that one log entry of any
/// allowed size fits.
pub const PEER_FRAME_MAX: usize = 64 * 1024 * 1024;

/// Where senders cut a batch for a peer frame, bytes: at 10 Gbit/s a frame occupies the link for less than 1 ms, so
/// heartbeats behind it are not late.
pub const PEER_BATCH_TARGET: usize = 1024 * 1024;

/// Messages in one peer frame: at 16 bytes, the least that an entry of a batch takes, more would not fit a batch.
pub const PEER_BATCH_MESSAGES_MAX: usize = 64 * 1024;

/// Nodes in [`crate::link::ToGateway::Nodes`].
pub const PEER_NODES_MAX: usize = 1024;

/// Bytes of a command of the metadata group, and of its answer: a founding of seven nodes, or a list of all nodes.
pub const META_BYTES_MAX: usize = 64 * 1024;

/// Rows in one inbox update, and shards in one leadership notice ([`crate::ids::SLOTS`] at most).
pub const PEER_ROWS_MAX: usize = 64 * 1024;

/// Members in one list of a Raft group's configuration.
pub const RAFT_CONF_MEMBERS_MAX: usize = 64;

const _: () = assert!(PEER_BATCH_MESSAGES_MAX * 16 <= PEER_BATCH_TARGET);
const _: () = assert!(PEER_BATCH_TARGET * 2 <= PEER_FRAME_MAX);
const _: () = assert!(SYNC_ENTRIES_MAX * (16 + 3 * 8) + 64 <= BODY_MAX_FLOOR + FRAME_OVERHEAD_MAX);
const _: () = assert!(MEMBERS_PAGE_MAX * (8 + 16 + 1) + 64 <= BODY_MAX_FLOOR + FRAME_OVERHEAD_MAX);
const _: () =
    assert!(ENDPOINTS_MAX * (2 + TEXT_MAX) + TICKET_MAX + 64 <= BODY_MAX_FLOOR + FRAME_OVERHEAD_MAX);
const _: () = assert!(TOKEN_MAX + TICKET_MAX + 64 <= FRAME_MAX_BEFORE_WELCOME);
const _: () =
    assert!(CREATE_MEMBERS_MAX * 16 + 64 <= FRAME_OVERHEAD_MAX, "a full CREATE fits beside an empty body");
const _: () = assert!(BODY_MAX_DEFAULT <= BODY_MAX_CAP);
