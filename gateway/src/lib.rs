//! Gateway drivers: what carries out the effects of [`throng_gateway_core::Gateway`].
//!
//! ```text
//!   TCP (plaintext, TLS) ─► epoll loop  ─┐                               ┌─► routers in this process (RouterSink)
//!                                        ├─► Engine: one machine, tokens ─┤
//!   UDP (QUIC)           ─► quinn loop  ─┘                               └─► routers elsewhere (peer links)
//! ```
//!
//! [`spawn_tcp`] and [`spawn_quic`] start one loop on one thread; a node starts as many TCP loops as it has cores, on
//! one port (SO_REUSEPORT), and one QUIC loop. Each loop is a gateway of its own: its own machine, its own
//! [`throng_wire::link::GatewayId`], its own links. Other threads talk to it through its [`GatewayHandle`].
//!
//! [`echo`] is a WebSocket echo listener over the same codec, for conformance suites. [`tls`] makes the TLS
//! configurations of both transports.

mod config;
pub mod echo;
mod engine;
mod epoll;
mod handle;
pub mod limits;
mod quic;
mod routers;
pub mod tls;

pub use config::{LoopConfig, RemoteRouters, RouterSink, Routers, TokenVerifier};
pub use epoll::{TcpOptions, spawn_tcp};
pub use handle::{GatewayHandle, GatewayThread, LoopInput, LoopStats};
pub use quic::{QuicOptions, spawn_quic};
