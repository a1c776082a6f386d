//! Every error and close code as data (contract C8): one number, one metric label and one rule for the client, the
//! same on WebSocket, QUIC and HTTP. SPEC.md's table is generated from [`CODES`] and a test compares them.

use core::fmt;

/// What a client does about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientRule {
    /// Retry the same request under the same id, after the stated delay.
    Retry,
    /// Connect again, preferably elsewhere, and resume from the cursors.
    Resume,
    /// Fetch a new token, then connect again.
    Reauthenticate,
    /// The request cannot succeed as it stands; do not repeat it.
    GiveUp,
}

impl ClientRule {
    /// The word used in SPEC.md.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Resume => "resume",
            Self::Reauthenticate => "reauthenticate",
            Self::GiveUp => "give up",
        }
    }
}

/// An error or close code. The number is the QUIC application error code and, plus 4000, the WebSocket close code
/// unless RFC 6455 has one of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

/// One row of the code table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// Name in SPEC.md.
    pub name: &'static str,
    /// Metric label and log field.
    pub label: &'static str,
    /// Close code on WebSocket.
    pub websocket: u16,
    /// Status on HTTP.
    pub http: u16,
    /// What the client does.
    pub rule: ClientRule,
    /// What happened.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($number:literal $name:ident $label:literal $websocket:literal $http:literal $rule:ident $meaning:literal;)*) => {
        impl Code {
            $(#[doc = $meaning] pub const $name: Code = Code($number);)*
        }

        /// All codes, by number.
        pub const CODES: &[CodeInfo] = &[
            $(CodeInfo {
                code: Code($number), name: stringify!($name), label: $label, websocket: $websocket, http: $http,
                rule: ClientRule::$rule, meaning: $meaning,
            },)*
        ];
    };
}

codes! {
    0   NORMAL             "normal"             1000 200 GiveUp "The peer is done and leaves.";
    1   GOING_AWAY         "going_away"         1001 503 Resume "The server drains or stops.";
    2   PROTOCOL           "protocol"           1002 400 GiveUp "A frame breaks the protocol (order, varint, field, flag).";
    3   BAD_UTF8           "bad_utf8"           1007 400 GiveUp "A text field is not UTF-8.";
    4   FRAME_TOO_LARGE    "frame_too_large"    1009 413 GiveUp "A frame is above the frame limit.";
    5   VERSION            "version"            4005 400 GiveUp "No protocol version in common.";
    6   HANDSHAKE_TIMEOUT  "handshake_timeout"  4006 408 Resume "HELLO and AUTH did not arrive in time.";
    7   HEARTBEAT_TIMEOUT  "heartbeat_timeout"  4007 408 Resume "Nothing was heard for two heartbeat intervals.";
    8   OVERLOADED         "overloaded"         1013 503 Resume "The server sheds load.";
    9   INTERNAL           "internal"           1011 500 Resume "The server met an internal error.";
    10  SLOW_CONSUMER      "slow_consumer"      4010 503 Resume "The client did not read for too long.";
    11  REPLACED           "replaced"           4011 409 GiveUp "A newer session of the same device took over.";
    20  AUTH_REQUIRED      "auth_required"      4020 401 Reauthenticate "A frame other than HELLO or AUTH came before authentication.";
    21  TOKEN_INVALID      "token_invalid"      4021 401 Reauthenticate "The token is malformed, or its signature, issuer or audience is wrong.";
    22  TOKEN_EXPIRED      "token_expired"      4022 401 Reauthenticate "The token has expired.";
    23  ALREADY_AUTHENTICATED "already_authenticated" 4023 400 GiveUp "A second AUTH on one session.";
    40  UNAVAILABLE        "unavailable"        4040 503 Retry "The shard has no leader at the moment or changed it; the outcome is open.";
    41  BUSY               "busy"               4041 429 Retry "A queue is full; nothing was done.";
    42  RATE_LIMITED       "rate_limited"       4042 429 Retry "Above the allowed rate; nothing was done.";
    60  BODY_TOO_LARGE     "body_too_large"     4060 413 GiveUp "The body is above the body limit; nothing was done.";
    61  UNSUPPORTED        "unsupported"        4061 501 GiveUp "The server does not know this request, kind or option.";
    62  NOT_FOUND          "not_found"          4062 404 GiveUp "No such channel, or no right to know of it.";
    63  CONFLICT           "conflict"           4063 409 GiveUp "The same client_msg_id or channel id was used with other content.";
    64  UNKNOWN_OUTCOME    "unknown_outcome"    4064 410 GiveUp "The client_msg_id is older than the channel remembers; look into the history.";
    65  TOO_MANY_INFLIGHT  "too_many_inflight"  4065 429 Retry "More than 16 unacknowledged sends of this device in the channel.";
    66  LIMIT              "limit"              4066 422 GiveUp "A list, count or field is above its limit.";
    67  STALE_EPOCH        "stale_epoch"        4067 410 GiveUp "The cursor's history epoch is over; start from RESET.";
}

impl Code {
    /// The table row, if the code is known.
    pub fn info(self) -> Option<&'static CodeInfo> {
        CODES.iter().find(|info| info.code == self)
    }

    /// Metric label; `unknown` for codes of a later version.
    pub fn label(self) -> &'static str {
        self.info().map_or("unknown", |info| info.label)
    }

    /// WebSocket close code (RFC 6455 §7.4); 4000 + number for codes of a later version.
    pub fn websocket(self) -> u16 {
        self.info().map_or(4000u16.saturating_add(self.0).min(4999), |info| info.websocket)
    }

    /// What the client does; resuming is the safe answer to an unknown code.
    pub fn rule(self) -> ClientRule {
        self.info().map_or(ClientRule::Resume, |info| info.rule)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info() {
            Some(info) => f.write_str(info.name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
