//! The Throng wire protocol: identifiers, codes, frames and the messages between nodes.
//!
//! ```text
//!   client  ── frames (SPEC.md) ──►  gateway  ── link messages ──►  router shard ── entries ──► log
//!           WebSocket or QUIC                 in process or peer port
//! ```
//!
//! [`frame`] is what clients speak, [`link`] what gateways and routers say to each other, [`code`] every error and
//! close code as data. Decoding yields only valid values; every length is checked before anything is allocated.

pub mod code;
pub mod error;
pub mod event;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod link;
pub mod peer;
pub mod varint;

pub use code::Code;
pub use error::DecodeError;
pub use event::{Event, EventKind, Origin};
pub use frame::Frame;
pub use ids::*;
pub use peer::PeerFrame;
