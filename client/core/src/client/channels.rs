//! The channels of a client: an outbox and perhaps a feed each, and who of them has work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use throng_base::Instant;
use throng_wire::ChannelId;

use crate::feed::Feed;
use crate::limits::CHANNELS_MAX;
use crate::outbox::Outbox;

/// One channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    outbox: Outbox,
    pub(super) feed: Option<Box<Feed>>,
    /// In the queue of channels with sends.
    sends_marked: bool,
    /// In the queue of channels whose feed wants something.
    feed_marked: bool,
    /// The earliest entry of this channel among the timers that counts.
    armed: Option<Instant>,
}

/// All channels. A client with one channel is the common one, so this is a sorted array, not a tree.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Invariant: sorted by id.
    by_id: Vec<(ChannelId, Channel)>,
    sends: VecDeque<ChannelId>,
    feeds: VecDeque<ChannelId>,
    /// Timers; entries that are not a channel's `armed` are stale.
    timers: BinaryHeap<Reverse<(Instant, ChannelId)>>,
    /// Invariant: the sum of what the outboxes have in flight.
    in_flight: usize,
}

impl Channel {
    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}

impl Channels {
    pub(super) fn has_room(&self, id: ChannelId) -> bool {
        self.by_id.len() < CHANNELS_MAX || self.position(id).is_ok()
    }

    pub(super) fn entry(&mut self, id: ChannelId) -> &mut Channel {
        let at = match self.position(id) {
            Ok(at) => at,
            Err(at) => {
                assert!(self.by_id.len() < CHANNELS_MAX, "has_room() is asked first");
                self.by_id.insert(at, (id, Channel::default()));
                at
            }
        };
        &mut self.by_id[at].1
    }

    pub(super) fn get(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let at = self.position(id).ok()?;
        Some(&mut self.by_id[at].1)
    }

    /// Does something with a channel's outbox; `None` if there is no such channel.
    pub(super) fn with_outbox<R>(&mut self, id: ChannelId, act: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        let outbox = &mut self.get(id)?.outbox;
        let before = outbox.in_flight();
        let result = act(outbox);
        let after = outbox.in_flight();
        self.in_flight = self.in_flight + after - before;
        Some(result)
    }

    /// Sends of all channels that are transmitted and unanswered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn feed(&mut self, id: ChannelId) -> Option<&mut Feed> {
        self.get(id)?.feed.as_deref_mut()
    }

    /// Forgets a channel with nothing in it. One that stands in a queue is forgotten when it leaves it, so a queue never
    /// holds a channel twice.
    pub(super) fn tidy(&mut self, id: ChannelId) {
        let Ok(at) = self.position(id) else { return };
        let channel = &self.by_id[at].1;
        let is_marked = channel.sends_marked || channel.feed_marked;
        if channel.feed.is_none() && channel.outbox.is_empty() && !is_marked {
            self.by_id.remove(at);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ChannelId, &Channel)> {
        self.by_id.iter().map(|(id, channel)| (id, channel))
    }

    /// The channel may have something to transmit.
    pub(super) fn mark_sends(&mut self, id: ChannelId) {
        let Some(channel) = self.get(id) else { return };
        if !core::mem::replace(&mut channel.sends_marked, true) {
            self.sends.push_back(id);
        }
    }

    /// The channel's feed may have something to ask.
    pub(super) fn mark_feed(&mut self, id: ChannelId) {
        let Some(channel) = self.get(id) else { return };
        if !core::mem::replace(&mut channel.feed_marked, true) {
            self.feeds.push_back(id);
        }
    }

    /// The next marked channel with sends; its mark is taken off.
    pub(super) fn pop_sends(&mut self) -> Option<ChannelId> {
        let id = self.sends.pop_front()?;
        self.get(id).expect("a marked channel is kept").sends_marked = false;
        Some(id)
    }

    /// The next marked channel with a feed; its mark is taken off.
    pub(super) fn pop_feed(&mut self) -> Option<ChannelId> {
        let id = self.feeds.pop_front()?;
        self.get(id).expect("a marked channel is kept").feed_marked = false;
        Some(id)
    }

    /// The connection is gone: everything is to be asked and sent again.
    pub(super) fn connection_lost(&mut self) {
        self.sends.clear();
        self.feeds.clear();
        self.in_flight = 0;
        self.timers = BinaryHeap::new();
        self.by_id.retain(|(_, channel)| channel.feed.is_some() || !channel.outbox.is_empty());
        for (id, channel) in &mut self.by_id {
            channel.armed = None;
            channel.outbox.connection_lost();
            channel.sends_marked = !channel.outbox.is_empty();
            if channel.sends_marked {
                self.sends.push_back(*id);
            }
            channel.feed_marked = channel.feed.is_some();
            if let Some(feed) = &mut channel.feed {
                feed.connection_lost();
                self.feeds.push_back(*id);
            }
        }
    }

    /// Looks at the channel at `deadline`, or earlier if that is due already.
    pub(super) fn arm(&mut self, id: ChannelId, deadline: Option<Instant>) {
        let (Some(deadline), Some(channel)) = (deadline, self.get(id)) else { return };
        if channel.armed.is_none_or(|armed| deadline < armed) {
            channel.armed = Some(deadline);
            self.timers.push(Reverse((deadline, id)));
        }
    }

    /// The next channel whose time has come.
    pub(super) fn expire(&mut self, now: Instant) -> Option<ChannelId> {
        loop {
            let &Reverse((at, id)) = self.timers.peek().filter(|Reverse((at, _))| *at <= now)?;
            self.timers.pop();
            if let Some(channel) = self.get(id)
                && channel.armed == Some(at)
            {
                channel.armed = None;
                return Some(id);
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    fn position(&self, id: ChannelId) -> Result<usize, usize> {
        self.by_id.binary_search_by_key(&id, |(id, _)| *id)
    }
}
