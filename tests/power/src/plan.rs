//! What the workload sends: everything follows from the seed, so the checker knows every message without being told.

use bytes::Bytes;
use throng_base::Rng;
use throng_wire::event::EventKind;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::{ChannelId, ClientMsgId, DeviceId, UserId};
use throng_wire::link::Op;

/// Channels of the workload; one acknowledgement of all of them fits one mark.
pub(crate) const CHANNELS: u16 = 12;
/// Members of each channel: its owner, who sends, and the owners of the next channels, whose inboxes it moves.
pub(crate) const MEMBERS: u16 = 3;
/// The device that all send from.
pub(crate) const DEVICE: DeviceId = DeviceId(7);

/// One message in so many is large: it takes several blocks of the log.
const LARGE_ONE_IN: u64 = 40;
const LARGE_BYTES_MAX: u64 = 24_000;
const SMALL_BYTES_MAX: u64 = 1_200;

/// The user who owns a channel and sends to it.
pub(crate) fn owner(channel: u16) -> UserId {
    UserId::of("power", &channel.to_string())
}

/// A channel's id.
pub(crate) fn id(channel: u16) -> ChannelId {
    ChannelId::group(owner(channel).0)
}

/// The request that makes a channel.
pub(crate) fn create(channel: u16) -> Op {
    let members = (1..MEMBERS).map(|next| owner((channel + next) % CHANNELS)).collect();
    Op::Create { channel: id(channel), class: ChannelClass::Group, members }
}

/// Message `n` of a channel, counted from 1.
pub(crate) fn publish(seed: u64, channel: u16, n: u64) -> Op {
    Op::Publish {
        channel: id(channel),
        client_msg_id: ClientMsgId(n),
        kind: EventKind::MESSAGE,
        body: body(seed, channel, n),
    }
}

/// What message `n` of a channel says.
pub(crate) fn body(seed: u64, channel: u16, n: u64) -> Bytes {
    let mut rng = Rng::new(seed).fork(u64::from(channel)).fork(n);
    let limit = if rng.below(LARGE_ONE_IN) == 0 { LARGE_BYTES_MAX } else { SMALL_BYTES_MAX };
    let len = rng.between(16, limit) as usize;
    let mut body = Vec::with_capacity(len + 8);
    while body.len() < len {
        body.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    body.truncate(len);
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_its_own_and_comes_again() {
        assert_eq!(body(1, 2, 3), body(1, 2, 3));
        for other in [body(2, 2, 3), body(1, 3, 3), body(1, 2, 4)] {
            assert_ne!(body(1, 2, 3), other);
        }
        let sizes: Vec<usize> = (1..500).map(|n| body(1, 0, n).len()).collect();
        assert!(sizes.iter().any(|len| *len > 8_192) && sizes.iter().all(|len| *len >= 16));
    }
}
