//! From HELLO to the end of a session.

use std::time::Duration;

use throng_base::Instant;
use throng_gateway_core::{Gateway, GatewayConfig, Phase, Rate, Transport};
use throng_wire::frame::{Auth, Close, Frame, Hello, Ping, Pong, Split, split};
use throng_wire::link::{SessionRef, ToRouter};
use throng_wire::{Code, Epoch};
use throng_ws::Opcode;

use crate::harness::{LOCALHOST, NODE, SHARDS, WALL_MS, World, masked, publish, user};

/// A loop is made on one thread and run on another.
const fn _is_send<T: Send>() {}
const _: () = _is_send::<Gateway>();

#[test]
fn hello_and_auth_in_one_flight_are_answered_by_welcome() {
    let config = GatewayConfig { server: "here".to_owned(), epoch: Epoch(3), ..GatewayConfig::default() };
    let now = Instant::from_millis(50);
    let mut gateway = Gateway::new(config, 1, now);
    gateway.handle_wall_clock(now, WALL_MS);
    let key = gateway.handle_connect(now, Transport::Stream, LOCALHOST).expect("room");
    let mut flight = Frame::Hello(Hello { version_min: 1, version_max: 9, client: "x" }).encoded().to_vec();
    flight.extend_from_slice(&Frame::Auth(Auth { token: b"t", ticket: b"unknown" }).encoded());
    gateway.handle_bytes(now, key, &mut flight);
    let claims = throng_gateway_core::Claims {
        user: user("alice"),
        device: throng_wire::DeviceId(5),
        expires_ms: WALL_MS + 1_000,
    };
    gateway.handle_authenticated(now, key, Ok(claims));
    let mut bytes = Vec::new();
    gateway.pull(now, key, &mut bytes, usize::MAX);
    let Ok(Split::Frame { payload, consumed }) = split(&bytes, 4_096) else { panic!("a frame") };
    let Ok(Some(Frame::Welcome(welcome))) = Frame::decode(&bytes[payload]) else { panic!("WELCOME") };
    assert_eq!(consumed, bytes.len());
    assert_eq!((welcome.version, welcome.version_max, welcome.server), (1, 1, "here"));
    assert_eq!((welcome.user, welcome.device, welcome.epoch), (user("alice"), claims.device, Epoch(3)));
    assert_eq!((welcome.heartbeat_ms, welcome.inflight_max, welcome.time_ms), (5_000, 16, WALL_MS));
    assert_eq!((welcome.body_max, welcome.frame_max), (65_536, 65_536 + 4_096));
}

#[test]
fn a_session_is_registered_before_its_first_request_and_unregistered_at_its_end() {
    let mut world = World::new();
    world.is_answering = false;
    let key = world.connect(Transport::Stream);
    world.log_in(key, "alice");
    let session = SessionRef(key.to_u64());
    let [(NODE, request)] = &world.requests()[..] else { panic!("one request") };
    assert_eq!(request.op, throng_wire::link::Op::Register { session });
    world.disconnect(key);
    assert_eq!(world.asked(), [(NODE, ToRouter::Unregister { user: user("alice"), session })]);
    assert_eq!(world.gateway.session_count(), 0);
}

/// SPEC W-AUTH-2.
#[test]
fn tokens_that_are_refused_or_expire_close_with_their_code() {
    let mut world = World::new();
    for code in [Code::TOKEN_INVALID, Code::TOKEN_EXPIRED] {
        let token = world.bad_token(code);
        let key = world.connect(Transport::Stream);
        let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" });
        world.send_all(key, &[hello, Frame::Auth(Auth { token: &token, ticket: &[] })]);
        assert_eq!(world.received(key), [format!("CLOSE {code}")]);
    }
    let token = world.token("alice", 0);
    let key = world.connect(Transport::Stream);
    let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" });
    world.send_all(key, &[hello, Frame::Auth(Auth { token: &token, ticket: &[] })]);
    assert_eq!(world.received(key), ["CLOSE TOKEN_EXPIRED"]);
    let token = world.token("alice", 2_000);
    let key = world.connect(Transport::Stream);
    let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" });
    world.send_all(key, &[hello, Frame::Auth(Auth { token: &token, ticket: &[] })]);
    assert_eq!(world.received(key), ["WELCOME throng"]);
    world.pass_alive(key, Duration::from_millis(1_900));
    assert_eq!(world.received(key), [""; 0]);
    world.pass(Duration::from_millis(400));
    assert_eq!(world.received(key), ["CLOSE TOKEN_EXPIRED"]);
}

#[test]
fn versions_without_one_in_common_are_refused() {
    let mut world = World::new();
    let key = world.connect(Transport::Stream);
    world.send(key, Frame::Hello(Hello { version_min: 2, version_max: 7, client: "from the future" }));
    assert_eq!(world.received(key), ["CLOSE VERSION"]);
}

#[test]
fn hello_and_auth_have_a_deadline() {
    let mut world = World::new();
    let key = world.connect(Transport::Stream);
    world.pass(Duration::from_millis(4_900));
    world.send(key, Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" }));
    assert_eq!(world.received(key), [""; 0]);
    world.pass(Duration::from_millis(400));
    assert_eq!(world.received(key), ["CLOSE HANDSHAKE_TIMEOUT"]);
    assert_eq!(world.closed, [(key, Code::HANDSHAKE_TIMEOUT)]);
}

/// SPEC W-HB-2.
#[test]
fn silence_closes_and_any_byte_is_a_sign_of_life() {
    let mut world = World::new();
    let (quiet, pings, websocket) = (world.login("a"), world.login("b"), world.login_websocket("c"));
    for _ in 0..3 {
        world.pass(Duration::from_secs(4));
        world.send(pings, Frame::Ping(Ping { wants_answer: false, nonce: 1 }));
        world.bytes(websocket, &masked(Opcode::Pong, true, b"")); // SPEC W-WS-5
    }
    assert_eq!(world.received(quiet), ["CLOSE HEARTBEAT_TIMEOUT"]);
    assert_eq!(world.closed, [(quiet, Code::HEARTBEAT_TIMEOUT)]);
    world.pass(Duration::from_millis(9_900));
    assert_eq!(world.closed.len(), 1);
    world.pass(Duration::from_millis(400));
    assert_eq!(world.closed.len(), 3);
}

#[test]
fn ping_is_answered_if_it_asks() {
    let mut world = World::new();
    let key = world.login_websocket("alice");
    world.send(key, Frame::Ping(Ping { wants_answer: true, nonce: 42 }));
    world.send(key, Frame::Ping(Ping { wants_answer: false, nonce: 43 }));
    world.send(key, Frame::Pong(Pong { nonce: 44 }));
    world.bytes(key, &masked(Opcode::Ping, true, b"hello"));
    assert_eq!(world.received(key), ["PONG 42"]);
    assert_eq!(world.clients[&key].pongs, [b"hello"]);
}

#[test]
fn a_clients_close_is_answered_by_close() {
    let mut world = World::new();
    let key = world.login_websocket("alice");
    world.send_all(
        key,
        &[
            Frame::Close(Close { code: Code::NORMAL, retry_after_ms: 0, reason: "bye" }),
            publish(1, 1, "too late"),
        ],
    );
    assert_eq!(world.received(key), ["CLOSE NORMAL"]);
    assert_eq!(world.clients[&key].websocket_close, Some(1000));
    assert_eq!(world.closed, [(key, Code::NORMAL)]);
    assert_eq!(world.gateway.phase(key), Some(Phase::Closing));
    assert!(world.router.registered.is_empty());

    let abrupt = world.login_websocket("bob");
    world.bytes(abrupt, &masked(Opcode::Close, true, &1001u16.to_be_bytes()));
    assert_eq!(world.clients[&abrupt].websocket_close, Some(1001)); // RFC 6455 §5.5.1: echoed
    assert_eq!(world.received(abrupt), [""; 0]);

    let ended = world.login("carol");
    world.gateway.handle_end(world.now, ended);
    world.pump();
    assert_eq!(world.received(ended), ["CLOSE NORMAL"]); // SPEC W-QUIC-4
}

#[test]
fn a_closing_session_that_does_not_read_is_cut() {
    let mut world = World::new();
    let key = world.login("alice");
    world.stuck.insert(key);
    world.send(key, Frame::Close(Close { code: Code::NORMAL, retry_after_ms: 0, reason: "" }));
    world.pass(Duration::from_secs(1));
    assert!(world.aborted.is_empty());
    world.pass(Duration::from_millis(1_400));
    assert_eq!(world.aborted, [key]);
    world.disconnect(key);
    world.pass(Duration::from_secs(60));
    assert_eq!((world.gateway.session_count(), world.gateway.queued_bytes()), (0, 0));
    assert_eq!(world.gateway.poll_timeout(), None);
}

#[test]
fn sessions_without_a_token_are_bounded_in_all_and_by_address() {
    let config = GatewayConfig {
        shards: SHARDS,
        unauthenticated_max: 3,
        unauthenticated_per_ip: 2,
        sessions_max: 4,
        ..GatewayConfig::default()
    };
    let mut world = World::with(config);
    let (now, other) = (world.now, "127.0.0.2".parse().expect("an address"));
    let first = world.connect(Transport::Stream);
    let second = world.connect(Transport::Stream);
    let connect = |world: &mut World, peer| world.gateway.handle_connect(now, Transport::Stream, peer);
    assert_eq!(connect(&mut world, LOCALHOST), Err(Code::OVERLOADED));
    assert!(connect(&mut world, other).is_ok());
    assert_eq!(connect(&mut world, "127.0.0.3".parse().expect("an address")), Err(Code::OVERLOADED));
    world.log_in(first, "alice");
    assert!(connect(&mut world, LOCALHOST).is_ok());
    world.disconnect(second);
    assert!(connect(&mut world, LOCALHOST).is_ok());
    world.log_in(first, "alice");
    assert_eq!(connect(&mut world, other), Err(Code::OVERLOADED), "the slab is full");
    assert_eq!(world.gateway.counters().refused, 3);
}

#[test]
fn frames_above_the_rate_are_refused_and_in_the_end_close_the_session() {
    let rate = Some(Rate { per_second: 10, burst: 5 });
    let mut world = World::with(GatewayConfig { shards: SHARDS, rate, ..GatewayConfig::default() });
    world.router.add(1, &["alice"]);
    let key = world.login("alice"); // two of the burst
    for id in 1..=4 {
        world.send(key, publish(1, id, "x"));
    }
    assert_eq!(
        world.received(key),
        ["ACK 1 is 1", "ACK 2 is 2", "ACK 3 is 3", "ERROR RATE_LIMITED for send 4"]
    );
    world.pass(Duration::from_millis(300));
    world.send(key, publish(1, 4, "x"));
    assert_eq!(world.received(key), ["ACK 4 is 4"]);
    for id in 5..=12 {
        world.send(key, publish(1, id, "x"));
    }
    assert_eq!(world.received(key).last().map(String::as_str), Some("CLOSE RATE_LIMITED"));
}

#[test]
fn incomplete_frames_are_bounded_in_all() {
    let config = GatewayConfig { shards: SHARDS, partial_total: 10_000, ..GatewayConfig::default() };
    let mut world = World::with(config);
    let keys = [world.login("a"), world.login_websocket("b"), world.login("c")];
    let begun = [[0x80, 1, 0, 0].as_slice(), &[7; 4_000]].concat(); // 4,004 bytes of a frame of 64 KiB
    for key in keys {
        match key == keys[1] {
            true => world.bytes(
                key,
                &masked(Opcode::Binary, true, &[begun.as_slice(), &[7; 61_536]].concat())[..14 + 4_004],
            ),
            false => world.bytes(key, &begun),
        }
    }
    assert_eq!(world.closed, [(keys[2], Code::OVERLOADED)]);
    assert_eq!(world.gateway.partial_bytes(), 8_008);
    world.disconnect(keys[2]);
    world.pass(Duration::from_secs(11));
    assert_eq!(world.closed.len(), 3);
    keys[..2].iter().for_each(|key| world.disconnect(*key));
    assert_eq!(world.gateway.partial_bytes(), 0);
}

#[test]
fn a_verdict_that_comes_late_changes_nothing() {
    let mut world = World::new();
    let key = world.login("alice");
    world.gateway.handle_authenticated(world.now, key, Err(Code::TOKEN_INVALID));
    world.pump();
    assert_eq!(world.received(key), [""; 0]);
    world.disconnect(key);
    world.gateway.handle_authenticated(world.now, key, Err(Code::TOKEN_INVALID));
    world.gateway.handle_bytes(world.now, key, &mut [1, 2, 3]);
    world.pump();
}
