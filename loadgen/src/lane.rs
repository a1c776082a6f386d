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
    /// Repetitions to come after the ack.
    repeats: u32,
}

/// An ack that was expected.
pub(crate) struct Acked {
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    pub(crate) repeats: u32,
    pub(crate) body: Bytes,
}

/// One session's sends into one channel.
pub(crate) struct Lane {
    pub(crate) session: SessionNo,
    pub(crate) channel: ChannelId,
    /// Sends handed over so far.
    pub(crate) handed: u64,
    /// Like the machine's window: entries leave from the front only.
    flight: VecDeque<Flight>,
    recent: VecDeque<(ClientMsgId, Seq)>,
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
            recent: VecDeque::new(),
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
        repeats: u32,
    ) {
        let counter = self.handed;
        self.handed += 1;
        self.seqs.push(0);
        let sent = (self.flight.len() < INFLIGHT_PER_CHANNEL_MAX).then_some(now);
        let body = if repeats > 0 { body } else { Bytes::new() };
        self.flight.push_back(Flight { id, counter, intended, sent, is_acked: false, body, repeats });
    }

    /// The first ack of a send; `None` if it was not expected.
    pub(crate) fn acked(&mut self, now: Instant, id: ClientMsgId, seq: Seq) -> Option<Acked> {
        let flight = self.find(id)?;
        let counter = flight.counter as usize;
        let acked = Acked {
            intended: flight.intended,
            sent: flight.sent.unwrap_or(now),
            repeats: flight.repeats,
            body: core::mem::take(&mut flight.body),
        };
        self.seqs[counter] = seq.0;
        self.recent.push_back((id, seq));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
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

    /// Whether an answer to a repetition names the number of the first answer; `None` if that is forgotten.
    pub(crate) fn agrees(&self, id: ClientMsgId, seq: Seq) -> Option<bool> {
        self.recent.iter().find(|(known, _)| *known == id).map(|(_, first)| *first == seq)
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
            lane.sent(Instant::from_millis(n), ClientMsgId(n), Instant::ZERO, Bytes::new(), 0);
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
        assert_eq!(
            (lane.agrees(ClientMsgId(17), Seq(2)), lane.agrees(ClientMsgId(17), Seq(3))),
            (Some(true), Some(false))
        );
        assert_eq!(lane.unanswered(), 15);
    }
}
