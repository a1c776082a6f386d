//! Clients that are not ours: tungstenite for WebSocket (over TCP or TLS), quinn for QUIC.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use throng_wire::frame::{Auth, Hello, Publish, Split, Subscribe, split};
use throng_wire::{ChannelId, ClientMsgId, Code, Epoch, EventKind, Frame, RequestId, Seq};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::fixture::{Identity, client_tls};

/// How a session ended, as the client's transport tells it.
pub(crate) type CloseCode = u64;

/// Carries bytes of frames.
pub(crate) trait Carrier {
    async fn send(&mut self, bytes: Bytes);
    /// The next bytes, or the close code.
    async fn receive(&mut self) -> Result<Bytes, CloseCode>;
}

pub(crate) struct WebSocket<S>(pub(crate) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier for WebSocket<S> {
    async fn send(&mut self, bytes: Bytes) {
        self.0.send(Message::Binary(bytes)).await.expect("open");
    }

    async fn receive(&mut self) -> Result<Bytes, CloseCode> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
                Some(Ok(Message::Close(close))) => {
                    return Err(close.map_or(1005, |close| u16::from(close.code).into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }
}

pub(crate) struct Quic {
    pub(crate) connection: quinn::Connection,
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
}

impl Carrier for Quic {
    async fn send(&mut self, bytes: Bytes) {
        self.send.write_all(&bytes).await.expect("open");
    }

    async fn receive(&mut self) -> Result<Bytes, CloseCode> {
        if let Ok(Some(chunk)) = self.recv.read_chunk(usize::MAX, true).await {
            return Ok(chunk.bytes);
        }
        match self.connection.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => Err(close.error_code.into_inner()),
            other => panic!("closed by {other}"),
        }
    }
}

/// A client that speaks Throng over a carrier.
pub(crate) struct Client<C> {
    pub(crate) carrier: C,
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
}

impl<C: Carrier> Client<C> {
    pub(crate) fn new(carrier: C) -> Self {
        Self { carrier, buffer: BytesMut::new(), ready: VecDeque::new() }
    }

    pub(crate) async fn send(&mut self, frames: &[Frame<'_>]) {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut out));
        self.carrier.send(out.freeze()).await;
    }

    /// The next frame's payload, or the close code.
    pub(crate) async fn receive(&mut self) -> Result<Bytes, CloseCode> {
        loop {
            if let Split::Frame { consumed, payload } = split(&self.buffer, 1 << 20).expect("well formed") {
                let whole = self.buffer.split_to(consumed).freeze();
                self.ready.push_back(whole.slice(payload));
            }
            match self.ready.pop_front() {
                Some(payload) => return Ok(payload),
                None => self.buffer.extend_from_slice(&self.carrier.receive().await?),
            }
        }
    }

    /// HELLO and AUTH in one flight.
    pub(crate) async fn greet(&mut self, token: &str) {
        let hello = Hello { version_min: 1, version_max: 1, client: "test" };
        let auth = Auth { token: token.as_bytes(), ticket: &[] };
        self.send(&[Frame::Hello(hello), Frame::Auth(auth)]).await;
    }

    pub(crate) async fn greet_and_expect_welcome(&mut self, token: &str) {
        self.greet(token).await;
        let payload = self.receive().await.expect("open");
        assert!(matches!(decode(&payload), Frame::Welcome(_)), "{payload:?}");
    }

    /// Frames up to the end, and the close code.
    pub(crate) async fn read_to_end(&mut self) -> (Vec<String>, CloseCode) {
        let mut names = vec![];
        loop {
            match self.receive().await {
                Ok(payload) => names.push(decode(&payload).type_name().to_owned()),
                Err(code) => return (names, code),
            }
        }
    }

    /// Subscribes, again and again while the gateway has no link to the channel's leader.
    async fn subscribe(&mut self, channel: ChannelId) {
        loop {
            let subscribe = Subscribe { request: RequestId(1), channel, after: Seq(0), epoch: Epoch(1) };
            self.send(&[Frame::Subscribe(subscribe)]).await;
            let payload = self.receive().await.expect("open");
            match decode(&payload) {
                Frame::Subscribed(_) => return,
                Frame::Error(error) => assert_eq!(error.code, Code::UNAVAILABLE),
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Subscribes to a new channel, publishes `count` messages of `size` bytes and expects every ACK and every event,
    /// in order.
    pub(crate) async fn publish_and_receive(&mut self, channel: ChannelId, count: u64, size: usize) {
        self.publish_and_receive_from(channel, 1, count, size).await;
    }

    /// The same in a channel whose next event is `first`.
    pub(crate) async fn publish_and_receive_from(
        &mut self,
        channel: ChannelId,
        first: u64,
        count: u64,
        size: usize,
    ) {
        self.subscribe(channel).await;
        for n in first..first + count {
            let body = vec![n as u8; size];
            let client_msg_id = ClientMsgId(n);
            let publish = Publish { channel, client_msg_id, kind: EventKind::MESSAGE, body: &body };
            self.send(&[Frame::Publish(publish)]).await;
            let (mut acked, mut delivered) = (false, false);
            while !(acked && delivered) {
                match decode(&self.receive().await.expect("open")) {
                    Frame::Ack(ack) => {
                        assert_eq!((ack.seq, ack.client_msg_id), (Seq(n), client_msg_id));
                        acked = true;
                    }
                    Frame::Deliver(deliver) => {
                        assert_eq!((deliver.seq, deliver.body), (Seq(n), &body[..]));
                        delivered = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

pub(crate) fn decode(payload: &[u8]) -> Frame<'_> {
    Frame::decode(payload).expect("well formed").expect("a known type")
}

/// The upgrade request of `throng.v1.bin`.
fn upgrade(address: SocketAddr, scheme: &str) -> impl IntoClientRequest + Unpin {
    let mut request =
        format!("{scheme}://localhost:{}/v1/ws", address.port()).into_client_request().expect("a URL");
    let protocol = "throng.v1.bin".parse().expect("a header value");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    request
}

pub(crate) async fn over_stream<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    address: SocketAddr,
) -> Result<Client<WebSocket<S>>, Error> {
    let (socket, _) = tokio_tungstenite::client_async(upgrade(address, "ws"), stream).await?;
    Ok(Client::new(WebSocket(socket)))
}

pub(crate) async fn websocket(address: SocketAddr) -> Client<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(address).await.expect("connected");
    over_stream(stream, address).await.expect("upgraded")
}

pub(crate) async fn websocket_tls(
    address: SocketAddr,
    identity: &Identity,
) -> Client<WebSocket<tokio_rustls::client::TlsStream<TcpStream>>> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_tls(identity, b"http/1.1")));
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = "localhost".try_into().expect("a name");
    let stream = connector.connect(name, stream).await.expect("a TLS session");
    over_stream(stream, address).await.expect("upgraded")
}

/// An endpoint that trusts the identity and offers this ALPN.
pub(crate) fn quic_endpoint(identity: &Identity, alpn: &[u8]) -> quinn::Endpoint {
    let tls = client_tls(identity, alpn);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("ring has QUIC");
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("bound");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

pub(crate) async fn quic(address: SocketAddr, identity: &Identity) -> Client<Quic> {
    let endpoint = quic_endpoint(identity, b"throng/1");
    let connection = endpoint.connect(address, "localhost").expect("started").await.expect("connected");
    let (send, recv) = connection.open_bi().await.expect("one stream is allowed");
    Client::new(Quic { connection, send, recv })
}
