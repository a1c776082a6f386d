//! Requests that change something: checked for what depends on no state, then queued for the log.

use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::StateRead;
use throng_wire::code::Code;
use throng_wire::event::EventKind;
use throng_wire::ids::{ChannelId, ShardId, UserId};
use throng_wire::limits::CREATE_MEMBERS_MAX;
use throng_wire::link::{Answer, Op, Request};
use throng_wire::varint;

use super::Router;
use super::desk::Waiter;
use super::fanout::Link;
use super::flights::Flight;
use super::lead::unavailable;
use crate::channel::takes_kept_id;
use crate::entry::{Change, EntryBuilder};
use crate::limits::{BUSY_RETRY_MS, UNFLUSHED_BYTES_MAX};

impl<S: StateRead> Router<S> {
    /// A request of a gateway.
    pub(super) fn request(&mut self, link: Link, request: Request) {
        let shard = ShardId::of_slot(request.op.slot(&request.user), self.config.shards);
        // A read that asks for no more than this replica has needs no leader (contract C6).
        if !self.serves(shard) && !self.suffices(&request) {
            let refusal = unavailable(self.other_leader(shard));
            return self.fanout.reply(&link, request.id, Err(refusal));
        }
        if let Some(code) = self.fault(&request.op) {
            return self.fanout.refuse(&link, request.id, code, 0);
        }
        let Request { id, user, device, op } = request;
        let sent = |channel| Flight { channel, sender: Some((user, device)) };
        let counted = |channel| Flight { channel, sender: None };
        match op {
            Op::Publish { channel, client_msg_id, kind, body } => {
                if is_planted(Bug::SequenceBeforeCommit) {
                    self.answer_with_expected(shard, &link, id, &channel, &user);
                }
                self.command(shard, link, id, sent(channel), |entry| {
                    entry.publish(channel, user, device, client_msg_id, kind, &body);
                });
            }
            Op::Create { channel, class, members } => {
                self.command(shard, link, id, counted(channel), |entry| {
                    entry.create(channel, user, class, &members)
                });
            }
            Op::Join { channel, user: joins } => {
                let change = Change { channel, actor: user, user: joins };
                self.command(shard, link, id, counted(channel), |entry| entry.join(&change));
            }
            Op::Leave { channel, user: leaves } => {
                let change = Change { channel, actor: user, user: leaves };
                self.command(shard, link, id, counted(channel), |entry| entry.leave(&change));
            }
            op @ (Op::Members { .. }
            | Op::Fetch { .. }
            | Op::Subscribe { .. }
            | Op::Sync { .. }
            | Op::Register { .. }) => {
                self.read(shard, link, Request { id, user, device, op });
            }
        }
    }

    /// What is wrong with an operation, whatever the state.
    fn fault(&self, op: &Op) -> Option<Code> {
        match op {
            Op::Publish { body, .. } if body.len() > self.config.body_max => Some(Code::BODY_TOO_LARGE),
            Op::Publish { kind, .. } if *kind != EventKind::MESSAGE => Some(Code::UNSUPPORTED),
            Op::Publish { client_msg_id, .. } if client_msg_id.0 > varint::MAX => Some(Code::LIMIT),
            Op::Create { members, .. } if members.len() > CREATE_MEMBERS_MAX => Some(Code::LIMIT),
            Op::Create { channel, class, .. } if takes_kept_id(*class, channel) => Some(Code::LIMIT),
            _ => None,
        }
    }

    fn command(
        &mut self,
        shard: ShardId,
        link: Link,
        id: u64,
        flight: Flight,
        encode: impl FnOnce(&mut EntryBuilder),
    ) {
        let full = !self.pressures.is_empty()
            || !self.desk(shard).has_room()
            || self.machines.unflushed_bytes() > UNFLUSHED_BYTES_MAX;
        let counted = if full { Err(Code::BUSY) } else { self.flights.begin(&flight) };
        if let Err(code) = counted {
            return self.fanout.refuse(&link, id, code, BUSY_RETRY_MS);
        }
        self.push(shard, Waiter::Request { link, id, flight }, encode);
    }

    /// [`Bug::SequenceBeforeCommit`]: the number that the leader expects a publish to get.
    fn answer_with_expected(
        &mut self,
        shard: ShardId,
        link: &Link,
        id: u64,
        channel: &ChannelId,
        user: &UserId,
    ) {
        let Ok(Some(view)) = self.machines.read_channel(channel, user) else { return };
        if !self.desk(shard).has_work() {
            let (seq, ts) = (view.head.next(), self.wall);
            self.fanout.reply(link, id, Ok(Answer::Published { seq, ts, duplicate: false }));
        }
    }

    /// Queues a command on a desk that has room.
    pub(super) fn push(&mut self, shard: ShardId, waiter: Waiter, encode: impl FnOnce(&mut EntryBuilder)) {
        let wall = self.wall;
        self.desk(shard).push(waiter, wall, encode);
        if !self.blocked.contains(&shard) {
            self.busy.insert(shard);
        }
    }
}
