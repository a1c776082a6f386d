//! Keys of state rows.
//!
//! ```text
//!   Objects  replica: u32 │ slot: u16 │ id: 16 │ tag: u8 │ sub-key
//!   Events   replica: u32 │ slot: u16 │ channel: 16 │ seq: u64
//!   Meta     "shard" │ shard: u32 │ replica: u32
//!            └────────── PREFIX_LEN ──────────┘  all integers big-endian
//! ```
//!
//! The id stands before the tag so that one 22-byte prefix serves the bloom filters of both tables, and so that all
//! rows of a channel or user lie together. A shard's own rows (its outbox) stand under its first slot and
//! [`SHARD_OBJECT`]; a channel that happened to draw that id differs in the tag.
//!
//! The replica number is local to a store: a copy of a shard that arrives later is written under a number of its own,
//! beside the old copy, and a copy is removed by two ranges and its row in Meta.

use throng_wire::ids::{ChannelId, DeviceId, MemberNo, SLOTS, Seq, ShardId, Slot, UserId};

use crate::codec::{Corrupt, Reader};

/// Bytes of a key up to and including the id: what a prefix bloom filter covers.
pub const PREFIX_LEN: usize = 4 + 2 + 16;

/// Stands in for an id in the rows of a shard itself.
pub(crate) const SHARD_OBJECT: [u8; 16] = [0xff; 16];

/// Longest key: an outbox row's.
pub(crate) const KEY_LEN_MAX: usize = PREFIX_LEN + 1 + 4 + 16;

/// A local number for one copy of a shard on this store; part of every key of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Replica(pub(crate) u32);

/// Row tags within an object. Numbers are for ever.
pub(crate) mod tag {
    pub(crate) const CHANNEL: u8 = 1;
    pub(crate) const MEMBER: u8 = 2;
    pub(crate) const DEVICE: u8 = 3;
    pub(crate) const OUTBOX: u8 = 4;
    pub(crate) const USER: u8 = 5;
    pub(crate) const INBOX: u8 = 6;
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

/// Follows all events of a channel.
pub(crate) fn events_end(replica: Replica, id: &ChannelId) -> Key {
    Key::new(replica, id.slot(), &id.0).range_end()
}

/// The number of the event under a key of Events.
pub(crate) fn seq_of_event(key: &[u8]) -> Option<Seq> {
    let seq = key.get(PREFIX_LEN..)?.try_into().ok()?;
    Some(Seq(u64::from_be_bytes(seq)))
}

/// The id in a key.
pub(crate) fn id_of(key: &[u8]) -> Option<[u8; 16]> {
    key.get(PREFIX_LEN - 16..PREFIX_LEN)?.try_into().ok()
}

/// The tag in a key of Objects.
pub(crate) fn tag_of(key: &[u8]) -> Option<u8> {
    key.get(PREFIX_LEN).copied()
}

/// The channel, if the key of Objects is that of a head row.
pub(crate) fn channel_of_head(key: &[u8]) -> Option<ChannelId> {
    if key.len() == PREFIX_LEN + 1 && tag_of(key) == Some(tag::CHANNEL) {
        id_of(key).map(ChannelId)
    } else {
        None
    }
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

/// Begins the rows of all copies of all shards.
pub(crate) const SHARD_META: &[u8] = b"shard";

/// Follows the rows of all copies of all shards.
pub(crate) const SHARD_META_END: &[u8] = b"share";

/// What is applied to a copy of a shard.
pub(crate) fn shard_meta(shard: ShardId, replica: Replica) -> [u8; 13] {
    let mut key = *b"shard\0\0\0\0\0\0\0\0";
    key[5..9].copy_from_slice(&shard.0.to_be_bytes());
    key[9..].copy_from_slice(&replica.0.to_be_bytes());
    key
}

/// The copy that a row of [`shard_meta`] is about.
pub(crate) fn decode_shard_meta(key: &[u8]) -> Result<(ShardId, Replica), Corrupt> {
    let mut reader = Reader::new(key);
    reader.take(SHARD_META.len(), "shard.key")?;
    let copy = (ShardId(reader.u32("shard.key")?), Replica(reader.u32("shard.key")?));
    reader.end("shard.key")?;
    Ok(copy)
}

/// All keys of a copy in Objects, and in Events: `from <= key < to`.
pub(crate) fn copy_range(replica: Replica) -> ([u8; 4], [u8; 4]) {
    let end = replica.0.checked_add(1).expect("replica numbers stay below u32::MAX");
    (replica.0.to_be_bytes(), end.to_be_bytes())
}

/// The lowest slot of a shard's range: the inverse of [`ShardId::of_slot`].
pub(crate) fn first_slot(shard: ShardId, shards: u32) -> Slot {
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
