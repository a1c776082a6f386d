//! Commands that wait for their answer, counted: per device, because the shard remembers only so many sends (contract
//! C3), and per channel, so that a hot one leaves room for the others.

use throng_wire::code::Code;
use throng_wire::ids::{ChannelId, DeviceId, UserId};
use throng_wire::limits::INFLIGHT_PER_CHANNEL_MAX;

use crate::hash::{Keyed, Table};
use crate::limits::CHANNEL_COMMANDS_MAX;

/// One counted command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) channel: ChannelId,
    /// The sending device, if the command is a send.
    pub(super) sender: Option<(UserId, DeviceId)>,
}

/// All of them. Bounded by the shards' queues.
#[derive(Debug)]
pub(super) struct Flights {
    by_channel: Table<ChannelId, u32>,
    by_sender: Table<(ChannelId, UserId, DeviceId), u8>,
}

impl Flights {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { by_channel: Table::with_hasher(keyed), by_sender: Table::with_hasher(keyed) }
    }

    /// Counts a command in, or says why not.
    pub(super) fn begin(&mut self, flight: &Flight) -> Result<(), Code> {
        let in_channel = self.by_channel.entry(flight.channel).or_insert(0);
        if *in_channel >= CHANNEL_COMMANDS_MAX {
            return Err(Code::BUSY);
        }
        if let Some((user, device)) = flight.sender {
            let of_sender = self.by_sender.entry((flight.channel, user, device)).or_insert(0);
            if usize::from(*of_sender) >= INFLIGHT_PER_CHANNEL_MAX {
                return Err(Code::TOO_MANY_INFLIGHT);
            }
            *of_sender += 1;
        }
        *in_channel += 1;
        Ok(())
    }

    /// Counts a command out: it is answered, or nobody will answer it.
    pub(super) fn end(&mut self, flight: &Flight) {
        let in_channel = self.by_channel.get_mut(&flight.channel).expect("it was counted in");
        *in_channel -= 1;
        if *in_channel == 0 {
            self.by_channel.remove(&flight.channel);
        }
        let Some((user, device)) = flight.sender else { return };
        let key = (flight.channel, user, device);
        let of_sender = self.by_sender.get_mut(&key).expect("it was counted in");
        *of_sender -= 1;
        if *of_sender == 0 {
            self.by_sender.remove(&key);
        }
    }

    /// Commands that wait.
    pub(super) fn len(&self) -> usize {
        self.by_channel.values().map(|&commands| commands as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventeenth_send_of_a_device_waits() {
        let mut flights = Flights::new(Keyed::new(1));
        let flight =
            |device| Flight { channel: ChannelId::NIL, sender: Some((UserId::NIL, DeviceId(device))) };
        (0..INFLIGHT_PER_CHANNEL_MAX).for_each(|_| assert_eq!(flights.begin(&flight(1)), Ok(())));
        assert_eq!(flights.begin(&flight(1)), Err(Code::TOO_MANY_INFLIGHT));
        assert_eq!(flights.begin(&flight(2)), Ok(()));
        flights.end(&flight(1));
        assert_eq!(flights.begin(&flight(1)), Ok(()));
        (0..INFLIGHT_PER_CHANNEL_MAX).for_each(|_| flights.end(&flight(1)));
        flights.end(&flight(2));
        assert_eq!((flights.len(), flights.by_sender.len()), (0, 0));
    }

    #[test]
    fn a_channel_has_a_limit_of_its_own() {
        let mut flights = Flights::new(Keyed::new(1));
        let flight = Flight { channel: ChannelId::NIL, sender: None };
        (0..CHANNEL_COMMANDS_MAX).for_each(|_| assert_eq!(flights.begin(&flight), Ok(())));
        assert_eq!(flights.begin(&flight), Err(Code::BUSY));
        assert_eq!(flights.begin(&Flight { channel: ChannelId([1; 16]), sender: None }), Ok(()));
    }
}
