//! One connection of the echo listener.

use std::io;

use bytes::{Buf, BytesMut};
use throng_base::Instant;
use throng_runtime::{Interest, Read, Stream, Wishes, Write};
use throng_ws::{
    Decoder, Header, Item, Kind, Limits, Opcode, ProtocolError, Role, encode_close, encode_header, handshake,
};

use crate::limits::{ECHO_MESSAGE_MAX, ECHO_QUEUE_MAX};

const LIMITS: Limits = Limits { message_max: ECHO_MESSAGE_MAX, fragments_max: u16::MAX };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for the upgrade.
    Handshake,
    /// Echoes.
    Open,
    /// Sends what waits, then ends its direction.
    Closing,
    /// Has ended its direction and throws input away until the peer ends its own, or this time.
    Lingering(Instant),
}

pub(super) struct Connection {
    stream: Stream,
    phase: Phase,
    decoder: Decoder,
    /// Input that is not decoded yet: an incomplete head, header or control frame.
    tail: Vec<u8>,
    /// The message so far.
    message: Vec<u8>,
    outgoing: BytesMut,
    blocked: bool,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            phase: Phase::Handshake,
            decoder: Decoder::new(Role::Server),
            tail: Vec::new(),
            message: Vec::new(),
            outgoing: BytesMut::new(),
            blocked: false,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// When to give up on the peer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Lingering(until) => Some(until),
            _ => None,
        }
    }

    pub(super) fn interest(&self) -> Interest {
        Interest::of(Wishes { read: self.reads(), write: self.blocked })
    }

    /// Whether it takes input: not while the peer does not read its echo.
    fn reads(&self) -> bool {
        self.phase != Phase::Closing && self.outgoing.len() < ECHO_QUEUE_MAX
    }

    /// Reads once, answers, writes what the kernel takes. An error means that the connection is over.
    pub(super) fn advance(&mut self, buffer: &mut [u8], linger_until: Instant) -> io::Result<()> {
        if self.reads() {
            match self.stream.read(buffer)? {
                Read::Bytes(bytes) => self.take(&buffer[..bytes]),
                Read::Blocked => {}
                Read::Closed => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        self.flush()?;
        if self.phase == Phase::Closing && self.outgoing.is_empty() {
            self.stream.shutdown_write();
            self.phase = Phase::Lingering(linger_until);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blocked = false;
        while !self.outgoing.is_empty() && !self.blocked {
            match self.stream.write(&self.outgoing)? {
                Write::Bytes(bytes) => self.outgoing.advance(bytes),
                Write::Blocked => self.blocked = true,
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        if matches!(self.phase, Phase::Closing | Phase::Lingering(_)) {
            return;
        }
        let mut input = std::mem::take(&mut self.tail);
        input.extend_from_slice(bytes);
        let mut at = 0;
        if self.phase == Phase::Handshake {
            at = self.upgrade(&input);
        }
        if self.phase == Phase::Open {
            at += self.echo(&mut input[at..]);
        }
        input.drain(..at);
        self.tail = input;
    }

    /// Answers the upgrade, if it is whole; returns the bytes used.
    fn upgrade(&mut self, input: &[u8]) -> usize {
        match handshake::parse_request(input) {
            Ok(None) => 0,
            Ok(Some(parsed)) => {
                // Any subprotocol will do: the first on offer is agreed to.
                handshake::accept(
                    &mut self.outgoing,
                    &parsed.request.key(),
                    parsed.request.protocols().next(),
                );
                self.phase = Phase::Open;
                parsed.consumed
            }
            Err(rejection) => {
                handshake::reject(&mut self.outgoing, rejection);
                self.phase = Phase::Closing;
                input.len()
            }
        }
    }

    /// Answers every whole item; returns the bytes used.
    fn echo(&mut self, input: &mut [u8]) -> usize {
        let mut at = 0;
        while self.phase == Phase::Open {
            match self.decoder.decode(&mut input[at..], &LIMITS) {
                Ok(None) => return at,
                Ok(Some((consumed, item))) => {
                    self.answer(item, &input[at..at + consumed]);
                    at += consumed;
                }
                Err(error) => self.fail(error),
            }
        }
        input.len()
    }

    fn answer(&mut self, item: Item, input: &[u8]) {
        match item {
            Item::Data { kind, payload, end } => {
                self.message.extend_from_slice(&input[payload]);
                if end {
                    let message = std::mem::take(&mut self.message);
                    let opcode = match kind {
                        Kind::Text => Opcode::Text,
                        Kind::Binary => Opcode::Binary,
                    };
                    self.send(opcode, &message);
                }
            }
            Item::Ping(payload) => self.send(Opcode::Pong, &input[payload]),
            Item::Pong(_) => {}
            Item::Close { code, .. } => {
                encode_close(&mut self.outgoing, code, "", None);
                self.phase = Phase::Closing;
            }
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        encode_header(&mut self.outgoing, Header { fin: true, opcode, len: payload.len(), mask: None });
        self.outgoing.extend_from_slice(payload);
    }

    fn fail(&mut self, error: ProtocolError) {
        encode_close(&mut self.outgoing, Some(error.close_code()), error.reason(), None);
        self.phase = Phase::Closing;
    }
}
