//! Reading a channel's events.

use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::{StateRead, Table};
use throng_wire::event::Event;
use throng_wire::ids::{MemberNo, Seq};
use throng_wire::limits::{FRAME_OVERHEAD_MAX, PAGE_EVENTS_MAX};

use super::{Channel, row};
use crate::fatal::Fatal;
use crate::state::keys::{self, Replica};

/// Bytes of a PAGE beside its events: type, flags, request, channel, head, count, with room to spare.
const PAGE_HEADER: usize = 64;

/// Bytes of an event in a PAGE beside its body: number, kind, sender, stamp, origin and length at their longest.
const EVENT_HEADER: usize = 8 + 1 + 8 + 8 + 1 + 16 + 8;

/// Event rows read at a time.
const SCAN_ROWS: usize = 32;

/// What fits one page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLimits {
    events: usize,
    bytes: usize,
}

impl PageLimits {
    /// The limits of a page with `asked` events at most, whose frame must fit the frame limit of `body_max`: only that
    /// ends a page early (SPEC W-FETCH-1).
    pub(crate) fn new(asked: u16, body_max: usize) -> Self {
        let bytes = body_max + FRAME_OVERHEAD_MAX - PAGE_HEADER;
        Self { events: usize::from(asked).clamp(1, PAGE_EVENTS_MAX), bytes }
    }
}

/// A page in the making: events in order until a limit is met; the first always fits.
pub(crate) struct Page {
    limits: PageLimits,
    bytes: usize,
    pub(crate) events: Vec<Event>,
}

impl Page {
    fn new(limits: PageLimits) -> Self {
        Self { limits, bytes: 0, events: Vec::new() }
    }

    /// Adds an event; false if the page is full without it.
    fn add(&mut self, event: Event) -> bool {
        let bytes = EVENT_HEADER + event.body.len();
        let full = self.events.len() >= self.limits.events || self.bytes + bytes > self.limits.bytes;
        if full && !self.events.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.events.push(event);
        true
    }
}

impl Channel {
    /// The newest event that a member may read: the head, or for a former member the LEFT event (contract C7). What
    /// lies before JOINED is visible, and so is what happened while a member who came back was away: history belongs to
    /// the channel.
    pub(crate) fn visible_head(&self, member: MemberNo) -> Seq {
        if is_planted(Bug::RemovedMemberServed) {
            return self.head;
        }
        self.members.given(member).left.map_or(self.head, |left| left.seq)
    }

    /// Events after `after` that `member` may read; `origin` stays only on the member's own. What lies below the floor is
    /// gone: the caller has refused a cursor that wants it.
    pub(crate) fn page(
        &self,
        state: &impl StateRead,
        replica: Replica,
        member: MemberNo,
        after: Seq,
        limits: PageLimits,
    ) -> Result<Page, Fatal> {
        let to = self.visible_head(member);
        let mut page = Page::new(limits);
        let mut next = after.next().max(self.floor);
        if next < self.recent_first() && next <= to {
            let end = to.next().min(self.recent_first());
            self.read_rows(state, replica, next, end, &mut page)?;
            next = page.events.last().map_or(next, |event| event.seq.next());
            if next < end {
                page.hide_origins(member);
                return Ok(page);
            }
        }
        for event in self.recent_after(Seq(next.0 - 1)).take_while(|event| event.seq <= to) {
            if !page.add(event.clone()) {
                break;
            }
        }
        page.hide_origins(member);
        Ok(page)
    }

    /// Adds events `from..end` from the state store, a few rows at a time: large bodies fill a page early.
    fn read_rows(
        &self,
        state: &impl StateRead,
        replica: Replica,
        mut from: Seq,
        end: Seq,
        page: &mut Page,
    ) -> Result<(), Fatal> {
        let high = keys::event(replica, &self.id, end);
        while from < end && page.events.len() < page.limits.events {
            let low = keys::event(replica, &self.id, from);
            let limit = SCAN_ROWS.min((end.0 - from.0) as usize);
            let rows = state.scan(Table::Events, &low, &high, limit)?;
            if rows.len() < limit {
                return Err(Fatal::corrupt_row("event range: a number is missing"));
            }
            for (key, value) in rows {
                if key[..] != *keys::event(replica, &self.id, from) {
                    return Err(Fatal::corrupt_row("event range: a number is missing"));
                }
                if !page.add(row::decode_event(from, &value)?) {
                    return Ok(());
                }
                from = from.next();
            }
        }
        Ok(())
    }
}

impl Page {
    fn hide_origins(&mut self, member: MemberNo) {
        self.events.iter_mut().filter(|event| event.sender != member).for_each(|event| event.origin = None);
    }
}
