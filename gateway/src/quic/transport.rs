//! QUIC settings: what one connection may cost. quinn's defaults are made for file transfer (100 + 100 streams, windows
//! of megabytes, 10 MiB per connection that is not accepted yet).

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};

use crate::limits::{
    QUIC_CRYPTO_BUFFER_BYTES, QUIC_HANDSHAKES_MAX, QUIC_IDLE, QUIC_INCOMING_BYTES, QUIC_INCOMING_TOTAL_BYTES,
    QUIC_WINDOW_BYTES,
};
use crate::tls::CertificateError;

/// How long a Retry token is good: the client answers at once.
const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(10);

/// The server's configuration around a TLS configuration.
pub(crate) fn server_config(tls: rustls::ServerConfig) -> Result<ServerConfig, CertificateError> {
    let crypto = QuicServerConfig::try_from(tls)
        .map_err(|_| rustls::Error::General("the TLS provider has no cipher suite for QUIC".to_owned()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport_config()))
        .max_incoming(QUIC_HANDSHAKES_MAX)
        .incoming_buffer_size(QUIC_INCOMING_BYTES)
        .incoming_buffer_size_total(QUIC_INCOMING_TOTAL_BYTES)
        .retry_token_lifetime(RETRY_TOKEN_LIFETIME);
    Ok(config)
}

fn transport_config() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(QUIC_IDLE).expect("two minutes fit a varint");
    transport
        // The session is one stream; datagrams are of no use to it.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(QUIC_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(QUIC_WINDOW_BYTES))
        .send_window(u64::from(QUIC_WINDOW_BYTES))
        .crypto_buffer_size(QUIC_CRYPTO_BUFFER_BYTES)
        // Probing costs state and packets, and chat messages fit the smallest packet.
        .mtu_discovery_config(None)
        // The client's heartbeat keeps the path open and is judged by the machine.
        .keep_alive_interval(None)
        .max_idle_timeout(Some(idle))
        .allow_spin(false);
    transport
}
