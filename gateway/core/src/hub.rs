//! Which sessions of this loop watch which channel.
//!
//! ```text
//!   SUBSCRIBE            Subscribed
//!  ──────────► Idle ───────────────────► Live ◄──────────┐
//!               ▲                         │ new leader,  │ Subscribed
//!               │ refused, reset,         ▼ broken link  │
//!               │ left, UNSUBSCRIBE     Silent ──────► Asked
//!               │                         │ ▲ renewal    │ │ try later
//!               └─────────────────────────┘ └────────────┘ │
//!               └──────────────────────────────────────────┘
//! ```
//!
//! Only `Live` subscriptions receive events. Rights are learnt from the shard's ordered stream alone (contract C7): a
//! channel whose stream broke is silent until each of its users was authorised again. An entry goes when it is `Idle`
//! and no answer is on its way; an answer on its way always counts more than an event before it.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};

use throng_base::{Key, Slab};
use throng_wire::{ChannelId, Seq};

use crate::limits::CHANNELS_MAX;
use crate::session::{Session, SubscriptionRef};

/// See the picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Live,
    Silent,
    Asked,
}

/// One subscription, as its channel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Slab index of the session. Invariant: that session is in the slab and refers back to this place.
    pub(crate) session: u32,
    pub(crate) state: State,
    /// Subscribe requests of the session under way: its own (at most 64) and renewals (at most 128).
    pub(crate) asking: u8,
    /// How many of their answers UNSUBSCRIBE made void. Invariant: ≤ `asking`.
    pub(crate) void: u8,
}

/// One channel with local subscribers.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    /// Newest event that passed, or that a Subscribed answer named.
    pub(crate) head: Seq,
    /// Every `Silent` and `Asked` subscription has been given the events up to here.
    pub(crate) silent_since: Seq,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Generation of the shard that `Live` belongs to.
    pub(crate) generation: u32,
    /// Subscribe requests under way; while there are any, the gateway must not unsubscribe.
    pub(crate) asking: u32,
    /// Whether a shard ever said Subscribed.
    pub(crate) is_fed: bool,
    /// How many are `Silent`.
    pub(crate) silent: u32,
    /// How many are `Asked`.
    pub(crate) asked: u32,
}

const _: () = assert!(size_of::<Subscription>() == 8);
const _: () = assert!(size_of::<Channel>() <= 80);

/// All channels with local subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    index_by_id: HashMap<ChannelId, u32, Keyed>,
    channels: Slab<Channel>,
}

/// Keys the hash with the loop's seed: creators draw group ids themselves and could choose colliding ones.
#[derive(Clone, Copy, Debug)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl Hub {
    pub(crate) fn new(seed: u64) -> Self {
        Self { index_by_id: HashMap::with_hasher(Keyed(seed)), channels: Slab::new(CHANNELS_MAX) }
    }

    pub(crate) fn find(&self, id: &ChannelId) -> Option<u32> {
        self.index_by_id.get(id).copied()
    }

    /// The channel's index, made if need be; `None` at the limit.
    pub(crate) fn find_or_add(&mut self, id: ChannelId, generation: u32) -> Option<u32> {
        if let Some(index) = self.find(&id) {
            return Some(index);
        }
        let channel = Channel {
            id,
            head: Seq(0),
            silent_since: Seq(0),
            subscriptions: Vec::new(),
            generation,
            asking: 0,
            is_fed: false,
            silent: 0,
            asked: 0,
        };
        let key = self.channels.insert(channel).ok()?;
        self.index_by_id.insert(id, key.index);
        Some(key.index)
    }

    pub(crate) fn channel(&self, index: u32) -> Option<&Channel> {
        self.channels.get(self.channels.key_at(index)?)
    }

    pub(crate) fn channel_mut(&mut self, index: u32) -> Option<&mut Channel> {
        let key = self.channels.key_at(index)?;
        self.channels.get_mut(key)
    }

    /// Removes a channel that nobody watches or asks for; its id if a shard feeds it.
    pub(crate) fn remove_if_unused(&mut self, index: u32) -> Option<ChannelId> {
        let key = self.channels.key_at(index)?;
        let channel = self.channels.get(key)?;
        if !channel.subscriptions.is_empty() || channel.asking > 0 {
            return None;
        }
        let channel = self.channels.remove(key).expect("found above");
        self.index_by_id.remove(&channel.id);
        channel.is_fed.then_some(channel.id)
    }

    /// One more than the highest index in use.
    pub(crate) fn index_end(&self) -> u32 {
        self.channels.index_end()
    }

    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Puts a session on a channel's list as `Idle`, unless it is there.
    pub(crate) fn join(&mut self, index: u32, sessions: &mut Slab<Session>, key: Key) {
        let (Some(channel), Some(session)) = (self.channel_mut(index), sessions.get_mut(key)) else { return };
        if session.subscription_to(index).is_some() {
            return;
        }
        let place = channel.subscriptions.len() as u32;
        channel.subscriptions.push(Subscription {
            session: key.index,
            state: State::Idle,
            asking: 0,
            void: 0,
        });
        session.subscriptions.push(SubscriptionRef { channel: index, place });
    }

    /// Takes a session off a channel's list.
    pub(crate) fn leave(&mut self, index: u32, sessions: &mut Slab<Session>, session: u32) {
        let Some(subscription) = take_ref(sessions, session, index) else { return };
        let channel = self.channel_mut(index).expect("a session refers to channels in the hub");
        let place = subscription.place as usize;
        assert_eq!(channel.subscriptions[place].session, session, "both sides of a subscription agree");
        channel.set_state(place, State::Idle); // leaves the counts
        channel.subscriptions.swap_remove(place);
        if let Some(moved) = channel.subscriptions.get(place) {
            let moved = session_at(sessions, moved.session).expect("subscriptions end before their session");
            let back = moved.subscription_to(index).expect("both sides of a subscription agree");
            moved.subscriptions[back].place = place as u32;
        }
    }

    /// Takes a session off a channel's list unless it receives events, or may by an answer on its way.
    pub(crate) fn leave_if_idle(&mut self, index: u32, sessions: &mut Slab<Session>, session: u32) {
        let Some(place) = self.place(index, sessions, session) else { return };
        let subscription = self.channel(index).expect("it has the place").subscriptions[place];
        if subscription.state == State::Idle && subscription.asking == 0 {
            self.leave(index, sessions, session);
        }
    }

    /// Where a session stands on a channel's list.
    pub(crate) fn place(&self, index: u32, sessions: &Slab<Session>, session: u32) -> Option<usize> {
        let session = sessions.get(sessions.key_at(session)?)?;
        let reference = session.subscriptions[session.subscription_to(index)?];
        Some(reference.place as usize)
    }
}

impl Channel {
    /// Changes a subscription's state and keeps the counts.
    pub(crate) fn set_state(&mut self, place: usize, state: State) {
        let before = core::mem::replace(&mut self.subscriptions[place].state, state);
        for (counted, change) in [(before, u32::MAX), (state, 1)] {
            match counted {
                State::Silent => self.silent = self.silent.wrapping_add(change),
                State::Asked => self.asked = self.asked.wrapping_add(change),
                State::Idle | State::Live => {}
            }
        }
    }

    /// Makes a subscription that has the events up to `known` wait for its renewal.
    pub(crate) fn silence_one(&mut self, place: usize, known: Seq) {
        let nobody_waits = self.silent == 0 && self.asked == 0;
        self.silent_since = if nobody_waits { known } else { self.silent_since.min(known) };
        self.set_state(place, State::Silent);
    }

    /// The stream broke: nobody receives events until authorised again.
    pub(crate) fn silence(&mut self) {
        let head = self.head;
        for place in 0..self.subscriptions.len() {
            if self.subscriptions[place].state == State::Live {
                self.silence_one(place, head);
            }
        }
    }

    /// Silences the channel if it was last settled under another generation of its shard.
    pub(crate) fn settle(&mut self, generation: u32) {
        if self.generation != generation {
            self.silence();
            self.generation = generation;
        }
    }
}

/// The session at a slab index.
pub(crate) fn session_at(sessions: &mut Slab<Session>, index: u32) -> Option<&mut Session> {
    let key = sessions.key_at(index)?;
    sessions.get_mut(key)
}

fn take_ref(sessions: &mut Slab<Session>, session: u32, channel: u32) -> Option<SubscriptionRef> {
    let session = session_at(sessions, session)?;
    let place = session.subscription_to(channel)?;
    let taken = session.subscriptions.swap_remove(place);
    if session.subscriptions.is_empty() {
        session.subscriptions = Vec::new(); // an idle session owns as little as it can
    }
    Some(taken)
}
