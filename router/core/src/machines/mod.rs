//! The replicated machines of all shards on a node: entries in, outcomes and effects out, rows to the state store.
//!
//! What happens here is the same on every replica: no clock, no randomness, no order of a hash table. Time is in the
//! entry. Effects (events to deliver, inbox rows that moved) are handed to an [`Effects`]; only a leader has an ear
//! for them.

mod apply;
mod copies;
mod flush;
mod metadata;
mod outgoing;
mod read;
mod retention;
mod shard;
pub mod verify;

use throng_base::Key;
use throng_storage_core::state::StateRead;
use throng_wire::event::Event;
use throng_wire::ids::{ChannelId, Seq, ShardId, UserId, UserSeq};

use crate::channel::{Channel, event_bytes};
use crate::fatal::Fatal;
use crate::hash::Keyed;
use crate::limits;
use crate::state::cache::{Cache, Object};
use crate::state::recent::Recent;
use crate::user::User;

pub use copies::{StoredCopy, copies, next_replica};
pub use flush::FlushToken;
pub use outgoing::Unsent;
pub use read::{InboxView, PageView, ReadChannel};
pub use retention::{Retention, RetentionBudget, RetentionRule};
pub use shard::{Applied, AppliedRow, applied, applied_row};

pub(crate) use outgoing::Outgoing;
pub(crate) use shard::Shard;

/// What the machines tell the node that applies an entry.
pub trait Effects {
    /// An event has its place. `sender` is the user behind its member number.
    fn event(&mut self, shard: ShardId, channel: &ChannelId, event: &Event, sender: UserId);

    /// An inbox row moved.
    fn moved(&mut self, shard: ShardId, user: &UserId, channel: &ChannelId, head: Seq, user_seq: UserSeq);
}

/// For replicas that nobody listens to.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEffects;

impl Effects for NoEffects {
    fn event(&mut self, _: ShardId, _: &ChannelId, _: &Event, _: UserId) {}

    fn moved(&mut self, _: ShardId, _: &UserId, _: &ChannelId, _: Seq, _: UserSeq) {}
}

/// How much the machines keep in memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Bytes of recent events.
    pub event_bytes: usize,
    /// Bytes of decoded objects, by estimate.
    pub object_bytes: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { event_bytes: limits::EVENT_BYTES_MAX, object_bytes: limits::OBJECT_BYTES_MAX }
    }
}

/// How much the machines hold in memory, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of recent events.
    pub event_bytes: usize,
    /// Bytes of decoded objects, by estimate.
    pub object_bytes: usize,
    /// Channels.
    pub channels: usize,
    /// Users.
    pub users: usize,
}

/// All machines of a node.
pub struct Machines<S> {
    state: S,
    /// By shard.
    shards: Vec<Shard>,
    /// The group behind those of the shards, if there is one.
    metadata: Option<metadata::Copy>,
    channels: Cache<Channel>,
    users: Cache<User>,
    recent: Recent,
    flush: flush::WriteBehind,
    memory: MemoryLimits,
    keyed: Keyed,
}

impl Object for Channel {
    type Id = ChannelId;

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

impl Object for User {
    type Id = UserId;

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

/// The copies that a store begins with: each shard's has its own number.
pub fn first_replicas(shards: u32) -> Vec<u32> {
    (0..shards).collect()
}

impl<S: StateRead> Machines<S> {
    /// The machines as the state store has them: of every shard the copy that `replicas` names, which the log's marks
    /// say; a shard's first copy has its own number ([`first_replicas`]). `seed` keys look-up tables only; replicas of
    /// a group need not share it.
    ///
    /// # Errors
    /// [`Fatal`] if the state store cannot be read.
    pub fn load(state: S, replicas: &[u32], seed: u64, memory: MemoryLimits) -> Result<Self, Fatal> {
        assert!(!replicas.is_empty(), "a cluster has at least one shard");
        let keyed = Keyed::new(seed);
        let shards = replicas.len() as u32;
        let load = |(&replica, shard)| Shard::load(&state, ShardId(shard), shards, replica);
        let all = replicas.iter().zip(0..).map(load).collect::<Result<_, _>>()?;
        Ok(Self {
            state,
            shards: all,
            metadata: None,
            channels: Cache::new(keyed),
            users: Cache::new(keyed),
            recent: Recent::default(),
            flush: flush::WriteBehind::default(),
            memory,
            keyed,
        })
    }

    /// How many shards the cluster has.
    pub fn shard_count(&self) -> u32 {
        self.shards.len() as u32
    }

    /// The newest entry that a shard has applied.
    pub fn applied(&self, shard: ShardId) -> Applied {
        self.shard(shard).applied
    }

    /// A shard, or the metadata's group behind them.
    pub(crate) fn shard(&self, shard: ShardId) -> &Shard {
        match self.shards.get(shard.0 as usize) {
            Some(shard) => shard,
            None => &self.metadata.as_ref().expect("a group of this node").shard,
        }
    }

    fn shard_mut(&mut self, shard: ShardId) -> &mut Shard {
        match self.shards.get_mut(shard.0 as usize) {
            Some(shard) => shard,
            None => &mut self.metadata.as_mut().expect("a group of this node").shard,
        }
    }

    /// Whether a shard's outbox has grown since this was last asked.
    pub(crate) fn take_outbox_grown(&mut self, shard: ShardId) -> bool {
        self.shards[shard.0 as usize].outbox.take_grown()
    }

    /// Finds a channel in memory or loads it; `None` if there is none.
    pub(crate) fn find_channel(&mut self, id: &ChannelId) -> Result<Option<Key>, Fatal> {
        if let Some(key) = self.channels.find(id) {
            return Ok(Some(key));
        }
        let shards = self.shard_count();
        let replica = self.shard(ShardId::of_channel(id, shards)).replica;
        let Some(channel) = Channel::load(&self.state, replica, *id, self.keyed, shards)? else {
            return Ok(None);
        };
        Ok(Some(self.channels.insert(*id, channel)))
    }

    /// Finds a user in memory or loads it; one without rows is empty.
    pub(crate) fn find_user(&mut self, id: &UserId) -> Result<Key, Fatal> {
        if let Some(key) = self.users.find(id) {
            return Ok(key);
        }
        let replica = self.shard(ShardId::of_user(id, self.shard_count())).replica;
        let user = User::load(&self.state, replica, *id)?;
        Ok(self.users.insert(*id, user))
    }

    /// What the machines hold in memory.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse {
            event_bytes: self.recent.bytes(),
            object_bytes: self.channels.bytes() + self.users.bytes(),
            channels: self.channels.len(),
            users: self.users.len(),
        }
    }

    /// Keeps memory within its limits; called after a turn's work.
    pub(crate) fn shrink(&mut self) {
        while let Some(key) = self.recent.evict(self.memory.event_bytes) {
            let bytes = self.channels.get_mut(key).and_then(Channel::evict_oldest);
            self.recent.forget(bytes.unwrap_or(0));
        }
        let flushed = self.flush.flushed();
        // Channels are the bulk; users get an eighth.
        let (recent, limit) = (&mut self.recent, self.memory.object_bytes);
        self.channels.shrink(limit / 8 * 7, flushed, |channel| recent.forget(channel.recent_bytes()));
        self.users.shrink(limit / 8, flushed, |_| {});
    }

    /// Notes the new events of a channel: they are in memory, and in the open flush batch.
    fn note_events(&mut self, key: Key, after: Seq) {
        let channel = self.channels.get(key).expect("the channel was just changed");
        for event in channel.recent_after(after) {
            self.recent.add(key, event_bytes(event));
        }
        let replica =
            self.shards[ShardId::of_channel(&channel.id, self.shards.len() as u32).0 as usize].replica;
        channel.write_events(after, replica, self.flush.events());
    }
}
