//! One session's record: 128 bytes while it idles, and a few more for each channel it watches.

pub(crate) mod phase;
mod tail;

use throng_base::Key;
use throng_wire::{DeviceId, UserId, UserSeq};

pub(crate) use tail::Tail;

use crate::outbox::Outbox;
use crate::stamp::Stamp;
use phase::Phase;

/// What carries a session's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 6455: an HTTP upgrade, then frames in binary messages.
    WebSocket,
    /// A byte stream that carries frames directly (one bidirectional QUIC stream).
    Stream,
}

/// One subscription, as its session sees it: where it stands in the channel's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriptionRef {
    /// Index in the hub.
    pub(crate) channel: u32,
    /// Index in the channel's list. Invariant: that entry names this session.
    pub(crate) place: u32,
}

/// Whether the session stands in the registry of its user's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// It does not.
    No,
    /// Asked, no answer yet.
    Asked,
    /// It does, as long as `Session::generation` is the shard's.
    Yes,
}

/// One session. Fields that only some phases have are zero in the others.
pub(crate) struct Session {
    /// From the token.
    pub(crate) user: UserId,
    /// From the token.
    pub(crate) device: DeviceId,
    /// Newest inbox position that this session was told; the difference to the shard's becomes LAGGED.
    pub(crate) user_seq: UserSeq,
    /// What waits to be sent; `None` at rest.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// An incomplete frame or HTTP head; `None` at rest.
    pub(crate) tail: Option<Box<Tail>>,
    /// Channels it is subscribed to.
    pub(crate) subscriptions: Vec<SubscriptionRef>,
    /// WebSocket decoder (16 bytes); unused on a stream.
    pub(crate) decoder: throng_ws::Decoder,
    /// When the last byte came.
    pub(crate) last_heard: Stamp,
    /// The phase's deadline; in `Open` the token's expiry.
    pub(crate) deadline: Stamp,
    /// When its timer fires. Invariant: the wheel holds an entry for it at this time; entries for other times are
    /// left-overs.
    pub(crate) armed: Stamp,
    /// Generation of the user's shard that `registration` belongs to.
    pub(crate) generation: u32,
    /// Bytes of answers to come; their places in the outbox are kept free.
    pub(crate) reserved: u32,
    /// Token bucket: thousandths of a frame.
    pub(crate) allowance_milli: u32,
    /// Requests that wait for an answer.
    pub(crate) pending: u16,
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// What carries it.
    pub(crate) transport: Transport,
    /// Registry state.
    pub(crate) registration: Registration,
    /// Notes below.
    pub(crate) flags: u8,
}

/// `Output::Write` is on its way.
pub(crate) const FLAG_DIRTY: u8 = 1;
/// The outbox's age has a timer.
pub(crate) const FLAG_AGING: u8 = 2;

const _: () = assert!(size_of::<Session>() <= 128, "the size budget of a session");
const _: () = assert!(size_of::<SubscriptionRef>() == 8);

impl Session {
    pub(crate) fn new(
        transport: Transport,
        decoder: throng_ws::Decoder,
        now: Stamp,
        deadline: Stamp,
    ) -> Self {
        Self {
            user: UserId::NIL,
            device: DeviceId(0),
            user_seq: UserSeq(0),
            outbox: None,
            tail: None,
            subscriptions: Vec::new(),
            decoder,
            last_heard: now,
            deadline,
            armed: deadline,
            generation: 0,
            reserved: 0,
            allowance_milli: 0,
            pending: 0,
            phase: match transport {
                Transport::WebSocket => Phase::Upgrade,
                Transport::Stream => Phase::Hello,
            },
            transport,
            registration: Registration::No,
            flags: 0,
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sets a flag; whether it was clear.
    pub(crate) fn raise(&mut self, flag: u8) -> bool {
        let was_clear = !self.has(flag);
        self.flags |= flag;
        was_clear
    }

    pub(crate) fn lower(&mut self, flag: u8) {
        self.flags &= !flag;
    }

    /// Whether it may be given deliveries, answers and hints.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Bytes waiting in its outbox.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// Bytes of an incomplete frame that it keeps.
    pub(crate) fn partial(&self) -> usize {
        self.tail.as_ref().map_or(0, |tail| tail.len())
    }

    /// Place in the list of this session's subscriptions.
    pub(crate) fn subscription_to(&self, channel: u32) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| subscription.channel == channel)
    }
}

/// The reference under which routers know a session.
pub(crate) fn session_ref(key: Key) -> throng_wire::link::SessionRef {
    throng_wire::link::SessionRef(key.to_u64())
}
