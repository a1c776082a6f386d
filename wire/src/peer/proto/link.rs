//! Messages between gateways and routers.

use bytes::Bytes;

use super::{Empty, Id};

/// One request of a user, or a notice. Flat (the operation stands in the message itself), because PUBLISH passes here
/// once per message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ToRouter {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) user: Id,
    #[prost(fixed64, tag = "3")]
    pub(crate) device: u64,
    #[prost(oneof = "RouterOp", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21")]
    pub(crate) op: Option<RouterOp>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum RouterOp {
    #[prost(message, tag = "10")]
    Publish(Publish),
    #[prost(message, tag = "11")]
    Create(Create),
    #[prost(message, tag = "12")]
    Join(ChannelUser),
    #[prost(message, tag = "13")]
    Leave(ChannelUser),
    #[prost(message, tag = "14")]
    Members(Members),
    #[prost(message, tag = "15")]
    Fetch(Fetch),
    #[prost(message, tag = "16")]
    Subscribe(Subscribe),
    #[prost(message, tag = "17")]
    Sync(Sync),
    /// The session.
    #[prost(fixed64, tag = "18")]
    Register(u64),
    /// The channel.
    #[prost(message, tag = "20")]
    Unsubscribe(Id),
    /// The session.
    #[prost(fixed64, tag = "21")]
    Unregister(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Publish {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) client_msg_id: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Create {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint32, tag = "2")]
    pub(crate) class: u32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) members: Vec<Id>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ChannelUser {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(message, required, tag = "2")]
    pub(crate) user: Id,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Members {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint32, tag = "2")]
    pub(crate) after: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) limit: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Fetch {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) after: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) epoch: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) limit: u32,
    #[prost(oneof = "Freshness", tags = "5, 6, 7")]
    pub(crate) freshness: Option<Freshness>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(crate) enum Freshness {
    #[prost(message, tag = "5")]
    Stale(Empty),
    #[prost(uint64, tag = "6")]
    AtLeast(u64),
    #[prost(message, tag = "7")]
    Linearizable(Empty),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Subscribe {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) after: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) epoch: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Sync {
    #[prost(uint64, tag = "1")]
    pub(crate) after: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) limit: u32,
}

/// An answer (`id` names the request) or something pushed. Flat for the same reason as [`ToRouter`].
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ToGateway {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(oneof = "GatewayWhat", tags = "2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30, 31, 32, 33, 34")]
    pub(crate) what: Option<GatewayWhat>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum GatewayWhat {
    #[prost(message, tag = "2")]
    Refusal(Refusal),
    #[prost(message, tag = "10")]
    Published(Published),
    #[prost(message, tag = "11")]
    Channel(Channel),
    #[prost(message, tag = "12")]
    Members(MembersPage),
    #[prost(message, tag = "13")]
    Page(Page),
    #[prost(message, tag = "14")]
    ResetChannel(ResetChannel),
    #[prost(message, tag = "15")]
    Subscribed(Subscribed),
    #[prost(message, tag = "16")]
    Synced(Synced),
    #[prost(message, tag = "17")]
    ResetInbox(ResetInbox),
    /// Newest position of the inbox.
    #[prost(uint64, tag = "18")]
    Registered(u64),
    #[prost(message, tag = "30")]
    Deliver(Deliver),
    #[prost(message, tag = "31")]
    Lagged(Lagged),
    #[prost(message, tag = "32")]
    Hint(Hint),
    #[prost(message, tag = "33")]
    Leads(Leads),
    #[prost(message, tag = "34")]
    Nodes(Nodes),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Refusal {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) retry_after_ms: u32,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) leader: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Published {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) ts: u64,
    #[prost(bool, tag = "3")]
    pub(crate) duplicate: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Channel {
    #[prost(uint32, tag = "1")]
    pub(crate) class: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) head: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) member: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MembersPage {
    #[prost(bool, tag = "1")]
    pub(crate) more: bool,
    #[prost(message, repeated, tag = "2")]
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Member {
    #[prost(uint32, tag = "1")]
    pub(crate) member: u32,
    #[prost(message, required, tag = "2")]
    pub(crate) user: Id,
    #[prost(uint32, tag = "3")]
    pub(crate) role: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Page {
    #[prost(uint64, tag = "1")]
    pub(crate) head: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) sender: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) ts: u64,
    #[prost(message, optional, tag = "5")]
    pub(crate) origin: Option<Origin>,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) body: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Origin {
    #[prost(fixed64, tag = "1")]
    pub(crate) device: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) client_msg_id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ResetChannel {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) floor: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) head: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Subscribed {
    #[prost(uint64, tag = "1")]
    pub(crate) head: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) member: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Synced {
    #[prost(uint64, tag = "1")]
    pub(crate) cursor: u64,
    #[prost(bool, tag = "2")]
    pub(crate) more: bool,
    #[prost(message, repeated, tag = "3")]
    pub(crate) entries: Vec<SyncEntry>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SyncEntry {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) head: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) count: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) user_seq: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ResetInbox {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) user_seq: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Deliver {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(message, required, tag = "2")]
    pub(crate) sender: Id,
    #[prost(message, required, tag = "3")]
    pub(crate) event: Event,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Lagged {
    #[prost(message, required, tag = "1")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "2")]
    pub(crate) head: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Hint {
    #[prost(fixed64, tag = "1")]
    pub(crate) session: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) channel: Id,
    #[prost(uint64, tag = "3")]
    pub(crate) head: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) user_seq: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Leads {
    #[prost(message, repeated, tag = "1")]
    pub(crate) shards: Vec<Lead>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Lead {
    #[prost(uint32, tag = "1")]
    pub(crate) shard: u32,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) leader: Option<u64>,
    #[prost(uint64, tag = "3")]
    pub(crate) term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nodes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<NodeAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NodeAddress {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    /// IP address and port as text.
    #[prost(string, tag = "2")]
    pub(crate) address: String,
}
