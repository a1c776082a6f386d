//! The whole cluster in one thread on virtual time: clients, gateways, routers, Raft and disks, with everything that
//! can go wrong drawn from one seed. The same seed always gives the same trace.
//!
//! ```text
//!   Client ── byte stream ── Gateway ── links ── Router ── peer messages (lost, doubled, late) ── Router
//!                                                  │ Persist, Flush
//!                                                  ▼
//!                                          Disk: a crash loses what was not synced
//! ```
//!
//! [`World`] runs the real machines of all cores; only sockets, clocks and disks are simulated. [`check`] has its own
//! model of what clients were promised (contract C1–C5) and shares no code with the system.

mod actor;
pub mod check;
mod disk;
mod faults;
mod net;
mod node;
mod queue;
mod world;

pub use faults::{FaultCounts, FaultPlan};
pub use world::{Outcome, Scenario, Watch, World, first_difference, run};
