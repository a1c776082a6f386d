//! What an idle session costs this process. Run alone, for resident memory is the process's:
//! `cargo test -p throng-gateway --test gateway -- --ignored --nocapture --test-threads 1 idle`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use throng_gateway::tls::ALPN_TCP;
use throng_gateway_core::GatewayConfig;
use throng_runtime::{raise_nofile_limit, resident_bytes};
use throng_wire::Frame;
use throng_wire::frame::{Auth, Hello};
use throng_ws::{Header, Opcode, encode_header};

use crate::fixture::{PATIENCE, Running, client_tls, identity, machine, tcp_with};

/// Sessions; both ends live in this process.
const SESSIONS: usize = 5_000;

/// The bar for plaintext sessions, with the gateway's timers, registrations and slab growth in it.
const PLAINTEXT_BYTES_MAX: usize = 1_000;

/// A gateway that does not miss the heartbeats which these clients never send.
fn patient() -> GatewayConfig {
    GatewayConfig { heartbeat: Duration::from_secs(600), ..machine() }
}

/// Upgrade, HELLO and AUTH on any stream, up to WELCOME; the client keeps nothing but the stream.
fn open(stream: &mut (impl Read + Write), device: usize) {
    let upgrade = "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: throng.v1.bin\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let token = format!("user{device}:{device}");
    let mut frames = BytesMut::new();
    Frame::Hello(Hello { version_min: 1, version_max: 1, client: "idle" }).encode(&mut frames);
    Frame::Auth(Auth { token: token.as_bytes(), ticket: &[] }).encode(&mut frames);
    let mut out = upgrade.as_bytes().to_vec();
    // A key of zeros masks with itself.
    encode_header(
        &mut out,
        Header { fin: true, opcode: Opcode::Binary, len: frames.len(), mask: Some([0; 4]) },
    );
    out.extend_from_slice(&frames);
    stream.write_all(&out).expect("sent");
    // HTTP head and WELCOME come together or not; what counts is that something beyond the head came.
    let (mut answer, mut chunk) = (Vec::new(), [0u8; 1024]);
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") || answer.ends_with(b"\r\n\r\n") {
        let bytes = stream.read(&mut chunk).expect("answered");
        assert!(bytes > 0, "closed");
        answer.extend_from_slice(&chunk[..bytes]);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.set_nodelay(true).expect("set");
    stream
}

/// Opens the sessions and returns the growth per session. Some are opened and closed before, so that what is allocated
/// once is not counted.
fn measure(gateway: &Running, open_one: impl Fn(usize) -> TcpStream) -> usize {
    assert!(raise_nofile_limit() > SESSIONS as u64 * 2 + 100, "too few descriptors");
    drop((0..50).map(&open_one).collect::<Vec<_>>());
    let before = resident_bytes();
    let streams: Vec<_> = (0..SESSIONS).map(open_one).collect();
    let grown = resident_bytes().saturating_sub(before) as usize;
    assert_eq!(gateway.handle().stats().sessions(), streams.len() as u64);
    grown / SESSIONS
}

#[test]
#[ignore = "measures the whole process: cargo test -p throng-gateway --test gateway -- --ignored idle"]
fn idle_plaintext_sessions_cost_little() {
    let gateway = tcp_with(patient(), None, true);
    let bytes = measure(&gateway, |device| {
        let mut stream = connect(gateway.address);
        open(&mut stream, device);
        stream
    });
    println!("{bytes} bytes per idle plaintext session");
    assert!(bytes <= PLAINTEXT_BYTES_MAX);
}

#[test]
#[ignore = "measures the whole process: cargo test -p throng-gateway --test gateway -- --ignored idle"]
fn idle_tls_sessions_are_measured() {
    let identity = identity();
    let gateway = tcp_with(patient(), Some(&identity), false);
    let config = Arc::new(client_tls(&identity, ALPN_TCP));
    let bytes = measure(&gateway, |device| {
        let name = "localhost".try_into().expect("a name");
        let mut stream = connect(gateway.address);
        let mut client = rustls::ClientConnection::new(config.clone(), name).expect("a connection");
        open(&mut rustls::Stream::new(&mut client, &mut stream), device);
        stream
    });
    println!("{bytes} bytes per idle TLS session");
}
