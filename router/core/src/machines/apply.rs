//! Applying entries.

use bytes::Bytes;
use throng_base::Key;
use throng_storage_core::state::StateRead;
use throng_wire::code::Code;
use throng_wire::event::{Event, EventKind, Membership};
use throng_wire::ids::{ChannelId, Seq, ServerTs, ShardId};

use super::{Applied, Effects, Machines};
use crate::channel::Channel;
use crate::entry::{Change, Command, Create, EntryReader, InboxUpdate, OutboxClear, Publish};
use crate::fatal::Fatal;
use crate::limits::{INBOX_FANOUT_MEMBERS_MAX, TS_MAX};
use crate::outcome::Outcome;

impl<S: StateRead> Machines<S> {
    /// Applies the next entry of a shard; appends one outcome per command.
    ///
    /// # Errors
    /// [`Fatal`]: the replica must stop. What is in memory is then of no use; what is flushed is whole.
    pub fn apply(
        &mut self,
        shard: ShardId,
        at: Applied,
        payload: &Bytes,
        outcomes: &mut Vec<Outcome>,
        effects: &mut impl Effects,
    ) -> Result<(), Fatal> {
        let before = self.applied(shard);
        assert_eq!(at.index, before.index + 1, "entries are applied once, in order, without a hole");
        assert!(at.term >= before.term, "terms do not fall");
        let mut reader = EntryReader::new(payload)?;
        let ts = ServerTs(reader.ts().0.min(TS_MAX));
        while let Some(command) = reader.read()? {
            outcomes.push(self.command(shard, ts, command, effects)?);
        }
        let machine = &mut self.shards[shard.0 as usize];
        machine.applied = at;
        machine.is_dirty = true;
        self.flush.add(0, 0);
        Ok(())
    }

    fn command(
        &mut self,
        shard: ShardId,
        ts: ServerTs,
        command: Command,
        effects: &mut impl Effects,
    ) -> Result<Outcome, Fatal> {
        match command {
            Command::Noop => Ok(Outcome::Done),
            Command::Publish(publish) => self.publish(shard, ts, publish, effects),
            Command::Create(create) => self.create(shard, ts, &create, effects),
            Command::Join(change) => {
                self.change(shard, &change, effects, |channel| channel.join(ts, &change))
            }
            Command::Leave(change) => {
                self.change(shard, &change, effects, |channel| channel.leave(ts, &change))
            }
            Command::InboxUpdate(update) => self.inbox_update(shard, &update, effects),
            Command::OutboxClear(clear) => self.outbox_clear(shard, &clear),
            Command::Retain(retain) => self.retain(shard, &retain),
            Command::Hold(hold) => self.hold(shard, &hold),
        }
    }

    fn publish(
        &mut self,
        shard: ShardId,
        ts: ServerTs,
        publish: Publish,
        effects: &mut impl Effects,
    ) -> Result<Outcome, Fatal> {
        let Some(key) = self.find_own(shard, &publish.channel)? else {
            return Ok(Outcome::Refused(Code::NOT_FOUND));
        };
        let replica = self.shard(shard).replica;
        let channel = self.channels.get_mut(key).expect("it was found");
        let before = channel.head;
        let outcome = channel.publish(&self.state, replica, ts, publish)?;
        self.settle(shard, key, before, effects);
        Ok(outcome)
    }

    fn create(
        &mut self,
        shard: ShardId,
        ts: ServerTs,
        create: &Create,
        effects: &mut impl Effects,
    ) -> Result<Outcome, Fatal> {
        let shards = self.shard_count();
        if ShardId::of_channel(&create.channel, shards) != shard {
            return Ok(Outcome::Refused(Code::NOT_FOUND));
        }
        if let Some(key) = self.find_channel(&create.channel)? {
            return Ok(self.channels.get(key).expect("it was found").create_again(create));
        }
        match Channel::create(create, ts, self.keyed, shards) {
            Err(code) => Ok(Outcome::Refused(code)),
            Ok((channel, outcome)) => {
                let key = self.channels.insert(create.channel, channel);
                self.settle(shard, key, Seq(0), effects);
                Ok(outcome)
            }
        }
    }

    fn change(
        &mut self,
        shard: ShardId,
        change: &Change,
        effects: &mut impl Effects,
        apply: impl FnOnce(&mut Channel) -> Outcome,
    ) -> Result<Outcome, Fatal> {
        let Some(key) = self.find_own(shard, &change.channel)? else {
            return Ok(Outcome::Refused(Code::NOT_FOUND));
        };
        let channel = self.channels.get_mut(key).expect("it was found");
        let before = channel.head;
        let outcome = apply(channel);
        self.settle(shard, key, before, effects);
        Ok(outcome)
    }

    fn inbox_update(
        &mut self,
        shard: ShardId,
        update: &InboxUpdate,
        effects: &mut impl Effects,
    ) -> Result<Outcome, Fatal> {
        for row in &update.rows {
            if ShardId::of_user(&row.user, self.shard_count()) != shard {
                continue; // another shard's user: the sender's map is wrong, the row is not ours to keep
            }
            let key = self.find_user(&row.user)?;
            let user = self.users.get_mut(key).expect("it was found");
            let Some(user_seq) = user.update(row) else { continue };
            let rows = if self.users.changed(key) { 2 } else { 1 };
            self.flush.add(rows, rows * 80);
            effects.moved(shard, &row.user, &row.channel, row.head, user_seq);
        }
        Ok(Outcome::Done)
    }

    fn outbox_clear(&mut self, shard: ShardId, clear: &OutboxClear) -> Result<Outcome, Fatal> {
        for &(id, stored) in &clear.rows {
            let Some(key) = self.find_own(shard, &id)? else { continue };
            let head = self.channels.get(key).expect("it was found").head;
            self.shards[shard.0 as usize].outbox.clear(clear.dest, id, stored, head);
            self.flush.add(1, 64);
        }
        Ok(Outcome::Done)
    }

    /// A channel of this shard; channels of other shards do not exist here.
    pub(super) fn find_own(&mut self, shard: ShardId, id: &ChannelId) -> Result<Option<Key>, Fatal> {
        if ShardId::of_channel(id, self.shard_count()) != shard {
            return Ok(None);
        }
        self.find_channel(id)
    }

    /// Carries on what a command appended to a channel: accounting, outbox rows, effects.
    fn settle(&mut self, shard: ShardId, key: Key, before: Seq, effects: &mut impl Effects) {
        let channel = self.channels.get(key).expect("the command found it");
        if channel.head == before {
            return;
        }
        let outbox = &mut self.shards[shard.0 as usize].outbox;
        let to_all = channel.members.present() <= INBOX_FANOUT_MEMBERS_MAX;
        if to_all {
            channel.dests().for_each(|dest| outbox.mark_all(dest, channel.id, before.next()));
        }
        for event in channel.recent_after(before) {
            effects.event(shard, &channel.id, event, channel.user_of(event.sender));
            if let Some(about) = concerns_one(event, to_all) {
                outbox.mark_member(channel.dest_of(&about.user), channel.id, about.member, event.seq);
            }
        }
        self.note_events(key, before);
        if self.channels.changed(key) {
            self.flush.add(3, 400);
        }
    }
}

/// Whom an event concerns beside or instead of the present members: whoever left, and in a channel too large for
/// inboxes whoever joined, learn of that one event.
fn concerns_one(event: &Event, to_all: bool) -> Option<Membership> {
    let alone = event.kind == EventKind::LEFT || (event.kind == EventKind::JOINED && !to_all);
    alone.then(|| Membership::decode(&event.body).expect("membership events are written by this machine"))
}
