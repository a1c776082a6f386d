//! Async client SDK over WebSocket and QUIC.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use throng_client::{Client, ClientOptions, Start};
//!
//! let client = Client::connect(ClientOptions::new(["ws://127.0.0.1:4400"], "a token")).await?;
//! let room = client.open(throng_wire::UserId::of("throng", "bob")).await?.channel;
//! let mut events = client.subscribe(room, Start::After(Default::default())).await?;
//! let ack = client.publish(room, "hello").await?;
//! println!("stored as {}", ack.seq);
//! while let Some(event) = events.next().await {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!   Client (a handle, cheap to clone) ── commands ──► driver task ── Client machine (throng-client-core)
//!   Subscription, Notices              ◄── events ──┘     │
//!                                              ws, wss: TCP, rustls │ quic: quinn
//! ```
//!
//! One task owns the machine and its transport. It reconnects, resends and repairs gaps by itself; a handle sees
//! results. A subscriber that reads slowly holds back nobody: events it has no room for stay at the server and are
//! fetched when it reads on.

mod driver;
mod error;
mod handle;
pub mod mint;
mod options;
mod subscription;
mod tls;
mod transport;

pub use error::{ConnectError, Error};
pub use handle::{Ack, ChannelInfo, Client, Page, SyncPage};
pub use options::{ClientOptions, Roots};
pub use subscription::{Notices, Subscription, SubscriptionEvent};
pub use throng_client_core::{
    ClientEvent, Config, Cursor, Endpoint, Reason, SavedSend, SavedState, Scheme, Session, Start,
};
pub use transport::{Dialer, Transport};
