//! Sessions over TLS, on the same port as plaintext.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use throng_base::Rng;
use throng_gateway::limits::TLS_HANDSHAKES_MAX;
use throng_wire::ChannelId;

use crate::client::{over_stream, websocket, websocket_tls};
use crate::fixture::{PATIENCE, Running, client_tls, identity, machine, run, tcp_with};

#[test]
fn the_first_byte_tells_tls_from_plaintext() {
    let identity = identity();
    let gateway = tcp_with(machine(), Some(&identity), true);
    run(async {
        let mut secret = websocket_tls(gateway.address, &identity).await;
        let mut open = websocket(gateway.address).await;
        secret.greet_and_expect_welcome("alice:1").await;
        open.greet_and_expect_welcome("bob:2").await;
        secret.publish_and_receive(ChannelId([1; 16]), 50, 300).await;
        open.publish_and_receive(ChannelId([2; 16]), 50, 300).await;
        // Several records each way.
        secret.publish_and_receive(ChannelId([3; 16]), 20, 60_000).await;
    });
}

#[test]
fn close_codes_cross_tls() {
    let identity = identity();
    let gateway = tcp_with(machine(), Some(&identity), false);
    run(async {
        let mut client = websocket_tls(gateway.address, &identity).await;
        client.greet("expired").await;
        assert_eq!(client.read_to_end().await, (vec!["CLOSE".to_owned()], 4022));
    });
}

#[test]
fn plaintext_is_refused_where_it_is_not_served() {
    let identity = identity();
    let gateway = tcp_with(machine(), Some(&identity), false);
    run(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("connected");
        assert!(over_stream(stream, gateway.address).await.is_err());
    });
}

#[test]
fn half_open_handshakes_keep_nobody_out() {
    let identity = identity();
    let gateway = tcp_with(machine(), Some(&identity), false);
    // The start of a record that never ends.
    let half_open: Vec<_> = (0..TLS_HANDSHAKES_MAX + 50)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).expect("connected");
            stream.write_all(&[0x16, 3, 1, 1, 0]).expect("sent");
            stream
        })
        .collect();
    run(async {
        let mut client = websocket_tls(gateway.address, &identity).await;
        client.greet_and_expect_welcome("alice:1").await;
    });
    // The oldest had to give way.
    let mut oldest = &half_open[0];
    oldest.set_read_timeout(Some(PATIENCE)).expect("set");
    assert!(matches!(oldest.read(&mut [0; 64]), Ok(0) | Err(_)));
}

/// Sends raw bytes and reads to the end.
fn answer(gateway: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(gateway.address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(bytes).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("open");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // a reset is an answer too
    answer
}

#[test]
fn a_record_of_an_unknown_version_is_answered_with_an_alert() {
    let identity = identity();
    let gateway = tcp_with(machine(), Some(&identity), false);
    let answer = answer(&gateway, b"\x16\x09\x09\x00\x05hello");
    assert_eq!(answer.first(), Some(&0x15), "an alert record: {answer:x?}");
}

#[test]
fn damaged_client_hellos_harm_nobody() {
    let identity = identity();
    let gateway = tcp_with(machine(), Some(&identity), false);
    let name = "localhost".try_into().expect("a name");
    let config = Arc::new(client_tls(&identity, b"http/1.1"));
    let mut client = rustls::ClientConnection::new(config, name).expect("a connection");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("into memory");
    let mut rng = Rng::new(1);
    // The first one made rustls panic when it was asked for the alert without the input.
    answer(&gateway, b"\x16\x03\x01\x00\x05hello");
    for _ in 0..300 {
        let mut bytes = hello.clone();
        for _ in 0..rng.between(1, 4) {
            let at = rng.between(1, hello.len() as u64 - 1) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        bytes.truncate(rng.between(1, bytes.len() as u64 * 2) as usize);
        answer(&gateway, &bytes);
    }
    run(async {
        let mut client = websocket_tls(gateway.address, &identity).await;
        client.greet_and_expect_welcome("alice:1").await;
    });
}
