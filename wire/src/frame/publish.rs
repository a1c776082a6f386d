//! PUBLISH and ACK.

use super::codec::Layout;
use super::event::{KIND_MASK, kind_flags, read_kind, write_kind};
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::event::EventKind;
use crate::ids::{ChannelId, ClientMsgId, Seq, ServerTs};

/// PUBLISH: a send. Answered by ACK, or by ERROR with the same channel and client_msg_id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub channel: ChannelId,
    /// The client's number for it; rises per device.
    pub client_msg_id: ClientMsgId,
    /// What it is; only [`EventKind::MESSAGE`] is accepted today.
    pub kind: EventKind,
    /// The content.
    pub body: &'a [u8],
}

/// ACK: the send is fsynced on a majority under its final number (contract C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Where it went.
    pub channel: ChannelId,
    /// The client's number.
    pub client_msg_id: ClientMsgId,
    /// Its number in the channel.
    pub seq: Seq,
    /// When the shard stamped it.
    pub ts: ServerTs,
    /// It had been stored by an earlier try; `seq` is the original number.
    pub duplicate: bool,
}

impl<'a> Layout<'a> for Publish<'a> {
    const FLAGS: u8 = KIND_MASK;

    fn flags(&self) -> u8 {
        kind_flags(self.kind)
    }

    fn write(&self, out: &mut impl Writer) {
        write_kind(self.kind, out);
        out.raw(&self.channel.0);
        out.varint(self.client_msg_id.0);
        out.raw(self.body);
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: read_kind(flags, fields)?,
            channel: fields.channel()?,
            client_msg_id: fields.client_msg_id()?,
            body: fields.rest(),
        })
    }
}

/// ACK: stored by an earlier try.
const FLAG_DUPLICATE: u8 = 0x01;

impl<'a> Layout<'a> for Ack {
    const FLAGS: u8 = FLAG_DUPLICATE;

    fn flags(&self) -> u8 {
        if self.duplicate { FLAG_DUPLICATE } else { 0 }
    }

    fn write(&self, out: &mut impl Writer) {
        out.raw(&self.channel.0);
        out.varint(self.client_msg_id.0);
        out.varint(self.seq.0);
        out.u48(self.ts.0);
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            channel: fields.channel()?,
            client_msg_id: fields.client_msg_id()?,
            seq: fields.seq()?,
            ts: fields.ts()?,
            duplicate: flags & FLAG_DUPLICATE != 0,
        })
    }
}
