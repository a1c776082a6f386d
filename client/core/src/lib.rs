//! The client machine: connect, authenticate, send exactly once, read without gaps, resume, without I/O.
//!
//! ```text
//!                 publish, subscribe, request, close
//!                               │
//!   transport ─ handle_bytes ─► Client ─ poll_output ─► Connect │ Write │ Disconnect │ Event
//!   transport ◄── outgoing ────   │
//!                    Outbox per channel: ids that only rise, ≤ 16 unacknowledged, resent under the same id
//!                    Feed per channel:   cursor, held events, FETCH until continuous
//!                    Requests:           numbered, retried, one deadline each
//! ```
//!
//! A [`Client`] is one device's session with a cluster over whatever connections it takes. The driver moves bytes,
//! gives the time and carries out [`Output`]s; it knows neither frames nor WebSocket. The same machine runs in the
//! SDK, the load generator, the command line and the simulator.
//!
//! What it promises (design contract):
//! - C3: a send is stored at most once, and [`ClientEvent::Acked`] means stored. Retries, also over reconnects, keep
//!   the `client_msg_id`; an id leaves the outbox only when it is acknowledged or finally refused.
//! - C4: every event of a subscribed channel reaches the user exactly once and in order; what was not pushed is fetched.
//! - C5: it resumes from nothing but its cursors; a cursor that cannot be continued surfaces as
//!   [`ClientEvent::Reset`], never as a silent gap.
//!
//! What is absent: sockets, TLS, clocks, randomness of its own, threads, and any store. [`SavedState`] is what a
//! device keeps if it wants to survive its own restart.

mod backoff;
mod client;
mod config;
mod endpoint;
mod event;
mod feed;
pub mod limits;
mod link;
mod outbox;
mod requests;
mod saved;

pub use backoff::Backoff;
pub use client::{Client, Login};
pub use config::Config;
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use event::{Answer, ClientEvent, Output, Reason, RequestError, Session};
pub use feed::Start;
pub use requests::Request;
pub use saved::{Cursor, SavedSend, SavedState};
