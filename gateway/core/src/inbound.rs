//! From bytes to frames.
//!
//! ```text
//!   handle_bytes ─► HTTP upgrade ─► WebSocket decoder ─┐ pieces of messages, in the clear
//!        │                                             ├─► frames() ─► frame() ─► react() ─► operation …
//!        └──────────────── Stream ─────────────────────┘
//! ```
//!
//! Whole frames are decoded where they lie; only an incomplete one is copied to the session's tail.

use throng_base::{Instant, Key};
use throng_wire::frame::{ErrorScope, Pong, Split, Unknown, request_of, split};
use throng_wire::limits::message_max;
use throng_wire::{Code, DecodeError, Frame};
use throng_ws::{Item, Kind, ProtocolError};

use crate::Phase;
use crate::connect::Farewell;
use crate::encode::websocket_pong;
use crate::gateway::Gateway;
use crate::session::phase::{Input, Step, react};
use crate::session::{Tail, Transport};

impl Gateway {
    /// Bytes of a session's transport, decrypted, with the HTTP upgrade on WebSocket. `input` is unmasked in place;
    /// nothing of it is kept but an incomplete tail.
    pub fn handle_bytes(&mut self, now: Instant, session: Key, input: &mut [u8]) {
        let stamp = self.stamp(now);
        let refill = self.refill(session, stamp);
        let Some(record) = self.sessions.get_mut(session) else { return };
        if record.phase == Phase::Closing || input.is_empty() {
            return;
        }
        record.last_heard = stamp;
        record.allowance_milli = refill;
        let partial_before = record.partial();
        match record.transport {
            Transport::Stream => self.frames(now, session, input, false),
            Transport::WebSocket => self.websocket_bytes(now, session, input),
        }
        self.count_partial(now, session, partial_before);
    }

    /// Keeps the sum of all tails, and bounds it.
    fn count_partial(&mut self, now: Instant, key: Key, before: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.phase == Phase::Closing || session.partial() == 0 {
            session.tail = None; // what idles or ends owns no buffer
        }
        let after = session.partial();
        self.partial = self.partial - before + after;
        if self.partial > self.config.partial_total && after > before {
            session.tail = None;
            self.partial -= after;
            self.close(now, key, Code::OVERLOADED);
        }
    }

    /// The peer ended its side of the stream: it is done (SPEC W-QUIC-4). On TCP a half-close means the same.
    pub fn handle_end(&mut self, now: Instant, session: Key) {
        self.close(now, session, Code::NORMAL);
    }

    /// Puts what was left over the last time in front, and keeps what is left over this time.
    fn websocket_bytes(&mut self, now: Instant, key: Key, input: &mut [u8]) {
        let kept = self.sessions.get_mut(key).and_then(|session| session.tail.as_mut());
        let mut raw = kept.map(|tail| core::mem::take(&mut tail.raw)).unwrap_or_default();
        let rest = if raw.is_empty() {
            let consumed = self.websocket(now, key, input);
            input[consumed..].to_vec()
        } else {
            raw.extend_from_slice(input);
            let consumed = self.websocket(now, key, &mut raw);
            raw.drain(..consumed);
            raw
        };
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.phase == Phase::Closing {
            return;
        }
        if !rest.is_empty() {
            session.tail.get_or_insert_default().raw = rest;
        }
    }

    /// Takes the upgrade and whole WebSocket items off the front; the bytes used.
    fn websocket(&mut self, now: Instant, key: Key, input: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return input.len() };
            match session.phase {
                Phase::Closing => return input.len(),
                Phase::Upgrade => match self.upgrade(now, key, &input[at..]) {
                    Some(consumed) => at += consumed,
                    None => return at,
                },
                phase => {
                    // SPEC W-WS-4.
                    let message_max = message_max(self.frame_limit(phase)) as u32;
                    match self.decode(key, &mut input[at..], &throng_ws::Limits::new(message_max)) {
                        Ok(Some((consumed, item))) => {
                            self.websocket_item(now, key, &input[at..at + consumed], item);
                            at += consumed;
                        }
                        Ok(None) => return at,
                        Err(error) => {
                            self.close(now, key, Farewell::from(error));
                            return input.len();
                        }
                    }
                }
            }
        }
    }

    fn decode(
        &mut self,
        key: Key,
        input: &mut [u8],
        limits: &throng_ws::Limits,
    ) -> Result<Option<(usize, Item)>, ProtocolError> {
        let Some(session) = self.sessions.get_mut(key) else { return Ok(None) };
        session.decoder.decode(input, limits)
    }

    fn websocket_item(&mut self, now: Instant, key: Key, input: &[u8], item: Item) {
        match item {
            // SPEC W-WS-5. RFC 6455 would have 1003 for it, but a code has one number on each transport (contract C8).
            Item::Data { kind: Kind::Text, .. } => {
                let farewell = Farewell { reason: "text message", ..Code::PROTOCOL.into() };
                self.close(now, key, farewell);
            }
            Item::Data { kind: Kind::Binary, payload, end } => self.frames(now, key, &input[payload], end),
            Item::Ping(payload) => self.tell_bytes(now, key, websocket_pong(&input[payload])),
            Item::Pong(_) => {}
            Item::Close { code, .. } => self.close_echo(now, key, code),
        }
    }

    /// Takes frames out of a piece of the stream. `ends_message`: the piece ends a WebSocket message, and a frame must
    /// end with it.
    fn frames(&mut self, now: Instant, key: Key, mut input: &[u8], ends_message: bool) {
        let kept = self.sessions.get_mut(key).and_then(|session| session.tail.as_mut());
        if let Some(tail) = kept.filter(|tail| !tail.frame.is_empty()) {
            let mut begun = core::mem::take(&mut tail.frame);
            match complete(&mut begun, &mut input, self.frame_limit_of(key)) {
                Ok(Some(payload)) => self.frame(now, key, &begun[payload]),
                Ok(None) => return self.keep(now, key, begun, ends_message),
                Err(error) => return self.close(now, key, error.code()),
            }
        }
        while !input.is_empty() && self.reads(key) {
            match split(input, self.frame_limit_of(key)) {
                Ok(Split::Frame { consumed, payload }) => {
                    self.frame(now, key, &input[payload]);
                    input = &input[consumed..];
                }
                Ok(Split::NeedMore { .. }) => return self.keep(now, key, input.to_vec(), ends_message),
                Err(error) => return self.close(now, key, error.code()),
            }
        }
    }

    fn frame_limit_of(&self, key: Key) -> usize {
        self.frame_limit(self.sessions.get(key).map_or(Phase::Closing, |session| session.phase))
    }

    /// Whether the session still takes frames.
    fn reads(&self, key: Key) -> bool {
        self.sessions.get(key).is_some_and(|session| session.phase != Phase::Closing)
    }

    /// Keeps the beginning of a frame. Only as much is allocated as has arrived: a length alone reserves nothing.
    fn keep(&mut self, now: Instant, key: Key, begun: Vec<u8>, ends_message: bool) {
        if ends_message {
            // SPEC W-WS-3.
            let farewell =
                Farewell { reason: "a frame is cut by the end of a message", ..Code::PROTOCOL.into() };
            return self.close(now, key, farewell);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.tail.get_or_insert_with(|| Box::new(Tail::default())).frame = begun;
        }
    }

    /// One whole frame.
    pub(crate) fn frame(&mut self, now: Instant, key: Key, payload: &[u8]) {
        self.counters.frames_in += 1;
        if !self.within_rate(now, key, payload) {
            return;
        }
        match Frame::decode(payload) {
            Ok(Some(frame)) => self.known_frame(now, key, frame),
            Ok(None) => self.unknown_frame(now, key, payload),
            Err(error) => self.malformed_frame(now, key, payload, error),
        }
    }

    fn known_frame(&mut self, now: Instant, key: Key, frame: Frame<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match react(session.phase, Input::of(&frame)) {
            Step::Skip => {}
            Step::Close(code) => self.close(now, key, code),
            Step::Go(phase) => {
                session.phase = phase;
                match frame {
                    Frame::Hello(hello) => self.hello(now, key, &hello),
                    Frame::Auth(auth) => self.authenticate(key, &auth),
                    _ => {}
                }
            }
            Step::Stay => match frame {
                Frame::Ping(ping) if ping.wants_answer => self.pong(now, key, ping.nonce),
                Frame::Ping(_) | Frame::Pong(_) => {}
                frame => self.operation(now, key, frame),
            },
            Step::Refuse(_) | Step::Cut => {}
        }
    }

    /// SPEC W-TYPE-3: unknown frames are skipped, unknown requests answered.
    fn unknown_frame(&mut self, now: Instant, key: Key, payload: &[u8]) {
        let unknown = match Unknown::read(payload) {
            Ok(unknown) => unknown,
            Err(error) => return self.close(now, key, error.code()),
        };
        let Some(session) = self.sessions.get(key) else { return };
        match react(session.phase, Input::of_unknown(&unknown)) {
            Step::Close(code) => self.close(now, key, code),
            Step::Refuse(code) => {
                if let Some(request) = unknown.request {
                    self.refuse(now, key, ErrorScope::Request(request), code, 0);
                }
            }
            Step::Go(_) | Step::Stay | Step::Skip | Step::Cut => {}
        }
    }

    /// A request with a field above its limit is answered and the session goes on (SPEC W-ERR-4); everything else that
    /// cannot be decoded ends it.
    fn malformed_frame(&mut self, now: Instant, key: Key, payload: &[u8], error: DecodeError) {
        let is_open = self.sessions.get(key).is_some_and(|session| session.is_open());
        match (error, request_of(payload)) {
            (DecodeError::OverLimit(_), Some(request)) if is_open => {
                self.refuse(now, key, ErrorScope::Request(request), error.code(), 0);
            }
            _ => self.close(now, key, error.code()),
        }
    }

    fn pong(&mut self, now: Instant, key: Key, nonce: u64) {
        self.tell(now, key, &Frame::Pong(Pong { nonce }));
    }
}

/// Completes a begun frame from the front of `input`; its payload if it is whole.
fn complete(
    begun: &mut Vec<u8>,
    input: &mut &[u8],
    frame_max: usize,
) -> Result<Option<core::ops::Range<usize>>, DecodeError> {
    loop {
        match split(begun, frame_max)? {
            Split::Frame { payload, .. } => return Ok(Some(payload)),
            Split::NeedMore { at_least } => {
                let missing = at_least - begun.len();
                let (taken, rest) = input.split_at(missing.min(input.len()));
                begun.extend_from_slice(taken);
                *input = rest;
                if taken.len() < missing {
                    return Ok(None);
                }
            }
        }
    }
}

impl From<ProtocolError> for Farewell {
    fn from(error: ProtocolError) -> Self {
        let code = match error {
            ProtocolError::BadUtf8 => Code::BAD_UTF8,
            ProtocolError::TooLarge => Code::FRAME_TOO_LARGE,
            ProtocolError::TooManyFragments
            | ProtocolError::ReservedBit
            | ProtocolError::ReservedOpcode
            | ProtocolError::Unmasked
            | ProtocolError::Masked
            | ProtocolError::FragmentedControl
            | ProtocolError::OversizedControl
            | ProtocolError::BadLength
            | ProtocolError::UnexpectedContinuation
            | ProtocolError::ExpectedContinuation
            | ProtocolError::TruncatedCloseCode
            | ProtocolError::BadCloseCode(_) => Code::PROTOCOL,
        };
        Self { code, websocket: error.close_code(), reason: error.reason(), retry_after_ms: 0 }
    }
}
