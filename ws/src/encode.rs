//! Writing frames.

use bytes::BufMut;

use crate::Opcode;

/// What a frame's header says (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Bytes of payload.
    pub len: usize,
    /// The masking key: a client draws a new unpredictable one for every frame (§5.3), a server has none (§5.1).
    pub mask: Option<[u8; 4]>,
}

/// Appends a header. The payload follows as `len` bytes, masked with [`crate::apply_mask`] if there is a key.
pub fn encode_header(out: &mut impl BufMut, header: Header) {
    assert!(!header.opcode.is_control() || (header.fin && header.len <= crate::limits::CONTROL_PAYLOAD_MAX));
    let mask_bit = if header.mask.is_some() { 0x80 } else { 0 };
    out.put_u8(u8::from(header.fin) << 7 | header.opcode.to_u8());
    // The shortest form is required.
    match header.len {
        len @ 0..=125 => out.put_u8(mask_bit | len as u8),
        len @ 126..=0xffff => {
            out.put_u8(mask_bit | 126);
            out.put_u16(len as u16);
        }
        len => {
            out.put_u8(mask_bit | 127);
            out.put_u64(len as u64);
        }
    }
    if let Some(key) = header.mask {
        out.put_slice(&key);
    }
}

/// Bytes that [`encode_header`] writes.
pub const fn header_len(payload_len: usize, masked: bool) -> usize {
    let length_bytes = match payload_len {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    2 + length_bytes + if masked { 4 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_6455_section_5_7() {
        let mut out = Vec::new();
        encode_header(&mut out, Header { fin: true, opcode: Opcode::Text, len: 5, mask: None });
        assert_eq!(out, [0x81, 0x05]);
        out.clear();
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        encode_header(&mut out, Header { fin: true, opcode: Opcode::Text, len: 5, mask });
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]);
        out.clear();
        encode_header(&mut out, Header { fin: true, opcode: Opcode::Binary, len: 256, mask: None });
        assert_eq!(out, [0x82, 0x7e, 0x01, 0x00]);
        out.clear();
        encode_header(&mut out, Header { fin: true, opcode: Opcode::Binary, len: 65536, mask: None });
        assert_eq!(out, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn the_length_is_told_before() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 24] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut out = Vec::new();
                encode_header(&mut out, Header { fin: false, opcode: Opcode::Binary, len, mask });
                assert_eq!(out.len(), header_len(len, mask.is_some()));
            }
        }
    }
}
