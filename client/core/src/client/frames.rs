//! What the server says.

use core::time::Duration;

use bytes::Bytes;
use throng_base::Instant;
use throng_wire::code::ClientRule;
use throng_wire::frame::Lagged;
use throng_wire::frame::{
    Ack, Channel, Deliver, ErrorFrame, ErrorScope, Frame, MembersPage, Page, PageEvent, Ping, Reset,
    Subscribed, Synced,
};
use throng_wire::{ChannelId, ClientMsgId, Code, Epoch, Event, RequestId, Seq, UserId};

use super::Client;
use crate::event::{Answer, ClientEvent, RequestError};
use crate::feed::Standing;
use crate::link::LinkError;
use crate::requests::{Owner, Request};

impl Client {
    /// One frame of the server. Frames of unknown type are skipped (SPEC: servers may be newer).
    pub(super) fn handle_payload(&mut self, now: Instant, payload: &[u8]) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Ok(()); // an earlier frame in the same bytes ended the connection
        }
        let Some(frame) = Frame::decode(payload)? else { return Ok(()) };
        match &frame {
            Frame::Welcome(_) | Frame::Close(_) | Frame::Error(_) => {}
            _ if !self.is_open() => return Err(LinkError::Protocol("a frame before WELCOME".into())),
            _ => {}
        }
        match frame {
            Frame::Welcome(welcome) => return self.welcome(now, &welcome),
            Frame::Ack(ack) => self.acked(ack),
            Frame::Error(error) => self.refused(now, &error),
            Frame::Deliver(deliver) => self.delivered(&deliver),
            Frame::Lagged(Lagged::Channel { channel, head }) => self.moved(channel, head),
            Frame::Lagged(Lagged::All { .. }) => self.inbox.wanted = true,
            Frame::Reset(Reset::Channel { channel, epoch, floor, head }) => {
                self.reset_channel(now, channel, (epoch, floor, head));
            }
            Frame::Reset(Reset::Inbox { epoch, .. }) => self.reset_inbox(now, epoch),
            Frame::Page(page) => self.page(now, page),
            Frame::Synced(synced) => self.synced(synced),
            Frame::Channel(channel) => self.channel_state(channel),
            Frame::MembersPage(page) => self.members(page),
            Frame::Subscribed(subscribed) => self.subscribed(subscribed),
            Frame::Ping(Ping { wants_answer: true, nonce }) => self.terms.pong = Some(nonce),
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Goaway(goaway) => self.go_away(now, &goaway),
            Frame::Close(close) => {
                let wait = Duration::from_millis(u64::from(close.retry_after_ms));
                self.server_closed(now, close.code, close.reason, wait);
            }
            Frame::Hello(_)
            | Frame::Auth(_)
            | Frame::Publish(_)
            | Frame::Fetch(_)
            | Frame::Sync(_)
            | Frame::Create(_)
            | Frame::Open(_)
            | Frame::Join(_)
            | Frame::Leave(_)
            | Frame::Members(_)
            | Frame::Subscribe(_)
            | Frame::Unsubscribe(_) => return Err(LinkError::Protocol("a frame only clients send".into())),
        }
        Ok(())
    }

    fn acked(&mut self, ack: Ack) {
        let Ack { channel, client_msg_id, seq, ts, duplicate } = ack;
        if self.finish_send(channel, client_msg_id) {
            self.emit(ClientEvent::Acked { channel, client_msg_id, seq, ts, duplicate });
        } else {
            self.emit(ClientEvent::RepeatAcked { channel, client_msg_id, seq });
        }
    }

    /// Takes a send out of the outbox; false if it is not in there.
    fn finish_send(&mut self, channel: ChannelId, id: ClientMsgId) -> bool {
        let finished = self.channels.with_outbox(channel, |outbox| outbox.finish(id));
        let Some(bytes) = finished.flatten() else { return false };
        self.sends -= 1;
        self.send_bytes -= bytes;
        self.channels.mark_sends(channel);
        self.channels.tidy(channel);
        true
    }

    fn refused(&mut self, now: Instant, error: &ErrorFrame<'_>) {
        match error.scope {
            ErrorScope::Session => {
                self.emit(ClientEvent::ServerError { code: error.code, detail: error.detail.into() });
            }
            ErrorScope::Publish(channel, id) => self.send_refused(now, channel, id, error),
            ErrorScope::Request(id) => self.request_refused(now, id, error),
        }
    }

    fn send_refused(&mut self, now: Instant, channel: ChannelId, id: ClientMsgId, error: &ErrorFrame<'_>) {
        if is_retried(error.code) {
            let delay = self.retry_delay(error.retry_after_ms);
            let refused = self.channels.with_outbox(channel, |outbox| outbox.refused(id, now, delay));
            if refused == Some(true) {
                self.channels.mark_sends(channel);
            }
        } else if self.finish_send(channel, id) {
            self.emit(ClientEvent::SendFailed { channel, client_msg_id: id, code: error.code });
        }
    }

    fn request_refused(&mut self, now: Instant, id: RequestId, error: &ErrorFrame<'_>) {
        let delay = self.retry_delay(error.retry_after_ms);
        let retry = is_retried(error.code);
        match self.requests.owner(id) {
            Some(Owner::User(_)) if retry => self.requests.retry(id, now, delay),
            Some(Owner::User(_)) => self.answer(id, Err(RequestError::Refused(error.code))),
            Some(&(Owner::Subscribe(channel) | Owner::Gap(channel))) => {
                self.requests.finish(id);
                if retry {
                    self.feed_request_failed(now, channel, id, delay);
                } else if self.drop_feed(channel) {
                    self.emit(ClientEvent::SubscriptionEnded { channel, code: error.code });
                }
            }
            Some(Owner::Inbox) => {
                self.requests.finish(id);
                self.inbox_failed(now, retry, delay);
            }
            None => {}
        }
    }

    /// A feed's own request came to nothing; it is made again later.
    pub(super) fn feed_request_failed(
        &mut self,
        now: Instant,
        channel: ChannelId,
        id: RequestId,
        delay: impl FnOnce(u32) -> Duration,
    ) {
        let Some(feed) = self.channels.feed(channel) else { return };
        if feed.standing == Standing::Asked(id) {
            feed.standing = Standing::Wanted;
        } else if feed.fetching == Some(id) {
            feed.fetching = None;
        } else {
            return; // the feed started over meanwhile
        }
        feed.wait(now, delay);
        self.channels.mark_feed(channel);
    }

    /// The inbox could not be read: later again, or not at all if the server does not offer it.
    pub(super) fn inbox_failed(&mut self, now: Instant, retry: bool, delay: impl FnOnce(u32) -> Duration) {
        self.inbox.asked = None;
        if retry {
            self.inbox.wanted = true;
            self.inbox.pause = Some(now + delay(self.inbox.tries));
            self.inbox.tries = self.inbox.tries.saturating_add(1);
        }
    }

    fn delivered(&mut self, deliver: &Deliver<'_>) {
        let &Deliver { channel, seq, kind, sender, ts, origin, body } = deliver;
        let held_max = self.held_max();
        let Some(feed) = self.channels.feed(channel) else { return };
        let event = Event { seq, kind, sender, ts, origin, body: Bytes::copy_from_slice(body) };
        if let Some(event) = feed.offer(event, held_max) {
            self.emit(ClientEvent::Delivered { channel, event });
        }
        self.after_events(channel);
    }

    /// Hands over what has become next, and asks for what is still missing.
    fn after_events(&mut self, channel: ChannelId) {
        self.hand_over_held(channel);
        self.channels.mark_feed(channel);
    }

    /// A head the client may lack.
    fn moved(&mut self, channel: ChannelId, head: Seq) {
        match self.channels.feed(channel) {
            Some(feed) => {
                feed.raise_head(head);
                self.channels.mark_feed(channel);
            }
            None => self.emit(ClientEvent::Moved { channel, head }),
        }
    }

    fn subscribed(&mut self, subscribed: Subscribed) {
        let Subscribed { request, channel, head, member } = subscribed;
        if self.requests.finish(request).is_none() {
            return;
        }
        let Some(feed) = self.channels.feed(channel) else { return };
        if feed.standing == Standing::Asked(request) {
            feed.subscribed(head);
            self.emit(ClientEvent::Subscribed { channel, head, member });
        }
        self.channels.mark_feed(channel);
    }

    fn page(&mut self, now: Instant, page: Page<'_>) {
        match self.requests.owner(page.request) {
            Some(Owner::User(_)) => {
                let events = page.events.iter().map(owned).collect();
                self.answer(page.request, Ok(Answer::Page { head: page.head, events }));
            }
            Some(&Owner::Gap(channel)) => {
                self.requests.finish(page.request);
                self.gap_page(now, channel, page);
            }
            Some(Owner::Subscribe(_) | Owner::Inbox) | None => {}
        }
    }

    fn gap_page(&mut self, now: Instant, channel: ChannelId, page: Page<'_>) {
        let (held_max, delay) = (self.held_max(), self.retry_delay(0));
        let Some(feed) = self.channels.feed(channel) else { return };
        if feed.fetching != Some(page.request) {
            return; // the feed started over meanwhile
        }
        let mut handed = Vec::new();
        for event in &page.events {
            handed.extend(feed.offer(owned(event), held_max));
        }
        feed.page_done(now, page.head, !handed.is_empty(), delay);
        for event in handed {
            self.emit(ClientEvent::Delivered { channel, event });
        }
        self.after_events(channel);
    }

    /// RESET names a channel, not a request: it answers every SUBSCRIBE and FETCH of that channel.
    fn reset_channel(&mut self, now: Instant, channel: ChannelId, to: (Epoch, Seq, Seq)) {
        let (epoch, floor, head) = to;
        let delay = self.retry_delay(0);
        let fetches = self.requests.user_requests().filter_map(|(id, request)| match request {
            Request::Fetch { channel: asked, .. } if *asked == channel => Some(id),
            _ => None,
        });
        let fetches: Vec<_> = fetches.collect();
        for id in fetches {
            self.answer(id, Err(RequestError::Reset { epoch, floor }));
        }
        let Some(feed) = self.channels.feed(channel) else { return };
        let own = match feed.standing {
            Standing::Asked(id) => Some(id),
            Standing::Wanted | Standing::Stands => None,
        };
        let own = [own, feed.fetching];
        feed.reset(now, to, delay);
        for id in own.into_iter().flatten() {
            self.requests.finish(id);
        }
        self.channels.mark_feed(channel);
        self.emit(ClientEvent::Reset { channel, epoch, floor, head });
    }

    fn reset_inbox(&mut self, now: Instant, epoch: Epoch) {
        let syncs =
            self.requests.user_requests().filter(|(_, request)| matches!(request, Request::Sync { .. }));
        let syncs: Vec<_> = syncs.map(|(id, _)| id).collect();
        for id in syncs {
            self.answer(id, Err(RequestError::Reset { epoch, floor: Seq(0) }));
        }
        if let Some(id) = self.inbox.asked {
            self.requests.finish(id);
        }
        let delay = self.retry_delay(0);
        self.inbox.user_seq = throng_wire::UserSeq(0);
        self.inbox.epoch = Some(epoch);
        self.inbox_failed(now, true, delay);
        self.emit(ClientEvent::InboxReset { epoch });
    }

    fn synced(&mut self, synced: Synced) {
        let Synced { request, cursor, more, entries } = synced;
        match self.requests.owner(request) {
            Some(Owner::User(_)) => self.answer(request, Ok(Answer::Synced { cursor, more, entries })),
            Some(Owner::Inbox) => {
                self.requests.finish(request);
                self.inbox.asked = None;
                self.inbox.tries = 0;
                // A cursor never goes back; a server that says "more" without moving would be asked for ever.
                self.inbox.wanted |= more && cursor > self.inbox.user_seq;
                self.inbox.user_seq = self.inbox.user_seq.max(cursor);
                for entry in entries {
                    if let Some(feed) = self.channels.feed(entry.channel) {
                        feed.raise_head(entry.head);
                        self.channels.mark_feed(entry.channel);
                    }
                    self.emit(ClientEvent::Inbox(entry));
                }
            }
            Some(Owner::Subscribe(_) | Owner::Gap(_)) | None => {}
        }
    }

    fn channel_state(&mut self, state: Channel) {
        let Channel { request, channel, class, head, member } = state;
        let leaves = match self.requests.owner(request) {
            Some(Owner::User(asked)) => matches!(**asked, Request::Leave { user: UserId::NIL, .. }),
            _ => return,
        };
        if leaves {
            self.drop_feed(channel);
        }
        self.answer(request, Ok(Answer::Channel { channel, class, head, member }));
    }

    fn members(&mut self, page: MembersPage) {
        let MembersPage { request, more, members, .. } = page;
        if let Some(Owner::User(_)) = self.requests.owner(request) {
            self.answer(request, Ok(Answer::Members { more, members }));
        }
    }

    /// Ends a request of the user.
    pub(super) fn answer(&mut self, request: RequestId, result: Result<Answer, RequestError>) {
        if let Some(Owner::User(_)) = self.requests.finish(request) {
            self.emit(ClientEvent::Answered { request, result });
        }
    }

    /// Ends a subscription here; false if there was none.
    pub(super) fn drop_feed(&mut self, channel: ChannelId) -> bool {
        let Some(state) = self.channels.get(channel) else { return false };
        let Some(feed) = state.feed.take() else { return false };
        self.channels.tidy(channel);
        if let Standing::Asked(id) = feed.standing {
            self.requests.finish(id);
        }
        if let Some(id) = feed.fetching {
            self.requests.finish(id);
        }
        true
    }
}

/// Whether a refused send or request is repeated under the same id. An error that ends sessions elsewhere (`Resume`,
/// also the rule for codes of a later version) leaves the outcome open, so it is repeated too.
fn is_retried(code: Code) -> bool {
    match code.rule() {
        ClientRule::Retry | ClientRule::Resume => true,
        ClientRule::Reauthenticate | ClientRule::GiveUp => false,
    }
}

fn owned(event: &PageEvent<'_>) -> Event {
    let &PageEvent { seq, kind, sender, ts, origin, body } = event;
    Event { seq, kind, sender, ts, origin, body: Bytes::copy_from_slice(body) }
}
