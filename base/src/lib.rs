//! The pure floor that every Throng crate stands on: no clock, socket, file, thread or global in here.
//!
//! [`Instant`] is time as an argument, [`Rng`] randomness as an argument, [`BoundedQueue`] a queue that says
//! [`Full`], [`ChunkedDeque`] one that grows without moving, [`Slab`] storage with keys that go stale, [`TimerWheel`] one
//! timer structure for all sessions of a loop.

mod chunks;
pub mod planted;
mod queue;
mod rng;
mod slab;
mod time;
mod wheel;

pub use chunks::ChunkedDeque;
pub use queue::{BoundedQueue, Full};
pub use rng::Rng;
pub use slab::{Key, Slab};
pub use time::Instant;
pub use wheel::TimerWheel;
