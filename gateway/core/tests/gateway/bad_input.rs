//! Every way to be wrong has its code, on both transports, and disturbs nobody else (SPEC W-ERR-4, W-ERR-5).

use throng_gateway_core::Transport;
use throng_wire::Code;
use throng_wire::frame::{Auth, Frame, Hello, Ping, Unsubscribe};
use throng_ws::Opcode;

use crate::harness::{UPGRADE, World, channel, masked, publish};

/// What closes an authenticated session, as the payload of a message.
fn closing_payloads() -> Vec<(&'static str, Vec<u8>, Code, u16)> {
    let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" });
    vec![
        (
            "second AUTH",
            encoded(Frame::Auth(Auth { token: b"x", ticket: b"" })),
            Code::ALREADY_AUTHENTICATED,
            4023,
        ),
        ("second HELLO", encoded(hello), Code::PROTOCOL, 1002),
        ("length below 2", vec![1, 8], Code::PROTOCOL, 1002),
        ("long form of a varint", vec![0x40, 2, 8, 0], Code::PROTOCOL, 1002),
        ("type 0", vec![2, 0, 0], Code::PROTOCOL, 1002),
        ("unknown flag", vec![3, 8, 0x40, 0], Code::PROTOCOL, 1002),
        ("truncated field", vec![4, 4, 0, 1, 1], Code::PROTOCOL, 1002),
        ("frame of a server", encoded(Frame::Ack(ack())), Code::PROTOCOL, 1002),
        ("frame above the limit", vec![0x80, 1, 0x10, 1], Code::FRAME_TOO_LARGE, 1009),
        ("length of 2⁶²", vec![0xff; 8], Code::FRAME_TOO_LARGE, 1009),
        ("bad UTF-8", vec![6, 10, 0, 0, 0, 1, 0xff], Code::BAD_UTF8, 1007),
    ]
}

fn encoded(frame: Frame<'_>) -> Vec<u8> {
    frame.encoded().to_vec()
}

fn ack() -> throng_wire::frame::Ack {
    throng_wire::frame::Ack {
        channel: channel(1),
        client_msg_id: throng_wire::ClientMsgId(1),
        seq: throng_wire::Seq(1),
        ts: throng_wire::ServerTs(1),
        duplicate: false,
    }
}

#[test]
fn payloads_that_close_an_open_session() {
    let mut world = World::new();
    world.router.add(1, &["bystander"]);
    let bystander = world.login("bystander");
    for (what, payload, code, websocket) in closing_payloads() {
        let stream = world.login("mallory");
        world.payload(stream, &payload);
        assert_eq!(world.received(stream), [format!("CLOSE {code}")], "{what}");
        let socket = world.login_websocket("mallory");
        world.payload(socket, &payload);
        assert_eq!(world.received(socket), [format!("CLOSE {code}")], "{what}");
        assert_eq!(world.clients[&socket].websocket_close, Some(websocket), "{what}");
        assert!(world.gateway.counters().closed(code) >= 2, "{what}");
    }
    world.send(bystander, publish(1, 1, "still here"));
    assert_eq!(world.received(bystander), ["ACK 1 is 1"]);
}

#[test]
fn what_comes_before_authentication() {
    let mut world = World::new();
    let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" });
    let auth = Frame::Auth(Auth { token: b"x", ticket: b"" });
    let ping = Frame::Ping(Ping { wants_answer: true, nonce: 1 });
    let unsubscribe = Frame::Unsubscribe(Unsubscribe { channel: channel(1) });
    let cases: [(&str, &[Frame<'_>], &str); 5] = [
        ("AUTH first", std::slice::from_ref(&auth), "CLOSE PROTOCOL"),
        ("request first", &[publish(1, 1, "x")], "CLOSE AUTH_REQUIRED"),
        ("PING before AUTH", &[hello.clone(), ping], "CLOSE AUTH_REQUIRED"),
        ("UNSUBSCRIBE before AUTH", &[hello.clone(), unsubscribe], "CLOSE AUTH_REQUIRED"),
        ("PUBLISH behind AUTH", &[hello.clone(), auth.clone(), publish(1, 1, "x")], "CLOSE AUTH_REQUIRED"),
    ];
    for (what, frames, expected) in cases {
        let key = world.connect(Transport::Stream);
        world.send_all(key, frames);
        assert_eq!(world.received(key), [expected], "{what}");
    }
    // SPEC W-FRAME-5: 4,096 bytes before WELCOME.
    let key = world.connect(Transport::Stream);
    world.payload(key, &[0x50, 1]);
    assert_eq!(world.received(key), ["CLOSE FRAME_TOO_LARGE"]);
    // An unknown request.
    let key = world.connect(Transport::Stream);
    world.payload(key, &[3, 0x3f, 0, 1]);
    assert_eq!(world.received(key), ["CLOSE AUTH_REQUIRED"]);
}

#[test]
fn websocket_frames_that_break_rfc_6455() {
    let mut world = World::new();
    let mut unmasked = masked(Opcode::Binary, true, &[3, 8, 0, 1]);
    unmasked[1] &= 0x7f;
    let mut compressed = masked(Opcode::Binary, true, &[3, 8, 0, 1]);
    compressed[0] |= 0x40;
    let cases = [
        ("unmasked", unmasked, Code::PROTOCOL, 1002),
        ("compressed", compressed, Code::PROTOCOL, 1002),
        ("text", masked(Opcode::Text, true, b"hello"), Code::PROTOCOL, 1002),
        ("text that is no UTF-8", masked(Opcode::Text, true, &[0xff]), Code::BAD_UTF8, 1007),
        (
            "message above the limit",
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 0, 1, 1, 1, 1],
            Code::FRAME_TOO_LARGE,
            1009,
        ),
        ("frame cut by the message", masked(Opcode::Binary, true, &[3, 8]), Code::PROTOCOL, 1002),
        (
            "fragmented ping",
            masked(Opcode::Ping, true, b"")[..].iter().map(|b| b & 0x7f | b & 0x80 & (b - 9)).collect(),
            Code::PROTOCOL,
            1002,
        ),
    ];
    for (what, bytes, code, websocket) in cases {
        let key = world.login_websocket("mallory");
        world.bytes(key, &bytes);
        assert_eq!(world.received(key), [format!("CLOSE {code}")], "{what}");
        assert_eq!(world.clients[&key].websocket_close, Some(websocket), "{what}");
    }
    // 1,000 empty continuations cost their sender the session.
    let key = world.login_websocket("mallory");
    world.bytes(key, &masked(Opcode::Binary, false, b""));
    for _ in 0..1_000 {
        world.bytes(key, &masked(Opcode::Continuation, false, b""));
    }
    assert_eq!(world.received(key), ["CLOSE PROTOCOL"]);
}

#[test]
fn what_an_open_session_survives() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    for key in [world.login("alice"), world.login_websocket("alice")] {
        let unknown: [&[u8]; 4] = [&[4, 0x07, 0x55, 1, 2], &[3, 0x3f, 0, 9], &[2, 0x60, 0], &[3, 0x18, 0, 7]];
        unknown.iter().for_each(|payload| world.payload(key, payload));
        // SPEC W-ERR-4: a FETCH of 201 events.
        let mut fetch = vec![0x17, 0x10, 0, 3];
        fetch.extend_from_slice(&[1; 16]);
        fetch.extend_from_slice(&[0, 1, 0x40, 201]);
        fetch[0] = (fetch.len() - 1) as u8;
        world.payload(key, &fetch);
        assert_eq!(
            world.received(key),
            ["ERROR UNSUPPORTED for 9", "ERROR UNSUPPORTED for 7", "ERROR LIMIT for 3"]
        );
        // SPEC W-PUB-8, W-PUB-9, W-PUB-10.
        let large = "x".repeat(65_537);
        world.send(key, publish(1, 1, &large));
        world.payload(key, &[20, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0x61]);
        world.send(key, publish(2, 3, "not a member"));
        world.send(key, publish(1, 4, "fine"));
        let received = world.received(key);
        assert_eq!(
            received[..3],
            ["ERROR BODY_TOO_LARGE for send 1", "ERROR UNSUPPORTED for send 2", "ERROR NOT_FOUND for send 3"]
        );
        assert!(received[3].starts_with("ACK 4"));
    }
}

#[test]
fn frames_and_messages_may_be_cut_anywhere() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let mut frames = Vec::new();
    for id in 1..=3 {
        frames.extend_from_slice(
            &publish(1, id, "some text that is longer than sixty-three bytes: 0123456789 0123456789")
                .encoded(),
        );
    }
    let stream = world.login("alice");
    let socket = world.login_websocket("alice");
    let message = masked(Opcode::Binary, true, &frames);
    for byte in &frames {
        world.bytes(stream, &[*byte]);
    }
    for byte in &message {
        world.bytes(socket, &[*byte]);
    }
    assert_eq!(world.received(stream), ["ACK 1 is 1", "ACK 2 is 2", "ACK 3 is 3"]);
    assert_eq!(world.received(socket), ["ACK 1 is 4", "ACK 2 is 5", "ACK 3 is 6"]);
    // One message in fragments, with a ping between them; frames cut by fragments.
    let (head, tail) = frames.split_at(100);
    let mut fragments = masked(Opcode::Binary, false, head);
    fragments.extend_from_slice(&masked(Opcode::Ping, true, b"in between"));
    fragments.extend_from_slice(&masked(Opcode::Continuation, true, tail));
    world.bytes(socket, &fragments);
    assert_eq!(world.received(socket), ["ACK 1 is 7", "ACK 2 is 8", "ACK 3 is 9"]);
    assert_eq!(world.clients[&socket].pongs, [b"in between"]);
    assert_eq!(world.gateway.partial_bytes(), 0, "nothing is kept of whole frames");
}

#[test]
fn the_upgrade_and_the_first_flight_may_share_a_packet() {
    let mut world = World::new();
    let token = world.token("alice", 60_000);
    let mut flight = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "" }).encoded().to_vec();
    flight.extend_from_slice(&Frame::Auth(Auth { token: &token, ticket: &[] }).encoded());
    let mut bytes = UPGRADE.as_bytes().to_vec();
    bytes.extend_from_slice(&masked(Opcode::Binary, true, &flight));
    let key = world.connect(Transport::WebSocket);
    world.bytes(key, &bytes);
    assert_eq!(world.received(key), ["WELCOME throng"]);
}
