//! The sends of one session into one channel, and what their bodies say.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use throng_base::Instant;
use throng_wire::limits::INFLIGHT_PER_CHANNEL_MAX;
use throng_wire::{ChannelId, ClientMsgId, Seq};

use crate::fleet::SessionNo;
use crate::limits::REMEMBERED;

/// First bytes of every body.
const MAGIC: u32 = 0x7468_726f;

/// Magic, lane, counter, two instants.
pub(crate) const BODY_MIN: usize = 4 + 4 + 8 + 8 + 8;

/// What a body says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) lane: u32,
    /// Counts the lane's sends, from 0.
    pub(crate) counter: u64,
    /// When the schedule wanted it sent.
    pub(crate) intended: Instant,
    /// When it was handed to the client machine.
    pub(crate) handed: Instant,
}

impl Stamp {
    /// A body of `len` bytes.
    pub(crate) fn encode(&self, len: usize) -> Bytes {
        let mut body = BytesMut::with_capacity(len.max(BODY_MIN));
        body.put_u32(MAGIC);
        body.put_u32(self.lane);
        body.put_u64(self.counter);
        body.put_u64(self.intended.0);
        body.put_u64(self.handed.0);
        // Not all zeros, so that nothing on the way gets away with compressing it.
        let mut filler = throng_base::Rng::new(self.counter ^ u64::from(self.lane) << 40);
        while body.len() < len {
            let word = filler.next_u64().to_le_bytes();
            body.put_slice(&word[..(len - body.len()).min(8)]);
        }
        body.freeze()
    }

    /// Reads a body; `None` if it is not ours.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let word =
            |at: usize| body.get(at..at + 8)?.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        let head = word(0)?;
        (head >> 32 == u64::from(MAGIC)).then_some(())?;
        Some(Self {
            lane: head as u32,
            counter: word(8)?,
            intended: Instant(word(16)?),
            handed: Instant(word(24)?),
        })
    }
}

struct Flight {
    id: ClientMsgId,
    counter: u64,
    intended: Instant,
    /// When it left, as far as the window of the channel allows to know.
    sent: Option<Instant>,
    is_acked: bool,
    body: Bytes,
    copies: Copies,
}

/// How often a send is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    /// In all, beside the first sending.
    pub(crate) all: u32,
    /// Of those, how many wait for the ack of the first.
    pub(crate) later: u32,
}

/// An ack that was expected.
pub(crate) struct Acked {
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    /// Copies to send.
    pub(crate) later: u32,
    pub(crate) body: Bytes,
}

/// Answers that copies of an acknowledged send still owe.
struct Owed {
    id: ClientMsgId,
    counter: u64,
    left: u32,
    body: Bytes,
}

/// What to do about the copies of a send that has waited for their answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Remind {
    /// All were answered.
    Settled,
    /// Send this body that many times more.
    Again(Bytes, u32),
    /// The channel may have forgotten the send meanwhile; that many answers are waived.
    GiveUp(u32),
}

/// One session's sends into one channel.
pub(crate) struct Lane {
    pub(crate) session: SessionNo,
    pub(crate) channel: ChannelId,
    /// Sends handed over so far.
    pub(crate) handed: u64,
    /// Like the machine's window: entries leave from the front only.
    flight: VecDeque<Flight>,
    /// Ids by counter, ascending: a send may be answered more than once without a copy too, when the client repeated it
    /// because the first answer took long.
    ids: Vec<ClientMsgId>,
    owed: VecDeque<Owed>,
    /// The number each send got, by counter; 0 = none yet.
    pub(crate) seqs: Vec<u64>,
    /// Sends finally refused.
    pub(crate) refused: u64,
}

impl Lane {
    pub(crate) fn new(session: SessionNo, channel: ChannelId) -> Self {
        Self {
            session,
            channel,
            handed: 0,
            flight: VecDeque::new(),
            ids: Vec::new(),
            owed: VecDeque::new(),
            seqs: Vec::new(),
            refused: 0,
        }
    }

    /// A send was handed over under `id`.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        id: ClientMsgId,
        intended: Instant,
        body: Bytes,
        copies: Copies,
    ) {
        let counter = self.handed;
        self.handed += 1;
        self.seqs.push(0);
        let sent = (self.flight.len() < INFLIGHT_PER_CHANNEL_MAX).then_some(now);
        let body = if copies.all > 0 { body } else { Bytes::new() };
        self.ids.push(id);
        self.flight.push_back(Flight { id, counter, intended, sent, is_acked: false, body, copies });
    }

    /// The first ack of a send; `None` if it was not expected.
    pub(crate) fn acked(&mut self, now: Instant, id: ClientMsgId, seq: Seq) -> Option<Acked> {
        let flight = self.find(id)?;
        let counter = flight.counter as usize;
        let (copies, body) = (flight.copies, core::mem::take(&mut flight.body));
        let (intended, sent) = (flight.intended, flight.sent.unwrap_or(now));
        let acked = Acked { intended, sent, later: copies.later, body: body.clone() };
        self.seqs[counter] = seq.0;
        if copies.all > 0 {
            self.owed.push_back(Owed { id, counter: counter as u64, left: copies.all, body });
        }
        self.advance(now);
        Some(acked)
    }

    /// A send was finally refused; false if that was not expected.
    pub(crate) fn refused(&mut self, now: Instant, id: ClientMsgId) -> bool {
        let is_known = self.find(id).is_some();
        self.refused += u64::from(is_known);
        self.advance(now);
        is_known
    }

    /// A copy was answered: whether the answer names the number of the first one; `None` if the send is unknown.
    pub(crate) fn copy_answered(&mut self, id: ClientMsgId, seq: Seq) -> Option<bool> {
        if let Some(owed) = self.owed.iter_mut().find(|owed| owed.id == id) {
            owed.left = owed.left.saturating_sub(1);
        }
        self.owed.retain(|owed| owed.left > 0);
        let counter = self.ids.binary_search(&id).ok()?;
        Some(self.seqs[counter] == seq.0)
    }

    /// A while has passed since copies of a send were sent.
    pub(crate) fn remind(&mut self, id: ClientMsgId) -> Remind {
        let Some(at) = self.owed.iter().position(|owed| owed.id == id) else { return Remind::Settled };
        let owed = &self.owed[at];
        if self.handed - owed.counter <= REMEMBERED as u64 {
            return Remind::Again(owed.body.clone(), owed.left);
        }
        let left = owed.left;
        self.owed.remove(at);
        Remind::GiveUp(left)
    }

    /// Answers that copies owe.
    pub(crate) fn owed(&self) -> u64 {
        self.owed.iter().map(|owed| u64::from(owed.left)).sum()
    }

    /// Sends without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.flight.iter().filter(|flight| !flight.is_acked).count()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.flight.is_empty()
    }

    /// The send with this id, marked answered; `None` if it was before.
    fn find(&mut self, id: ClientMsgId) -> Option<&mut Flight> {
        let at = self.flight.binary_search_by_key(&id, |flight| flight.id).ok()?;
        let flight = &mut self.flight[at];
        if core::mem::replace(&mut flight.is_acked, true) {
            return None;
        }
        Some(flight)
    }

    fn advance(&mut self, now: Instant) {
        while self.flight.front().is_some_and(|flight| flight.is_acked) {
            self.flight.pop_front();
        }
        for flight in self.flight.iter_mut().take(INFLIGHT_PER_CHANNEL_MAX) {
            flight.sent.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_say_what_they_were_told() {
        let stamp = Stamp { lane: 7, counter: 9, intended: Instant(11), handed: Instant(13) };
        for len in [0, BODY_MIN, 33, 128] {
            let body = stamp.encode(len);
            assert_eq!(body.len(), len.max(BODY_MIN));
            assert_eq!(Stamp::decode(&body), Some(stamp));
        }
        assert_eq!(Stamp::decode(b"of somebody else, long enough to be one of ours"), None);
        assert_eq!(Stamp::decode(b""), None);
    }

    #[test]
    fn what_waits_for_the_window_counts_as_sent_when_the_window_moves() {
        let mut lane = Lane::new(0, ChannelId::NIL);
        for n in 1..=17 {
            let copies = Copies { all: u32::from(n == 17), later: 0 };
            lane.sent(Instant::from_millis(n), ClientMsgId(n), Instant::ZERO, Bytes::new(), copies);
        }
        assert_eq!(
            lane.acked(Instant::from_millis(50), ClientMsgId(1), Seq(1)).expect("sent").sent,
            Instant::from_millis(1)
        );
        assert_eq!(
            lane.acked(Instant::from_millis(60), ClientMsgId(17), Seq(2)).expect("sent").sent,
            Instant::from_millis(50)
        );
        assert!(lane.acked(Instant::from_millis(60), ClientMsgId(17), Seq(2)).is_none());
        assert_eq!(lane.unanswered(), 15);
    }

    #[test]
    fn copies_are_compared_and_insisted_on_until_the_channel_may_have_forgotten() {
        let mut lane = Lane::new(0, ChannelId::NIL);
        let send = |lane: &mut Lane, n: u64, all| {
            let copies = Copies { all, later: 0 };
            lane.sent(Instant::ZERO, ClientMsgId(n), Instant::ZERO, Bytes::new(), copies);
            assert!(lane.acked(Instant::ZERO, ClientMsgId(n), Seq(n)).is_some());
        };
        send(&mut lane, 1, 0);
        assert_eq!(
            lane.copy_answered(ClientMsgId(1), Seq(1)),
            Some(true),
            "the client repeated it by itself"
        );
        send(&mut lane, 2, 3);
        assert_eq!(lane.copy_answered(ClientMsgId(2), Seq(2)), Some(true));
        assert_eq!(lane.copy_answered(ClientMsgId(2), Seq(3)), Some(false));
        assert_eq!(lane.copy_answered(ClientMsgId(9), Seq(3)), None);
        assert_eq!((lane.owed(), lane.remind(ClientMsgId(2))), (1, Remind::Again(Bytes::new(), 1)));
        (3..=10).for_each(|n| send(&mut lane, n, 0));
        assert_eq!(lane.remind(ClientMsgId(2)), Remind::GiveUp(1));
        assert_eq!((lane.owed(), lane.remind(ClientMsgId(2))), (0, Remind::Settled));
        assert_eq!(lane.copy_answered(ClientMsgId(2), Seq(2)), Some(true));
    }
}
