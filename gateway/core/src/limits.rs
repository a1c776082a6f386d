//! Limits of one gateway loop, with their arithmetic. What an operator may change is in [`crate::GatewayConfig`];
//! these are its defaults and the bounds nobody may change.

use core::time::Duration;

use throng_wire::limits::{
    BODY_MAX_CAP, CREATE_MEMBERS_MAX, FRAME_OVERHEAD_MAX, MEMBERS_PAGE_MAX, SYNC_ENTRIES_MAX,
};

/// Sessions of one loop by default. `RLIMIT_NOFILE` is 20,000 on small machines; a loop with direct descriptors may
/// be configured higher.
pub const SESSIONS_MAX_DEFAULT: u32 = 65_536;

/// Deliveries waiting in one outbox, bytes. A reader that is 64 KiB behind is better served by FETCH.
pub const OUTBOX_BYTES_DEFAULT: usize = 64 * 1024;

/// Answers waiting in one outbox and still to come, bytes: three full pages beside each other. Above it requests for
/// pages wait in the session.
pub const ANSWER_BYTES_DEFAULT: usize = 256 * 1024;

/// What small answers find beyond that, bytes; and as much again for what no place is reserved for (errors, PONG,
/// LAGGED). A client that provokes more of those than it reads is closed as a slow consumer.
pub const OUTBOX_SLACK: usize = 16 * 1024;

/// Age of the oldest unsent byte at which a session is closed.
pub const OUTBOX_AGE_DEFAULT: Duration = Duration::from_secs(10);

/// Queued bytes of a whole loop above which sessions that already lag get no further deliveries: 1,000 full outboxes.
pub const QUEUED_TOTAL_DEFAULT: usize = 1_000 * OUTBOX_BYTES_DEFAULT;

/// Bytes of incomplete frames of a whole loop: 900 of the largest at once. Above it a session whose tail grows is closed
/// as overload; before authentication a tail is 8 KiB at most and such sessions are counted.
pub const PARTIAL_TOTAL_DEFAULT: usize = 64 << 20;

/// Channels a session may be told about one by one after drops; above it, one LAGGED for all.
pub const OWED_CHANNELS_MAX: usize = 16;

/// Requests of one session that wait for an answer.
pub const PENDING_PER_SESSION: u16 = 64;

/// Requests of a loop that wait for an answer: at about 200 bytes and a body of 64 KiB each at worst, 1 s of 65,536
/// requests per second.
pub const PENDING_PER_LOOP: usize = 65_536;

/// Requests that the loop itself may have under way to register sessions and channels again after a leader change,
/// beside those of clients: at 1 ms an answer this renews 500,000 registrations per second.
pub const RENEWALS_IN_FLIGHT: u32 = 512;

/// Sessions and subscriptions looked at in one renewal step: about 100 µs of work.
pub const RENEWAL_SCAN: u32 = 8_192;

/// Pause between two renewal steps.
pub const RENEWAL_PACE: Duration = Duration::from_millis(5);

/// Pause before what a shard refused to renew is tried again.
pub const RENEWAL_RETRY: Duration = Duration::from_millis(250);

/// How often a request follows "that node leads" before the client is told UNAVAILABLE.
pub const REROUTES_MAX: u8 = 3;

/// How long a request waits for its answer. A link that is up answers in milliseconds; this only frees the places of
/// a link that hangs.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client is told to wait when a shard has no leader: about an election.
pub const UNAVAILABLE_RETRY_MS: u32 = 200;

/// What a client is told to wait when its own places for answers are full.
pub const BUSY_RETRY_MS: u32 = 50;

/// Channels one session may be subscribed to.
pub const SUBSCRIPTIONS_PER_SESSION: usize = 1_024;

/// Channels with local subscribers in one loop.
pub const CHANNELS_MAX: u32 = 1 << 20;

/// From connect to the end of the HTTP upgrade, and from there to AUTH.
pub const PHASE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How long a closing session may take to read its last frames before its transport is cut.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);

/// Interval that WELCOME asks a client to be heard in.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);

/// Nodes a gateway keeps links to.
pub const NODES_MAX: usize = 1_024;

/// Sessions sent GOAWAY (or closed) in one drain step, and the pause between steps: 10,000 a second.
pub const DRAIN_BATCH: u32 = 500;
/// See [`DRAIN_BATCH`].
pub const DRAIN_PACE: Duration = Duration::from_millis(50);

/// Origins an operator may list.
pub const ORIGINS_MAX: usize = 64;

/// Bytes reserved for a small answer (ACK, CHANNEL, SUBSCRIBED, RESET, ERROR with a code only) with its headers.
pub const SMALL_ANSWER: usize = 80;
/// Bytes reserved for a MEMBERS page: up to 25 bytes a member (number 8, user 16, role 1).
pub const MEMBERS_ANSWER: usize = SMALL_ANSWER + MEMBERS_PAGE_MAX * 25;
/// Bytes reserved for SYNCED: up to 40 bytes an entry (channel 16, three numbers of 8).
pub const SYNC_ANSWER: usize = SMALL_ANSWER + SYNC_ENTRIES_MAX * 40;

const _: () = assert!(CREATE_MEMBERS_MAX * 16 < FRAME_OVERHEAD_MAX);
const _: () =
    assert!(PENDING_PER_SESSION as usize * SMALL_ANSWER <= OUTBOX_SLACK, "W-LIM-3: 64 open requests");
const _: () = assert!(SYNC_ANSWER < ANSWER_BYTES_DEFAULT, "any single answer fits");
const _: () = assert!(OUTBOX_BYTES_DEFAULT + ANSWER_BYTES_DEFAULT + OUTBOX_SLACK < u32::MAX as usize / 2);
const _: () = assert!(BODY_MAX_CAP + FRAME_OVERHEAD_MAX < u32::MAX as usize / 4, "reservations are u32");
