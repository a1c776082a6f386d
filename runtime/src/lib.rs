//! The impure floor, written once: what drivers need of the operating system and cores must never see.
//!
//! ```text
//!   Clock ── Instant ──►┐
//!   Poller ── Event ───►│ driver loop ──► core machine ──► outputs ──► Stream, FrameLink
//!   Waker ── readable ─►┘
//! ```
//!
//! [`Poller`] is epoll, level-triggered; [`Waker`] lets another thread end its wait; [`listen`], [`accept`] and
//! [`connect`] make non-blocking TCP sockets with the options that a million sessions need; [`Stream`] reads and writes
//! them; [`FrameLink`] carries peer frames between nodes, under mutual TLS ([`tls`]) unless it is development on
//! loopback. Nothing in here blocks except [`Poller::wait`].
//!
//! It is the only crate in which `unsafe` may appear, and it appears once: `option::set_int`, for two TCP options that
//! rustix does not offer.

mod clock;
pub mod limits;
mod link;
mod option;
mod poller;
mod process;
mod stream;
mod tcp;
pub mod tls;
mod waker;

pub use clock::{Clock, unix_millis};
pub use link::{FrameLink, LinkError, LinkLimits};
pub use poller::{Event, Interest, Poller, Wishes};
pub use process::{nofile_limit, raise_nofile_limit, resident_bytes};
pub use stream::{Read, Stream, Write};
pub use tcp::{Accepted, ConnectOptions, ListenOptions, accept, connect, listen, listen_shared};
pub use waker::Waker;
