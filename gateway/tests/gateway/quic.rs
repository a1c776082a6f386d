//! Sessions over QUIC.

use std::time::Duration;

use throng_gateway::LoopInput;
use throng_gateway_core::GatewayConfig;
use throng_wire::ChannelId;

use crate::client::{quic, quic_endpoint};
use crate::fixture::{identity, machine, quic_with, run};

#[test]
fn a_session_publishes_and_receives() {
    let identity = identity();
    let gateway = quic_with(machine(), &identity);
    run(async {
        let mut client = quic(gateway.address, &identity).await;
        client.greet_and_expect_welcome("alice:1").await;
        client.publish_and_receive(ChannelId([1; 16]), 100, 200).await;
        // Several windows each way.
        client.publish_and_receive(ChannelId([2; 16]), 20, 60_000).await;
    });
}

#[test]
fn close_codes_are_application_error_codes_and_the_close_frame_arrives_before() {
    let identity = identity();
    let gateway = quic_with(machine(), &identity);
    run(async {
        for (token, code) in [("expired", 22), ("nonsense", 21)] {
            let mut client = quic(gateway.address, &identity).await;
            client.greet(token).await;
            assert_eq!(client.read_to_end().await, (vec!["CLOSE".to_owned()], code), "{token}");
        }
    });
}

#[test]
fn one_stream_and_no_more() {
    let identity = identity();
    let gateway = quic_with(machine(), &identity);
    run(async {
        let client = quic(gateway.address, &identity).await;
        let connection = client.carrier.connection.clone();
        let second = tokio::time::timeout(Duration::from_millis(300), connection.open_bi()).await;
        assert!(second.is_err(), "a second stream was allowed");
        let uni = tokio::time::timeout(Duration::from_millis(300), connection.open_uni()).await;
        assert!(uni.is_err(), "a unidirectional stream was allowed");
        assert_eq!(connection.max_datagram_size(), None);
    });
}

#[test]
fn another_protocol_is_refused() {
    let identity = identity();
    let gateway = quic_with(machine(), &identity);
    run(async {
        let endpoint = quic_endpoint(&identity, b"h3");
        let error =
            endpoint.connect(gateway.address, "localhost").expect("started").await.expect_err("refused");
        // no_application_protocol (RFC 7301 §3.2), as a crypto error (RFC 9001 §4.8).
        assert!(error.to_string().contains("error 120"), "{error}");
    });
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let identity = identity();
    let gateway = quic_with(machine(), &identity);
    run(async {
        let mut client = quic(gateway.address, &identity).await;
        client.greet_and_expect_welcome("alice:1").await;
        assert_eq!(gateway.handle().stats().sessions(), 1);
        client.carrier.connection.close(0u32.into(), b"");
        while gateway.handle().stats().sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_draining_gateway_lets_sessions_go_and_accepts_no_more() {
    let identity = identity();
    let gateway =
        quic_with(GatewayConfig { drain_after: Duration::from_millis(200), ..machine() }, &identity);
    run(async {
        let mut client = quic(gateway.address, &identity).await;
        client.greet_and_expect_welcome("alice:1").await;
        gateway.handle().send(LoopInput::Drain).expect("room");
        let (frames, code) = client.read_to_end().await;
        assert_eq!((frames, code), (vec!["GOAWAY".to_owned(), "CLOSE".to_owned()], 1));
        let endpoint = quic_endpoint(&identity, b"throng/1");
        assert!(endpoint.connect(gateway.address, "localhost").expect("started").await.is_err());
    });
}
