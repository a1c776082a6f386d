//! Writing entries: commands are encoded straight into the entry that will carry them.

use bytes::{BufMut, Bytes, BytesMut};
use throng_wire::event::EventKind;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::{ChannelId, ClientMsgId, DeviceId, Seq, ServerTs, ShardId, UserId};
use throng_wire::peer::InboxRow;

use super::{Change, Command, FIRST_VERSION, HEADER_LEN, Hold, Retain, class_byte, since, tag};
use crate::codec::put_var;
use crate::limits::TS_MAX;

/// An entry in the making.
#[derive(Debug, Default)]
pub struct EntryBuilder {
    bytes: BytesMut,
    count: u32,
    /// The newest version that a command needs.
    version: u8,
}

impl EntryBuilder {
    /// An entry without commands; it owns no memory until the first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Commands so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no command yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Stamps the entry and closes it.
    pub fn seal(self, ts: ServerTs) -> Bytes {
        let mut bytes = self.bytes;
        if bytes.is_empty() {
            bytes.put_slice(&[0; HEADER_LEN]);
        }
        bytes[0] = self.version.max(FIRST_VERSION);
        bytes[1..9].copy_from_slice(&ts.0.min(TS_MAX).to_be_bytes());
        bytes[9..13].copy_from_slice(&self.count.to_be_bytes());
        bytes.freeze()
    }

    /// Adds any command.
    pub fn push(&mut self, command: &Command) {
        match command {
            Command::Noop => drop(self.begin(tag::NOOP)),
            Command::Publish(p) => {
                self.publish(p.channel, p.user, p.device, p.client_msg_id, p.kind, &p.body)
            }
            Command::Create(c) => self.create(c.channel, c.user, c.class, &c.members),
            Command::Join(change) => self.join(change),
            Command::Leave(change) => self.leave(change),
            Command::InboxUpdate(update) => self.inbox_update(update.from, update.rows.iter().copied()),
            Command::OutboxClear(clear) => self.outbox_clear(clear.dest, &clear.rows),
            Command::Retain(retain) => self.retain(retain),
            Command::Hold(hold) => self.hold(hold),
        }
    }

    /// Adds a send.
    pub fn publish(
        &mut self,
        channel: ChannelId,
        user: UserId,
        device: DeviceId,
        id: ClientMsgId,
        kind: EventKind,
        body: &[u8],
    ) {
        let out = self.begin(tag::PUBLISH);
        out.put_slice(&channel.0);
        out.put_slice(&user.0);
        out.put_u64(device.0);
        put_var(out, id.0);
        out.put_u8(kind.0);
        put_var(out, body.len() as u64);
        out.put_slice(body);
    }

    /// Adds the making of a channel.
    pub fn create(&mut self, channel: ChannelId, user: UserId, class: ChannelClass, members: &[UserId]) {
        let out = self.begin(tag::CREATE);
        out.put_slice(&channel.0);
        out.put_slice(&user.0);
        out.put_u8(class_byte(class));
        put_var(out, members.len() as u64);
        members.iter().for_each(|member| out.put_slice(&member.0));
    }

    /// Adds a join.
    pub fn join(&mut self, change: &Change) {
        put_change(self.begin(tag::JOIN), change);
    }

    /// Adds a removal.
    pub fn leave(&mut self, change: &Change) {
        put_change(self.begin(tag::LEAVE), change);
    }

    /// Adds moved inbox rows.
    pub fn inbox_update(&mut self, from: ShardId, rows: impl ExactSizeIterator<Item = InboxRow>) {
        let out = self.begin(tag::INBOX_UPDATE);
        out.put_u32(from.0);
        put_var(out, rows.len() as u64);
        for row in rows {
            out.put_slice(&row.user.0);
            out.put_slice(&row.channel.0);
            put_var(out, row.head.0);
            put_var(out, row.count);
        }
    }

    /// Adds the clearing of outbox rows.
    pub fn outbox_clear(&mut self, dest: ShardId, rows: &[(ChannelId, Seq)]) {
        let out = self.begin(tag::OUTBOX_CLEAR);
        out.put_u32(dest.0);
        put_var(out, rows.len() as u64);
        for (channel, head) in rows {
            out.put_slice(&channel.0);
            put_var(out, head.0);
        }
    }

    /// Adds the raising of a floor.
    pub fn retain(&mut self, retain: &Retain) {
        let out = self.begin(tag::RETAIN);
        out.put_slice(&retain.channel.0);
        put_var(out, retain.floor.0);
    }

    /// Adds the setting or lifting of a hold.
    pub fn hold(&mut self, hold: &Hold) {
        let out = self.begin(tag::HOLD);
        out.put_slice(&hold.channel.0);
        out.put_u8(u8::from(hold.is_held));
    }

    fn begin(&mut self, tag: u8) -> &mut BytesMut {
        if self.bytes.is_empty() {
            self.bytes.put_slice(&[0; HEADER_LEN]);
        }
        self.count += 1;
        self.version = self.version.max(since(tag));
        self.bytes.put_u8(tag);
        &mut self.bytes
    }
}

fn put_change(out: &mut BytesMut, change: &Change) {
    out.put_slice(&change.channel.0);
    out.put_slice(&change.actor.0);
    out.put_slice(&change.user.0);
}
