//! Sessions over plaintext WebSocket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use throng_gateway::LoopInput;
use throng_gateway_core::GatewayConfig;
use throng_wire::ChannelId;
use tokio::net::TcpSocket;

use crate::client::{over_stream, websocket};
use crate::fixture::{PATIENCE, machine, run, tcp, tcp_with};

const CHANNEL: ChannelId = ChannelId([3; 16]);

#[test]
fn a_session_publishes_and_receives() {
    let gateway = tcp();
    run(async {
        let mut client = websocket(gateway.address).await;
        client.greet_and_expect_welcome("alice:1").await;
        client.publish_and_receive(CHANNEL, 100, 200).await;
        // Larger than one read of the loop, and than what a socket takes at once.
        client.publish_and_receive(ChannelId([4; 16]), 20, 60_000).await;
    });
}

#[test]
fn many_sessions_receive_what_one_sends() {
    let gateway = tcp();
    run(async {
        let mut clients = vec![];
        for device in 0..50 {
            let mut client = websocket(gateway.address).await;
            client.greet_and_expect_welcome(&format!("user:{device}")).await;
            clients.push(client);
        }
        assert_eq!(gateway.handle().stats().sessions(), 50);
        for (n, client) in clients.iter_mut().enumerate() {
            client.publish_and_receive(ChannelId([n as u8; 16]), 3, 10).await;
        }
    });
}

#[test]
fn tokens_are_judged() {
    let gateway = tcp();
    run(async {
        for (token, code) in [("expired", 4022), ("nonsense", 4021)] {
            let mut client = websocket(gateway.address).await;
            client.greet(token).await;
            assert_eq!(client.read_to_end().await, (vec!["CLOSE".to_owned()], code), "{token}");
        }
    });
}

#[test]
fn a_session_that_says_nothing_is_closed() {
    let short = GatewayConfig {
        upgrade_timeout: Duration::from_millis(300),
        auth_timeout: Duration::from_millis(300),
        ..machine()
    };
    let gateway = tcp_with(short, None, true);
    // Before the upgrade the answer is HTTP, after it a close code.
    let mut silent = TcpStream::connect(gateway.address).expect("connected");
    silent.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut answer = String::new();
    silent.read_to_string(&mut answer).expect("closed in time");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    run(async {
        let mut client = websocket(gateway.address).await;
        assert_eq!(client.read_to_end().await.1, 4006);
    });
}

/// Sends raw bytes and reads to the end.
fn raw(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_no_upgrade_is_answered_in_http() {
    let gateway = tcp();
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP/1.1 404"),
        (b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426"),
        (b"POST /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405"),
        (b"\x16\x03\x01\x00\x05hello", "HTTP/1.1 400"),
    ] {
        let answer = raw(gateway.address, request);
        assert!(answer.starts_with(status), "{status}: {answer}");
    }
}

#[test]
fn an_upgrade_byte_by_byte_works() {
    let gateway = tcp();
    let mut stream = TcpStream::connect(gateway.address).expect("connected");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: throng.v1.bin\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).expect("sent");
    }
    let mut answer = [0u8; 12];
    stream.read_exact(&mut answer).expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 101");
}

#[test]
fn a_draining_gateway_lets_sessions_go_and_accepts_no_more() {
    let gateway =
        tcp_with(GatewayConfig { drain_after: Duration::from_millis(200), ..machine() }, None, true);
    run(async {
        let mut client = websocket(gateway.address).await;
        client.greet_and_expect_welcome("alice:1").await;
        gateway.handle().send(LoopInput::Drain).expect("room");
        let (frames, code) = client.read_to_end().await;
        assert_eq!((frames, code), (vec!["GOAWAY".to_owned(), "CLOSE".to_owned()], 1001));
        let refused = tokio::net::TcpStream::connect(gateway.address).await;
        assert!(refused.is_err(), "a drained listener is closed");
    });
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let gateway = tcp();
    run(async {
        // With a small window, so that the kernel does not hold what it does not read.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let stream = socket.connect(gateway.address).await.expect("connected");
        let mut deaf = over_stream(stream, gateway.address).await.expect("upgraded");
        deaf.greet_and_expect_welcome("deaf:1").await;
        deaf.publish_and_receive(CHANNEL, 1, 10).await;
        let mut honest = websocket(gateway.address).await;
        honest.greet_and_expect_welcome("honest:1").await;
        honest.publish_and_receive_from(CHANNEL, 2, 200, 50_000).await;
        assert!(gateway.handle().stats().deliveries_dropped.load(Ordering::Relaxed) > 0);
    });
}
