//! The opening handshake (RFC 6455 §4), both sides, on bytes.
//!
//! ```text
//!   server: parse_request(bytes) ─► None (more) │ Parsed { consumed, Request } │ Rejection ─► reject(..)
//!           choose a protocol    ─► accept(key, protocol)
//!   client: request(options)     ─► bytes
//!           parse_response(bytes, key, protocols) ─► None (more) │ Response { consumed, protocol } │ ResponseError
//! ```
//!
//! Bytes after the head belong to the frames. Nothing here allocates.

mod client;
mod head;
mod key;
mod server;

pub use client::{RequestOptions, Response, ResponseError, parse_response, request};
pub use key::Key;
pub use server::{Parsed, Rejection, Request, accept, parse_request, reject};
