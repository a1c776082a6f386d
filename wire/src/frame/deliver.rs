//! DELIVER, LAGGED and RESET.

use super::codec::Layout;
use super::event::{EVENT_FLAGS, kind_flags, origin_flag, read_kind, read_origin, write_kind, write_origin};
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::event::{EventKind, Origin};
use crate::ids::{ChannelId, Epoch, MemberNo, Seq, ServerTs, UserSeq};

/// DELIVER: one event, pushed. An ordinary one spends at most 32 bytes beside the body (SPEC W-DEL-1) and is encoded
/// once for all sessions; only the sender's own devices get the form with `origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// The channel.
    pub channel: ChannelId,
    /// Position in the channel.
    pub seq: Seq,
    /// What it is.
    pub kind: EventKind,
    /// The sender's number in the channel.
    pub sender: MemberNo,
    /// When the shard stamped it.
    pub ts: ServerTs,
    /// The client's own name for it, towards the sender's devices.
    pub origin: Option<Origin>,
    /// The content.
    pub body: &'a [u8],
}

/// LAGGED: the client may lack events. It compares heads with its cursors and fetches what it lacks (contract C4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lagged {
    /// This channel's head is at `head`.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Its newest event.
        head: Seq,
    },
    /// Many channels moved: SYNC up to `user_seq`.
    All {
        /// The inbox's newest position.
        user_seq: UserSeq,
    },
}

/// RESET: a cursor cannot be continued (older epoch, or older than retention); never a partial replay (contract C5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Start this channel over: events below `floor` are gone.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// Current history epoch.
        epoch: Epoch,
        /// Oldest event that can be fetched.
        floor: Seq,
        /// Newest event.
        head: Seq,
    },
    /// Start the inbox over.
    Inbox {
        /// Current history epoch.
        epoch: Epoch,
        /// The inbox's newest position.
        user_seq: UserSeq,
    },
}

impl<'a> Layout<'a> for Deliver<'a> {
    const FLAGS: u8 = EVENT_FLAGS;

    fn flags(&self) -> u8 {
        kind_flags(self.kind) | origin_flag(&self.origin)
    }

    fn write(&self, out: &mut impl Writer) {
        write_kind(self.kind, out);
        out.raw(&self.channel.0);
        out.varint(self.seq.0);
        out.varint(self.sender.0.into());
        out.u48(self.ts.0);
        write_origin(&self.origin, out);
        out.raw(self.body);
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: read_kind(flags, fields)?,
            channel: fields.channel()?,
            seq: fields.seq()?,
            sender: fields.member()?,
            ts: fields.ts()?,
            origin: read_origin(flags, fields)?,
            body: fields.rest(),
        })
    }
}

/// LAGGED and RESET: about the inbox, not about one channel.
const FLAG_INBOX: u8 = 0x01;

impl<'a> Layout<'a> for Lagged {
    const FLAGS: u8 = FLAG_INBOX;

    fn flags(&self) -> u8 {
        match self {
            Self::Channel { .. } => 0,
            Self::All { .. } => FLAG_INBOX,
        }
    }

    fn write(&self, out: &mut impl Writer) {
        match self {
            Self::Channel { channel, head } => {
                out.raw(&channel.0);
                out.varint(head.0);
            }
            Self::All { user_seq } => out.varint(user_seq.0),
        }
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if flags & FLAG_INBOX != 0 {
            return Ok(Self::All { user_seq: fields.user_seq()? });
        }
        Ok(Self::Channel { channel: fields.channel()?, head: fields.seq()? })
    }
}

impl<'a> Layout<'a> for Reset {
    const FLAGS: u8 = FLAG_INBOX;

    fn flags(&self) -> u8 {
        match self {
            Self::Channel { .. } => 0,
            Self::Inbox { .. } => FLAG_INBOX,
        }
    }

    fn write(&self, out: &mut impl Writer) {
        match self {
            Self::Channel { channel, epoch, floor, head } => {
                out.raw(&channel.0);
                out.varint(epoch.0);
                out.varint(floor.0);
                out.varint(head.0);
            }
            Self::Inbox { epoch, user_seq } => {
                out.varint(epoch.0);
                out.varint(user_seq.0);
            }
        }
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if flags & FLAG_INBOX != 0 {
            return Ok(Self::Inbox { epoch: fields.epoch()?, user_seq: fields.user_seq()? });
        }
        Ok(Self::Channel {
            channel: fields.channel()?,
            epoch: fields.epoch()?,
            floor: fields.seq()?,
            head: fields.seq()?,
        })
    }
}
