//! What waits to be sent to one session, and what it is owed for what was dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use throng_wire::link::Op;
use throng_wire::{ChannelId, RequestId, Seq};

use crate::limits::OWED_CHANNELS_MAX;
use crate::stamp::Stamp;

/// Bytes in the order in which they go out. Exists only while something waits or is owed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    /// Invariant: the sum of the segments' lengths, less `front_sent`.
    bytes: usize,
    /// How much of the first segment is out.
    front_sent: usize,
    owed: Owed,
    /// Requests whose large answers find no place yet. Invariant: with those under way, at most the limit of open
    /// requests.
    parked: VecDeque<(RequestId, Op)>,
}

#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    queued_at: Stamp,
}

/// Heads that the session has to be told because deliveries were dropped (contract C4).
#[derive(Debug, Default)]
pub(crate) enum Owed {
    /// Nothing.
    #[default]
    Nothing,
    /// These channels, at most [`OWED_CHANNELS_MAX`].
    Channels(Vec<(ChannelId, Seq)>),
    /// More than that.
    All,
}

impl Outbox {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, bytes: Bytes, now: Stamp) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        self.segments.push_back(Segment { bytes, queued_at: now });
    }

    /// When the oldest unsent byte was queued.
    pub(crate) fn oldest(&self) -> Option<Stamp> {
        self.segments.front().map(|segment| segment.queued_at)
    }

    /// The unsent bytes in order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().enumerate().map(|(i, segment)| match i {
            0 => &segment.bytes[self.front_sent..],
            _ => &segment.bytes[..],
        })
    }

    /// The first `written` bytes are out.
    pub(crate) fn advance(&mut self, written: usize) {
        assert!(written <= self.bytes, "a driver cannot write more than it was given");
        self.bytes -= written;
        let mut left = written + self.front_sent;
        while let Some(front) = self.segments.front() {
            if left < front.bytes.len() {
                break;
            }
            left -= front.bytes.len();
            self.segments.pop_front();
        }
        self.front_sent = left;
        assert!(!self.segments.is_empty() || (left == 0 && self.bytes == 0), "bytes are counted right");
    }

    /// Throws away what is not partly sent, so that a last frame finds the stream at a frame boundary. Returns the
    /// bytes freed.
    pub(crate) fn truncate(&mut self) -> usize {
        let before = self.bytes;
        self.segments.truncate(usize::from(self.front_sent > 0));
        self.bytes = self.segments.front().map_or(0, |front| front.bytes.len() - self.front_sent);
        self.owed = Owed::Nothing;
        before - self.bytes
    }

    /// Notes that a delivery up to `head` was dropped.
    pub(crate) fn owe(&mut self, channel: ChannelId, head: Seq) {
        self.owed.add(channel, head);
    }

    /// Whether anything is owed.
    pub(crate) fn owes(&self) -> bool {
        !matches!(self.owed, Owed::Nothing)
    }

    /// Whether deliveries of this channel have to wait behind an owed LAGGED.
    pub(crate) fn owes_for(&self, channel: &ChannelId) -> bool {
        match &self.owed {
            Owed::Nothing => false,
            Owed::Channels(heads) => heads.iter().any(|(owed, _)| owed == channel),
            Owed::All => true,
        }
    }

    /// Takes the debts, to be paid.
    pub(crate) fn take_owed(&mut self) -> Owed {
        core::mem::take(&mut self.owed)
    }

    /// Keeps a request back until there is a place for its answer.
    pub(crate) fn park(&mut self, request: RequestId, op: Op) {
        self.parked.push_back((request, op));
    }

    pub(crate) fn first_parked(&self) -> Option<&Op> {
        self.parked.front().map(|(_, op)| op)
    }

    pub(crate) fn unpark(&mut self) -> Option<(RequestId, Op)> {
        self.parked.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && !self.owes() && self.parked.is_empty()
    }
}

impl Owed {
    fn add(&mut self, channel: ChannelId, head: Seq) {
        match self {
            Self::Nothing => *self = Self::Channels(vec![(channel, head)]),
            Self::Channels(heads) => match heads.iter().position(|(owed, _)| *owed == channel) {
                Some(at) => heads[at].1 = heads[at].1.max(head),
                None if heads.len() < OWED_CHANNELS_MAX => heads.push((channel, head)),
                None => *self = Self::All,
            },
            Self::All => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_whatever_the_writes_are_cut_into() {
        let mut outbox = Outbox::default();
        for text in ["one", "two", "three", ""] {
            outbox.push(Bytes::from_static(text.as_bytes()), Stamp(1));
        }
        let mut sent = Vec::new();
        for step in [1, 4, 0, 2, 4] {
            let all: Vec<u8> = outbox.chunks().flatten().copied().collect();
            sent.extend_from_slice(&all[..step]);
            outbox.advance(step);
            assert_eq!(outbox.bytes(), 11 - sent.len());
        }
        assert_eq!((sent.as_slice(), outbox.is_empty()), (&b"onetwothree"[..], true));
    }

    #[test]
    fn truncation_keeps_the_segment_that_is_partly_out() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"abc"), Stamp(1));
        outbox.push(Bytes::from_static(b"def"), Stamp(2));
        outbox.advance(1);
        assert_eq!((outbox.truncate(), outbox.bytes()), (3, 2));
        outbox.advance(2);
        outbox.push(Bytes::from_static(b"ghi"), Stamp(3));
        assert_eq!((outbox.truncate(), outbox.is_empty()), (3, true));
    }

    #[test]
    fn debts_merge_by_channel_and_collapse_above_the_limit() {
        let mut outbox = Outbox::default();
        for n in 0..OWED_CHANNELS_MAX as u8 {
            outbox.owe(ChannelId([n; 16]), Seq(5));
        }
        outbox.owe(ChannelId([0; 16]), Seq(9));
        outbox.owe(ChannelId([0; 16]), Seq(7));
        assert!(!outbox.owes_for(&ChannelId([99; 16])));
        let Owed::Channels(heads) = outbox.take_owed() else { panic!("below the limit") };
        assert_eq!((heads.len(), heads[0].1), (OWED_CHANNELS_MAX, Seq(9)));
        for n in 0..=OWED_CHANNELS_MAX as u8 {
            outbox.owe(ChannelId([n; 16]), Seq(5));
        }
        assert!(matches!(outbox.take_owed(), Owed::All));
        assert!(outbox.is_empty());
    }
}
