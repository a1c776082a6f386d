//! FETCH and PAGE.

use super::codec::Layout;
use super::event::{EVENT_FLAGS, kind_flags, origin_flag, read_kind, read_origin, write_kind, write_origin};
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::event::Event;
use crate::ids::{ChannelId, Epoch, RequestId, Seq};
use crate::limits::PAGE_EVENTS_MAX;
use crate::varint;

/// How fresh a read must be (contract C6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever the serving replica has.
    Stale,
    /// At least up to this event.
    AtLeast(Seq),
    /// Everything acknowledged before the request.
    Linearizable,
}

/// FETCH: events `after + 1 …`, at most `limit`, oldest first. Answered by PAGE, RESET or ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// The client's cursor.
    pub after: Seq,
    /// History epoch of the cursor.
    pub epoch: Epoch,
    /// At most this many, 1 to 200.
    pub limit: u16,
    /// How fresh.
    pub freshness: Freshness,
}

/// PAGE: consecutive events `after + 1 …`; fewer than asked only at the head or at the size limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// From FETCH.
    pub request: RequestId,
    /// The channel.
    pub channel: ChannelId,
    /// Newest event the shard has (or, for a former member, the last one that member may read).
    pub head: Seq,
    /// The events, without holes.
    pub events: Vec<PageEvent<'a>>,
}

/// An event in a PAGE: [`Event`] with a borrowed body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEvent<'a> {
    /// Position in the channel.
    pub seq: Seq,
    /// What it is.
    pub kind: crate::event::EventKind,
    /// The sender's number.
    pub sender: crate::ids::MemberNo,
    /// Shard's stamp.
    pub ts: crate::ids::ServerTs,
    /// The client's own name for it, towards the sender's devices.
    pub origin: Option<crate::event::Origin>,
    /// The content.
    pub body: &'a [u8],
}

impl<'a> From<&'a Event> for PageEvent<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            seq: event.seq,
            kind: event.kind,
            sender: event.sender,
            ts: event.ts,
            origin: event.origin,
            body: &event.body,
        }
    }
}

/// FETCH: the freshness (contract C6). With `at_least` its number is the last field.
const FRESHNESS_MASK: u8 = 0x03;
const STALE: u8 = 0;
const AT_LEAST: u8 = 1;
const LINEARIZABLE: u8 = 2;

impl<'a> Layout<'a> for Fetch {
    const FLAGS: u8 = FRESHNESS_MASK;

    fn flags(&self) -> u8 {
        match self.freshness {
            Freshness::Stale => STALE,
            Freshness::AtLeast(_) => AT_LEAST,
            Freshness::Linearizable => LINEARIZABLE,
        }
    }

    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.varint(self.after.0);
        out.varint(self.epoch.0);
        out.varint(self.limit.into());
        if let Freshness::AtLeast(seq) = self.freshness {
            out.varint(seq.0);
        }
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            channel: fields.channel()?,
            after: fields.seq()?,
            epoch: fields.epoch()?,
            limit: fields.limit(PAGE_EVENTS_MAX)?,
            freshness: match flags {
                STALE => Freshness::Stale,
                AT_LEAST => Freshness::AtLeast(fields.seq()?),
                LINEARIZABLE => Freshness::Linearizable,
                _ => return Err(DecodeError::BadFlags(flags)),
            },
        })
    }
}

/// Flags, sender, time and an empty body.
const PAGE_EVENT_LEN_MIN: usize = 1 + 1 + 6 + 1;

impl<'a> Layout<'a> for Page<'a> {
    fn write(&self, out: &mut impl Writer) {
        let first = self.events.first().map_or(0, |event| event.seq.0);
        out.varint(self.request.0);
        out.raw(&self.channel.0);
        out.varint(self.head.0);
        out.varint(first);
        out.varint(self.events.len() as u64);
        for (event, seq) in self.events.iter().zip(first..) {
            assert_eq!(event.seq.0, seq, "a page has no holes (contract C1)");
            event.write(out);
        }
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (request, channel, head) = (fields.request()?, fields.channel()?, fields.seq()?);
        let first = fields.seq()?;
        let mut seq = first;
        let events = fields.list(PAGE_EVENTS_MAX, PAGE_EVENT_LEN_MIN, "events", |fields| {
            let event = PageEvent::read(seq, fields);
            seq = seq.next();
            event
        })?;
        let last = events.last().map_or(0, |event| event.seq.0);
        if events.is_empty() != (first == Seq(0)) || last > varint::MAX {
            return Err(DecodeError::BadValue("first"));
        }
        Ok(Self { request, channel, head, events })
    }
}

impl<'a> PageEvent<'a> {
    fn write(&self, out: &mut impl Writer) {
        out.byte(kind_flags(self.kind) | origin_flag(&self.origin));
        write_kind(self.kind, out);
        out.varint(self.sender.0.into());
        out.u48(self.ts.0);
        write_origin(&self.origin, out);
        out.bytes(self.body);
    }

    fn read(seq: Seq, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let flags = fields.byte()?;
        if flags & !EVENT_FLAGS != 0 {
            return Err(DecodeError::BadFlags(flags));
        }
        Ok(Self {
            seq,
            kind: read_kind(flags, fields)?,
            sender: fields.member()?,
            ts: fields.ts()?,
            origin: read_origin(flags, fields)?,
            body: fields.bytes()?,
        })
    }
}
