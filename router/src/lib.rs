//! The router driver: one thread per node that owns the [`throng_router_core::Router`] machine and the links to other
//! nodes and gateways.
//!
//! ```text
//!  gateway loops ──┐ bounded queue + waker            ┌──► log thread   (Persist → Persisted)
//!  log, flush ─────┤                  ┌──────────┐    ├──► flush thread (Flush → Flushed)
//!  peer port ──────┴─ epoll ─────────►│  Router  │────┼──► links to nodes (Raft, inbox rows)
//!                                     └──────────┘    └──► gateways, in process or over a link
//! ```
//!
//! A turn feeds a bounded batch of inputs to the machine and then drains its outputs, so that commands of one turn
//! share an entry, entries of all shards share a group commit and messages to one node share a write.

mod asks;
mod driver;
mod gateways;
mod handle;
mod inbound;
pub mod limits;
mod peers;
mod views;

pub use asks::Operated;
pub use driver::{Driver, DriverConfig, StoreDrivers};
pub use gateways::GatewaySink;
pub use handle::{MetaReply, RouterHandle, RouterInput, RouterStatus, ShardStatus};
pub use views::Views;
