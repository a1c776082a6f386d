//! What gateways and routers say to each other, and routers among themselves. In one process these values cross a
//! queue; between processes they travel as [`crate::peer`] frames.
//!
//! ```text
//!  gateway ── ToRouter ──► router (one link per gateway and node; batched)
//!  gateway ◄─ ToGateway ── router (in shard order: replies, deliveries, hints)
//! ```

use core::net::SocketAddr;

use bytes::Bytes;

use crate::code::Code;
use crate::event::{Event, EventKind};
use crate::frame::{ChannelClass, Freshness, Member, SyncEntry};
use crate::ids::*;

/// Names a session at its gateway: the loop's index and the slab key. Opaque to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionRef(pub u64);

/// Names one gateway loop in the cluster: drawn at random when the loop starts, so that a restarted gateway is a new
/// one. Links are per gateway loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(pub u64);

/// Gateway to router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRouter {
    /// An operation of an authenticated user; answered by exactly one [`ToGateway::Reply`] unless the link breaks.
    Request(Request),
    /// The gateway has no session subscribed to the channel any more.
    Unsubscribe {
        /// The channel.
        channel: ChannelId,
    },
    /// A session ended: forget it at its user's shard.
    Unregister {
        /// The user.
        user: UserId,
        /// The session.
        session: SessionRef,
    },
}

/// One operation, authenticated by the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Drawn by the gateway, unique on its link; echoed in the reply.
    pub id: u64,
    /// Who asks.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// What for.
    pub op: Op,
}

/// Operations. Each goes to the shard of the channel, or of the user for `Sync` and `Register`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// PUBLISH.
    Publish {
        /// Where to.
        channel: ChannelId,
        /// The client's number.
        client_msg_id: ClientMsgId,
        /// What it is.
        kind: EventKind,
        /// The content.
        body: Bytes,
    },
    /// CREATE, and OPEN with class `Direct`.
    Create {
        /// The id.
        channel: ChannelId,
        /// The class.
        class: ChannelClass,
        /// First members beside the asking user.
        members: Vec<UserId>,
    },
    /// JOIN; `user` is never nil here.
    Join {
        /// The channel.
        channel: ChannelId,
        /// Who is added.
        user: UserId,
    },
    /// LEAVE; `user` is never nil here.
    Leave {
        /// The channel.
        channel: ChannelId,
        /// Who is removed.
        user: UserId,
    },
    /// MEMBERS.
    Members {
        /// The channel.
        channel: ChannelId,
        /// Cursor.
        after: MemberNo,
        /// At most this many.
        limit: u16,
    },
    /// FETCH.
    Fetch {
        /// The channel.
        channel: ChannelId,
        /// Cursor.
        after: Seq,
        /// Epoch of the cursor.
        epoch: Epoch,
        /// At most this many.
        limit: u16,
        /// How fresh.
        freshness: Freshness,
    },
    /// SUBSCRIBE: authorise this user and make this gateway a subscriber of the channel.
    Subscribe {
        /// The channel.
        channel: ChannelId,
        /// Cursor.
        after: Seq,
        /// Epoch of the cursor.
        epoch: Epoch,
    },
    /// SYNC.
    Sync {
        /// Inbox cursor.
        after: UserSeq,
        /// Epoch of the cursor.
        epoch: Epoch,
        /// At most this many.
        limit: u16,
    },
    /// A session appeared (or is renewed after a broken link or a new leader): hints go to it.
    Register {
        /// The session.
        session: SessionRef,
    },
}

/// Router to gateway, in the order of the shard's events for each channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGateway {
    /// The answer to a request.
    Reply(Reply),
    /// An event of a channel this gateway is subscribed to. For [`EventKind::LEFT`] the gateway drops the named
    /// user's sessions from its list *before* it fans the event out (contract C7).
    Deliver {
        /// The channel.
        channel: ChannelId,
        /// The event, with its origin.
        event: Event,
        /// The sending user, whose own sessions get the origin.
        sender: UserId,
    },
    /// Deliveries of this channel were dropped on the way; its head is `head`. Sessions get LAGGED.
    Lagged {
        /// The channel.
        channel: ChannelId,
        /// Its head.
        head: Seq,
    },
    /// An inbox row of a registered user moved.
    Hint {
        /// The session.
        session: SessionRef,
        /// The channel.
        channel: ChannelId,
        /// Its head.
        head: Seq,
        /// The row's position in the inbox.
        user_seq: UserSeq,
    },
    /// This node leads these shards (sent on connect and at every change); `None` = it no longer does.
    Leads {
        /// Shard, the leader this node knows of, and the term.
        shards: Vec<(ShardId, Option<NodeId>, u64)>,
    },
    /// The nodes of the cluster (sent on connect and at every change): a gateway keeps a link to each.
    Nodes {
        /// Node and peer address, at most [`crate::limits::PEER_NODES_MAX`].
        nodes: Vec<(NodeId, SocketAddr)>,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// From the request.
    pub id: u64,
    /// What came of it.
    pub result: Result<Answer, Refusal>,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// Wait this long, milliseconds.
    pub retry_after_ms: u32,
    /// With [`Code::UNAVAILABLE`]: nothing was proposed here; this node leads the shard.
    pub leader: Option<NodeId>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The send is durable.
    Published {
        /// Its number.
        seq: Seq,
        /// Its stamp.
        ts: ServerTs,
        /// Stored by an earlier try.
        duplicate: bool,
    },
    /// State after Create, Join or Leave.
    Channel {
        /// Class.
        class: ChannelClass,
        /// Head.
        head: Seq,
        /// Number of the member it was about.
        member: MemberNo,
    },
    /// Members.
    Members {
        /// Whether more follow.
        more: bool,
        /// The members.
        members: Vec<Member>,
    },
    /// A range.
    Page {
        /// Head as this user may see it.
        head: Seq,
        /// The events; `origin` only on the asking user's own.
        events: Vec<Event>,
    },
    /// The channel's cursor cannot be continued.
    ResetChannel {
        /// Current epoch.
        epoch: Epoch,
        /// Oldest event.
        floor: Seq,
        /// Newest event.
        head: Seq,
    },
    /// Subscribed at this point of the stream.
    Subscribed {
        /// Head.
        head: Seq,
        /// The user's member number.
        member: MemberNo,
    },
    /// Inbox rows.
    Synced {
        /// Cursor after these.
        cursor: UserSeq,
        /// Whether more follow.
        more: bool,
        /// The rows.
        entries: Vec<SyncEntry>,
    },
    /// The inbox cursor cannot be continued.
    ResetInbox {
        /// Current epoch.
        epoch: Epoch,
        /// Newest position.
        user_seq: UserSeq,
    },
    /// Registered; the inbox is here now.
    Registered {
        /// Newest position.
        user_seq: UserSeq,
    },
}

impl Op {
    /// The slot whose shard serves the operation of `user`.
    pub fn slot(&self, user: &UserId) -> Slot {
        match self {
            Self::Publish { channel, .. }
            | Self::Create { channel, .. }
            | Self::Join { channel, .. }
            | Self::Leave { channel, .. }
            | Self::Members { channel, .. }
            | Self::Fetch { channel, .. }
            | Self::Subscribe { channel, .. } => channel.slot(),
            Self::Sync { .. } | Self::Register { .. } => user.slot(),
        }
    }
}
