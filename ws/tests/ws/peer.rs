//! A receiver as a driver would be: keeps the tail, collects pieces into messages.

use throng_ws::limits::TAIL_MAX;
use throng_ws::{
    Decoder, Header, Item, Kind, Limits, Opcode, ProtocolError, Role, apply_mask, encode_header,
};

pub(crate) const LIMITS: Limits = Limits { message_max: 4096, fragments_max: 8 };

const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(ProtocolError),
}

pub(crate) struct Peer {
    decoder: Decoder,
    tail: Vec<u8>,
    message: Vec<u8>,
    failed: bool,
}

impl Peer {
    pub(crate) fn server() -> Self {
        Self::new(Role::Server)
    }

    pub(crate) fn client() -> Self {
        Self::new(Role::Client)
    }

    pub(crate) fn new(role: Role) -> Self {
        Self { decoder: Decoder::new(role), tail: vec![], message: vec![], failed: false }
    }

    pub(crate) fn feed_all(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = vec![];
        self.feed(bytes, &mut events);
        events
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let mut input = std::mem::take(&mut self.tail);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while !self.failed {
            match self.decoder.decode(&mut input[at..], &LIMITS) {
                Ok(Some((consumed, item))) => {
                    self.take(item, &input[at..], events);
                    at += consumed;
                }
                Ok(None) => break,
                Err(error) => {
                    self.failed = true;
                    events.push(Event::Failed(error));
                }
            }
        }
        if !self.failed && !self.decoder.is_closed() {
            self.tail = input.split_off(at);
            assert!(self.tail.len() <= TAIL_MAX, "a tail of {} bytes", self.tail.len());
        }
    }

    fn take(&mut self, item: Item, input: &[u8], events: &mut Vec<Event>) {
        match item {
            Item::Data { kind, payload, end } => {
                self.message.extend_from_slice(&input[payload]);
                if end {
                    let message = std::mem::take(&mut self.message);
                    events.push(match kind {
                        Kind::Text => {
                            Event::Text(String::from_utf8(message).expect("checked by the decoder"))
                        }
                        Kind::Binary => Event::Binary(message),
                    });
                }
            }
            Item::Ping(payload) => events.push(Event::Ping(input[payload].to_vec())),
            Item::Pong(payload) => events.push(Event::Pong(input[payload].to_vec())),
            Item::Close { code, reason } => {
                let reason = String::from_utf8(input[reason].to_vec()).expect("checked by the decoder");
                events.push(Event::Close(code, reason));
            }
        }
    }
}

pub(crate) fn frame(fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = vec![];
    encode_header(&mut out, Header { fin, opcode, len: payload.len(), mask });
    let at = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        let _ = apply_mask(&mut out[at..], key);
    }
    out
}

pub(crate) fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frame(fin, opcode, payload, Some(KEY))
}
