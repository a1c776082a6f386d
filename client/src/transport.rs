//! Opening byte streams: TCP, TLS over TCP, or a bidirectional QUIC stream.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use throng_client_core::{Endpoint, Scheme};
use tokio::io::{AsyncRead, AsyncWrite, join};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::options::Roots;
use crate::tls;

/// What the driver needs of a transport.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A byte stream to a server.
pub struct Transport {
    stream: Box<dyn ByteStream>,
}

impl Transport {
    /// The two halves of the stream. Shutting the writing half down ends it in good order.
    pub fn into_halves(self) -> (impl AsyncRead + Send + Unpin, impl AsyncWrite + Send + Unpin) {
        tokio::io::split(self.stream)
    }

    fn new(stream: impl ByteStream + 'static) -> Self {
        Self { stream: Box::new(stream) }
    }
}

impl core::fmt::Debug for Transport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Transport")
    }
}

/// Opens transports. Shared by all clients of a process: their QUIC connections use one UDP socket.
#[derive(Clone, Debug)]
pub struct Dialer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tcp_tls: Arc<ClientConfig>,
    quic: quinn::ClientConfig,
    /// Made at first use, one per address family.
    endpoint_v4: OnceLock<quinn::Endpoint>,
    endpoint_v6: OnceLock<quinn::Endpoint>,
}

impl Dialer {
    /// A dialer that trusts `roots`.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(roots: &Roots) -> io::Result<Self> {
        let quic_tls = tls::client_config(roots, Some(tls::ALPN_QUIC))?;
        let quic_tls = QuicClientConfig::try_from(quic_tls).map_err(io::Error::other)?;
        let mut quic = quinn::ClientConfig::new(Arc::new(quic_tls));
        quic.transport_config(Arc::new(lean_transport()));
        Ok(Self {
            shared: Arc::new(Shared {
                tcp_tls: tls::client_config(roots, None)?,
                quic,
                endpoint_v4: OnceLock::new(),
                endpoint_v6: OnceLock::new(),
            }),
        })
    }

    /// Opens a transport, inside a tokio runtime. The caller bounds the time.
    ///
    /// # Errors
    /// The host cannot be found or reached, or its certificate is not trusted.
    pub async fn dial(&self, endpoint: &Endpoint) -> io::Result<Transport> {
        match endpoint.scheme {
            Scheme::Ws => Ok(Transport::new(tcp(endpoint).await?)),
            Scheme::Wss => {
                let connector = TlsConnector::from(Arc::clone(&self.shared.tcp_tls));
                let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
                Ok(Transport::new(connector.connect(name, tcp(endpoint).await?).await?))
            }
            Scheme::Quic => self.dial_quic(endpoint).await,
        }
    }

    async fn dial_quic(&self, endpoint: &Endpoint) -> io::Result<Transport> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in resolve(endpoint).await? {
            let connecting = self
                .quic_endpoint(address)?
                .connect_with(self.shared.quic.clone(), address, &endpoint.host)
                .map_err(io::Error::other)?;
            match connecting.await {
                Ok(connection) => {
                    let (send, receive) = connection.open_bi().await?;
                    return Ok(Transport::new(join(receive, Quic { send, _connection: connection })));
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    fn quic_endpoint(&self, to: SocketAddr) -> io::Result<&quinn::Endpoint> {
        let (slot, any) = match to {
            SocketAddr::V4(_) => (&self.shared.endpoint_v4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (&self.shared.endpoint_v6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        if let Some(endpoint) = slot.get() {
            return Ok(endpoint);
        }
        let made = quinn::Endpoint::client(SocketAddr::new(any, 0))?;
        Ok(slot.get_or_init(|| made))
    }
}

/// A chat session needs one stream and small windows (what a connection costs is mostly its windows and streams).
fn lean_transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window((256u32 * 1024).into())
        .receive_window((512u32 * 1024).into())
        .send_window(512 * 1024)
        // The machine's heartbeat keeps the path open; QUIC only has to notice a dead one later than the machine does.
        .max_idle_timeout(Some(Duration::from_secs(30).try_into().expect("30 s fit a varint")));
    transport
}

async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?.collect())
}

async fn tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The sending half of a QUIC stream. It keeps the connection, which closes when its last handle goes.
struct Quic {
    send: quinn::SendStream,
    _connection: quinn::Connection,
}

impl AsyncWrite for Quic {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}
