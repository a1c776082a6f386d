//! Checking a channel's stored events against its chain.

use bytes::Bytes;
use throng_wire::ids::{ChannelId, Seq};

use super::{Chain, Channel, chain_over, row};
use crate::codec::Corrupt;

/// A channel's events as they must be stored: all from floor to head, and hashed one after the other they give the
/// chain that the head row has.
#[derive(Clone, Debug)]
pub(crate) struct EventCheck {
    pub(crate) id: ChannelId,
    /// The event that comes next.
    next: Seq,
    head: Seq,
    /// The chain through the event before `next`.
    chain: Chain,
    wanted: Chain,
}

/// What is wrong with a channel's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadEvents {
    /// This one is not there.
    Missing(Seq),
    /// One that must not be there: below the floor or above the head.
    Stray(Seq),
    /// A row does not parse at this field.
    Unreadable(&'static str),
    /// Hashed, they are not what was applied.
    Chain,
}

impl EventCheck {
    /// The check of a channel.
    pub(crate) fn new(channel: &Channel) -> Self {
        Self {
            id: channel.id,
            next: channel.floor,
            head: channel.head,
            chain: channel.floor_chain,
            wanted: channel.chain,
        }
    }

    /// Takes the next stored event.
    pub(crate) fn take(&mut self, seq: Seq, row: &Bytes) -> Result<(), BadEvents> {
        if seq < self.next || seq > self.head {
            return Err(BadEvents::Stray(seq));
        }
        if seq != self.next {
            return Err(BadEvents::Missing(self.next));
        }
        let event = row::decode_event(seq, row).map_err(|Corrupt(field)| BadEvents::Unreadable(field))?;
        self.chain = chain_over(&self.chain, &event);
        self.next = seq.next();
        Ok(())
    }

    /// There are no more events.
    pub(crate) fn finish(&self) -> Result<(), BadEvents> {
        if self.next <= self.head {
            return Err(BadEvents::Missing(self.next));
        }
        if self.chain == self.wanted { Ok(()) } else { Err(BadEvents::Chain) }
    }
}
