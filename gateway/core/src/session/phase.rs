//! The life of a session.
//!
//! ```text
//!            upgrade          HELLO           AUTH            token good
//!  connect ─► Upgrade ─► Hello ─────► Auth ──────► Verifying ───────────► Open
//!                │          │           │              │                   │
//!                └──────────┴───────────┴──────────────┴──── any close ────┴─► Closing ─► gone
//! ```
//!
//! A QUIC stream begins in `Hello`. What a session does about a frame or a deadline is decided by [`react`] alone; the
//! table it spans is printed in full by `tests/table.rs`.

use throng_wire::frame::{Frame, Sender};
use throng_wire::{Code, frame};

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for the HTTP upgrade (WebSocket only).
    Upgrade,
    /// Waits for HELLO.
    Hello,
    /// Waits for AUTH.
    Auth,
    /// The driver verifies the token.
    Verifying,
    /// Authenticated.
    Open,
    /// CLOSE is queued; nothing is read any more.
    Closing,
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// HELLO.
    Hello,
    /// AUTH.
    Auth,
    /// A request, PUBLISH or UNSUBSCRIBE.
    Operation,
    /// PING or PONG.
    Liveness,
    /// CLOSE.
    Close,
    /// A frame that only servers send.
    WrongSide,
    /// A frame of an unknown type.
    Unknown,
    /// A request of an unknown type.
    UnknownRequest,
    /// The driver says that the token is good.
    Verified,
    /// The phase's deadline, in `Open` the token's expiry.
    Deadline,
    /// Nothing was heard for two heartbeats.
    Silence,
    /// The gateway drains.
    Drain,
}

/// What a session does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carries it out and goes to the phase.
    Go(Phase),
    /// Carries it out.
    Stay,
    /// Skips it.
    Skip,
    /// Answers ERROR.
    Refuse(Code),
    /// Sends CLOSE.
    Close(Code),
    /// Drops the transport.
    Cut,
}

/// The transition table.
pub const fn react(phase: Phase, input: Input) -> Step {
    use Input as I;
    use Phase as P;
    match (phase, input) {
        (P::Closing, I::Deadline) => Step::Cut,
        (P::Closing, _) => Step::Skip,
        (_, I::Close) => Step::Close(Code::NORMAL),
        (_, I::WrongSide) => Step::Close(Code::PROTOCOL), // SPEC W-TYPE-4
        (_, I::Unknown) => Step::Skip,                    // SPEC W-TYPE-3

        (P::Upgrade | P::Hello | P::Auth | P::Verifying, I::Deadline) => Step::Close(Code::HANDSHAKE_TIMEOUT),
        (P::Upgrade | P::Hello | P::Auth | P::Verifying, I::Drain) => Step::Close(Code::GOING_AWAY),
        (P::Upgrade | P::Hello | P::Auth | P::Verifying, I::Silence) => Step::Skip,
        (P::Upgrade | P::Hello | P::Auth | P::Verifying, I::Operation | I::Liveness | I::UnknownRequest) => {
            Step::Close(Code::AUTH_REQUIRED)
        }

        (P::Hello, I::Hello) => Step::Go(P::Auth),
        (P::Auth, I::Auth) => Step::Go(P::Verifying),
        (P::Verifying, I::Verified) => Step::Go(P::Open),
        (P::Verifying | P::Open, I::Auth) => Step::Close(Code::ALREADY_AUTHENTICATED),
        (_, I::Hello | I::Auth) => Step::Close(Code::PROTOCOL),
        (_, I::Verified) => Step::Skip,

        (P::Open, I::Operation | I::Liveness | I::Drain) => Step::Stay,
        (P::Open, I::UnknownRequest) => Step::Refuse(Code::UNSUPPORTED), // SPEC W-TYPE-3
        (P::Open, I::Deadline) => Step::Close(Code::TOKEN_EXPIRED),
        (P::Open, I::Silence) => Step::Close(Code::HEARTBEAT_TIMEOUT),
    }
}

impl Input {
    /// Every input, for the table.
    pub const ALL: [Self; 12] = [
        Self::Hello,
        Self::Auth,
        Self::Operation,
        Self::Liveness,
        Self::Close,
        Self::WrongSide,
        Self::Unknown,
        Self::UnknownRequest,
        Self::Verified,
        Self::Deadline,
        Self::Silence,
        Self::Drain,
    ];

    /// What a known frame is to the table.
    pub fn of(frame: &Frame<'_>) -> Self {
        match (frame, frame.sender()) {
            (_, Sender::Server) => Self::WrongSide,
            (Frame::Hello(_), _) => Self::Hello,
            (Frame::Auth(_), _) => Self::Auth,
            (Frame::Ping(_) | Frame::Pong(_), _) => Self::Liveness,
            (Frame::Close(_), _) => Self::Close,
            _ => Self::Operation,
        }
    }

    /// What an unknown frame is to the table.
    pub fn of_unknown(unknown: &frame::Unknown) -> Self {
        if unknown.request.is_some() { Self::UnknownRequest } else { Self::Unknown }
    }
}

impl Phase {
    /// Every phase, for the table.
    pub const ALL: [Self; 6] =
        [Self::Upgrade, Self::Hello, Self::Auth, Self::Verifying, Self::Open, Self::Closing];
}
