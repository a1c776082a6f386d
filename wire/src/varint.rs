//! Variable-length integers as in RFC 9000 §16, shortest form required (SPEC W-VAR-2).
//!
//! ```text
//!   00xxxxxx                     1 byte   up to 63
//!   01xxxxxx x{8}                2 bytes  up to 16,383
//!   10xxxxxx x{24}               4 bytes  up to 1,073,741,823
//!   11xxxxxx x{56}               8 bytes  up to 4,611,686,018,427,387,903
//! ```

use bytes::BufMut;

use crate::error::DecodeError;

/// The largest value.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Writes `value`, which is at most [`MAX`].
pub fn encode(value: u64, out: &mut impl BufMut) {
    assert!(value <= MAX, "decoders and the checks on peer messages admit only values up to 2^62 - 1");
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(0b01 << 14 | value as u16),
        4 => out.put_u32(0b10 << 30 | value as u32),
        _ => out.put_u64(0b11 << 62 | value),
    }
}

/// Reads a value and moves `input` behind it.
///
/// # Errors
/// [`DecodeError::Truncated`] and [`DecodeError::NotShortest`]; `input` is untouched then.
pub fn decode(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let Peek::Value { value, len } = peek(input)? else { return Err(DecodeError::Truncated) };
    *input = &input[len..];
    Ok(value)
}

/// What stands at the start of some bytes.
pub(crate) enum Peek {
    /// A whole varint.
    Value { value: u64, len: usize },
    /// The start of one that takes `len` bytes in all.
    NeedMore { len: usize },
}

/// Looks at the varint at the start of `input`.
pub(crate) fn peek(input: &[u8]) -> Result<Peek, DecodeError> {
    let Some(&first) = input.first() else { return Ok(Peek::NeedMore { len: 1 }) };
    let len = 1usize << (first >> 6);
    let Some(bytes) = input.get(..len) else { return Ok(Peek::NeedMore { len }) };
    let value = bytes[1..].iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    if self::len(value) != len {
        return Err(DecodeError::NotShortest);
    }
    Ok(Peek::Value { value, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_take_the_length_of_the_table() {
        // SPEC W-VAR-1: the lengths of RFC 9000 §16.
        for (value, length) in
            [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (MAX, 8)]
        {
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!((out.len(), len(value)), (length, length), "{value}");
            assert_eq!(decode(&mut &out[..]), Ok(value));
            assert_eq!(decode(&mut &out[..length - 1]), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn the_examples_of_rfc_9000_appendix_a1() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(decode(&mut &bytes[..]), Ok(value));
        }
        // The RFC allows this longer form of 37; Throng does not (SPEC W-VAR-2).
        assert_eq!(decode(&mut &[0x40, 0x25][..]), Err(DecodeError::NotShortest));
    }
}
