//! Sans-IO WebSocket (RFC 6455), both sides: no socket, no clock, no randomness, and no buffer of its own.
//!
//! ```text
//!   bytes ─► handshake::parse_request ─► Request ─► handshake::accept ─► bytes      (server)
//!            handshake::request       ─► bytes  ─► handshake::parse_response         (client)
//!
//!   bytes ─► Decoder::decode ─► Item { Data │ Ping │ Pong │ Close }                  (both)
//!   encode_header + payload, encode_close ─► bytes
//! ```
//!
//! The caller owns every buffer. [`Decoder`] is 16 bytes; it unmasks in place and hands a message out in pieces as its
//! bytes arrive, so that nobody has to hold a whole message. Only an incomplete frame header or control frame has to
//! be kept by the caller: at most [`limits::TAIL_MAX`] bytes.
//!
//! Absent on purpose: permessage-deflate (RFC 7692). Offered extensions are ignored and a reserved bit is a protocol
//! error; compression would cost a session about 300 KiB of zlib state and open the door to decompression bombs.

mod close;
mod decoder;
mod encode;
mod error;
pub mod handshake;
pub mod limits;
mod mask;
mod opcode;
mod utf8;

pub use close::{encode_close, is_valid_close_code};
pub use decoder::{Decoder, Item, Kind, Limits, Role};
pub use encode::{Header, encode_header, header_len};
pub use error::ProtocolError;
pub use mask::apply_mask;
pub use opcode::Opcode;
