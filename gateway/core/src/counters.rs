//! What a gateway loop counts. Metrics and tests read the same fields.

use throng_wire::Code;
use throng_wire::code::CODES;

/// Totals since the loop started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transports accepted.
    pub connects: u64,
    /// Transports refused by a limit or because the gateway drains.
    pub refused: u64,
    /// Sessions authenticated.
    pub authenticated: u64,
    /// HTTP requests that were no valid upgrade.
    pub http_refusals: u64,
    /// Frames taken from clients.
    pub frames_in: u64,
    /// Requests passed to routers, re-routed ones again.
    pub requests: u64,
    /// Requests sent on to the node that a router named as leader.
    pub rerouted: u64,
    /// Requests answered by ERROR.
    pub errors: u64,
    /// Events that came for this loop's channels.
    pub events: u64,
    /// Events ignored because they came from a node that does not lead the channel, or a second time.
    pub events_stale: u64,
    /// Events that came after a hole in their channel.
    pub events_after_gap: u64,
    /// Copies of events queued for sessions.
    pub deliveries: u64,
    /// Copies dropped because an outbox was full; each session is owed a LAGGED.
    pub deliveries_dropped: u64,
    /// LAGGED frames queued.
    pub lagged: u64,
    /// Hints that a delivery had made superfluous.
    pub hints_passed: u64,
    /// Sessions dropped from a channel because their user left it.
    pub left: u64,
    /// Registrations and subscriptions asked for again after a leader change or a broken link.
    pub renewals: u64,
    /// Sessions closed, by code; see [`Counters::closed`].
    closes: Vec<u64>,
}

impl Counters {
    /// Sessions closed with this code.
    pub fn closed(&self, code: Code) -> u64 {
        place(code).and_then(|place| self.closes.get(place)).copied().unwrap_or(0)
    }

    pub(crate) fn count_close(&mut self, code: Code) {
        if self.closes.is_empty() {
            self.closes = vec![0; CODES.len()];
        }
        if let Some(place) = place(code) {
            self.closes[place] += 1;
        }
    }
}

fn place(code: Code) -> Option<usize> {
    CODES.iter().position(|info| info.code == code)
}
