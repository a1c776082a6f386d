//! The SDK against a scripted server over real sockets: WebSocket, WebSocket over TLS, QUIC.

#[path = "../core/tests/it/server.rs"]
#[allow(dead_code, reason = "shared with the machine's own tests")]
mod server;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use server::Server;
use throng_client::{Client, ClientOptions, Cursor, Error, Roots, Start, SubscriptionEvent};
use throng_wire::frame::Freshness;
use throng_wire::{ChannelId, Code, Seq, UserId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

const CHANNEL: ChannelId = ChannelId([7; 16]);
const LIMIT: Duration = Duration::from_secs(20);

type Shared = Arc<Mutex<Server>>;

/// Serves one connection after the other from the same scripted server.
async fn serve(server: Shared, websocket: bool, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    server.lock().expect("no panic").accept(websocket);
    let mut buffer = [0u8; 4096];
    loop {
        let read = tokio::time::timeout(Duration::from_millis(5), stream.read(&mut buffer)).await;
        let out = {
            let mut server = server.lock().expect("no panic");
            match read {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(bytes)) => server.feed(&buffer[..bytes]),
                Err(_) => {}
            }
            if server.conn.is_none() {
                return;
            }
            server.take_output()
        };
        if stream.write_all(&out).await.and(stream.flush().await).is_err() {
            return;
        }
    }
}

/// A certificate for localhost, as the file that clients trust and the server's configuration.
fn certificate(name: &str, alpn: &[&[u8]]) -> (PathBuf, rustls::ServerConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
    let file = std::env::temp_dir().join(format!("throng-sdk-{}-{name}.pem", std::process::id()));
    std::fs::write(&file, made.cert.pem()).expect("written");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("supported")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("consistent");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (file, config)
}

async fn ws(server: Shared) -> (String, Roots) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(Arc::clone(&server), true, stream).await;
        }
    });
    (url, Roots::Files(Vec::new()))
}

async fn wss(server: Shared) -> (String, Roots) {
    let (file, config) = certificate("wss", &[]);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("wss://localhost:{}", listener.local_addr().expect("bound").port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(Arc::clone(&server), true, stream).await;
            }
        }
    });
    (url, Roots::Files(vec![file]))
}

async fn quic(server: Shared) -> (String, Roots) {
    let (file, config) = certificate("quic", &[b"throng/1"]);
    let config = quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(config));
    let endpoint =
        quinn::Endpoint::server(config, "127.0.0.1:0".parse().expect("an address")).expect("bound");
    let url = format!("quic://localhost:{}", endpoint.local_addr().expect("bound").port());
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.expect("a handshake");
            let (send, receive) = connection.accept_bi().await.expect("a stream");
            serve(Arc::clone(&server), false, tokio::io::join(receive, send)).await;
        }
    });
    (url, Roots::Files(vec![file]))
}

fn server() -> Shared {
    Arc::new(Mutex::new(Server::new(1)))
}

async fn connect((url, roots): (String, Roots)) -> Client {
    let mut options = ClientOptions::new([url], "token");
    options.roots = roots;
    Client::connect(options).await.expect("connected")
}

async fn events(subscription: &mut throng_client::Subscription, count: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    while (seqs.len() as u64) < count {
        match tokio::time::timeout(LIMIT, subscription.next()).await.expect("in time") {
            Some(SubscriptionEvent::Event(event)) => seqs.push(event.seq.0),
            other => panic!("{other:?}"),
        }
    }
    seqs
}

/// The same conversation on every transport: it is one contract.
async fn converse(at: (String, Roots), server: Shared) {
    let client = connect(at).await;
    let mut subscription =
        client.subscribe(CHANNEL, Start::After(Cursor::default())).await.expect("a member");
    for n in 1..=40 {
        let ack = client.publish(CHANNEL, format!("message {n}")).await.expect("stored");
        assert_eq!((ack.seq, ack.duplicate), (Seq(n), false));
    }
    assert_eq!(events(&mut subscription, 40).await, (1..=40).collect::<Vec<_>>());
    let page =
        client.fetch(CHANNEL, Cursor::after(Seq(38)), 10, Freshness::Linearizable).await.expect("readable");
    assert_eq!((page.head, page.events.len()), (Seq(40), 2));
    client.open(UserId::NIL).await.expect("opened");
    let saved = client.close().await.expect("open until now");
    assert_eq!((saved.cursors.len(), saved.sends.len()), (1, 0));
    assert_eq!(client.publish(CHANNEL, "late").await, Err(Error::Closed));
    assert!(server.lock().expect("no panic").log.contains(&"AUTH".to_string()));
}

#[tokio::test]
async fn over_websocket() {
    let server = server();
    converse(ws(Arc::clone(&server)).await, server).await;
}

#[tokio::test]
async fn over_websocket_and_tls() {
    let server = server();
    converse(wss(Arc::clone(&server)).await, server).await;
}

#[tokio::test]
async fn over_quic() {
    let server = server();
    converse(quic(Arc::clone(&server)).await, server).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_the_end() {
    let server = server();
    let client = connect(ws(Arc::clone(&server)).await).await;
    let mut subscription =
        client.subscribe(CHANNEL, Start::After(Cursor::default())).await.expect("a member");
    for _ in 0..3000 {
        server.lock().expect("no panic").append(CHANNEL, "flood");
    }
    client.publish(CHANNEL, "another send is not held back").await.expect("stored");
    assert_eq!(events(&mut subscription, 3001).await, (1..=3001).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_broken_connection_is_repaired_behind_the_users_back() {
    let server = server();
    let client = connect(ws(Arc::clone(&server)).await).await;
    let mut subscription = client.subscribe(CHANNEL, Start::Head).await.expect("a member");
    for n in 1..=5 {
        server.lock().expect("no panic").conn = None; // the connection breaks here
        let ack = tokio::time::timeout(LIMIT, client.publish(CHANNEL, "again")).await.expect("in time");
        assert_eq!(ack.expect("stored").seq, Seq(n));
    }
    assert_eq!(events(&mut subscription, 5).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_refused_token_and_a_dead_address_are_told() {
    let server = server();
    server.lock().expect("no panic").refuse_login = Some(Code::TOKEN_INVALID);
    let (url, _) = ws(Arc::clone(&server)).await;
    let error = Client::connect(ClientOptions::new([url], "token")).await.expect_err("refused");
    assert_eq!(error.to_string(), "token refused: TOKEN_INVALID");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    let mut options = ClientOptions::new([format!("ws://{free}")], "token");
    options.connect_timeout = Duration::from_millis(300);
    let error = Client::connect(options).await.expect_err("nobody there");
    assert!(error.to_string().starts_with("cannot connect: transport failed: "), "{error}");
    let error = Client::connect(ClientOptions::new(["http://x"], "token")).await.expect_err("no endpoint");
    assert!(error.to_string().starts_with("not an endpoint"), "{error}");
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let (url, _) = wss(server()).await;
    let mut options = ClientOptions::new([url], "token");
    options.roots = Roots::Files(Vec::new());
    options.connect_timeout = Duration::from_secs(1);
    let error = Client::connect(options).await.expect_err("not trusted");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_second_subscription_replaces_the_first() {
    let server = server();
    let client = connect(ws(Arc::clone(&server)).await).await;
    let mut first = client.subscribe(CHANNEL, Start::Head).await.expect("a member");
    let mut second = client.subscribe(CHANNEL, Start::Head).await.expect("a member");
    assert_eq!(first.next().await, None);
    drop(first); // must not end the second
    client.publish(CHANNEL, "x").await.expect("stored");
    assert_eq!(events(&mut second, 1).await, [1]);
}
