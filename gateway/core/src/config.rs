//! What an operator decides about a gateway loop.

use core::time::Duration;

use throng_wire::limits::{BODY_MAX_CAP, BODY_MAX_DEFAULT, BODY_MAX_FLOOR, FRAME_OVERHEAD_MAX};
use throng_wire::{Epoch, NodeId, SLOTS};

use crate::limits::{
    ANSWER_BYTES_DEFAULT, HEARTBEAT_DEFAULT, ORIGINS_MAX, OUTBOX_AGE_DEFAULT, OUTBOX_BYTES_DEFAULT,
    PARTIAL_TOTAL_DEFAULT, PHASE_TIMEOUT_DEFAULT, QUEUED_TOTAL_DEFAULT, SESSIONS_MAX_DEFAULT,
};

/// Configuration of one gateway loop. `GatewayConfig::default()` is the open profile, for loopback and benches;
/// [`GatewayConfig::strict`] is for public listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Name of the server in WELCOME.
    pub server: String,
    /// Shards the cluster was formatted with.
    pub shards: u32,
    /// The node whose router lives in the same process: reads that any replica may answer (FETCH with `stale` or
    /// `at_least`) are asked there while its link is up, else at the shard's leader.
    pub home: Option<NodeId>,
    /// History epoch in WELCOME.
    pub epoch: Epoch,
    /// Largest body of a send, bytes. The frame limit is 4 KiB above it.
    pub body_max: usize,
    /// A client is heard at least this often; after twice as long it is closed.
    pub heartbeat: Duration,
    /// From connect to the end of the HTTP upgrade.
    pub upgrade_timeout: Duration,
    /// From there to a verified token.
    pub auth_timeout: Duration,
    /// Deliveries waiting for one session, bytes.
    pub outbox_bytes: usize,
    /// Answers waiting for one session and still to come, bytes.
    pub answer_bytes: usize,
    /// Age of the oldest unsent byte at which a session is closed.
    pub outbox_age: Duration,
    /// Bytes waiting for all sessions of the loop above which lagging sessions get no further deliveries.
    pub queued_total: usize,
    /// Bytes of incomplete incoming frames of the loop.
    pub partial_total: usize,
    /// Sessions of the loop.
    pub sessions_max: u32,
    /// Sessions that are not authenticated yet.
    pub unauthenticated_max: u32,
    /// The same, from one address.
    pub unauthenticated_per_ip: u32,
    /// Which browser pages may connect.
    pub origins: Origins,
    /// Frames per session; `None` = unlimited.
    pub rate: Option<Rate>,
    /// How long clients have to leave after GOAWAY.
    pub drain_after: Duration,
    /// Where GOAWAY sends them (URLs), best first.
    pub endpoints: Vec<String>,
}

/// Which browser pages may connect (`Origin` header, RFC 6454). Clients without the header are no browsers; they are
/// held to their token alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All: for development on loopback.
    Any,
    /// Exactly these serialised origins (`https://chat.example.com`), compared byte by byte.
    Listed(Vec<String>),
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Frames per second in the long run.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            server: "throng".to_owned(),
            shards: 64,
            home: None,
            epoch: Epoch(1),
            body_max: BODY_MAX_DEFAULT,
            heartbeat: HEARTBEAT_DEFAULT,
            upgrade_timeout: PHASE_TIMEOUT_DEFAULT,
            auth_timeout: PHASE_TIMEOUT_DEFAULT,
            outbox_bytes: OUTBOX_BYTES_DEFAULT,
            answer_bytes: ANSWER_BYTES_DEFAULT,
            outbox_age: OUTBOX_AGE_DEFAULT,
            queued_total: QUEUED_TOTAL_DEFAULT,
            partial_total: PARTIAL_TOTAL_DEFAULT,
            sessions_max: SESSIONS_MAX_DEFAULT,
            unauthenticated_max: SESSIONS_MAX_DEFAULT,
            unauthenticated_per_ip: SESSIONS_MAX_DEFAULT,
            origins: Origins::Any,
            rate: None,
            drain_after: Duration::from_secs(10),
            endpoints: Vec::new(),
        }
    }
}

impl GatewayConfig {
    /// The profile for public listeners: no browser page until its origin is listed, 2 % of the places and 20 per
    /// address for sessions without a token, 2 frames per second after a burst of 60 (Discord: 120 in 60 s).
    pub fn strict() -> Self {
        Self {
            unauthenticated_max: SESSIONS_MAX_DEFAULT / 50,
            unauthenticated_per_ip: 20,
            origins: Origins::Listed(Vec::new()),
            rate: Some(Rate { per_second: 2, burst: 60 }),
            ..Self::default()
        }
    }

    /// Largest frame after its length field, bytes (SPEC W-FRAME-4).
    pub fn frame_max(&self) -> usize {
        self.body_max + FRAME_OVERHEAD_MAX
    }

    /// Whether the values fit each other and the protocol.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.shards >= 1 && self.shards <= SLOTS, "shards must be 1 to 65,536"),
            ((BODY_MAX_FLOOR..=BODY_MAX_CAP).contains(&self.body_max), "body_max must be 8 KiB to 1 MiB"),
            (self.heartbeat >= Duration::from_millis(100), "heartbeat must be at least 100 ms"),
            (self.heartbeat <= Duration::from_secs(3_600), "heartbeat must be at most an hour"),
            (
                self.sessions_max >= 1 && self.sessions_max < u32::MAX,
                "sessions_max must be 1 to 4,294,967,294",
            ),
            (self.outbox_bytes >= 1_024, "outbox_bytes must be at least 1 KiB"),
            (self.outbox_bytes <= 64 << 20, "outbox_bytes must be at most 64 MiB"),
            (self.answer_bytes >= 16 << 10, "answer_bytes must be at least 16 KiB"),
            (self.answer_bytes <= 64 << 20, "answer_bytes must be at most 64 MiB"),
            (self.server.len() <= throng_wire::limits::TEXT_MAX, "the server name must be at most 256 bytes"),
            (self.endpoints.len() <= throng_wire::limits::ENDPOINTS_MAX, "at most 8 endpoints"),
            (self.endpoints.iter().all(|url| url.len() <= 256), "an endpoint must be at most 256 bytes"),
            (self.origins.count() <= ORIGINS_MAX, "at most 64 origins"),
            (self.rate.is_none_or(|rate| rate.per_second >= 1), "a rate must be at least 1 per second"),
            (self.rate.is_none_or(|rate| rate.burst >= 4), "a burst must be at least 4 frames"),
            (
                self.rate.is_none_or(|rate| rate.burst <= 1_000_000),
                "a burst must be at most 1,000,000 frames",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, sentence)) => Err(sentence),
            None => Ok(()),
        }
    }
}

impl Origins {
    /// Whether a request with this `Origin` header may upgrade.
    pub fn allow(&self, origin: Option<&[u8]>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Listed(list), Some(origin)) => list.iter().any(|listed| listed.as_bytes() == origin),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Listed(list) => list.len(),
        }
    }
}
