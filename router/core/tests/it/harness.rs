//! One set of machines over a state store in memory, driven entry by entry.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use throng_router_core::entry::{Change, Command, Create, EntryBuilder, Publish};
use throng_router_core::machines::{Effects, Machines, MemoryLimits};
use throng_router_core::{Applied, Outcome};
use throng_storage_core::state::{MemState, StateError, StateRead, StateWrite, Table};
use throng_wire::code::Code;
use throng_wire::event::{Event, EventKind};
use throng_wire::frame::ChannelClass;
use throng_wire::ids::*;

/// The disk: shared by the machines that read it and the test that writes and crashes it.
#[derive(Clone, Default)]
pub(crate) struct Disk(pub(crate) Rc<RefCell<MemState>>);

impl StateRead for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.0.borrow().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.0.borrow().scan(table, from, to, limit)
    }
}

/// Remembers all effects.
#[derive(Default)]
pub(crate) struct Ears {
    pub(crate) events: Vec<(ChannelId, Event, UserId)>,
    pub(crate) moved: Vec<(UserId, ChannelId, Seq, UserSeq)>,
}

impl Effects for Ears {
    fn event(&mut self, _: ShardId, channel: &ChannelId, event: &Event, sender: UserId) {
        self.events.push((*channel, event.clone(), sender));
    }

    fn moved(&mut self, _: ShardId, user: &UserId, channel: &ChannelId, head: Seq, user_seq: UserSeq) {
        self.moved.push((*user, *channel, head, user_seq));
    }
}

/// A replica of a one-shard cluster.
pub(crate) struct Replica {
    pub(crate) disk: Disk,
    pub(crate) machines: Machines<Disk>,
    pub(crate) ears: Ears,
    /// The log, from index 1.
    pub(crate) log: Vec<Bytes>,
    pub(crate) ts: u64,
    /// Number of the copy in use.
    copy: u32,
    memory: MemoryLimits,
}

pub(crate) const SHARD: ShardId = ShardId(0);
pub(crate) const BODY_MAX: usize = 64 * 1024;

impl Replica {
    pub(crate) fn new() -> Self {
        Self::with_memory(MemoryLimits::default())
    }

    pub(crate) fn with_memory(memory: MemoryLimits) -> Self {
        let disk = Disk::default();
        let machines = Machines::load(disk.clone(), &[0], 1, memory).expect("an empty disk");
        Self { disk, machines, ears: Ears::default(), log: Vec::new(), ts: 1_000, copy: 0, memory }
    }

    /// A replica of the same group that goes on from copy `copy` on `disk`: a snapshot of `of`.
    pub(crate) fn from_copy(of: &Self, disk: Disk, copy: u32) -> Self {
        let memory = of.memory;
        let machines = Machines::load(disk.clone(), &[copy], 3, memory).expect("a readable disk");
        Self { disk, machines, ears: Ears::default(), log: of.log.clone(), ts: of.ts, copy, memory }
    }

    /// Appends an entry with these commands to the log and applies it.
    pub(crate) fn apply(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let mut entry = EntryBuilder::new();
        commands.iter().for_each(|command| entry.push(command));
        self.log.push(entry.seal(ServerTs(self.ts)));
        self.apply_from_log()
    }

    /// Applies the next entry of the log.
    pub(crate) fn apply_from_log(&mut self) -> Vec<Outcome> {
        let index = self.machines.applied(SHARD).index + 1;
        let payload = self.log[index as usize - 1].clone();
        let mut outcomes = Vec::new();
        let at = Applied { index, term: 1 };
        self.machines.apply(SHARD, at, &payload, &mut outcomes, &mut self.ears).expect("a valid entry");
        outcomes
    }

    pub(crate) fn one(&mut self, command: Command) -> Outcome {
        self.apply(&[command])[0]
    }

    pub(crate) fn flush(&mut self) {
        let (token, batch) = self.machines.cut();
        let mut disk = self.disk.0.borrow_mut();
        disk.write(&batch).expect("memory does not fail");
        disk.flush().expect("memory does not fail");
        drop(disk);
        self.machines.handle_flushed(token);
    }

    /// Writes a batch whose flush never returns.
    pub(crate) fn write_without_flush(&mut self) {
        let (_, batch) = self.machines.cut();
        self.disk.0.borrow_mut().write(&batch).expect("memory does not fail");
    }

    /// Loses what was not flushed and replays the log from the flushed index.
    pub(crate) fn crash_and_replay(&mut self) {
        self.disk.0.borrow_mut().crash();
        let flushed =
            throng_router_core::applied(&self.disk, SHARD, self.copy).expect("a readable disk").applied();
        self.machines =
            Machines::load(self.disk.clone(), &[self.copy], 2, self.memory).expect("a readable disk");
        assert_eq!(self.machines.applied(SHARD), flushed);
        for _ in flushed.index..self.log.len() as u64 {
            self.apply_from_log();
        }
    }

    /// Everything a user may read of a channel.
    pub(crate) fn history(&mut self, channel: ChannelId, user: UserId) -> Vec<Event> {
        let Some(view) = self.machines.read_channel(&channel, &user).expect("a readable disk") else {
            return vec![];
        };
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.last().map_or(Seq(0), |event| event.seq);
            if after >= view.head {
                return events;
            }
            let page =
                self.machines.read_page(&channel, view.member, after, 7, BODY_MAX).expect("a readable disk");
            assert!(!page.events.is_empty(), "a page below the head holds something");
            events.extend(page.events);
        }
    }
}

pub(crate) fn user(n: u8) -> UserId {
    UserId([n; 16])
}

pub(crate) fn channel(n: u8) -> ChannelId {
    ChannelId::group([n; 16])
}

pub(crate) fn create(
    channel: ChannelId,
    creator: UserId,
    class: ChannelClass,
    members: &[UserId],
) -> Command {
    Command::Create(Create { channel, user: creator, class, members: members.to_vec() })
}

pub(crate) fn group(n: u8, members: &[u8]) -> Command {
    let others: Vec<_> = members[1..].iter().map(|&n| user(n)).collect();
    create(channel(n), user(members[0]), ChannelClass::Group, &others)
}

pub(crate) fn join(channel: ChannelId, actor: UserId, user: UserId) -> Command {
    Command::Join(Change { channel, actor, user })
}

pub(crate) fn leave(channel: ChannelId, actor: UserId, user: UserId) -> Command {
    Command::Leave(Change { channel, actor, user })
}

/// A send from the user's first device.
pub(crate) fn send(channel: ChannelId, from: UserId, id: u64, body: &str) -> Command {
    send_from(channel, from, 1, id, body)
}

pub(crate) fn send_from(channel: ChannelId, user: UserId, device: u64, id: u64, body: &str) -> Command {
    Command::Publish(Publish {
        channel,
        user,
        device: DeviceId(device),
        client_msg_id: ClientMsgId(id),
        kind: EventKind::MESSAGE,
        body: Bytes::copy_from_slice(body.as_bytes()),
    })
}

pub(crate) fn published(seq: u64, ts: u64) -> Outcome {
    Outcome::Published { seq: Seq(seq), ts: ServerTs(ts), duplicate: false }
}

pub(crate) fn duplicate(seq: u64, ts: u64) -> Outcome {
    Outcome::Published { seq: Seq(seq), ts: ServerTs(ts), duplicate: true }
}

pub(crate) fn refused(code: Code) -> Outcome {
    Outcome::Refused(code)
}

pub(crate) fn is_new(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Published { duplicate: false, .. })
}
