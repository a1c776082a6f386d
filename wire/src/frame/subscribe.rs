//! SUBSCRIBE, SUBSCRIBED and UNSUBSCRIBE.

use super::codec::Layout;
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::ids::{ChannelId, Epoch, MemberNo, RequestId, Seq};

/// SUBSCRIBE: push this channel's events to this session. Answered by SUBSCRIBED, RESET or ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// The client's cursor.
    pub after: Seq,
    /// History epoch of the cursor.
    pub epoch: Epoch,
}

/// SUBSCRIBED: every event above `head` follows as DELIVER (or is announced by LAGGED); events between the cursor and
/// `head` are fetched. Snapshot and subscription are one point in the shard's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// From SUBSCRIBE.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Newest event at the point of subscription.
    pub head: Seq,
    /// The subscriber's member number.
    pub member: MemberNo,
}

/// UNSUBSCRIBE: stop pushing; no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The channel.
    pub channel: ChannelId,
}

impl<'a> Layout<'a> for Subscribe {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.varint(self.after.0);
        out.varint(self.epoch.0);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            after: fields.seq()?,
            epoch: fields.epoch()?,
        })
    }
}

impl<'a> Layout<'a> for Subscribed {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.varint(self.head.0);
        out.varint(self.member.0.into());
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            head: fields.seq()?,
            member: fields.member()?,
        })
    }
}

impl<'a> Layout<'a> for Unsubscribe {
    fn write(&self, out: &mut impl Writer) {
        out.raw(&self.channel.0);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { channel: fields.channel()? })
    }
}
