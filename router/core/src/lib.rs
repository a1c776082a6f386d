//! The router's core: channel and user machines, replicated; and the machine of a node that leads them.
//!
//! ```text
//!  gateways ─ requests ─► Router ─ one entry per shard and turn ─► Store (Raft) ─► committed ─► Machines::apply
//!           ◄─ replies ──┤                                                             │
//!           ◄─ deliveries┼───────────── effects, on the leader only ◄──────────────────┤
//!           ◄─ hints ────┘                                                             ▼
//!                                                    dirty objects ─► flush batch (applied index in it) ─► state store
//! ```
//!
//! [`entry`] is what is written into the log, [`machines`] what applying it does, [`router`] who asks and who answers.
//! The replicated part has no clock, no randomness and no order of a hash table; the router part has one shape with
//! every machine of Throng: `handle_*`, `handle_timeout`, `poll_timeout`, `poll_output`.
//!
//! What is absent: sockets, threads, files, clocks.

mod channel;
mod codec;
pub mod entry;
mod fatal;
mod few;
mod hash;
pub mod limits;
pub mod machines;
pub mod meta;
mod outbox;
mod outcome;
pub mod router;
mod state;
mod user;

pub use fatal::Fatal;
pub use machines::{Applied, AppliedRow, FlushToken, applied, applied_row};
pub use outcome::Outcome;
pub use router::{
    Checkpoint, ImportToken, Operation, Output, PeerMessage, Pressure, Router, RouterConfig, ViewId,
};
pub use state::{PREFIX_LEN, snapshot};
