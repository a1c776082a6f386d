//! The HTTP upgrade (SPEC W-WS-1, RFC 6455 §4.2).

use std::time::Duration;

use throng_gateway_core::{GatewayConfig, Origins, Phase, Transport};

use crate::harness::{SHARDS, UPGRADE, World};

fn status_of(world: &mut World, request: &str) -> String {
    let key = world.connect(Transport::WebSocket);
    world.bytes(key, request.as_bytes());
    let http = world.clients[&key].http.clone().expect("an answer");
    let status = http.split("\r\n").next().expect("a line").trim_start_matches("HTTP/1.1 ").to_owned();
    let is_closing = world.gateway.phase(key) == Some(Phase::Closing);
    assert_eq!(is_closing, !status.starts_with("101"), "{status}");
    status
}

#[test]
fn the_upgrade_selects_the_subprotocol() {
    let mut world = World::new();
    let key = world.connect(Transport::WebSocket);
    // Byte by byte, as a slow network would have it.
    for byte in UPGRADE.bytes() {
        world.bytes(key, &[byte]);
    }
    let http = world.clients[&key].http.clone().expect("an answer");
    assert!(http.starts_with("HTTP/1.1 101 "), "{http}");
    assert!(http.contains("Sec-WebSocket-Protocol: throng.v1.bin\r\n"), "{http}");
    assert!(http.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "RFC 6455 §1.3: {http}");
    assert_eq!(world.gateway.phase(key), Some(Phase::Hello));
}

#[test]
fn what_is_no_upgrade_has_its_status() {
    let world = &mut World::new();
    assert_eq!(status_of(world, &UPGRADE.replace("/v1/ws", "/v2/ws")), "404 Not Found");
    assert_eq!(status_of(world, &UPGRADE.replace("throng.v1.bin", "chat")), "400 Bad Request");
    assert_eq!(status_of(world, &UPGRADE.replace("Sec-WebSocket-Protocol", "X")), "400 Bad Request");
    assert_eq!(status_of(world, &UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")), "400 Bad Request");
    assert_eq!(status_of(world, &UPGRADE.replace("13", "8")), "426 Upgrade Required");
    assert_eq!(status_of(world, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "404 Not Found");
    assert_eq!(status_of(world, "GET /v1/ws?a=b HTTP/1.1\r\nHost: x\r\n\r\n"), "426 Upgrade Required");
    assert_eq!(status_of(world, &UPGRADE.replace("GET", "POST")), "405 Method Not Allowed");
    assert_eq!(status_of(world, "\x16\x03\x01"), "400 Bad Request");
    assert_eq!(status_of(world, UPGRADE), "101 Switching Protocols");
    assert_eq!(world.gateway.counters().http_refusals, 9);
}

#[test]
fn pages_of_other_origins_are_refused_and_clients_without_one_are_not() {
    let origins = Origins::Listed(vec!["https://chat.example.com".to_owned()]);
    let mut world = World::with(GatewayConfig { shards: SHARDS, origins, ..GatewayConfig::default() });
    let with_origin = |origin: &str| UPGRADE.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
    let allowed = |world: &mut World, origin: &str| status_of(world, &with_origin(origin)).starts_with("101");
    assert!(allowed(&mut world, "https://chat.example.com"));
    for origin in [
        "null",
        "https://chat.example.com:443",
        "http://chat.example.com",
        "https://CHAT.example.com",
        "https://chat.example.com.evil.org",
        "https://evilchat.example.com",
        "https://chat.example.com/",
        "https://xn--chat-example.com",
    ] {
        assert!(!allowed(&mut world, origin), "{origin}");
    }
    assert!(status_of(&mut world, UPGRADE).starts_with("101"));
}

#[test]
fn a_head_that_never_ends_has_a_deadline_and_a_limit() {
    let mut world = World::new();
    let slow = world.connect(Transport::WebSocket);
    for _ in 0..6 {
        world.bytes(slow, b"GET"); // as a slowloris does
        world.pass(Duration::from_secs(1));
    }
    assert!(world.clients[&slow].http.as_ref().is_some_and(|http| http.starts_with("HTTP/1.1 408 ")));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.aborted, [slow]);
    let long = format!("GET /v1/ws HTTP/1.1\r\nHost: x\r\nA: {}", "b".repeat(9_000));
    assert_eq!(status_of(&mut world, &long), "431 Request Header Fields Too Large");
}
