//! Retention: which floors should rise, and raising them at apply (decision 0016).
//!
//! ```text
//!   leader, now and then: walk the channels, a few a turn ─► Retain{channel, floor} ─► log ─► every replica:
//!       floor = min(wanted, …), chain carried up to it, events below it leave with the same flush batch
//! ```
//!
//! What is kept is decided at apply by the command alone; policy and clock only make the leader propose it. So nothing
//! is ever deleted without a committed command, and a hold that is applied first wins.

use throng_storage_core::state::{StateRead, Table};
use throng_wire::code::Code;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::{ChannelId, Seq, ServerTs, ShardId};

use super::Machines;
use crate::channel::Channel;
use crate::entry::{Command, Hold, Retain};
use crate::fatal::Fatal;
use crate::limits::{RETAIN_EVENTS_MAX, RETENTION_CHANNELS, RETENTION_COMMANDS};
use crate::outcome::Outcome;
use crate::state::keys::{self, PREFIX_LEN, Replica};

/// What channels of a class keep. The default keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionRule {
    /// Events older than this go, milliseconds by the stamps of the entries; `None` for no limit.
    pub max_age_ms: Option<u64>,
    /// Only so many of the newest events stay; `None` for no limit.
    pub max_events: Option<u64>,
}

/// What is kept, by class. The default keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Direct and self channels.
    pub direct: RetentionRule,
    /// Groups.
    pub group: RetentionRule,
    /// Open channels.
    pub open: RetentionRule,
}

impl Retention {
    /// The rule of a class.
    pub fn rule(&self, class: ChannelClass) -> RetentionRule {
        match class {
            ChannelClass::Direct => self.direct,
            ChannelClass::Group => self.group,
            ChannelClass::Open => self.open,
        }
    }

    /// Whether everything is kept.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// How much one turn of retention may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionBudget {
    /// Objects to look at: channels and users.
    pub objects: usize,
    /// Commands to propose.
    pub commands: usize,
}

impl Default for RetentionBudget {
    fn default() -> Self {
        Self { objects: RETENTION_CHANNELS, commands: RETENTION_COMMANDS }
    }
}

impl<S: StateRead> Machines<S> {
    /// Looks at the next few channels of a shard and returns the commands that raise the floors which are due by
    /// `policy` at `now`, the time that the entry will carry. Proposing one twice is harmless. Goes round and round over
    /// all flushed channels, however often it is called; it changes nothing that is replicated.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn retention_due(
        &mut self,
        shard: ShardId,
        policy: &Retention,
        now: ServerTs,
        budget: RetentionBudget,
    ) -> Result<Vec<Command>, Fatal> {
        let mut due = Vec::new();
        if policy.is_off() {
            return Ok(due);
        }
        let replica = self.shard(shard).replica;
        let (begin, end) = keys::copy_range(replica);
        let mut from = [&begin[..], &self.shard(shard).retention_from].concat();
        for _ in 0..budget.objects {
            let Some((key, value)) = self.state.scan(Table::Objects, &from, &end, 1)?.pop() else {
                from.truncate(begin.len()); // the round is over
                break;
            };
            if let Some(id) = keys::channel_of_head(&key) {
                let left = budget.commands - due.len();
                let is_done = self.channel_due(replica, id, &value, policy, now, left, &mut due)?;
                if !is_done {
                    from = key.to_vec();
                    break;
                }
            }
            from = key[..PREFIX_LEN].to_vec();
            from.push(u8::MAX); // above all tags: the next object
        }
        self.shards[shard.0 as usize].retention_from = from.split_off(begin.len());
        Ok(due)
    }

    /// Adds the commands for one channel; false if there was no room for all of them.
    #[expect(clippy::too_many_arguments, reason = "one call, all of a kind")]
    fn channel_due(
        &self,
        replica: Replica,
        id: ChannelId,
        row: &[u8],
        policy: &Retention,
        now: ServerTs,
        left: usize,
        due: &mut Vec<Command>,
    ) -> Result<bool, Fatal> {
        let resting;
        let channel = match self.channels.peek(&id) {
            Some(channel) => channel,
            None => {
                resting = Channel::head_only(id, row, self.keyed, self.shard_count())?;
                &resting
            }
        };
        let rule = policy.rule(channel.class());
        if channel.is_held {
            return Ok(true);
        }
        let end = channel.head.next();
        let by_count = rule.max_events.map_or(Seq(0), |events| Seq(end.0.saturating_sub(events)));
        let mut floor = by_count.max(channel.floor);
        if let Some(age) = rule.max_age_ms {
            let cutoff = ServerTs(now.0.saturating_sub(age));
            floor = floor.max(channel.floor_by_age(&self.state, replica, cutoff, end)?);
        }
        let mut from = channel.floor;
        for _ in 0..left {
            if from >= floor {
                return Ok(true);
            }
            from = floor.min(Seq(from.0 + RETAIN_EVENTS_MAX));
            due.push(Command::Retain(Retain { channel: id, floor: from }));
        }
        Ok(from >= floor)
    }

    pub(super) fn retain(&mut self, shard: ShardId, retain: &Retain) -> Result<Outcome, Fatal> {
        let Some(key) = self.find_own(shard, &retain.channel)? else {
            return Ok(Outcome::Refused(Code::NOT_FOUND));
        };
        let replica = self.shard(shard).replica;
        let channel = self.channels.get_mut(key).expect("it was found");
        if let Some(before) = channel.retain(&self.state, replica, retain.floor)? {
            let (from, to) =
                (keys::event(replica, &channel.id, before), keys::event(replica, &channel.id, channel.floor));
            self.flush.events().delete_range(Table::Events, &from, &to);
            if self.channels.changed(key) {
                self.flush.add(1, 200);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn hold(&mut self, shard: ShardId, hold: &Hold) -> Result<Outcome, Fatal> {
        let Some(key) = self.find_own(shard, &hold.channel)? else {
            return Ok(Outcome::Refused(Code::NOT_FOUND));
        };
        let channel = self.channels.get_mut(key).expect("it was found");
        if channel.is_held != hold.is_held {
            channel.is_held = hold.is_held;
            if self.channels.changed(key) {
                self.flush.add(1, 200);
            }
        }
        Ok(Outcome::Done)
    }
}
