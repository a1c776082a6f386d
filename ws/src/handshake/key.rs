//! Sec-WebSocket-Key and Sec-WebSocket-Accept (RFC 6455 §4.1, §4.2.2).

use sha1::{Digest, Sha1};

/// Appended to the key before hashing (§1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A nonce of 16 bytes in its base64 form, as it stands in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 24]);

impl Key {
    /// From a nonce that a client draws anew for every connection.
    pub fn from_nonce(nonce: [u8; 16]) -> Self {
        let mut text = [0; 24];
        encode_base64(&nonce, &mut text);
        Self(text)
    }

    /// Reads a header value; `None` unless it is the base64 form of exactly 16 bytes.
    pub fn parse(value: &str) -> Option<Self> {
        let text: [u8; 24] = value.as_bytes().try_into().ok()?;
        let (digits, padding) = text.split_at(22);
        let all_digits = digits.iter().all(|digit| ALPHABET.contains(digit));
        // 22 digits hold 132 bits; the 4 bits beyond 128 must be zero (RFC 4648 §3.5).
        let clean_end = matches!(digits[21], b'A' | b'Q' | b'g' | b'w');
        (padding == b"==" && all_digits && clean_end).then_some(Self(text))
    }

    /// The header value.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("base64 digits are ASCII")
    }

    /// What the server answers: base64(SHA-1(key, GUID)).
    pub(crate) fn accept(&self) -> [u8; 28] {
        let mut sha = Sha1::new();
        sha.update(self.0);
        sha.update(GUID);
        let mut text = [0; 28];
        encode_base64(&sha.finalize(), &mut text);
        text
    }
}

/// RFC 4648 §4. `out` has room for exactly the padded form.
fn encode_base64(bytes: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), bytes.len().div_ceil(3) * 4);
    for (three, four) in bytes.chunks(3).zip(out.chunks_exact_mut(4)) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for (i, digit) in four.iter_mut().enumerate() {
            let index = (bits >> (18 - 6 * i)) as usize & 63;
            *digit = if i <= three.len() { ALPHABET[index] } else { b'=' };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_section_1_3() {
        let key = Key::parse("dGhlIHNhbXBsZSBub25jZQ==").expect("16 bytes");
        assert_eq!(key, Key::from_nonce(*b"the sample nonce"));
        assert_eq!(&key.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_sixteen_bytes_in_base64() {
        for bad in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25jZQ= ",
            "!GhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZSEh",
        ] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }
}
