//! What a client may be told about how to behave.

use core::time::Duration;

use crate::backoff::Backoff;
use crate::limits;

/// Behaviour of a client; shared by many through an `Arc`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Client name and version, sent in HELLO for the server's logs.
    pub name: String,
    /// Delay before connecting again.
    pub reconnect: Backoff,
    /// Delay before a send or request is repeated.
    pub retry: Backoff,
    /// From the wish to connect to WELCOME.
    pub connect_timeout: Duration,
    /// While answers are due, silence for this long makes the client ask whether the server still lives. (QUIC does not
    /// notice by itself that a server died and came back.)
    pub probe_after: Duration,
    /// A server that does not answer such a question for this long is given up.
    pub probe_timeout: Duration,
    /// A send or request without an answer for this long is repeated under the same id.
    pub answer_timeout: Duration,
    /// A request of the user without a final answer for this long fails. Sends never expire.
    pub request_deadline: Duration,
    /// A session that lasted this long clears the count of failed connections.
    pub stable_after: Duration,
    /// Sends in the outbox over all channels.
    pub outbox_sends_max: usize,
    /// Bytes of bodies in the outbox over all channels.
    pub outbox_bytes_max: usize,
    /// Unanswered requests of the user.
    pub requests_max: usize,
    /// Events of a channel held back during a gap repair.
    pub held_events_max: usize,
    /// Bytes of bodies of a channel held back during a gap repair.
    pub held_bytes_max: usize,
    /// Ask which channels moved (SYNC) after every connect and when told that many moved.
    pub inbox: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: concat!("throng-client/", env!("CARGO_PKG_VERSION")).into(),
            reconnect: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) },
            retry: Backoff { min: Duration::from_millis(50), max: Duration::from_secs(2) },
            connect_timeout: Duration::from_secs(10),
            probe_after: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            request_deadline: Duration::from_secs(30),
            stable_after: Duration::from_secs(1),
            outbox_sends_max: limits::OUTBOX_SENDS_MAX,
            outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
            requests_max: limits::USER_REQUESTS_MAX,
            held_events_max: limits::HELD_EVENTS_MAX,
            held_bytes_max: limits::HELD_BYTES_MAX,
            inbox: true,
        }
    }
}
