//! Keys of state rows.
//!
//! ```text
//!   Objects  replica: u32 │ slot: u16 │ id: 16 │ tag: u8 │ sub-key
//!   Events   replica: u32 │ slot: u16 │ channel: 16 │ seq: u64
//!   Meta     "shard" │ shard: u32
//!            └────────── PREFIX_LEN ──────────┘  all integers big-endian
//! ```
//!
//! The id stands before the tag so that one 22-byte prefix serves the bloom filters of both tables, and so that all
//! rows of a channel or user lie together. A shard's own rows (its outbox) stand under its first slot and
//! [`SHARD_OBJECT`]; a channel that happened to draw that id differs in the tag.

use throng_wire::ids::{ChannelId, DeviceId, MemberNo, SLOTS, Seq, ShardId, Slot, UserId};

/// Bytes of a key up to and including the id: what a prefix bloom filter covers.
pub const PREFIX_LEN: usize = 4 + 2 + 16;

/// Stands in for an id in the rows of a shard itself.
pub(crate) const SHARD_OBJECT: [u8; 16] = [0xff; 16];

/// Longest key: an outbox row's.
const KEY_LEN_MAX: usize = PREFIX_LEN + 1 + 4 + 16;

/// A local number for one copy of a shard on this store; part of every key of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica(pub(crate) u32);

/// Row tags within an object. Numbers are for ever.
mod tag {
    pub(super) const CHANNEL: u8 = 1;
    pub(super) const MEMBER: u8 = 2;
    pub(super) const DEVICE: u8 = 3;
    pub(super) const OUTBOX: u8 = 4;
    pub(super) const USER: u8 = 5;
    pub(super) const INBOX: u8 = 6;
}

/// A key, on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    bytes: [u8; KEY_LEN_MAX],
    len: usize,
}

impl Key {
    fn new(replica: Replica, slot: Slot, id: &[u8; 16]) -> Self {
        let mut key = Self { bytes: [0; KEY_LEN_MAX], len: 0 };
        key.put(&replica.0.to_be_bytes());
        key.put(&slot.0.to_be_bytes());
        key.put(id);
        debug_assert_eq!(key.len, PREFIX_LEN);
        key
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// The end of the range of all keys that begin with this one.
    pub(crate) fn range_end(&self) -> Self {
        let mut end = *self;
        while end.len > 0 {
            let last = &mut end.bytes[end.len - 1];
            if *last < u8::MAX {
                *last += 1;
                return end;
            }
            end.len -= 1;
        }
        unreachable!("a replica number below u32::MAX precedes every id")
    }
}

impl core::ops::Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The head row of a channel.
pub(crate) fn channel(replica: Replica, id: &ChannelId) -> Key {
    let mut key = Key::new(replica, id.slot(), &id.0);
    key.put(&[tag::CHANNEL]);
    key
}

/// Begins the member rows of a channel.
pub(crate) fn members(replica: Replica, id: &ChannelId) -> Key {
    let mut key = Key::new(replica, id.slot(), &id.0);
    key.put(&[tag::MEMBER]);
    key
}

/// A member row.
pub(crate) fn member(replica: Replica, id: &ChannelId, number: MemberNo) -> Key {
    let mut key = members(replica, id);
    key.put(&number.0.to_be_bytes());
    key
}

/// The dedup record of a member's device.
pub(crate) fn device(replica: Replica, id: &ChannelId, number: MemberNo, device: DeviceId) -> Key {
    let mut key = Key::new(replica, id.slot(), &id.0);
    key.put(&[tag::DEVICE]);
    key.put(&number.0.to_be_bytes());
    key.put(&device.0.to_be_bytes());
    key
}

/// An event.
pub(crate) fn event(replica: Replica, id: &ChannelId, seq: Seq) -> Key {
    let mut key = Key::new(replica, id.slot(), &id.0);
    key.put(&seq.0.to_be_bytes());
    key
}

/// Begins the outbox rows of a shard.
pub(crate) fn outbox(replica: Replica, shard: ShardId, shards: u32) -> Key {
    let mut key = Key::new(replica, first_slot(shard, shards), &SHARD_OBJECT);
    key.put(&[tag::OUTBOX]);
    key
}

/// An outbox row.
pub(crate) fn outbox_row(
    replica: Replica,
    shard: ShardId,
    shards: u32,
    dest: ShardId,
    id: &ChannelId,
) -> Key {
    let mut key = outbox(replica, shard, shards);
    key.put(&dest.0.to_be_bytes());
    key.put(&id.0);
    key
}

/// The head row of a user.
pub(crate) fn user(replica: Replica, id: &UserId) -> Key {
    let mut key = Key::new(replica, id.slot(), &id.0);
    key.put(&[tag::USER]);
    key
}

/// Begins the inbox rows of a user.
pub(crate) fn inbox(replica: Replica, id: &UserId) -> Key {
    let mut key = Key::new(replica, id.slot(), &id.0);
    key.put(&[tag::INBOX]);
    key
}

/// An inbox row.
pub(crate) fn inbox_row(replica: Replica, id: &UserId, channel: &ChannelId) -> Key {
    let mut key = inbox(replica, id);
    key.put(&channel.0);
    key
}

/// The applied index of a shard.
pub(crate) fn shard_meta(shard: ShardId) -> [u8; 9] {
    let mut key = *b"shard\0\0\0\0";
    key[5..].copy_from_slice(&shard.0.to_be_bytes());
    key
}

/// The lowest slot of a shard's range: the inverse of [`ShardId::of_slot`].
fn first_slot(shard: ShardId, shards: u32) -> Slot {
    let first = (u64::from(shard.0) * u64::from(SLOTS)).div_ceil(u64::from(shards));
    let slot = Slot(u16::try_from(first).expect("a shard's range begins below 2^16"));
    assert_eq!(ShardId::of_slot(slot, shards), shard, "the first slot belongs to its shard");
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_rows_and_nothing_else() {
        let (replica, id) = (Replica(3), ChannelId([0xff; 16]));
        let begin = members(replica, &id);
        let end = begin.range_end();
        for number in [1, 255, u32::MAX] {
            let row = member(replica, &id, MemberNo(number));
            assert!(*begin < *row && *row < *end);
        }
        assert!(*channel(replica, &id) < *begin);
        assert!(*device(replica, &id, MemberNo(0), DeviceId(0)) >= *end);
    }

    #[test]
    fn events_sort_by_number() {
        let key = |seq| event(Replica(1), &ChannelId([1; 16]), Seq(seq));
        assert!(*key(255) < *key(256));
        assert!(*key(u64::from(u32::MAX)) < *key(u64::from(u32::MAX) + 1));
        assert_eq!(key(1).len(), PREFIX_LEN + 8);
    }

    #[test]
    fn every_shard_has_a_first_slot() {
        for shards in [1, 3, 64, 1000] {
            (0..shards).for_each(|shard| {
                first_slot(ShardId(shard), shards);
            });
        }
    }
}
