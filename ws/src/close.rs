//! Close frames (RFC 6455 §5.5.1, §7.4).

use bytes::BufMut;

use crate::limits::CLOSE_REASON_MAX;
use crate::utf8::Utf8;
use crate::{Header, Opcode, ProtocolError, apply_mask, encode_header};

/// Whether a close frame may carry this code (§7.4, and the IANA registry for 1012–1014): 1004–1006 and 1015 are for
/// local use, 1016–2999 unassigned, 3000–4999 the applications'.
pub const fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Checks an unmasked close payload and returns its code.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(ProtocolError::TruncatedCloseCode),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !is_valid_close_code(code) {
        return Err(ProtocolError::BadCloseCode(code));
    }
    if Utf8::default().feed(reason) != Some(Utf8::Boundary) {
        return Err(ProtocolError::BadUtf8);
    }
    Ok(Some(code))
}

/// Appends a close frame. A reason above the limit is cut at a character; without a code (or with one that must not be
/// sent) the frame is empty.
pub fn encode_close(out: &mut impl BufMut, code: Option<u16>, reason: &str, mask: Option<[u8; 4]>) {
    let mut payload = [0u8; 2 + CLOSE_REASON_MAX];
    let len = match code.filter(|code| is_valid_close_code(*code)) {
        None => 0,
        Some(code) => {
            let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_MAX)];
            payload[..2].copy_from_slice(&code.to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
            2 + reason.len()
        }
    };
    encode_header(out, Header { fin: true, opcode: Opcode::Close, len, mask });
    if let Some(key) = mask {
        let _ = apply_mask(&mut payload[..len], key);
    }
    out.put_slice(&payload[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_of_codes() {
        for code in 0..=u16::MAX {
            let expected = matches!(code, 1000 | 1001 | 1002 | 1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(is_valid_close_code(code), expected, "{code}");
        }
    }

    #[test]
    fn payloads() {
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b"\x03"), Err(ProtocolError::TruncatedCloseCode));
        assert_eq!(parse(b"\x03\xe8bye"), Ok(Some(1000)));
        assert_eq!(parse(b"\x03\xed"), Err(ProtocolError::BadCloseCode(1005)));
        assert_eq!(parse(b"\x03\xe8\xce"), Err(ProtocolError::BadUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        encode_close(&mut out, Some(1000), &"é".repeat(100), None);
        assert_eq!((out.len(), out[1]), (2 + 2 + 122, 124));
        assert_eq!(parse(&out[2..]), Ok(Some(1000)));
    }

    #[test]
    fn codes_for_local_use_are_never_sent() {
        let mut out = Vec::new();
        encode_close(&mut out, Some(1006), "lost", None);
        assert_eq!(out, [0x88, 0]);
    }
}
