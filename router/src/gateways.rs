//! What waits for each gateway, and the policy when it does not keep up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use throng_base::Key;
use throng_wire::ChannelId;
use throng_wire::event::EventKind;
use throng_wire::limits::PEER_BATCH_TARGET;
use throng_wire::link::{Answer, GatewayId, Reply, ToGateway};

use crate::limits::{GATEWAY_BATCH_MAX, GATEWAY_DELIVERIES_MAX, GATEWAY_MESSAGES_MAX};

/// Where messages for a gateway loop of this process go.
pub trait GatewaySink: Send {
    /// Hands over a batch without waiting.
    ///
    /// # Errors
    /// The batch, if the loop's queue is full.
    fn try_send(&mut self, batch: Vec<ToGateway>) -> Result<(), Vec<ToGateway>>;
}

/// How a gateway is reached.
pub(crate) enum Reach {
    /// In this process.
    Local(Box<dyn GatewaySink>),
    /// Over the inbound link with this key.
    Remote(Key),
}

/// One gateway.
pub(crate) struct GatewayOut {
    pub(crate) reach: Reach,
    pending: VecDeque<ToGateway>,
    /// Channels with a LAGGED among `pending`: until it is handed over, further drops need no other.
    lagged: BTreeSet<ChannelId>,
}

/// Whether a gateway can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    CutOff,
}

impl GatewayOut {
    pub(crate) fn new(reach: Reach) -> Self {
        Self { reach, pending: VecDeque::new(), lagged: BTreeSet::new() }
    }

    /// Queues a message. A delivery beyond the limit becomes LAGGED at its place in the order (contract C4: never
    /// silently): the gateway then takes nothing of the channel until it has subscribed anew, so what follows may be
    /// dropped without another word. A removal is never dropped, because the gateway learns rights only from this
    /// stream (contract C7).
    pub(crate) fn push(&mut self, message: ToGateway) -> Verdict {
        let message = match message {
            ToGateway::Deliver { channel, event, .. }
                if self.pending.len() >= GATEWAY_DELIVERIES_MAX && event.kind != EventKind::LEFT =>
            {
                if !self.lagged.insert(channel) {
                    return Verdict::Keep;
                }
                ToGateway::Lagged { channel, head: event.seq }
            }
            other => other,
        };
        if let ToGateway::Reply(Reply { result: Ok(Answer::Subscribed { .. }), .. }) = &message {
            // Some channel is live again behind this: drops after it need a word of their own.
            self.lagged.clear();
        }
        self.pending.push_back(message);
        if self.pending.len() > GATEWAY_MESSAGES_MAX { Verdict::CutOff } else { Verdict::Keep }
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next batch.
    pub(crate) fn next_batch(&mut self) -> Option<Vec<ToGateway>> {
        if self.pending.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = |message: &&ToGateway| {
            bytes += weight(message);
            bytes <= PEER_BATCH_TARGET
        };
        let size = self.pending.iter().take(GATEWAY_BATCH_MAX).take_while(fits).count().max(1);
        let batch: Vec<ToGateway> = self.pending.drain(..size).collect();
        for message in &batch {
            if let ToGateway::Lagged { channel, .. } = message {
                self.lagged.remove(channel);
            }
        }
        Some(batch)
    }

    /// Takes back a batch that found no room.
    pub(crate) fn put_back(&mut self, batch: Vec<ToGateway>) {
        for message in batch.into_iter().rev() {
            self.pending.push_front(message);
        }
    }
}

/// About how many bytes a message takes on a link.
fn weight(message: &ToGateway) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD
        + match message {
            ToGateway::Deliver { event, .. } => event.body.len(),
            ToGateway::Reply(Reply { result: Ok(answer), .. }) => match answer {
                Answer::Page { events, .. } => events.iter().map(|event| OVERHEAD + event.body.len()).sum(),
                Answer::Members { members, .. } => members.len() * OVERHEAD,
                Answer::Synced { entries, .. } => entries.len() * OVERHEAD,
                _ => 0,
            },
            ToGateway::Leads { shards } => shards.len() * OVERHEAD,
            _ => 0,
        }
}

/// All gateways, by id.
pub(crate) type Gateways = BTreeMap<GatewayId, GatewayOut>;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use throng_wire::{Event, MemberNo, Seq, ServerTs, UserId};

    use super::*;

    struct Never;

    impl GatewaySink for Never {
        fn try_send(&mut self, batch: Vec<ToGateway>) -> Result<(), Vec<ToGateway>> {
            Err(batch)
        }
    }

    fn event(seq: u64, kind: EventKind) -> ToGateway {
        let event = Event {
            seq: Seq(seq),
            kind,
            sender: MemberNo(1),
            ts: ServerTs(1),
            origin: None,
            body: Bytes::new(),
        };
        ToGateway::Deliver { channel: ChannelId([1; 16]), event, sender: UserId::NIL }
    }

    #[test]
    fn dropped_deliveries_become_one_lagged_in_their_place_and_removals_stay() {
        let mut gateway = GatewayOut::new(Reach::Local(Box::new(Never)));
        let limit = GATEWAY_DELIVERIES_MAX as u64;
        for seq in 1..=limit + 10 {
            assert_eq!(gateway.push(event(seq, EventKind::MESSAGE)), Verdict::Keep);
        }
        assert_eq!(gateway.push(event(limit + 11, EventKind::LEFT)), Verdict::Keep);
        let mut all = Vec::new();
        while let Some(batch) = gateway.next_batch() {
            all.extend(batch);
        }
        assert!(!gateway.has_pending());
        let lagged = ToGateway::Lagged { channel: ChannelId([1; 16]), head: Seq(limit + 1) };
        assert_eq!(all[limit as usize..], [lagged, event(limit + 11, EventKind::LEFT)]);
        assert_eq!(gateway.push(event(limit + 12, EventKind::MESSAGE)), Verdict::Keep);
        assert_eq!(gateway.next_batch(), Some(vec![event(limit + 12, EventKind::MESSAGE)]));
    }

    #[test]
    fn a_drop_behind_a_new_subscription_is_told_again() {
        let mut gateway = GatewayOut::new(Reach::Local(Box::new(Never)));
        let limit = GATEWAY_DELIVERIES_MAX as u64;
        (1..=limit + 1).for_each(|seq| {
            gateway.push(event(seq, EventKind::MESSAGE));
        });
        let answer = Answer::Subscribed { head: Seq(limit + 1), member: MemberNo(1) };
        gateway.push(ToGateway::Reply(Reply { id: 1, result: Ok(answer) }));
        gateway.push(event(limit + 2, EventKind::MESSAGE));
        let lagged = |head| ToGateway::Lagged { channel: ChannelId([1; 16]), head: Seq(head) };
        let tail: Vec<_> = gateway.pending.iter().skip(limit as usize).cloned().collect();
        assert_eq!((&tail[0], &tail[2]), (&lagged(limit + 1), &lagged(limit + 2)));
    }

    #[test]
    fn batches_are_cut_by_bytes() {
        let mut gateway = GatewayOut::new(Reach::Local(Box::new(Never)));
        for seq in 1..=40 {
            let body = Bytes::from(vec![0; 64 * 1024]);
            let (kind, sender, ts) = (EventKind::MESSAGE, MemberNo(1), ServerTs(1));
            let event = Event { seq: Seq(seq), kind, sender, ts, origin: None, body };
            gateway.push(ToGateway::Deliver { channel: ChannelId([1; 16]), event, sender: UserId::NIL });
        }
        let sizes: Vec<usize> =
            core::iter::from_fn(|| gateway.next_batch()).map(|batch| batch.len()).collect();
        assert_eq!((sizes.iter().sum::<usize>(), sizes[0]), (40, 15));
    }

    #[test]
    fn a_gateway_that_takes_nothing_is_cut_off() {
        let mut gateway = GatewayOut::new(Reach::Local(Box::new(Never)));
        let verdicts = (0..=GATEWAY_MESSAGES_MAX as u64).map(|seq| gateway.push(event(seq, EventKind::LEFT)));
        assert_eq!(verdicts.filter(|verdict| *verdict == Verdict::CutOff).count(), 1);
    }
}
