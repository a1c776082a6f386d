//! Filling and emptying outboxes.
//!
//! | What | When the outbox is full |
//! |---|---|
//! | answers | always queued: their places were reserved when the request was taken |
//! | deliveries, LAGGED | dropped, and one LAGGED per channel is owed (contract C4) |
//! | everything else | the session is closed as a slow consumer: it provokes more than it reads |

use bytes::Bytes;
use throng_base::{Instant, Key};
use throng_wire::frame::Lagged;
use throng_wire::{ChannelId, Code, Frame, Seq};

use crate::encode::Encoded;
use crate::gateway::Gateway;
use crate::limits::OUTBOX_SLACK;
use crate::outbox::Owed;
use crate::session::FLAG_DIRTY;

impl Gateway {
    /// The unsent bytes of a session in order, for vectored writes.
    pub fn chunks(&self, session: Key) -> impl Iterator<Item = &[u8]> {
        let outbox = self.sessions.get(session).and_then(|session| session.outbox.as_deref());
        outbox.into_iter().flat_map(|outbox| outbox.chunks())
    }

    /// Bytes that wait for a session's transport.
    pub fn outbox_len(&self, session: Key) -> usize {
        self.sessions.get(session).map_or(0, |session| session.queued())
    }

    /// The transport took the first `written` bytes of [`Gateway::chunks`].
    pub fn handle_written(&mut self, now: Instant, session: Key, written: usize) {
        let Some(record) = self.sessions.get_mut(session) else { return };
        let Some(outbox) = &mut record.outbox else { return };
        outbox.advance(written);
        let has_room = outbox.bytes() <= self.config.outbox_bytes / 2;
        let owes = outbox.owes();
        if outbox.is_empty() {
            record.outbox = None; // an idle session owns no outbox
        }
        self.queued -= written;
        if owes && has_room {
            self.pay(now, session);
        }
        self.unpark(now, session);
    }

    /// Appends up to `max` unsent bytes to `out` and counts them as sent. For drivers that copy anyway (TLS, QUIC).
    pub fn pull(&mut self, now: Instant, session: Key, out: &mut Vec<u8>, max: usize) -> usize {
        let before = out.len();
        for chunk in self.chunks(session) {
            let room = max - (out.len() - before);
            out.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        let taken = out.len() - before;
        self.handle_written(now, session, taken);
        taken
    }

    /// Queues bytes whatever the budget says.
    pub(crate) fn push(&mut self, now: Instant, key: Key, bytes: Bytes) {
        let stamp = self.stamp(now);
        let Some(session) = self.sessions.get_mut(key) else { return };
        self.queued += bytes.len();
        session.outbox.get_or_insert_default().push(bytes, stamp);
        if session.raise(FLAG_DIRTY) {
            self.dirty.push_back(key);
        }
        self.arm_age(now, key);
    }

    /// Queues an answer.
    pub(crate) fn answer(&mut self, now: Instant, key: Key, frame: &Frame<'_>) {
        let Some(session) = self.sessions.get(key).filter(|session| session.is_open()) else { return };
        let bytes = Encoded::of(frame).on(session.transport);
        self.push(now, key, bytes);
    }

    /// Queues a frame that no place was reserved for; a session that provokes more of them than it reads is closed.
    pub(crate) fn tell(&mut self, now: Instant, key: Key, frame: &Frame<'_>) {
        let Some(session) = self.sessions.get(key) else { return };
        let bytes = Encoded::of(frame).on(session.transport);
        self.tell_bytes(now, key, bytes);
    }

    /// [`Gateway::tell`] for bytes that are no frame (WebSocket pongs).
    pub(crate) fn tell_bytes(&mut self, now: Instant, key: Key, bytes: Bytes) {
        let Some(session) = self.sessions.get(key) else { return };
        let limit = self.config.outbox_bytes + self.config.answer_bytes + 2 * OUTBOX_SLACK;
        if session.queued() + session.reserved as usize > limit {
            return self.close(now, key, Code::SLOW_CONSUMER);
        }
        self.push(now, key, bytes);
    }

    /// Queues a delivery, or drops it and owes LAGGED.
    pub(crate) fn deliver_to(
        &mut self,
        now: Instant,
        key: Key,
        channel: ChannelId,
        seq: Seq,
        frame: &Encoded,
    ) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let queued = session.queued();
        let loop_is_full = self.queued + frame.len() > self.config.queued_total;
        let is_full = queued > 0 && (loop_is_full || queued + frame.len() > self.config.outbox_bytes);
        // What is owed goes first, or the client would see the head fall.
        if is_full || session.outbox.as_ref().is_some_and(|outbox| outbox.owes_for(&channel)) {
            session.outbox.get_or_insert_default().owe(channel, seq);
            self.counters.deliveries_dropped += 1;
            return;
        }
        self.counters.deliveries += 1;
        let bytes = frame.on(session.transport);
        self.push(now, key, bytes);
    }

    /// Tells a session that a channel's head is at `head`, at once or when there is room.
    pub(crate) fn lag(&mut self, now: Instant, key: Key, channel: ChannelId, head: Seq) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        let has_room = session.queued() <= self.config.outbox_bytes / 2;
        session.outbox.get_or_insert_default().owe(channel, head);
        if has_room {
            self.pay(now, key);
        }
    }

    /// Tells a session to sync its inbox.
    pub(crate) fn lag_all(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get(key).filter(|session| session.is_open()) else { return };
        let lagged = Lagged::All { user_seq: session.user_seq };
        self.counters.lagged += 1;
        self.tell(now, key, &Frame::Lagged(lagged));
    }

    /// Pays what is owed.
    fn pay(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(outbox) = &mut session.outbox else { return };
        match outbox.take_owed() {
            Owed::Nothing => {}
            Owed::Channels(heads) => {
                for (channel, head) in heads {
                    self.counters.lagged += 1;
                    self.tell(now, key, &Frame::Lagged(Lagged::Channel { channel, head }));
                }
            }
            Owed::All => self.lag_all(now, key),
        }
    }
}
