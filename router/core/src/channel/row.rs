//! A channel's rows: head, members, events.

use bytes::{BufMut, Bytes};
use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::{StateRead, Table};
use throng_wire::event::{Event, EventKind, Origin};
use throng_wire::ids::{ChannelId, ClientMsgId, DeviceId, MemberNo, Seq, ServerTs, UserId};

use super::dedup::Record;
use super::{Channel, MemberRecord};
use crate::codec::{Corrupt, Reader, put_var};
use crate::entry::{class_byte, class_of};
use crate::fatal::Fatal;
use crate::hash::Keyed;
use crate::limits::MEMBERS_EVER_MAX;
use crate::state::batch::Batch;
use crate::state::keys::{self, Replica};

/// First byte of every head and event row.
const ROW_VERSION: u8 = 1;

/// Bits of a head row's flags.
const HELD: u8 = 1;

/// Member rows read at a time.
const SCAN_ROWS: usize = 1_000;

impl Channel {
    /// Reads a channel; `None` if there is none.
    pub(crate) fn load(
        state: &impl StateRead,
        replica: Replica,
        id: ChannelId,
        keyed: Keyed,
        shards: u32,
    ) -> Result<Option<Self>, Fatal> {
        let Some(row) = state.get(Table::Objects, &keys::channel(replica, &id))? else { return Ok(None) };
        let (mut channel, members) = decode_head(id, &row, keyed, shards)?;
        channel.load_members(state, replica, members)?;
        Ok(Some(channel))
    }

    /// A channel as its head row has it, without members: enough for retention and checks.
    pub(crate) fn head_only(id: ChannelId, row: &[u8], keyed: Keyed, shards: u32) -> Result<Self, Corrupt> {
        Ok(decode_head(id, row, keyed, shards)?.0)
    }

    fn load_members(&mut self, state: &impl StateRead, replica: Replica, count: usize) -> Result<(), Fatal> {
        let id = self.id;
        let end = keys::members(replica, &id).range_end();
        while self.members.ever() < count {
            let from = keys::member(replica, &id, MemberNo(self.members.ever() as u32 + 1));
            let rows = state.scan(Table::Objects, &from, &end, SCAN_ROWS.min(count - self.members.ever()))?;
            if rows.is_empty() {
                return Err(Fatal::corrupt_row("member range: a number is missing"));
            }
            for (key, value) in rows {
                let record = MemberRecord::decode(&value)?;
                let number = self.members.add(record);
                if key[..] != *keys::member(replica, &id, number) {
                    return Err(Fatal::corrupt_row("member range: a number is missing"));
                }
                if record.is_present() {
                    self.add_dest(&record.user);
                }
            }
        }
        Ok(())
    }

    /// Writes everything changed since the last batch into this one, but for events.
    pub(crate) fn cut(&mut self, replica: Replica, batch: &mut Batch) {
        let id = self.id;
        batch.put(Table::Objects, &keys::channel(replica, &id), |out| self.encode_head(out));
        let mut members = core::mem::take(&mut self.dirty_members);
        members.sort_unstable();
        members.dedup();
        for number in members {
            let record = self.members.given(number);
            batch.put(Table::Objects, &keys::member(replica, &id, number), |out| record.encode(out));
        }
        self.devices.cut(|(number, device), record| {
            if !is_planted(Bug::DedupNotStored) {
                batch.put(Table::Objects, &keys::device(replica, &id, number, device), |out| {
                    record.encode(out)
                });
            }
        });
    }

    /// Writes the rows of events after `after`, which are in memory.
    pub(crate) fn write_events(&self, after: Seq, replica: Replica, batch: &mut Batch) {
        if is_planted(Bug::EventsNotFlushed) {
            return;
        }
        for event in self.recent_after(after) {
            batch.put(Table::Events, &keys::event(replica, &self.id, event.seq), |out| {
                encode_event(event, out)
            });
        }
    }

    fn encode_head(&self, out: &mut impl BufMut) {
        out.put_u8(ROW_VERSION);
        out.put_u8(class_byte(self.class));
        out.put_slice(&self.creator.0);
        out.put_u64(self.content);
        put_var(out, self.head.0);
        put_var(out, self.floor.0);
        put_var(out, self.last_ts.0);
        put_var(out, self.messages);
        put_var(out, self.members.ever() as u64);
        out.put_slice(&self.chain);
        out.put_slice(&self.floor_chain);
        out.put_u8(if self.is_held { HELD } else { 0 });
    }
}

/// Whether a row of an object parses; heads of channels are read with [`Channel::head_only`].
pub(crate) fn check_row(tag: u8, row: &[u8]) -> Result<(), Corrupt> {
    match tag {
        keys::tag::MEMBER => MemberRecord::decode(row).map(drop),
        keys::tag::DEVICE => Record::decode(row).map(drop),
        keys::tag::OUTBOX => crate::outbox::Row::decode(row).map(drop),
        keys::tag::USER | keys::tag::INBOX => crate::user::check_row(tag, row),
        _ => Err(Corrupt("tag")),
    }
}

fn decode_head(id: ChannelId, row: &[u8], keyed: Keyed, shards: u32) -> Result<(Channel, usize), Corrupt> {
    let mut reader = Reader::new(row);
    if reader.u8("channel.version")? != ROW_VERSION {
        return Err(Corrupt("channel.version"));
    }
    let class = class_of(reader.u8("channel.class")?).ok_or(Corrupt("channel.class"))?;
    let creator = UserId(reader.array("channel.creator")?);
    let content = reader.u64("channel.content")?;
    let mut channel = Channel::empty(id, class, creator, content, keyed, shards);
    channel.head = Seq(reader.var("channel.head")?);
    channel.floor = Seq(reader.var("channel.floor")?);
    channel.last_ts = ServerTs(reader.var("channel.ts")?);
    channel.messages = reader.var("channel.messages")?;
    let members = reader.var("channel.members")? as usize;
    if members > MEMBERS_EVER_MAX {
        return Err(Corrupt("channel.members"));
    }
    channel.chain = reader.array("channel.chain")?;
    channel.floor_chain = reader.array("channel.floor_chain")?;
    channel.is_held = match reader.u8("channel.flags")? {
        0 => false,
        HELD => true,
        _ => return Err(Corrupt("channel.flags")),
    };
    if channel.floor == Seq(0) || channel.floor > channel.head.next() {
        return Err(Corrupt("channel.floor"));
    }
    channel.devices.may_rest = true;
    reader.end("channel")?;
    Ok((channel, members))
}

/// Appends an event row: version, kind, flags, sender, stamp, origin, body.
fn encode_event(event: &Event, out: &mut impl BufMut) {
    out.put_u8(ROW_VERSION);
    out.put_u8(event.kind.0);
    out.put_u8(u8::from(event.origin.is_some()));
    put_var(out, u64::from(event.sender.0));
    put_var(out, event.ts.0);
    if let Some(origin) = event.origin {
        out.put_u64(origin.device.0);
        put_var(out, origin.client_msg_id.0);
    }
    out.put_slice(&event.body);
}

/// Reads an event row; the body shares the row's memory.
pub(super) fn decode_event(seq: Seq, row: &Bytes) -> Result<Event, Corrupt> {
    let mut reader = Reader::new(row);
    if reader.u8("event.version")? != ROW_VERSION {
        return Err(Corrupt("event.version"));
    }
    let kind = EventKind(reader.u8("event.kind")?);
    let flags = reader.u8("event.flags")?;
    let sender = u32::try_from(reader.var("event.sender")?).map_err(|_| Corrupt("event.sender"))?;
    let ts = ServerTs(reader.var("event.ts")?);
    let origin = match flags {
        0 => None,
        1 => Some(Origin {
            device: DeviceId(reader.u64("event.device")?),
            client_msg_id: ClientMsgId(reader.var("event.id")?),
        }),
        _ => return Err(Corrupt("event.flags")),
    };
    let body = row.slice(reader.position()..);
    Ok(Event { seq, kind, sender: MemberNo(sender), ts, origin, body })
}

impl From<Corrupt> for Fatal {
    fn from(corrupt: Corrupt) -> Self {
        Self::corrupt_row(corrupt.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_row_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..120), version: bool) {
            if version && !bytes.is_empty() {
                bytes[0] = ROW_VERSION;
            }
            let _ = decode_head(ChannelId::NIL, &bytes, Keyed::new(1), 1);
            let _ = MemberRecord::decode(&bytes);
            let _ = Record::decode(&bytes);
            let _ = crate::outbox::Row::decode(&bytes);
            let _ = decode_event(Seq(1), &bytes.into());
        }

        #[test]
        fn events_come_back(
            seq in 1..u64::MAX, kind: u8, sender: u32, ts in 0..1u64 << 48, from: Option<(u64, u64)>, body: Vec<u8>,
        ) {
            let origin = from.map(|(device, id)| Origin { device: DeviceId(device), client_msg_id: ClientMsgId(id) });
            let event = Event {
                seq: Seq(seq), kind: EventKind(kind), sender: MemberNo(sender), ts: ServerTs(ts), origin,
                body: body.into(),
            };
            let mut row = Vec::new();
            encode_event(&event, &mut row);
            prop_assert_eq!(decode_event(Seq(seq), &row.into()), Ok(event));
        }
    }
}
