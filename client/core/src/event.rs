//! What comes out of the machine.

use core::fmt;
use std::sync::Arc;

use throng_base::Instant;
use throng_wire::frame::{ChannelClass, Member, SyncEntry};
use throng_wire::{
    ChannelId, ClientMsgId, Code, DeviceId, Epoch, Event, MemberNo, RequestId, Seq, ServerTs, UserId, UserSeq,
};

use crate::endpoint::Endpoint;

/// An effect for the driver to carry out, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a transport to this endpoint; answer with `handle_connected` or `handle_disconnected`. At most one
    /// transport exists at a time.
    Connect {
        /// Where to; its scheme says how.
        endpoint: Arc<Endpoint>,
    },
    /// Bytes wait in `outgoing`; send them, then call `sent`.
    Write,
    /// Send what waits in the transport, then close it, and feed nothing more from it. `handle_disconnected` is not
    /// called for it.
    Disconnect,
    /// Tell the user.
    Event(ClientEvent),
}

/// What the user is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// A session stands.
    Connected(Session),
    /// The session, or an attempt at one, ended; the client tries again at `retry_at`.
    Disconnected {
        /// Why.
        reason: Reason,
        /// When it connects again.
        retry_at: Instant,
    },
    /// The token was refused; the client waits for `set_token`.
    TokenRefused {
        /// Why.
        code: Code,
    },
    /// The client is done and will not connect again.
    Closed {
        /// Why.
        reason: Reason,
    },
    /// A send is durable under its final number (contract C2).
    Acked {
        /// Where it went.
        channel: ChannelId,
        /// Which send.
        client_msg_id: ClientMsgId,
        /// Its number.
        seq: Seq,
        /// Its stamp.
        ts: ServerTs,
        /// It had been stored by an earlier try.
        duplicate: bool,
    },
    /// An answer to `repeat`, or a second answer to a send that was repeated after a time-out.
    RepeatAcked {
        /// Where it went.
        channel: ChannelId,
        /// Which send.
        client_msg_id: ClientMsgId,
        /// Its number, which must be the one of the first answer.
        seq: Seq,
    },
    /// A send was finally refused and left the outbox.
    SendFailed {
        /// Where it should have gone.
        channel: ChannelId,
        /// Which send.
        client_msg_id: ClientMsgId,
        /// Why. After [`Code::UNKNOWN_OUTCOME`] it may or may not be in the history.
        code: Code,
    },
    /// The next event of a subscribed channel.
    Delivered {
        /// The channel.
        channel: ChannelId,
        /// The event.
        event: Event,
    },
    /// A subscription stands (again).
    Subscribed {
        /// The channel.
        channel: ChannelId,
        /// Its head at that point.
        head: Seq,
        /// The user's member number.
        member: MemberNo,
    },
    /// A subscription ended for good.
    SubscriptionEnded {
        /// The channel.
        channel: ChannelId,
        /// Why.
        code: Code,
    },
    /// The cursor could not be continued: what lay before `floor` is not coming, the feed goes on at `floor`, in a new
    /// history if the epoch changed (contract C5).
    Reset {
        /// The channel.
        channel: ChannelId,
        /// Epoch of the history that follows.
        epoch: Epoch,
        /// First event that follows.
        floor: Seq,
        /// Newest event.
        head: Seq,
    },
    /// The inbox cursor could not be continued: everything known about unread counts is void, the inbox starts over.
    InboxReset {
        /// Epoch of the history that follows.
        epoch: Epoch,
    },
    /// A channel of this user moved (from SYNC).
    Inbox(SyncEntry),
    /// A channel without a subscription moved (from a push).
    Moved {
        /// The channel.
        channel: ChannelId,
        /// Its head.
        head: Seq,
    },
    /// The answer to a request.
    Answered {
        /// Which request.
        request: RequestId,
        /// What came of it.
        result: Result<Answer, RequestError>,
    },
    /// The server found fault with the session as a whole, which goes on.
    ServerError {
        /// What with.
        code: Code,
        /// For people.
        detail: String,
    },
}

/// Facts about a session, from WELCOME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Name of the server.
    pub server: String,
    /// The authenticated user.
    pub user: UserId,
    /// The authenticated device.
    pub device: DeviceId,
    /// Body limit, bytes.
    pub body_max: usize,
    /// History epoch.
    pub epoch: Epoch,
    /// Server time when the session began, Unix milliseconds.
    pub time_ms: u64,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To CREATE, OPEN, JOIN and LEAVE.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Its class.
        class: ChannelClass,
        /// Its newest event.
        head: Seq,
        /// The number of the member the request was about.
        member: MemberNo,
    },
    /// To MEMBERS.
    Members {
        /// Whether more follow.
        more: bool,
        /// The members.
        members: Vec<Member>,
    },
    /// To FETCH.
    Page {
        /// Newest event that the user may see.
        head: Seq,
        /// The events, without holes.
        events: Vec<Event>,
    },
    /// To SYNC.
    Synced {
        /// Cursor after these.
        cursor: UserSeq,
        /// Whether more follow.
        more: bool,
        /// The entries.
        entries: Vec<SyncEntry>,
    },
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The server refused it for good.
    Refused(Code),
    /// The cursor it named cannot be continued; start over from `floor`.
    Reset {
        /// Current epoch.
        epoch: Epoch,
        /// Oldest event that can be fetched (0 for an inbox).
        floor: Seq,
    },
    /// No final answer before its deadline.
    Timeout,
    /// The client was closed first.
    Closed,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused: {code}"),
            Self::Reset { epoch, floor } => write!(f, "history starts at {floor} of epoch {epoch}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl core::error::Error for RequestError {}

/// Why a session or an attempt at one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The transport failed; the driver says how.
    Transport(String),
    /// No WELCOME in time.
    ConnectTimeout,
    /// Nothing was heard for too long, not even an answer to a PING.
    Silent,
    /// The server closed with a code.
    Closed {
        /// The code.
        code: Code,
        /// For people.
        text: String,
    },
    /// The server refused the WebSocket upgrade with this HTTP status (0 = its answer made no sense).
    Upgrade(u16),
    /// The server broke the protocol.
    Protocol(String),
    /// The server asked the client to go elsewhere, and it does.
    GoAway,
    /// The user closed it.
    Local,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(text) => write!(f, "transport failed: {text}"),
            Self::ConnectTimeout => f.write_str("no welcome in time"),
            Self::Silent => f.write_str("server fell silent"),
            Self::Closed { code, text } if text.is_empty() => write!(f, "closed by server: {code}"),
            Self::Closed { code, text } => write!(f, "closed by server: {code} ({text})"),
            Self::Upgrade(status) => write!(f, "websocket upgrade refused: status {status}"),
            Self::Protocol(text) => write!(f, "server broke the protocol: {text}"),
            Self::GoAway => f.write_str("server asked to go elsewhere"),
            Self::Local => f.write_str("closed by the user"),
        }
    }
}
