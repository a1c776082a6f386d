//! Events: what a channel's sequence consists of.

use bytes::Bytes;

use crate::ids::{ClientMsgId, DeviceId, MemberNo, Seq, ServerTs, UserId};

/// What an event is. Unknown kinds are carried and shown as they are (SPEC W-EV-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKind(pub u8);

impl EventKind {
    /// A message; the body is the client's.
    pub const MESSAGE: Self = Self(0);
    /// A member joined; the body is [`Membership`].
    pub const JOINED: Self = Self(1);
    /// A member left or was removed; the body is [`Membership`]. That member reads nothing after this event (C7).
    pub const LEFT: Self = Self(2);
    /// Reserved: an edit of an earlier message.
    pub const EDIT: Self = Self(3);
    /// Reserved: a deletion of an earlier message.
    pub const DELETE: Self = Self(4);
    /// Reserved: a reaction to an earlier message.
    pub const REACTION: Self = Self(5);

    /// Whether it counts as unread (edits, reactions and membership changes use numbers too, but do not).
    pub fn counts_as_message(self) -> bool {
        self == Self::MESSAGE
    }
}

/// The client's own name for a send. Only the sender's devices are told it, so that they can reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The sending device.
    pub device: DeviceId,
    /// Its number for the send.
    pub client_msg_id: ClientMsgId,
}

/// One event of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the channel.
    pub seq: Seq,
    /// What it is.
    pub kind: EventKind,
    /// The sender's (or acting member's) number in the channel.
    pub sender: MemberNo,
    /// When the shard stamped it.
    pub ts: ServerTs,
    /// The client's name for it; present only towards the sender's own devices and in storage.
    pub origin: Option<Origin>,
    /// The content; opaque for messages.
    pub body: Bytes,
}

/// Body of [`EventKind::JOINED`] and [`EventKind::LEFT`]: user id (16 bytes), member number (u32, big-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Who joined or left.
    pub user: UserId,
    /// The member's number.
    pub member: MemberNo,
}

impl Membership {
    /// Size of the body in bytes.
    pub const LEN: usize = 20;

    /// The event body.
    pub fn encode(&self) -> Bytes {
        let mut body = [0u8; Self::LEN];
        body[..16].copy_from_slice(&self.user.0);
        body[16..].copy_from_slice(&self.member.0.to_be_bytes());
        Bytes::copy_from_slice(&body)
    }

    /// Reads an event body; `None` if it is not exactly 20 bytes.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let body: &[u8; Self::LEN] = body.try_into().ok()?;
        let (user, member) = body.split_at(16);
        Some(Self {
            user: UserId(user.try_into().ok()?),
            member: MemberNo(u32::from_be_bytes(member.try_into().ok()?)),
        })
    }
}
