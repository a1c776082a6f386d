//! MEMBERS and its answer.

use super::codec::Layout;
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::ids::{ChannelId, MemberNo, RequestId, UserId};
use crate::limits::MEMBERS_PAGE_MAX;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and sends.
    Member,
    /// Also removes members.
    Owner,
}

/// MEMBERS: list members with a number above `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Cursor; 0 = from the start (member numbers begin at 1).
    pub after: MemberNo,
    /// At most this many, 1 to 200.
    pub limit: u16,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number in the channel.
    pub member: MemberNo,
    /// The user.
    pub user: UserId,
    /// Role.
    pub role: Role,
}

/// Members in rising number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersPage {
    /// From MEMBERS.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Whether more follow.
    pub more: bool,
    /// The members.
    pub members: Vec<Member>,
}

impl Role {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Member => 0,
            Self::Owner => 1,
        }
    }

    /// The role with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Member),
            1 => Some(Self::Owner),
            _ => None,
        }
    }
}

impl<'a> Layout<'a> for Members {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.varint(self.after.0.into());
        out.varint(self.limit.into());
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            after: fields.member()?,
            limit: fields.limit(MEMBERS_PAGE_MAX)?,
        })
    }
}

/// Number, user id and role.
const MEMBER_LEN_MIN: usize = 1 + 16 + 1;

/// MEMBERS_PAGE: more members follow.
const FLAG_MORE: u8 = 0x01;

impl<'a> Layout<'a> for MembersPage {
    const FLAGS: u8 = FLAG_MORE;

    fn flags(&self) -> u8 {
        if self.more { FLAG_MORE } else { 0 }
    }

    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.varint(self.members.len() as u64);
        for member in &self.members {
            out.varint(member.member.0.into());
            out.raw(&member.user.0);
            out.byte(member.role.number());
        }
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            more: flags & FLAG_MORE != 0,
            members: fields.list(MEMBERS_PAGE_MAX, MEMBER_LEN_MIN, "members", |fields| {
                Ok(Member {
                    member: fields.member()?,
                    user: fields.user()?,
                    role: Role::from_number(fields.byte()?).ok_or(DecodeError::BadValue("role"))?,
                })
            })?,
        })
    }
}
