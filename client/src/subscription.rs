//! Streams of events for the user.

use throng_client_core::ClientEvent;
use throng_wire::{ChannelId, Code, Epoch, Event, Seq};
use tokio::sync::{broadcast, mpsc};

use crate::driver::Signal;

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriptionEvent {
    /// The next event.
    Event(Event),
    /// What lay before `floor` is not coming; the next event is `floor` of the history `epoch` (contract C5).
    Reset {
        /// Epoch of the history that follows.
        epoch: Epoch,
        /// The first event that follows.
        floor: Seq,
        /// The newest event.
        head: Seq,
    },
    /// The subscription ended for good.
    Ended(Code),
}

/// Every event of a channel, once and in order, over all reconnects. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) channel: ChannelId,
    /// Tells this subscription from an earlier one of the same channel.
    pub(crate) generation: u64,
    /// Holds at most `capacity` events, because the machine hands over no more than were granted.
    pub(crate) events: mpsc::UnboundedReceiver<SubscriptionEvent>,
    pub(crate) signals: mpsc::UnboundedSender<Signal>,
    pub(crate) capacity: u32,
    /// Events taken since room was last granted.
    pub(crate) taken: u32,
}

impl Subscription {
    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The next event; `None` when the subscription was replaced by another of the same channel, has ended, or the
    /// client is closed.
    pub async fn next(&mut self) -> Option<SubscriptionEvent> {
        let event = self.events.recv().await?;
        if let SubscriptionEvent::Event(_) = event {
            self.taken += 1;
            // Half at a time, so that a steady reader costs two signals per buffer and not one per event.
            if self.taken * 2 >= self.capacity {
                let (channel, generation, events) = (self.channel, self.generation, self.taken);
                let _ = self.signals.send(Signal::Room { channel, generation, events });
                self.taken = 0;
            }
        }
        Some(event)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Dropped { channel: self.channel, generation: self.generation });
    }
}

/// What happens to the client as a whole: connections, the inbox, channels that moved.
#[derive(Debug)]
pub struct Notices {
    pub(crate) events: broadcast::Receiver<ClientEvent>,
}

impl Notices {
    /// The next notice; `None` when the client is closed. A reader that falls too far behind misses the oldest ones;
    /// `Err` says how many.
    pub async fn next(&mut self) -> Option<Result<ClientEvent, u64>> {
        match self.events.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
