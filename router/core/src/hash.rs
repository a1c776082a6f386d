//! A keyed hash for look-up tables. Ids may be drawn by an attacker, so tables are keyed with the node's seed; the
//! standard library's hasher would draw its key from the operating system, which a core has no business to ask.

use core::hash::{BuildHasher, Hasher};
use std::collections::HashMap;

/// A table for look-ups only: its order is never seen.
pub(crate) type Table<K, V> = HashMap<K, V, Keyed>;

/// Makes hashers with one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    key: u64,
}

impl Keyed {
    pub(crate) fn new(seed: u64) -> Self {
        Self { key: fold(seed ^ 0x243f_6a88_85a3_08d3, 0x9e37_79b9_7f4a_7c15) | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded { state: self.key, key: self.key }
    }
}

/// Multiply and fold (the 128-bit product's halves xored), as wyhash and foldhash do, under a key of its own.
pub(crate) struct Folded {
    state: u64,
    key: u64,
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.write_u64(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0u8; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key ^ 0xa076_1d64_78bd_642f);
    }

    fn write_usize(&mut self, word: usize) {
        // A length prefix of a fixed-size id says nothing.
        self.state = self.state.wrapping_add(word as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.key)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_hash_and_other_seed_another() {
        let of = |seed, id: [u8; 16]| Keyed::new(seed).hash_one(id);
        assert_eq!(of(1, [7; 16]), of(1, [7; 16]));
        assert_ne!(of(1, [7; 16]), of(2, [7; 16]));
        let mut seen: Vec<_> = (0..=255u8).map(|b| of(9, [b; 16])).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 256);
    }
}
