//! What holds for any bytes.

use proptest::prelude::*;
use throng_gateway_core::{Phase, Transport};
use throng_wire::frame::{Auth, Frame, Hello, Ping, Subscribe};
use throng_wire::{Epoch, RequestId, Seq};
use throng_ws::Opcode;

use crate::harness::{UPGRADE, World, channel, masked, publish};

/// A whole conversation of one client, as the bytes of its transport.
fn conversation(world: &mut World, transport: Transport) -> Vec<u8> {
    let token = world.token("alice", 60_000);
    let subscribe = Subscribe { request: RequestId(1), channel: channel(1), after: Seq(0), epoch: Epoch(1) };
    let long = "second ".repeat(100);
    let frames = [
        Frame::Hello(Hello { version_min: 1, version_max: 1, client: "test" }),
        Frame::Auth(Auth { token: &token, ticket: &[] }),
        Frame::Subscribe(subscribe),
        publish(1, 1, "first"),
        Frame::Ping(Ping { wants_answer: true, nonce: 5 }),
        publish(1, 2, &long),
        publish(2, 3, "not a member"),
        publish(1, 4, "last"),
    ];
    let mut bytes = Vec::new();
    if transport == Transport::WebSocket {
        bytes.extend_from_slice(UPGRADE.as_bytes());
    }
    for frame in frames {
        match transport {
            Transport::Stream => bytes.extend_from_slice(&frame.encoded()),
            Transport::WebSocket => bytes.extend_from_slice(&masked(Opcode::Binary, true, &frame.encoded())),
        }
    }
    bytes
}

/// What the client sees if its bytes arrive in pieces of these sizes. AUTH is answered before the next piece, as a
/// client that waits for WELCOME would have it, so the pieces are cut behind it.
fn seen(transport: Transport, sizes: &[usize]) -> Vec<String> {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let bytes = conversation(&mut world, transport);
    let key = world.connect(transport);
    let flight = flight_len(transport);
    let (mut at, mut sizes) = (0, sizes.iter().cycle());
    while at < bytes.len() {
        let size = *sizes.next().expect("a cycle");
        let end = if at < flight { (at + size).min(flight) } else { (at + size).min(bytes.len()) };
        world.bytes(key, &bytes[at..end]);
        at = end;
    }
    // PONG overtakes answers of a router, as far as its frame came in the same piece.
    let mut received = world.received(key);
    received.retain(|frame| frame != "PONG 5");
    received.push("PONG 5".to_owned());
    received
}

/// Bytes up to the end of AUTH; the token has the same length in every world.
fn flight_len(transport: Transport) -> usize {
    let mut world = World::new();
    let token = world.token("alice", 60_000);
    let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "test" }).encoded().len();
    let auth = Frame::Auth(Auth { token: &token, ticket: &[] }).encoded().len();
    match transport {
        Transport::Stream => hello + auth,
        Transport::WebSocket => UPGRADE.len() + hello + auth + 2 * 6,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunking_changes_nothing(sizes in prop::collection::vec(1usize..200, 1..20)) {
        let stream = seen(Transport::Stream, &[usize::MAX >> 1]);
        prop_assert_eq!(stream.len(), 10, "{:?}", stream);
        prop_assert_eq!(&seen(Transport::Stream, &sizes), &stream);
        prop_assert_eq!(&seen(Transport::WebSocket, &sizes), &stream);
    }

    #[test]
    fn garbage_never_panics_and_never_lingers(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..10),
        start in 0usize..4,
    ) {
        let mut world = World::new();
        let key = match start {
            0 => world.connect(Transport::Stream),
            1 => world.connect(Transport::WebSocket),
            2 => world.login("alice"),
            _ => world.login_websocket("alice"),
        };
        for piece in &pieces {
            world.bytes(key, piece);
        }
        world.pass(std::time::Duration::from_secs(20));
        prop_assert_eq!(world.gateway.phase(key), Some(Phase::Closing));
        world.disconnect(key);
        prop_assert_eq!(world.gateway.queued_bytes(), 0);
    }

    #[test]
    fn frames_with_a_flipped_byte_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, transport in 0usize..2) {
        let transport = [Transport::Stream, Transport::WebSocket][transport];
        let mut world = World::new();
        world.router.add(1, &["alice"]);
        let mut bytes = conversation(&mut world, transport);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let key = world.connect(transport);
        let flight = flight_len(transport);
        world.bytes(key, &bytes[..flight]);
        world.bytes(key, &bytes[flight..]);
        world.disconnect(key);
        prop_assert_eq!((world.gateway.session_count(), world.gateway.channel_count()), (0, 0));
    }
}
