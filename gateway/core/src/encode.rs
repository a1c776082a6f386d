//! Frames as they go out.

use bytes::{Bytes, BytesMut};
use throng_wire::Frame;
use throng_wire::varint;
use throng_ws::{Header, Opcode, encode_close, encode_header, header_len};

use crate::session::Transport;

/// A frame encoded once for both transports: a WebSocket header for one binary message, and the frame behind it. All
/// sessions share the bytes; streams share the part behind the header.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    bytes: Bytes,
    header: u8,
}

impl Encoded {
    /// Encodes a frame. One allocation of exactly its size.
    pub(crate) fn of(frame: &Frame<'_>) -> Self {
        let payload = frame.payload_len();
        let len = varint::len(payload as u64) + payload;
        let header = header_len(len, false);
        let mut out = BytesMut::with_capacity(header + len);
        encode_header(&mut out, Header { fin: true, opcode: Opcode::Binary, len, mask: None });
        frame.encode(&mut out);
        assert_eq!(out.len(), header + len, "payload_len() and encode() agree");
        Self { bytes: out.freeze(), header: header as u8 }
    }

    /// The bytes for a session on this transport.
    pub(crate) fn on(&self, transport: Transport) -> Bytes {
        match transport {
            Transport::WebSocket => self.bytes.clone(),
            Transport::Stream => self.bytes.slice(usize::from(self.header)..),
        }
    }

    /// The larger of its two lengths.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A WebSocket pong.
pub(crate) fn websocket_pong(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + payload.len());
    encode_header(&mut out, Header { fin: true, opcode: Opcode::Pong, len: payload.len(), mask: None });
    out.extend_from_slice(payload);
    out.freeze()
}

/// A WebSocket close frame.
pub(crate) fn websocket_close(code: Option<u16>, reason: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + reason.len());
    encode_close(&mut out, code, reason, None);
    out.freeze()
}
