//! The channel machine: one channel, decoded, as commands find it at apply.
//!
//! ```text
//!   publish ─► dedup record ─► member? ─► append ─► seq = head + 1, ts = max(entry, last), chain = H(chain, event)
//!   create, join, leave ─────► allowed? ─► append JOINED or LEFT
//! ```
//!
//! It has no clock and no randomness: what happens depends on the rows and the entry alone (contract C1).

mod dedup;
mod devices;
mod members;
mod membership;
mod page;
mod publish;
mod retention;
mod row;
mod verify;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use throng_base::ChunkedDeque;
use throng_wire::event::{Event, EventKind, Origin};
use throng_wire::frame::ChannelClass;
use throng_wire::ids::{ChannelId, MemberNo, Seq, ServerTs, ShardId, UserId};

pub(crate) use membership::takes_kept_id;
pub(crate) use page::PageLimits;
pub(crate) use row::check_row;
pub(crate) use verify::{BadEvents, EventCheck};

use devices::Devices;
use members::{MemberRecord, Members};

use crate::hash::Keyed;

/// A rolling hash over a channel's history: replicas with the same events have the same chain.
pub(crate) type Chain = [u8; 16];

/// One channel.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    class: ChannelClass,
    /// Who made it, and from what: a repeated CREATE is told from another one by these.
    creator: UserId,
    content: u64,
    /// Newest event. Invariant: events `1..=head` exist, each once.
    pub(crate) head: Seq,
    /// Oldest event that is kept and can be fetched; `head + 1` if there is none. Invariant: never falls.
    pub(crate) floor: Seq,
    /// The chain through the event before the floor: from here the events that are kept can be checked.
    floor_chain: Chain,
    /// Legal hold: the floor does not rise.
    pub(crate) is_held: bool,
    /// Stamp of the newest event. Invariant: never falls.
    last_ts: ServerTs,
    /// Events that count as unread.
    pub(crate) messages: u64,
    pub(crate) chain: Chain,
    pub(crate) members: Members,
    devices: Devices,
    /// The newest events. Invariant: consecutive, the last one is `head`.
    recent: ChunkedDeque<Event, EVENTS_PER_CHUNK>,
    /// Shards of the present members, with how many live there; kept while the channel is small enough to write to
    /// inboxes. Invariant: sorted by shard.
    dests: Vec<(ShardId, u32)>,
    shards: u32,
    /// Member rows changed since the last flush batch was cut, some perhaps twice.
    dirty_members: Vec<MemberNo>,
}

/// An event before it has a place.
struct Draft {
    kind: EventKind,
    sender: MemberNo,
    origin: Option<Origin>,
    body: Bytes,
    hash: Chain,
}

impl Channel {
    /// A channel without events and members, as a CREATE finds it.
    fn empty(
        id: ChannelId,
        class: ChannelClass,
        creator: UserId,
        content: u64,
        keyed: Keyed,
        shards: u32,
    ) -> Self {
        Self {
            id,
            class,
            creator,
            content,
            head: Seq(0),
            floor: Seq(1),
            floor_chain: [0; 16],
            is_held: false,
            last_ts: ServerTs(0),
            messages: 0,
            chain: [0; 16],
            members: Members::new(keyed),
            devices: Devices::default(),
            recent: ChunkedDeque::new(),
            dests: Vec::new(),
            shards,
            dirty_members: Vec::new(),
        }
    }

    /// Gives an event its place: the only writer of `head`.
    fn append(&mut self, ts: ServerTs, draft: Draft) -> Seq {
        let seq = self.head.next();
        let ts = self.last_ts.max(ts);
        self.chain = chain(&self.chain, seq, ts, draft.sender, draft.kind, &draft.hash);
        self.messages += u64::from(draft.kind.counts_as_message());
        let Draft { kind, sender, origin, body, .. } = draft;
        self.recent.push_back(Event { seq, kind, sender, ts, origin, body });
        (self.head, self.last_ts) = (seq, ts);
        assert_eq!(
            self.recent.back().map(|event| event.seq),
            Some(self.head),
            "the newest event is the head"
        );
        seq
    }

    /// The class.
    pub(crate) fn class(&self) -> ChannelClass {
        self.class
    }

    /// The user behind a member number.
    pub(crate) fn user_of(&self, number: MemberNo) -> UserId {
        self.members.given(number).user
    }

    /// Events after `after` that are in memory.
    pub(crate) fn recent_after(&self, after: Seq) -> impl Iterator<Item = &Event> {
        let skip = after.next().0.saturating_sub(self.recent_first().0) as usize;
        self.recent.iter_from(skip)
    }

    /// The oldest event in memory; `head + 1` if there is none.
    pub(crate) fn recent_first(&self) -> Seq {
        Seq(self.head.0 + 1 - self.recent.len() as u64)
    }

    /// Forgets the oldest event in memory; returns its bytes. The caller knows that it is flushed.
    pub(crate) fn evict_oldest(&mut self) -> Option<usize> {
        self.recent.pop_front().as_ref().map(event_bytes)
    }

    /// Bytes of the events in memory.
    pub(crate) fn recent_bytes(&self) -> usize {
        self.recent.iter().map(event_bytes).sum()
    }

    /// The shards of the present members.
    pub(crate) fn dests(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.dests.iter().map(|&(shard, _)| shard)
    }

    /// The shard of a user's inbox.
    pub(crate) fn dest_of(&self, user: &UserId) -> ShardId {
        ShardId::of_user(user, self.shards)
    }

    fn add_dest(&mut self, user: &UserId) {
        let shard = self.dest_of(user);
        match self.dests.binary_search_by_key(&shard, |&(shard, _)| shard) {
            Ok(at) => self.dests[at].1 += 1,
            Err(at) => self.dests.insert(at, (shard, 1)),
        }
    }

    fn remove_dest(&mut self, user: &UserId) {
        let shard = self.dest_of(user);
        let at = self.dests.binary_search_by_key(&shard, |&(shard, _)| shard).expect("members were counted");
        self.dests[at].1 -= 1;
        if self.dests[at].1 == 0 {
            self.dests.remove(at);
        }
    }

    /// About how much memory the object takes beside its recent events.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.members.bytes() + self.devices.bytes() + self.dests.capacity() * 8
    }
}

/// Recent events of a channel in one allocation: a few KiB. All busy channels of a node grow together, so none may move its
/// events to do it.
const EVENTS_PER_CHUNK: usize = 64;

/// About how much memory an event takes.
pub(crate) fn event_bytes(event: &Event) -> usize {
    size_of::<Event>() + event.body.len()
}

/// The hash of an event's content: 128 bits of SHA-256(kind, body). Chains are built over these, so that erasing a
/// body and verifying a chain go together.
fn content_hash(kind: EventKind, body: &[u8]) -> Chain {
    first16(Sha256::new().chain_update([kind.0]).chain_update(body))
}

/// The chain through an event that is stored.
fn chain_over(before: &Chain, event: &Event) -> Chain {
    let hash = content_hash(event.kind, &event.body);
    chain(before, event.seq, event.ts, event.sender, event.kind, &hash)
}

fn chain(before: &Chain, seq: Seq, ts: ServerTs, sender: MemberNo, kind: EventKind, hash: &Chain) -> Chain {
    let mut link = [0u8; 16 + 8 + 8 + 4 + 1 + 16];
    link[..16].copy_from_slice(before);
    link[16..24].copy_from_slice(&seq.0.to_be_bytes());
    link[24..32].copy_from_slice(&ts.0.to_be_bytes());
    link[32..36].copy_from_slice(&sender.0.to_be_bytes());
    link[36] = kind.0;
    link[37..].copy_from_slice(hash);
    first16(Sha256::new().chain_update(link))
}

fn first16(sha: Sha256) -> Chain {
    let mut hash = [0u8; 16];
    hash.copy_from_slice(&sha.finalize()[..16]);
    hash
}
