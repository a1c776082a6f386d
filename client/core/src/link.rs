//! One connection's bytes: frames in, frames out, with or without WebSocket around them.
//!
//! ```text
//!   transport bytes ─► [upgrade, WebSocket frames] ─► frame bytes ─► payloads
//!   transport bytes ◄─ [one binary message] ◄──────── frames, as many as came up
//! ```

use bytes::BytesMut;
use throng_base::Rng;
use throng_wire::frame::{Split, split};
use throng_wire::{Code, DecodeError, Frame};
use throng_ws::handshake::{Key, RequestOptions, ResponseError, parse_response, request};
use throng_ws::{Decoder, Header, Item, Limits, Opcode, Role, apply_mask, encode_close, encode_header};

use crate::endpoint::{Endpoint, Scheme};
use crate::limits::{FRAME_MAX, MESSAGE_MAX};

/// WebSocket subprotocol.
const SUBPROTOCOL: &str = "throng.v1.bin";

/// Messages may be of any length, because they are taken in pieces; [`FRAME_MAX`] bounds what is kept of them.
const WS_LIMITS: Limits = Limits { message_max: u32::MAX, fragments_max: u16::MAX };

/// Why a connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// The server closed it, in WebSocket's own words.
    Closed(Code),
    /// The upgrade was refused with this HTTP status, 0 if the answer made no sense.
    Upgrade(u16),
    /// The server's bytes make no sense.
    Protocol(String),
}

impl From<DecodeError> for LinkError {
    fn from(error: DecodeError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// The state of one connection's bytes.
#[derive(Debug)]
pub(crate) struct Link {
    /// The start of a frame whose end has not come.
    tail: BytesMut,
    websocket: Option<Box<WebSocket>>,
}

#[derive(Debug)]
struct WebSocket {
    /// Until the server agreed to the upgrade.
    key: Option<Key>,
    decoder: Decoder,
    /// For masking keys.
    rng: Rng,
    /// The start of a WebSocket header, control frame or HTTP head whose end has not come.
    tail: Vec<u8>,
    /// Frames of the message in the making.
    making: BytesMut,
}

impl Link {
    /// A connection to `endpoint` whose transport just opened.
    pub(crate) fn open(endpoint: &Endpoint, rng: &mut Rng, out: &mut BytesMut) -> Self {
        let websocket = match endpoint.scheme {
            Scheme::Ws | Scheme::Wss => Some(Box::new(WebSocket::open(endpoint, rng, out))),
            Scheme::Quic => None,
        };
        Self { tail: BytesMut::new(), websocket }
    }

    /// Whether frames may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.websocket.as_ref().is_none_or(|websocket| websocket.key.is_none())
    }

    /// Takes bytes of the transport and passes on the payload of each whole frame. Answers that WebSocket itself wants
    /// are appended to `control`.
    pub(crate) fn feed(
        &mut self,
        input: &mut [u8],
        control: &mut BytesMut,
        mut on_payload: impl FnMut(&[u8]) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let Self { tail, websocket } = self;
        match websocket {
            None => take_frames(tail, input, &mut on_payload),
            Some(websocket) => {
                websocket.feed(input, control, |piece| take_frames(tail, piece, &mut on_payload))
            }
        }
    }

    /// Appends a frame.
    pub(crate) fn encode(&mut self, frame: &Frame<'_>, out: &mut BytesMut) {
        assert!(self.is_ready(), "nothing is sent before the upgrade");
        match &mut self.websocket {
            None => frame.encode(out),
            Some(websocket) => {
                if !websocket.making.is_empty() && websocket.making.len() + frame.payload_len() > MESSAGE_MAX
                {
                    websocket.seal(out);
                }
                frame.encode(&mut websocket.making);
            }
        }
    }

    /// Bytes in the message that [`Link::seal`] will append.
    pub(crate) fn unsealed(&self) -> usize {
        self.websocket.as_ref().map_or(0, |websocket| websocket.making.len())
    }

    /// Ends the message in the making.
    pub(crate) fn seal(&mut self, out: &mut BytesMut) {
        if let Some(websocket) = &mut self.websocket {
            websocket.seal(out);
        }
    }

    /// Appends WebSocket's own goodbye.
    pub(crate) fn close(&mut self, code: Code, out: &mut BytesMut) {
        if let Some(websocket) = &mut self.websocket
            && websocket.key.is_none()
        {
            let mask = websocket.mask();
            encode_close(out, Some(code.websocket()), "", Some(mask));
        }
    }
}

impl WebSocket {
    fn open(endpoint: &Endpoint, rng: &mut Rng, out: &mut BytesMut) -> Self {
        let mut nonce = [0u8; 16];
        nonce[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        nonce[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
        let key = Key::from_nonce(nonce);
        let options = RequestOptions {
            host: &endpoint.authority(),
            path: &endpoint.path,
            protocols: &[SUBPROTOCOL],
            origin: None,
        };
        request(out, &key, &options);
        Self {
            key: Some(key),
            decoder: Decoder::new(Role::Client),
            rng: rng.fork(0),
            tail: Vec::new(),
            making: BytesMut::new(),
        }
    }

    fn mask(&mut self) -> [u8; 4] {
        (self.rng.next_u64() as u32).to_ne_bytes()
    }

    fn feed(
        &mut self,
        input: &mut [u8],
        control: &mut BytesMut,
        on_piece: impl FnMut(&[u8]) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        if self.tail.is_empty() {
            let used = self.take(input, control, on_piece)?;
            self.tail.extend_from_slice(&input[used..]);
            return Ok(());
        }
        let mut whole = core::mem::take(&mut self.tail);
        whole.extend_from_slice(input);
        let used = self.take(&mut whole, control, on_piece)?;
        if used < whole.len() {
            self.tail = whole.split_off(used);
        }
        Ok(())
    }

    /// Takes whole items off the front of `input` and says how many bytes they were.
    fn take(
        &mut self,
        input: &mut [u8],
        control: &mut BytesMut,
        mut on_piece: impl FnMut(&[u8]) -> Result<(), LinkError>,
    ) -> Result<usize, LinkError> {
        let mut used = 0;
        if let Some(key) = &self.key {
            let Some(response) = parse_response(input, key, &[SUBPROTOCOL]).map_err(upgrade_error)? else {
                return Ok(0);
            };
            if response.protocol != Some(SUBPROTOCOL) {
                return Err(LinkError::Upgrade(0));
            }
            used = response.consumed;
            self.key = None;
        }
        loop {
            let rest = &mut input[used..];
            let decoded = self.decoder.decode(rest, &WS_LIMITS);
            let Some((consumed, item)) = decoded.map_err(|error| LinkError::Protocol(error.to_string()))?
            else {
                return Ok(if self.decoder.is_closed() { input.len() } else { used });
            };
            match item {
                Item::Data { payload, .. } => on_piece(&rest[payload])?,
                Item::Ping(payload) => self.pong(&rest[payload], control),
                Item::Pong(_) => {}
                Item::Close { code, .. } => return Err(LinkError::Closed(code_of(code))),
            }
            used += consumed;
        }
    }

    /// RFC 6455 §5.5.3.
    fn pong(&mut self, payload: &[u8], control: &mut BytesMut) {
        let mask = self.mask();
        encode_header(
            control,
            Header { fin: true, opcode: Opcode::Pong, len: payload.len(), mask: Some(mask) },
        );
        let at = control.len();
        control.extend_from_slice(payload);
        let _ = apply_mask(&mut control[at..], mask);
    }

    fn seal(&mut self, out: &mut BytesMut) {
        if self.making.is_empty() {
            return;
        }
        let mask = self.mask();
        let mut message = core::mem::take(&mut self.making);
        encode_header(
            out,
            Header { fin: true, opcode: Opcode::Binary, len: message.len(), mask: Some(mask) },
        );
        let _ = apply_mask(&mut message, mask);
        out.extend_from_slice(&message);
    }
}

/// Passes on every whole frame in `tail` followed by `input`; what is left is the new tail.
fn take_frames(
    tail: &mut BytesMut,
    mut input: &[u8],
    on_payload: &mut impl FnMut(&[u8]) -> Result<(), LinkError>,
) -> Result<(), LinkError> {
    while !tail.is_empty() {
        match split(tail, FRAME_MAX)? {
            Split::NeedMore { at_least } => {
                let (more, rest) = input.split_at(input.len().min(at_least - tail.len()));
                tail.extend_from_slice(more);
                input = rest;
                if tail.len() < at_least {
                    return Ok(());
                }
            }
            Split::Frame { consumed, payload } => {
                assert_eq!(consumed, tail.len(), "a tail is filled up to the end of its frame");
                let frame = core::mem::take(tail); // a link at rest owns no buffer
                on_payload(&frame[payload])?;
            }
        }
    }
    loop {
        match split(input, FRAME_MAX)? {
            Split::Frame { consumed, payload } => {
                on_payload(&input[payload])?;
                input = &input[consumed..];
            }
            Split::NeedMore { at_least } => {
                if !input.is_empty() {
                    tail.reserve(at_least);
                    tail.extend_from_slice(input);
                }
                return Ok(());
            }
        }
    }
}

fn upgrade_error(error: ResponseError) -> LinkError {
    match error {
        ResponseError::Status(status) => LinkError::Upgrade(status),
        ResponseError::Malformed | ResponseError::NotWebSocket | ResponseError::NotOffered => {
            LinkError::Upgrade(0)
        }
    }
}

/// What a WebSocket close code means in our terms. A close without our own CLOSE before it comes from something on the
/// way, so unless it carries one of our codes the client resumes.
fn code_of(websocket: Option<u16>) -> Code {
    match websocket {
        Some(number @ 4000..) => Code(number - 4000),
        Some(number) if number != 1000 => throng_wire::code::CODES
            .iter()
            .find(|info| info.websocket == number)
            .map_or(Code::GOING_AWAY, |info| info.code),
        _ => Code::GOING_AWAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let mut stream = BytesMut::new();
        for n in 0..50u64 {
            Frame::Pong(throng_wire::frame::Pong { nonce: n << (n % 40) }).encode(&mut stream);
        }
        for size in 1..40 {
            let (mut tail, mut nonces) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(size) {
                take_frames(&mut tail, piece, &mut |payload| {
                    let Ok(Some(Frame::Pong(pong))) = Frame::decode(payload) else { panic!("not a PONG") };
                    nonces.push(pong.nonce);
                    Ok(())
                })
                .expect("whole frames");
            }
            assert_eq!(nonces, (0..50u64).map(|n| n << (n % 40)).collect::<Vec<_>>());
            assert!(tail.is_empty());
        }
    }

    #[test]
    fn our_own_close_codes_keep_their_meaning_and_others_resume() {
        assert_eq!(code_of(Some(Code::TOKEN_EXPIRED.websocket())), Code::TOKEN_EXPIRED);
        assert_eq!(code_of(Some(1013)), Code::OVERLOADED);
        assert_eq!(code_of(Some(1000)), Code::GOING_AWAY);
        assert_eq!(code_of(None), Code::GOING_AWAY);
        assert_eq!(code_of(Some(1012)), Code::GOING_AWAY);
    }
}
