//! Everything that is encoded: requests, subscriptions, gap repairs and sends, as far as the transport keeps up.

use core::time::Duration;
use throng_base::Instant;
use throng_wire::frame::{Fetch, Frame, Freshness, Pong, Publish, Subscribe, Sync, Unsubscribe};
use throng_wire::limits::SYNC_ENTRIES_MAX;
use throng_wire::{ChannelId, ClientMsgId, EventKind};

use super::Client;
use crate::event::{ClientEvent, Output};
use crate::feed::{HeldMax, Standing};
use crate::limits::{OPEN_KEPT_FOR_SENDS, OPEN_MAX, OUTGOING_MAX};
use crate::link::Link;
use crate::requests::Owner;

impl Client {
    /// Encodes what is due and fits, and tells the driver if bytes wait. Ends every command and input.
    pub(super) fn work(&mut self, now: Instant) {
        if self.is_open() {
            if let Some(nonce) = self.terms.pong.take() {
                self.transmit(&Frame::Pong(Pong { nonce }));
            }
            self.work_requests(now);
            self.work_inbox(now);
            self.work_feeds(now);
            self.work_sends(now);
            let is_awaiting = self.sends > 0 || !self.requests.is_empty();
            let since = self.terms.awaiting_since.unwrap_or(now);
            self.terms.awaiting_since = is_awaiting.then_some(since);
        }
        self.flush(now);
    }

    /// Closes the message in the making and has its bytes sent.
    pub(super) fn flush(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        link.seal(&mut self.outgoing);
        if !self.outgoing.is_empty() {
            self.terms.last_sent = now;
            if self.outputs.back() != Some(&Output::Write) {
                self.outputs.push_back(Output::Write);
            }
        }
    }

    pub(super) fn transmit(&mut self, frame: &Frame<'_>) {
        if let Some(link) = &mut self.link {
            link.encode(frame, &mut self.outgoing);
        }
    }

    pub(super) fn transmit_publish(
        &mut self,
        channel: ChannelId,
        id: ClientMsgId,
        kind: EventKind,
        body: &[u8],
    ) {
        self.transmit(&Frame::Publish(Publish { channel, client_msg_id: id, kind, body }));
    }

    pub(super) fn transmit_unsubscribe(&mut self, channel: ChannelId) {
        self.transmit(&Frame::Unsubscribe(Unsubscribe { channel }));
    }

    fn work_requests(&mut self, now: Instant) {
        while self.has_room() && self.has_request_place() {
            let Some(frame) = self.requests.transmit(now, self.terms.epoch) else { break };
            self.transmit(&frame);
        }
    }

    fn work_inbox(&mut self, now: Instant) {
        let inbox = &mut self.inbox;
        let blocked = inbox.asked.is_some() || inbox.pause.is_some_and(|until| until > now);
        if !inbox.wanted || blocked || !self.has_request_place() {
            return;
        }
        let inbox = &mut self.inbox;
        let request = self.requests.add_own(now, Owner::Inbox);
        inbox.wanted = false;
        inbox.pause = None;
        inbox.asked = Some(request);
        let epoch = *inbox.epoch.get_or_insert(self.terms.epoch);
        let after = inbox.user_seq;
        self.transmit(&Frame::Sync(Sync { request, after, epoch, limit: SYNC_ENTRIES_MAX as u16 }));
    }

    fn work_feeds(&mut self, now: Instant) {
        while self.has_room() && self.has_request_place() {
            let Some(id) = self.channels.pop_feed() else { break };
            self.work_feed(now, id);
        }
    }

    /// Asks what one feed lacks: to be subscribed, or a range.
    fn work_feed(&mut self, now: Instant, channel: ChannelId) {
        let epoch = self.terms.epoch;
        let Some(feed) = self.channels.feed(channel) else { return self.channels.tidy(channel) };
        feed.pause = feed.pause.filter(|&until| until > now);
        if !feed.has_work(now) {
            let pause = feed.pause;
            self.channels.arm(channel, pause);
            return;
        }
        let (after, epoch) = feed.position(epoch);
        if feed.standing == Standing::Wanted {
            let request = self.requests.add_own(now, Owner::Subscribe(channel));
            feed.standing = Standing::Asked(request);
            self.transmit(&Frame::Subscribe(Subscribe { request, channel, after, epoch }));
        } else if let Some(missing) = feed.missing(now) {
            let request = self.requests.add_own(now, Owner::Gap(channel));
            feed.fetching = Some(request);
            let (limit, freshness) = (missing.limit, Freshness::AtLeast(missing.through));
            self.transmit(&Frame::Fetch(Fetch { request, channel, after, epoch, limit, freshness }));
        }
    }

    fn work_sends(&mut self, now: Instant) {
        while self.has_room() && self.has_place() {
            let Some(id) = self.channels.pop_sends() else { break };
            self.work_channel_sends(now, id);
        }
    }

    /// Transmits a channel's window as far as there is room.
    fn work_channel_sends(&mut self, now: Instant, id: ChannelId) {
        let window = self.terms.inflight_max;
        while self.has_room() && self.has_place() {
            // The body is shared, not copied: the outbox keeps it until the answer.
            let next = self.channels.with_outbox(id, |outbox| {
                outbox.transmit(window, now).map(|send| (send.id, send.kind, send.body.clone()))
            });
            let Some((send, kind, body)) = next.flatten() else { break };
            self.transmit_publish(id, send, kind, &body);
        }
        let Some(channel) = self.channels.get(id) else { return };
        let (more, deadline) =
            (channel.outbox().has_work(window, now), channel.outbox().deadline(self.config.answer_timeout));
        if more {
            self.channels.mark_sends(id);
        }
        self.channels.arm(id, deadline);
        self.channels.tidy(id);
    }

    /// Hands over what the feed held back and whose turn has come.
    pub(super) fn hand_over_held(&mut self, channel: ChannelId) {
        while let Some(event) = self.channels.feed(channel).and_then(|feed| feed.next_held()) {
            self.emit(ClientEvent::Delivered { channel, event });
        }
    }

    pub(super) fn held_max(&self) -> HeldMax {
        HeldMax { events: self.config.held_events_max, bytes: self.config.held_bytes_max }
    }

    /// How long to wait before a repetition, at least what the server asked for.
    pub(super) fn retry_delay(&mut self, retry_after_ms: u32) -> impl FnOnce(u32) -> Duration + use<> {
        let (retry, mut rng) = (self.config.retry, self.rng.fork(u64::from(retry_after_ms)));
        move |tries| retry.delay(tries, Duration::from_millis(u64::from(retry_after_ms)), &mut rng)
    }

    /// SPEC W-LIM-3: whether one more request or send may be open. What finds no place waits for an answer.
    fn has_place(&self) -> bool {
        self.requests.open() + self.channels.in_flight() < OPEN_MAX
    }

    /// Requests leave some places to sends, so that a burst of one does not hold back the other.
    pub(super) fn has_request_place(&self) -> bool {
        self.requests.open() < OPEN_MAX - OPEN_KEPT_FOR_SENDS && self.has_place()
    }

    /// Whether the transport keeps up.
    fn has_room(&self) -> bool {
        self.outgoing.len() + self.link.as_ref().map_or(0, Link::unsealed) < OUTGOING_MAX
    }
}
