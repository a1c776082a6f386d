//! The events of one subscribed channel: every one to the user, once, in order.
//!
//! ```text
//!   events   … 7 8 9 │ 10 11 12 │ 13 14 15 │ …
//!           handed ──┘   gap    └── held ──┘ head
//!                 cursor   ▲
//!                          └── FETCH after 9 fills it; then the held ones follow
//! ```
//!
//! DELIVER, PAGE, SUBSCRIBED and LAGGED all end here: events are offered, heads raised, and [`Feed::missing`] says what
//! to fetch. What does not fit among the held events is dropped and fetched again later.

use std::collections::VecDeque;

use core::time::Duration;
use throng_base::Instant;
use throng_wire::limits::PAGE_EVENTS_MAX;
use throng_wire::{Epoch, Event, RequestId, Seq};

use crate::saved::Cursor;

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this position: the user gets everything since.
    After(Cursor),
    /// At the head at the time of subscription: the user gets only what comes.
    Head,
}

/// Whether the server knows of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Wanted,
    Asked(RequestId),
    Stands,
}

/// A range to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) after: Seq,
    pub(crate) limit: u16,
    /// The newest event known to exist within the range.
    pub(crate) through: Seq,
}

/// How much may be held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldMax {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// One subscribed channel.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    /// The last event handed to the user.
    cursor: Seq,
    epoch: Option<Epoch>,
    /// The newest event known to exist.
    head: Seq,
    /// The first SUBSCRIBED sets the cursor.
    from_head: bool,
    /// Invariant: rising, all above the cursor.
    held: VecDeque<Event>,
    held_bytes: usize,
    /// Events the user still has room for.
    room: u32,
    pub(crate) standing: Standing,
    pub(crate) fetching: Option<RequestId>,
    /// Nothing is asked before this instant.
    pub(crate) pause: Option<Instant>,
    tries: u32,
}

impl Feed {
    pub(crate) fn new(start: Start) -> Self {
        let cursor = match start {
            Start::After(cursor) => cursor,
            Start::Head => Cursor::default(),
        };
        Self {
            cursor: cursor.after,
            epoch: cursor.epoch,
            head: cursor.after,
            from_head: start == Start::Head,
            held: VecDeque::new(),
            held_bytes: 0,
            room: u32::MAX,
            standing: Standing::Wanted,
            fetching: None,
            pause: None,
            tries: 0,
        }
    }

    /// Where the user is; a cursor of a feed that has not started at its head yet is not worth keeping.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        (!self.from_head).then_some(Cursor { after: self.cursor, epoch: self.epoch })
    }

    /// Position and epoch to name in SUBSCRIBE and FETCH.
    pub(crate) fn position(&mut self, current: Epoch) -> (Seq, Epoch) {
        (self.cursor, *self.epoch.get_or_insert(current))
    }

    pub(crate) fn set_room(&mut self, room: u32) {
        self.room = room;
    }

    /// An event from DELIVER or PAGE. Returned at once if it is next; otherwise held or dropped.
    pub(crate) fn offer(&mut self, event: Event, max: HeldMax) -> Option<Event> {
        if self.from_head {
            return None; // at or below the head that SUBSCRIBED will name
        }
        self.raise_head(event.seq);
        if event.seq == self.cursor.next() && self.room > 0 {
            return Some(self.hand_over(event));
        }
        if event.seq > self.cursor {
            self.hold(event, max);
        }
        None
    }

    /// The next held event, if its turn has come.
    pub(crate) fn next_held(&mut self) -> Option<Event> {
        while let Some(front) = self.held.front() {
            if front.seq > self.cursor.next() || (front.seq > self.cursor && self.room == 0) {
                return None;
            }
            let event = self.held.pop_front().expect("front() saw it");
            self.held_bytes -= event.body.len();
            if event.seq == self.cursor.next() {
                return Some(self.hand_over(event));
            }
        }
        self.held = VecDeque::new(); // a feed at rest owns no buffer
        None
    }

    /// The channel has at least this event.
    pub(crate) fn raise_head(&mut self, head: Seq) {
        self.head = self.head.max(head);
    }

    /// SUBSCRIBED: every event above `head` will be pushed or announced.
    pub(crate) fn subscribed(&mut self, head: Seq) {
        if core::mem::take(&mut self.from_head) {
            self.cursor = head;
            self.head = head;
        }
        self.raise_head(head);
        self.standing = Standing::Stands;
        self.tries = 0;
    }

    /// PAGE has been offered event by event. `head` is the newest event the user may see, `progress` whether the
    /// cursor moved. Without progress the next try waits.
    pub(crate) fn page_done(
        &mut self,
        now: Instant,
        head: Seq,
        progress: bool,
        delay: impl FnOnce(u32) -> Duration,
    ) {
        self.fetching = None;
        if progress {
            self.tries = 0;
            return;
        }
        // A former member's history ends where that member left: nothing more is missing. Otherwise the server is
        // behind what it announced, and asking at once again would spin.
        if head < self.head && self.held.is_empty() {
            self.head = head.max(self.cursor);
        }
        self.wait(now, delay);
    }

    /// What to fetch, if anything is missing and nothing prevents it.
    pub(crate) fn missing(&self, now: Instant) -> Option<Missing> {
        let blocked = self.standing != Standing::Stands
            || self.fetching.is_some()
            || self.room == 0
            || self.pause.is_some_and(|until| until > now);
        if blocked {
            return None;
        }
        let through = match self.held.front() {
            Some(event) => Seq(event.seq.0 - 1),
            None => self.head,
        };
        assert!(through >= self.cursor, "held events lie above the cursor");
        let limit = (through.0 - self.cursor.0).min(PAGE_EVENTS_MAX as u64) as u16;
        let through = Seq(self.cursor.0 + u64::from(limit));
        (limit > 0).then_some(Missing { after: self.cursor, limit, through })
    }

    /// Whether SUBSCRIBE or FETCH is due.
    pub(crate) fn has_work(&self, now: Instant) -> bool {
        let may_subscribe = self.standing == Standing::Wanted && self.pause.is_none_or(|until| until <= now);
        may_subscribe || self.missing(now).is_some()
    }

    /// A request of this feed failed and is to be repeated later.
    pub(crate) fn wait(&mut self, now: Instant, delay: impl FnOnce(u32) -> Duration) {
        self.pause = Some(now + delay(self.tries));
        self.tries = self.tries.saturating_add(1);
    }

    /// RESET: go on at `floor` of the history `epoch`. The first one is followed up at once, more in a row wait.
    pub(crate) fn reset(&mut self, now: Instant, to: (Epoch, Seq, Seq), delay: impl FnOnce(u32) -> Duration) {
        let (epoch, floor, head) = to;
        self.cursor = Seq(floor.0.saturating_sub(1));
        self.epoch = Some(epoch);
        self.head = head.max(self.cursor);
        self.held = VecDeque::new();
        self.held_bytes = 0;
        self.standing = Standing::Wanted;
        self.fetching = None;
        if self.tries > 0 {
            self.wait(now, delay);
        }
        self.tries = self.tries.saturating_add(1);
    }

    /// The connection is gone: subscribe again on the next one.
    pub(crate) fn connection_lost(&mut self) {
        self.standing = Standing::Wanted;
        self.fetching = None;
        self.pause = None;
        self.tries = 0;
    }

    fn hand_over(&mut self, event: Event) -> Event {
        assert_eq!(event.seq, self.cursor.next(), "events are handed over without gaps");
        assert!(self.room > 0);
        self.cursor = event.seq;
        if self.room != u32::MAX {
            self.room -= 1; // u32::MAX stands for "no limit"
        }
        event
    }

    /// Keeps the event in its place; if that is too much, the newest held ones go and are fetched again later.
    fn hold(&mut self, event: Event, max: HeldMax) {
        assert!(event.seq > self.cursor);
        let Err(at) = self.held.binary_search_by_key(&event.seq, |held| held.seq) else { return };
        self.held_bytes += event.body.len();
        self.held.insert(at, event);
        while self.held.len() > max.events || self.held_bytes > max.bytes {
            let Some(newest) = self.held.pop_back() else { break };
            self.held_bytes -= newest.body.len();
        }
    }
}

#[cfg(test)]
#[path = "feed/tests.rs"]
mod tests;
