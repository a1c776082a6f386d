//! CREATE, OPEN, JOIN, LEAVE and CHANNEL.

use super::codec::Layout;
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::ids::{ChannelId, MemberNo, RequestId, Seq, UserId};
use crate::limits::CREATE_MEMBERS_MAX;

/// What kind of channel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelClass {
    /// Two members, fixed (one, for a self channel); id by [`ChannelId::direct`].
    Direct,
    /// Members are added and removed by members.
    Group,
    /// Anybody who knows the id may join.
    Open,
}

/// CREATE: make a group; repeating it is harmless. The creator becomes owner and need not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Echoed in the answer.
    pub request: RequestId,
    /// Drawn by the creator: [`ChannelId::group`] of 128 random bits.
    pub channel: ChannelId,
    /// `Group` or `Open`; `Direct` is made by OPEN.
    pub class: ChannelClass,
    /// The first members, at most 200.
    pub members: Vec<UserId>,
}

/// OPEN: open the direct channel with `peer`, making it if need be; with oneself, the self channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The other user.
    pub peer: UserId,
}

/// JOIN: add `user` to a group, or oneself (nil) to an open channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Who; nil = the sender.
    pub user: UserId,
}

/// LEAVE: remove `user` (owners only), or oneself (nil).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Who; nil = the sender.
    pub user: UserId,
}

/// CHANNEL: the state of a channel after CREATE, OPEN, JOIN or LEAVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// From the request.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Its class.
    pub class: ChannelClass,
    /// Its newest event.
    pub head: Seq,
    /// The number of the member the request was about.
    pub member: MemberNo,
}

impl ChannelClass {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Direct => 0,
            Self::Group => 1,
            Self::Open => 2,
        }
    }

    /// The class with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Direct),
            1 => Some(Self::Group),
            2 => Some(Self::Open),
            _ => None,
        }
    }
}

fn read_class(fields: &mut Reader<'_>) -> Result<ChannelClass, DecodeError> {
    ChannelClass::from_number(fields.byte()?).ok_or(DecodeError::BadValue("class"))
}

impl<'a> Layout<'a> for Create {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.byte(self.class.number());
        out.varint(self.members.len() as u64);
        self.members.iter().for_each(|user| out.raw(&user.0));
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            class: read_class(fields)?,
            members: fields.list(CREATE_MEMBERS_MAX, 16, "members", Reader::user)?,
        })
    }
}

impl<'a> Layout<'a> for Open {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.peer.0);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { request: fields.request()?, peer: fields.user()? })
    }
}

impl<'a> Layout<'a> for Join {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.raw(&self.user.0);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { request: fields.request()?, channel: fields.channel()?, user: fields.user()? })
    }
}

impl<'a> Layout<'a> for Leave {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.raw(&self.user.0);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { request: fields.request()?, channel: fields.channel()?, user: fields.user()? })
    }
}

impl<'a> Layout<'a> for Channel {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.byte(self.class.number());
        out.varint(self.head.0);
        out.varint(self.member.0.into());
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            class: read_class(fields)?,
            head: fields.seq()?,
            member: fields.member()?,
        })
    }
}
