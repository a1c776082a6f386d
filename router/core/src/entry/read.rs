//! Reading entries: one command after the other, bodies borrowed from the entry.

use bytes::Bytes;
use throng_wire::event::EventKind;
use throng_wire::ids::{ChannelId, ClientMsgId, DeviceId, Seq, ServerTs, ShardId, UserId};
use throng_wire::peer::InboxRow;

use super::{
    Change, Command, Create, EntryError, FIRST_VERSION, HEADER_LEN, Hold, InboxUpdate, OutboxClear, Publish,
    Retain, VERSION, class_of, since, tag,
};
use crate::codec::{Corrupt, Reader};
use crate::limits::ENTRY_COMMANDS_MAX;

/// Reads an entry. Bodies share the entry's memory.
#[derive(Debug)]
pub struct EntryReader<'a> {
    payload: &'a Bytes,
    at: usize,
    left: u32,
    ts: ServerTs,
    version: u8,
}

impl<'a> EntryReader<'a> {
    /// Reads the header. An empty payload is Raft's own entry at the start of a term: no commands.
    ///
    /// # Errors
    /// [`EntryError`] if the version is unknown or the header does not parse.
    pub fn new(payload: &'a Bytes) -> Result<Self, EntryError> {
        if payload.is_empty() {
            return Ok(Self { payload, at: 0, left: 0, ts: ServerTs(0), version: FIRST_VERSION });
        }
        let version = payload[0];
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(EntryError::Version(version));
        }
        let mut reader = Reader::at(payload, 1);
        let ts = ServerTs(reader.u64("ts")?);
        let left = reader.u32("count")?;
        if left as usize > ENTRY_COMMANDS_MAX {
            return Err(EntryError::Corrupt("count"));
        }
        debug_assert_eq!(reader.position(), HEADER_LEN);
        Ok(Self { payload, at: HEADER_LEN, left, ts, version })
    }

    /// The proposer's wall clock.
    pub fn ts(&self) -> ServerTs {
        self.ts
    }

    /// Commands left.
    pub fn left(&self) -> usize {
        self.left as usize
    }

    /// The next command; `None` after the last.
    ///
    /// # Errors
    /// [`EntryError`] if the command is unknown or does not parse.
    pub fn read(&mut self) -> Result<Option<Command>, EntryError> {
        let mut reader = Reader::at(self.payload, self.at);
        if self.left == 0 {
            reader.end("end of entry")?;
            return Ok(None);
        }
        let command = self.command(&mut reader)?;
        self.at = reader.position();
        self.left -= 1;
        Ok(Some(command))
    }

    fn command(&self, reader: &mut Reader<'a>) -> Result<Command, EntryError> {
        let tag = reader.u8("tag")?;
        if since(tag) > self.version {
            return Err(EntryError::UnknownCommand(tag)); // its writer's version has no such command
        }
        Ok(match tag {
            tag::NOOP => Command::Noop,
            tag::PUBLISH => Command::Publish(self.publish(reader)?),
            tag::CREATE => Command::Create(create(reader)?),
            tag::JOIN => Command::Join(change(reader)?),
            tag::LEAVE => Command::Leave(change(reader)?),
            tag::INBOX_UPDATE => Command::InboxUpdate(inbox_update(reader)?),
            tag::OUTBOX_CLEAR => Command::OutboxClear(outbox_clear(reader)?),
            tag::RETAIN => Command::Retain(retain(reader)?),
            tag::HOLD => Command::Hold(hold(reader)?),
            unknown => return Err(EntryError::UnknownCommand(unknown)),
        })
    }

    fn publish(&self, reader: &mut Reader<'a>) -> Result<Publish, Corrupt> {
        let channel = ChannelId(reader.array("publish.channel")?);
        let user = UserId(reader.array("publish.user")?);
        let device = DeviceId(reader.u64("publish.device")?);
        let client_msg_id = ClientMsgId(reader.var("publish.id")?);
        let kind = EventKind(reader.u8("publish.kind")?);
        let len = reader.count(1, "publish.length")?;
        let from = reader.position();
        reader.take(len, "publish.body")?;
        Ok(Publish { channel, user, device, client_msg_id, kind, body: self.payload.slice(from..from + len) })
    }
}

fn create(reader: &mut Reader<'_>) -> Result<Create, Corrupt> {
    let channel = ChannelId(reader.array("create.channel")?);
    let user = UserId(reader.array("create.user")?);
    let class = class_of(reader.u8("create.class")?).ok_or(Corrupt("create.class"))?;
    let count = reader.count(UserId::LEN, "create.count")?;
    let members =
        (0..count).map(|_| Ok(UserId(reader.array("create.member")?))).collect::<Result<_, Corrupt>>()?;
    Ok(Create { channel, user, class, members })
}

fn change(reader: &mut Reader<'_>) -> Result<Change, Corrupt> {
    Ok(Change {
        channel: ChannelId(reader.array("change.channel")?),
        actor: UserId(reader.array("change.actor")?),
        user: UserId(reader.array("change.user")?),
    })
}

fn inbox_update(reader: &mut Reader<'_>) -> Result<InboxUpdate, Corrupt> {
    let from = ShardId(reader.u32("inbox.from")?);
    let count = reader.count(34, "inbox.count")?;
    let rows = (0..count).map(|_| inbox_row(reader)).collect::<Result<_, _>>()?;
    Ok(InboxUpdate { from, rows })
}

fn inbox_row(reader: &mut Reader<'_>) -> Result<InboxRow, Corrupt> {
    Ok(InboxRow {
        user: UserId(reader.array("inbox.user")?),
        channel: ChannelId(reader.array("inbox.channel")?),
        head: Seq(reader.var("inbox.head")?),
        count: reader.var("inbox.messages")?,
    })
}

fn outbox_clear(reader: &mut Reader<'_>) -> Result<OutboxClear, Corrupt> {
    let dest = ShardId(reader.u32("outbox.dest")?);
    let count = reader.count(17, "outbox.count")?;
    let row = |reader: &mut Reader<'_>| {
        Ok((ChannelId(reader.array("outbox.channel")?), Seq(reader.var("outbox.head")?)))
    };
    let rows = (0..count).map(|_| row(reader)).collect::<Result<_, Corrupt>>()?;
    Ok(OutboxClear { dest, rows })
}

fn retain(reader: &mut Reader<'_>) -> Result<Retain, Corrupt> {
    Ok(Retain {
        channel: ChannelId(reader.array("retain.channel")?),
        floor: Seq(reader.var("retain.floor")?),
    })
}

fn hold(reader: &mut Reader<'_>) -> Result<Hold, Corrupt> {
    let channel = ChannelId(reader.array("hold.channel")?);
    match reader.u8("hold.held")? {
        held @ (0 | 1) => Ok(Hold { channel, is_held: held == 1 }),
        _ => Err(Corrupt("hold.held")),
    }
}

impl From<Corrupt> for EntryError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt.0)
    }
}
