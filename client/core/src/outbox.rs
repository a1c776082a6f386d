//! The sends of one channel, in the order of their ids.
//!
//! ```text
//!   Ready ──transmit──► InFlight ──ACK or final refusal──► Done (leaves when everything before it is done)
//!     ▲                    │
//!     └── refusal to retry, time-out, lost connection ────┘   always under the same id
//! ```
//!
//! The window is the first `w` entries *including* those already done: between the oldest unanswered send and the
//! newest transmitted one lie fewer than 16 ids of this channel. Counting only unanswered sends would not do: with
//! send 1 refused and 2 to 17 stored, the shard has forgotten everything up to 1, and the retry of 1 would meet
//! `UNKNOWN_OUTCOME` although it was never stored (contract C3).

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;
use throng_base::Instant;
use throng_wire::limits::INFLIGHT_PER_CHANNEL_MAX;
use throng_wire::{ClientMsgId, EventKind};

use crate::saved::SavedSend;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    InFlight { since: Instant },
    Done,
}

/// One send.
#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) id: ClientMsgId,
    pub(crate) kind: EventKind,
    pub(crate) body: Bytes,
    phase: Phase,
}

impl Send {
    pub(crate) fn new(id: ClientMsgId, kind: EventKind, body: Bytes) -> Self {
        Self { id, kind, body, phase: Phase::Ready }
    }

    /// A send as it was saved.
    pub(crate) fn restore(saved: &SavedSend) -> Self {
        let phase = if saved.answered { Phase::Done } else { Phase::Ready };
        Self { id: saved.client_msg_id, kind: saved.kind, body: saved.body.clone(), phase }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.phase == Phase::Done
    }
}

/// The sends of one channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    /// Invariant: ids rise; the front is not done.
    queue: VecDeque<Send>,
    /// Nothing is transmitted before this instant, so that sends refused together are repeated in order.
    pause: Option<Instant>,
    /// Refusals in a row, for the backoff.
    tries: u32,
    /// Invariant: sends that are transmitted and unanswered.
    in_flight: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, send: Send) {
        assert!(
            self.queue.back().is_none_or(|last| last.id < send.id),
            "ids rise per device, so per channel too"
        );
        if send.is_answered() && self.queue.is_empty() {
            return; // nothing before it waits: its place in the window is free
        }
        self.queue.push_back(send);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends that are transmitted and unanswered.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether something could be transmitted.
    pub(crate) fn has_work(&self, window: usize, now: Instant) -> bool {
        self.pause.is_none_or(|until| until <= now)
            && self
                .queue
                .iter()
                .take(window.min(INFLIGHT_PER_CHANNEL_MAX))
                .any(|send| send.phase == Phase::Ready)
    }

    /// Takes the next send to transmit.
    pub(crate) fn transmit(&mut self, window: usize, now: Instant) -> Option<&Send> {
        if self.pause.is_some_and(|until| until > now) {
            return None;
        }
        self.pause = None;
        let window = window.min(INFLIGHT_PER_CHANNEL_MAX);
        let send = self.queue.iter_mut().take(window).find(|send| send.phase == Phase::Ready)?;
        send.phase = Phase::InFlight { since: now };
        self.in_flight += 1;
        Some(send)
    }

    /// Whether a send waits for its turn: it is not on its way.
    pub(crate) fn is_waiting(&self, id: ClientMsgId) -> bool {
        self.position(id).is_some_and(|at| self.queue[at].phase == Phase::Ready)
    }

    /// Ends a send; `None` if it is not known (any more), otherwise the bytes of its body.
    pub(crate) fn finish(&mut self, id: ClientMsgId) -> Option<usize> {
        let at = self.position(id)?;
        let send = &mut self.queue[at];
        if send.phase == Phase::Done {
            return None;
        }
        self.in_flight -= usize::from(send.phase != Phase::Ready);
        send.phase = Phase::Done;
        let body = core::mem::take(&mut send.body);
        self.tries = 0;
        while self.queue.front().is_some_and(|send| send.phase == Phase::Done) {
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new(); // a machine at rest owns no buffer
        }
        Some(body.len())
    }

    /// The send is to be repeated; `delay` maps the number of refusals in a row to a wait for the whole channel.
    /// False if the send is not known (any more).
    pub(crate) fn refused(
        &mut self,
        id: ClientMsgId,
        now: Instant,
        delay: impl FnOnce(u32) -> Duration,
    ) -> bool {
        let Some(at) = self.position(id) else { return false };
        let send = &mut self.queue[at];
        let Phase::InFlight { .. } = send.phase else { return false };
        send.phase = Phase::Ready;
        self.in_flight -= 1;
        // Refusals that arrive while the channel pauses belong to the same burst and do not lengthen it.
        if self.pause.is_none_or(|until| until <= now) {
            self.pause = Some(now + delay(self.tries));
            self.tries = self.tries.saturating_add(1);
        }
        true
    }

    /// The connection is gone: whatever was in flight is transmitted again on the next one.
    pub(crate) fn connection_lost(&mut self) {
        for send in &mut self.queue {
            if let Phase::InFlight { .. } = send.phase {
                send.phase = Phase::Ready;
            }
        }
        self.in_flight = 0;
        self.pause = None;
    }

    /// Ends a pause, and makes sends without an answer ready again.
    pub(crate) fn expire(&mut self, now: Instant, answer_timeout: Duration) {
        self.pause = self.pause.filter(|&until| until > now);
        for send in self.queue.iter_mut().take(INFLIGHT_PER_CHANNEL_MAX) {
            if matches!(send.phase, Phase::InFlight { since } if since + answer_timeout <= now) {
                send.phase = Phase::Ready;
                self.in_flight -= 1;
            }
        }
    }

    /// When to look again.
    pub(crate) fn deadline(&self, answer_timeout: Duration) -> Option<Instant> {
        let oldest = self.queue.iter().take(INFLIGHT_PER_CHANNEL_MAX).filter_map(|send| match send.phase {
            Phase::InFlight { since } => Some(since + answer_timeout),
            Phase::Ready | Phase::Done => None,
        });
        oldest.chain(self.pause).min()
    }

    /// Everything in the queue by rising id: done sends too, because they hold the window's place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Send> {
        self.queue.iter()
    }

    fn position(&self, id: ClientMsgId) -> Option<usize> {
        self.queue.binary_search_by_key(&id, |send| send.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn outbox(n: u64) -> Outbox {
        let mut outbox = Outbox::default();
        (1..=n).for_each(|id| {
            outbox.push(Send::new(ClientMsgId(id), EventKind::MESSAGE, Bytes::from_static(b"x")))
        });
        outbox
    }

    fn transmit_all(outbox: &mut Outbox, now: Instant) -> Vec<u64> {
        core::iter::from_fn(|| outbox.transmit(16, now).map(|send| send.id.0)).collect()
    }

    #[test]
    fn the_window_spans_sixteen_ids_even_when_the_middle_is_done() {
        let mut outbox = outbox(40);
        assert_eq!(transmit_all(&mut outbox, Instant::ZERO), (1..=16).collect::<Vec<_>>());
        (2..=16).for_each(|id| assert_eq!(outbox.finish(ClientMsgId(id)), Some(1)));
        assert_eq!(
            transmit_all(&mut outbox, Instant::ZERO),
            [],
            "1 is unanswered: 17 would push it out of memory"
        );
        assert_eq!(outbox.finish(ClientMsgId(1)), Some(1));
        assert_eq!(transmit_all(&mut outbox, Instant::ZERO), (17..=32).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_on_its_way_waits() {
        let mut outbox = outbox(17);
        assert!(outbox.is_waiting(ClientMsgId(1)));
        transmit_all(&mut outbox, Instant::ZERO);
        assert!(!outbox.is_waiting(ClientMsgId(16)) && outbox.is_waiting(ClientMsgId(17)));
        outbox.finish(ClientMsgId(1));
        assert!(!outbox.is_waiting(ClientMsgId(1)));
        outbox.refused(ClientMsgId(2), Instant::ZERO, |_| Duration::ZERO);
        assert!(outbox.is_waiting(ClientMsgId(2)));
    }

    #[test]
    fn refused_sends_pause_the_channel_and_are_repeated_in_order_under_their_ids() {
        let mut outbox = outbox(3);
        transmit_all(&mut outbox, Instant::ZERO);
        for id in [3, 1] {
            assert!(outbox.refused(ClientMsgId(id), Instant::ZERO, |_| Duration::from_secs(1)));
        }
        assert_eq!(transmit_all(&mut outbox, Instant::from_millis(999)), []);
        assert_eq!(outbox.deadline(TIMEOUT), Some(Instant::from_millis(1000)));
        assert_eq!(transmit_all(&mut outbox, Instant::from_millis(1000)), [1, 3]);
    }

    #[test]
    fn silence_and_lost_connections_make_sends_ready_again() {
        let mut outbox = outbox(2);
        transmit_all(&mut outbox, Instant::ZERO);
        outbox.expire(Instant::from_millis(9_999), TIMEOUT);
        assert_eq!(transmit_all(&mut outbox, Instant::from_millis(9_999)), []);
        outbox.expire(Instant::from_millis(10_000), TIMEOUT);
        assert_eq!(transmit_all(&mut outbox, Instant::from_millis(10_000)), [1, 2]);
        outbox.connection_lost();
        assert_eq!(transmit_all(&mut outbox, Instant::from_millis(10_001)), [1, 2]);
    }

    #[test]
    fn a_second_answer_is_not_counted() {
        let mut outbox = outbox(1);
        transmit_all(&mut outbox, Instant::ZERO);
        assert_eq!(outbox.finish(ClientMsgId(1)), Some(1));
        assert_eq!(outbox.finish(ClientMsgId(1)), None);
        assert!(!outbox.refused(ClientMsgId(1), Instant::ZERO, |_| Duration::ZERO));
        assert!(outbox.is_empty());
    }
}
