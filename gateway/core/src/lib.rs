//! Gateway sessions, hub, outboxes and timers, without I/O.
//!
//! ```text
//!   connect, bytes ─► session: upgrade, HELLO, AUTH, limits ─► request ─► ToRouter ───► shard
//!                                                                                         │
//!   Write, Close   ◄─ outbox (bounded: bytes, age) ◄─ hub: channel → sessions ◄─ ToGateway ◄┘
//! ```
//!
//! One [`Gateway`] is one loop. It holds soft state only: all of it can die with the loop, and clients resume elsewhere
//! from their cursors (contract C5).
//!
//! | File | Question it answers |
//! |---|---|
//! | `session/phase.rs` | what happens at which point of a session's life (the table) |
//! | `inbound.rs`, `upgrade.rs`, `rate.rs` | how bytes become frames |
//! | `auth.rs` | who is it |
//! | `request.rs`, `pending.rs`, `routes.rs`, `reply.rs` | which node is asked, and what the client hears |
//! | `hub.rs`, `subscription.rs`, `fanout.rs` | who gets an event |
//! | `renewal.rs` | how soft state comes back after a broken link or a new leader |
//! | `outbox.rs`, `outgoing.rs`, `encode.rs` | what waits, what is dropped and what is owed for it |
//! | `connect.rs`, `timers.rs`, `drain.rs`, `admission.rs` | how a session begins and ends |
//!
//! Absent on purpose: sockets, TLS, token verification (the driver answers [`Output::Authenticate`]), a clock, and any
//! knowledge of members: rights are the shards' business, the gateway learns them from their ordered stream (C7).

mod admission;
mod auth;
mod config;
mod connect;
mod counters;
mod drain;
mod encode;
mod fanout;
mod gateway;
mod hub;
mod inbound;
pub mod limits;
mod outbox;
mod outgoing;
mod output;
mod pending;
mod rate;
mod renewal;
mod reply;
mod request;
mod routes;
mod session;
mod stamp;
mod subscription;
mod timers;
mod upgrade;

pub use auth::{Claims, VERSION};
pub use config::{GatewayConfig, Origins, Rate};
pub use counters::Counters;
pub use gateway::Gateway;
pub use output::Output;
pub use session::Transport;
pub use session::phase::{Input, Phase, Step, react};
pub use throng_base::Key as SessionKey;
pub use upgrade::{PATH, SUBPROTOCOL};
