//! Frames: what clients and gateways say to each other (SPEC.md).
//!
//! ```text
//!   length: varint │ type: u8 │ flags: u8 │ fields …
//!                  └──────── length bytes ─────────┘
//! ```
//!
//! Decoding borrows from the input; lists are bounded before they are collected.

mod auth;
mod channel;
mod codec;
mod control;
mod deliver;
mod event;
mod fetch;
mod fields;
mod members;
mod publish;
mod split;
mod subscribe;
mod sync;
mod table;

pub use auth::{Auth, Hello, Welcome};
pub use channel::{Channel, ChannelClass, Create, Join, Leave, Open};
pub use codec::{FLAG_EXTENSION, FrameType, REQUEST_TYPES, Unknown, request_of};
pub use control::{Close, ErrorFrame, ErrorScope, Goaway, Ping, Pong};
pub use deliver::{Deliver, Lagged, Reset};
pub use fetch::{Fetch, Freshness, Page, PageEvent};
pub use members::{Member, Members, MembersPage, Role};
pub use publish::{Ack, Publish};
pub use split::{Split, split};
pub use subscribe::{Subscribe, Subscribed, Unsubscribe};
pub use sync::{Sync, SyncEntry, Synced};
pub use table::{FRAME_TYPES, RESERVED_TYPES, Sender};

/// One frame. `C` marks frames a client sends, `S` frames a server sends, `B` both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// C: first frame, version range.
    Hello(Hello<'a>),
    /// C: token.
    Auth(Auth<'a>),
    /// S: first frame, limits and session facts.
    Welcome(Welcome<'a>),
    /// C: a send.
    Publish(Publish<'a>),
    /// S: the send is durable and has its number.
    Ack(Ack),
    /// S: a request or send failed.
    Error(ErrorFrame<'a>),
    /// S: an event.
    Deliver(Deliver<'a>),
    /// S: a head the client may lack; fetch or sync.
    Lagged(Lagged),
    /// S: a cursor is useless; start over from the given head.
    Reset(Reset),
    /// C: read a range.
    Fetch(Fetch),
    /// S: a range.
    Page(Page<'a>),
    /// C: which channels moved?
    Sync(Sync),
    /// S: these moved.
    Synced(Synced),
    /// C: create a group.
    Create(Create),
    /// C: open the direct (or self) channel with a user.
    Open(Open),
    /// C: add a member (or oneself).
    Join(Join),
    /// C: remove a member (or oneself).
    Leave(Leave),
    /// S: answer to CREATE, OPEN, JOIN and LEAVE.
    Channel(Channel),
    /// C: list members.
    Members(Members),
    /// S: members.
    MembersPage(MembersPage),
    /// C: push events of a channel to this session.
    Subscribe(Subscribe),
    /// S: pushing from here.
    Subscribed(Subscribed),
    /// C: stop pushing.
    Unsubscribe(Unsubscribe),
    /// B: sign of life, answered only if it asks.
    Ping(Ping),
    /// B: answer to PING.
    Pong(Pong),
    /// S: connect elsewhere soon.
    Goaway(Goaway<'a>),
    /// B: last frame.
    Close(Close<'a>),
}
