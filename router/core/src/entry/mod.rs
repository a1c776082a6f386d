//! What the router writes into the Raft log: an entry is a header and many commands.
//!
//! ```text
//!   version: u8 │ ts_ms: u64 │ count: u32 │ command × count
//!                                            └─ tag: u8 │ fields
//! ```
//!
//! A replica that meets a version or a tag it does not know stops: skipping a command that another replica applies
//! would make the two differ for ever.

mod build;
mod read;

pub use build::EntryBuilder;
pub use read::EntryReader;

use bytes::Bytes;
use throng_wire::event::EventKind;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::{ChannelId, ClientMsgId, DeviceId, Seq, ShardId, UserId};
use throng_wire::peer::InboxRow;

/// Version of the replicated machines: the newest that this program can apply. A change of what a command does at apply
/// raises it.
///
/// An entry carries the lowest version that knows all of its commands, so that nodes of two versions can share a cluster:
/// what only the newer one has is not proposed before all of them have it ([`crate::meta::Meta::is_open`]).
pub const VERSION: u8 = 2;

/// The first version: all commands but those that [`since`] names.
pub const FIRST_VERSION: u8 = 1;

/// The version that brought retention and holds.
pub(crate) const RETENTION_VERSION: u8 = 2;

/// The version that brought a command.
fn since(tag: u8) -> u8 {
    match tag {
        tag::RETAIN | tag::HOLD => RETENTION_VERSION,
        _ => FIRST_VERSION,
    }
}

/// Bytes before the first command.
pub const HEADER_LEN: usize = 1 + 8 + 4;

/// One command of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Changes nothing.
    Noop,
    /// A send.
    Publish(Publish),
    /// Makes a channel.
    Create(Create),
    /// Adds `user`.
    Join(Change),
    /// Removes `user`.
    Leave(Change),
    /// At a user shard: rows that moved in another shard's channels.
    InboxUpdate(InboxUpdate),
    /// At a channel shard: a user shard has stored rows.
    OutboxClear(OutboxClear),
    /// Raises a channel's floor.
    Retain(Retain),
    /// Sets or lifts a legal hold.
    Hold(Hold),
}

/// A send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where to.
    pub channel: ChannelId,
    /// From whom.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// The client's number for it.
    pub client_msg_id: ClientMsgId,
    /// What it is.
    pub kind: EventKind,
    /// The content.
    pub body: Bytes,
}

/// Makes a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The id.
    pub channel: ChannelId,
    /// Who asks.
    pub user: UserId,
    /// The class.
    pub class: ChannelClass,
    /// Members beside `user`.
    pub members: Vec<UserId>,
}

/// A change of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The channel.
    pub channel: ChannelId,
    /// Who asks.
    pub actor: UserId,
    /// Whom it is about.
    pub user: UserId,
}

/// Rows that moved in one shard's channels, for users of one other shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxUpdate {
    /// The channels' shard.
    pub from: ShardId,
    /// The rows.
    pub rows: Vec<InboxRow>,
}

/// A user shard has stored rows of these channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxClear {
    /// The user shard.
    pub dest: ShardId,
    /// Channels, each with the head that is stored there.
    pub rows: Vec<(ChannelId, Seq)>,
}

/// Raises the floor of a channel: the events below it are deleted. It takes no number and nobody is told; a cursor below
/// the floor is answered by RESET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retain {
    /// The channel.
    pub channel: ChannelId,
    /// The oldest event that stays. At apply the floor rises by [`crate::limits::RETAIN_EVENTS_MAX`] events at most, to
    /// the event after the newest one at most, and never falls.
    pub floor: Seq,
}

/// Sets or lifts the legal hold of a channel: while it is held, its floor does not rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The channel.
    pub channel: ChannelId,
    /// Whether it is to be held.
    pub is_held: bool,
}

/// Why an entry cannot be applied; the replica stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Written by a newer machine.
    Version(u8),
    /// A command this machine does not know.
    UnknownCommand(u8),
    /// The bytes do not parse.
    Corrupt(&'static str),
}

impl core::fmt::Display for EntryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "entry of machine version {version}, this machine has {VERSION}")
            }
            Self::UnknownCommand(tag) => write!(f, "unknown command {tag} in an entry"),
            Self::Corrupt(field) => write!(f, "entry does not parse at {field}"),
        }
    }
}

impl std::error::Error for EntryError {}

/// Command tags. Numbers are for ever.
mod tag {
    pub(super) const NOOP: u8 = 0;
    pub(super) const PUBLISH: u8 = 1;
    pub(super) const CREATE: u8 = 2;
    pub(super) const JOIN: u8 = 3;
    pub(super) const LEAVE: u8 = 4;
    pub(super) const INBOX_UPDATE: u8 = 5;
    pub(super) const OUTBOX_CLEAR: u8 = 6;
    pub(super) const RETAIN: u8 = 7;
    pub(super) const HOLD: u8 = 8;
}

/// The byte of a class in entries and rows.
pub(crate) fn class_byte(class: ChannelClass) -> u8 {
    match class {
        ChannelClass::Direct => 0,
        ChannelClass::Group => 1,
        ChannelClass::Open => 2,
    }
}

/// The class of a byte.
pub(crate) fn class_of(byte: u8) -> Option<ChannelClass> {
    match byte {
        0 => Some(ChannelClass::Direct),
        1 => Some(ChannelClass::Group),
        2 => Some(ChannelClass::Open),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
