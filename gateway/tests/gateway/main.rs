//! Gateway loops on real sockets, with a router that only these tests have and clients that are not ours
//! (tokio-tungstenite, tokio-rustls, quinn).

mod client;
mod echo;
mod fixture;
mod memory;
mod quic;
mod remote;
mod router;
mod tls;
mod websocket;
