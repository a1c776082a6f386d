//! Masking (RFC 6455 §5.3).

/// Masks or unmasks in place and returns the key turned so that it goes on where this piece ended.
#[must_use = "the next piece of the frame needs the turned key"]
pub fn apply_mask(bytes: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    // Eight bytes at a time: the compiler makes vector instructions of this loop.
    let word = u32::from_ne_bytes(key);
    let wide = u64::from(word) << 32 | u64::from(word);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let eight: [u8; 8] = (&*chunk).try_into().expect("chunks_exact_mut yields eight bytes");
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (i, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= key[i & 3];
    }
    let mut turned = key;
    turned.rotate_left(bytes.len() & 3);
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_same_as_the_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..100u8).collect();
        let masked: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        for cut in 0..plain.len() {
            let mut bytes = plain.clone();
            let (head, tail) = bytes.split_at_mut(cut);
            let turned = apply_mask(head, key);
            let _ = apply_mask(tail, turned);
            assert_eq!(bytes, masked, "cut at {cut}");
        }
    }
}
