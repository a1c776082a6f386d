//! Identifiers and counters, each its own type so that look-alikes cannot be swapped.

use core::fmt;

use sha2::{Digest, Sha256};

/// Slots that channel and user ids hash to. A shard owns a contiguous range of them.
pub const SLOTS: u32 = 1 << 16;

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Size on the wire in bytes.
            pub const LEN: usize = 16;

            /// The all-zero id, which names nobody.
            pub const NIL: Self = Self([0; 16]);

            /// The slot that this id hashes to.
            pub fn slot(&self) -> Slot {
                slot_of(&self.0)
            }

            /// Reads the 32-digit hexadecimal form that `Display` writes.
            pub fn from_hex(text: &str) -> Option<Self> {
                if text.len() != 32 || !text.is_ascii() {
                    return None;
                }
                let mut id = [0u8; 16];
                for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let digits = core::str::from_utf8(pair).ok()?;
                    *byte = u8::from_str_radix(digits, 16).ok()?;
                }
                Some(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id128! {
    /// A channel. A direct channel's id is [`ChannelId::direct`]; a group's is drawn by its creator, who makes it by
    /// [`ChannelId::group`].
    ChannelId
}

id128! {
    /// A user: [`UserId::of`] the token's issuer and subject.
    UserId
}

number! {
    /// A device of a user, drawn by the client and carried in its token.
    DeviceId(u64)
}
number! {
    /// Position of an event in its channel: 1, 2, 3 … without gaps. 0 means "before the first".
    Seq(u64)
}
number! {
    /// Position in a user's inbox. 0 means "before the first".
    UserSeq(u64)
}
number! {
    /// A client's own number for a send; rises per device, lives in the client's outbox. At most 2⁶² − 1.
    ClientMsgId(u64)
}
number! {
    /// A member's number in its channel, given at join and never reused in that channel.
    MemberNo(u32)
}
number! {
    /// Milliseconds since 1970 (Unix time), as the shard stamped it; never falls within a channel. At most 2⁴⁸ − 1.
    ServerTs(u64)
}
number! {
    /// History epoch: raised by a restore from backup; cursors of an older epoch are answered by RESET.
    Epoch(u64)
}
number! {
    /// A node of the cluster, from 1.
    NodeId(u64)
}
number! {
    /// A shard: one Raft group owning a contiguous range of slots, from 0.
    ShardId(u32)
}
number! {
    /// One of [`SLOTS`] hash values.
    Slot(u16)
}
number! {
    /// A client's number for a request, echoed in its answer. At most 2⁶² − 1.
    RequestId(u64)
}

impl UserId {
    /// The id of the user that `issuer` calls `subject`: the first 16 bytes of
    /// SHA-256("throng-user" 0x00 issuer 0x00 subject) (SPEC W-ID-1).
    pub fn of(issuer: &str, subject: &str) -> Self {
        Self(hash16(&[b"throng-user", issuer.as_bytes(), subject.as_bytes()]))
    }
}

/// The first bit of a channel id, kept for direct channels: whoever knows two users knows the id of their channel, and
/// could otherwise make a group under it before they meet.
const DIRECT_BIT: u8 = 0x80;

impl ChannelId {
    /// The id of the direct channel between two users, the same whichever comes first; with one user twice, of the
    /// self channel: the first 16 bytes of SHA-256("throng-direct" 0x00 low high), their first bit set (SPEC W-ID-2).
    pub fn direct(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut pair = [0u8; 32];
        pair[..16].copy_from_slice(&low.0);
        pair[16..].copy_from_slice(&high.0);
        let mut id = hash16(&[b"throng-direct", &pair]);
        id[0] |= DIRECT_BIT;
        Self(id)
    }

    /// The id of a group or open channel from 128 bits that its creator drew: their first bit is cleared (SPEC W-ID-2).
    pub fn group(mut bits: [u8; 16]) -> Self {
        bits[0] &= !DIRECT_BIT;
        Self(bits)
    }

    /// Whether only a direct or self channel may have this id.
    pub fn is_direct(&self) -> bool {
        self.0[0] & DIRECT_BIT != 0
    }
}

impl Seq {
    /// The next position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl ShardId {
    /// The shard that owns `slot` in a cluster formatted with `shards` shards.
    pub fn of_slot(slot: Slot, shards: u32) -> Self {
        assert!(shards > 0 && shards <= SLOTS, "a cluster has 1 to 65,536 shards");
        Self((u64::from(slot.0) * u64::from(shards) / u64::from(SLOTS)) as u32)
    }

    /// The shard that owns a channel.
    pub fn of_channel(channel: &ChannelId, shards: u32) -> Self {
        Self::of_slot(channel.slot(), shards)
    }

    /// The shard that owns a user's inbox.
    pub fn of_user(user: &UserId, shards: u32) -> Self {
        Self::of_slot(user.slot(), shards)
    }
}

/// Joins the parts with zero bytes and takes the first 16 bytes of their SHA-256.
fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut sha = Sha256::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            sha.update([0u8]);
        }
        sha.update(part);
    }
    let mut id = [0u8; 16];
    id.copy_from_slice(&sha.finalize()[..16]);
    id
}

/// FNV-1a (64 bit) folded to 16 bits (SPEC W-ID-3). Ids are hashes or random draws, so a keyed hash buys nothing:
/// whoever draws group ids by hand can pick their slots under any published function.
fn slot_of(id: &[u8; 16]) -> Slot {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in id {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Slot((hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_channel_is_symmetric_and_distinct_from_self_channels() {
        let (a, b) = (UserId::of("throng", "alice"), UserId::of("throng", "bob"));
        assert_eq!(ChannelId::direct(a, b), ChannelId::direct(b, a));
        assert_ne!(ChannelId::direct(a, a), ChannelId::direct(a, b));
        assert_eq!(UserId::from_hex(&a.to_string()), Some(a));
    }

    #[test]
    fn no_group_can_have_the_id_of_a_direct_channel() {
        // SPEC W-ID-2. Enough pairs that hashes of both kinds are among them.
        for n in 0..64 {
            let (a, b) = (UserId([n; 16]), UserId([n ^ 0xff; 16]));
            for direct in [ChannelId::direct(a, b), ChannelId::direct(a, a)] {
                assert!(direct.is_direct());
                let group = ChannelId::group(direct.0);
                assert!(!group.is_direct());
                assert_eq!((group.0[0] | DIRECT_BIT, &group.0[1..]), (direct.0[0], &direct.0[1..]));
                assert_eq!(ChannelId::group(group.0), group, "a clear bit stays clear");
            }
        }
    }

    #[test]
    fn shards_cover_all_slots_in_order() {
        for shards in [1, 3, 64, 1024, SLOTS] {
            assert_eq!(ShardId::of_slot(Slot(0), shards), ShardId(0));
            assert_eq!(ShardId::of_slot(Slot(u16::MAX), shards), ShardId(shards - 1));
        }
    }
}
