//! One behaviour per test.

use std::time::Duration;

use bytes::Bytes;
use throng_client_core::{Answer, ClientEvent, Cursor, Reason, Request, RequestError, Start};
use throng_wire::frame::{Frame, Goaway, Lagged, Ping};
use throng_wire::{ClientMsgId, Code, Epoch, Seq, UserId, UserSeq};

use crate::world::{STREAM, WEBSOCKET, World, channel};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn connected(url: &str, seed: u64) -> World {
    let mut world = World::new(url, seed);
    world.run_until("connect", SECOND, |world| world.client.is_open());
    world
}

fn publish(world: &mut World, n: u8, body: &str) -> ClientMsgId {
    let id =
        world.client.publish(world.now, channel(n), Bytes::copy_from_slice(body.as_bytes())).expect("room");
    world.drain();
    id
}

#[test]
fn it_connects_greets_in_one_flight_and_asks_for_its_inbox() {
    for url in [STREAM, WEBSOCKET] {
        let mut world = connected(url, 1);
        world.run_for(SECOND);
        assert_eq!(world.server.log, ["HELLO", "AUTH", "SYNC"]);
        assert!(matches!(&world.events[0], ClientEvent::Connected(session) if session.server == "fake"));
    }
}

#[test]
fn a_send_is_acknowledged_and_comes_back_through_the_subscription() {
    for url in [STREAM, WEBSOCKET] {
        let mut world = connected(url, 2);
        world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
        let id = publish(&mut world, 1, "hello");
        world.run_until("delivery", SECOND, |world| world.delivered(channel(1)) == [1]);
        let acked = |event: &ClientEvent| matches!(event, ClientEvent::Acked { client_msg_id, seq: Seq(1), .. } if *client_msg_id == id);
        assert_eq!(world.count(acked), 1);
        assert_eq!(world.client.unanswered_sends(), 0);
    }
}

#[test]
fn sends_made_offline_go_out_in_order_after_the_connection_stands() {
    let mut world = World::new(STREAM, 3);
    world.reachable = false;
    (0..100).for_each(|n| {
        publish(&mut world, 1, &n.to_string());
    });
    world.run_for(MINUTE);
    world.reachable = true;
    world.run_until("acks", MINUTE, |world| world.client.unanswered_sends() == 0);
    let bodies = world.server.channels[&channel(1)].events.iter().map(|event| event.body.clone());
    assert!(bodies.eq((0..100).map(|n: u32| n.to_string())));
}

/// SPEC W-LIM-3.
#[test]
fn a_session_never_has_more_open_requests_than_every_server_takes() {
    let mut world = connected(STREAM, 40);
    world.run_for(SECOND);
    world.server.log.clear();
    world.server.mood.drop_answer = 1_000_000;
    for n in 0..200u8 {
        publish(&mut world, n % 12 + 1, "body");
    }
    for _ in 0..60 {
        let request = Request::Open { peer: UserId::NIL };
        world.client.request(world.now, request).expect("room");
        world.drain();
    }
    world.run_for(SECOND);
    assert_eq!(world.server.log.len(), 64, "the others wait for an answer: {:?}", world.server.log);
    world.server.mood.drop_answer = 0;
    let is_done = |world: &mut World| {
        world.client.unanswered_sends() == 0
            && world.count(|event| matches!(event, ClientEvent::Answered { .. })) == 60
    };
    world.run_until("the rest", MINUTE, is_done);
}

/// SPEC W-LIM-3.
#[test]
fn requests_leave_a_place_to_sends() {
    let mut world = connected(STREAM, 41);
    world.run_for(SECOND);
    world.server.log.clear();
    world.server.mood.drop_answer = 1_000_000;
    for _ in 0..64 {
        world.client.request(world.now, Request::Open { peer: UserId::NIL }).expect("room");
        world.drain();
    }
    for _ in 0..16 {
        publish(&mut world, 1, "body");
    }
    world.run_for(SECOND);
    let sends = world.server.log.iter().filter(|name| name.starts_with("PUBLISH")).count();
    assert_eq!((sends, world.server.log.len()), (16, 64), "{:?}", world.server.log);
}

/// SPEC W-CLOSE-2.
#[test]
fn reconnects_are_spread_and_bounded() {
    let mut world = World::new(STREAM, 4);
    world.reachable = false;
    world.run_for(MINUTE * 10);
    let tries = world.connects.len();
    assert!((60..400).contains(&tries), "10 s at most, 5 s on average: {tries}");
}

#[test]
fn endpoints_are_tried_in_turn() {
    let mut world = World::new("quic://a,quic://b", 5);
    world.reachable = false;
    world.run_until("three tries", MINUTE, |world| world.connects.len() == 3);
    assert_ne!(world.connects[0], world.connects[1]);
    assert_eq!(world.connects[0], world.connects[2]);
}

#[test]
fn a_dropped_push_is_fetched() {
    let mut world = connected(STREAM, 6);
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
    world.run_for(SECOND);
    world.server.mood.drop_push = 500_000;
    (0..300).for_each(|n| world.server.append(channel(1), &n.to_string()));
    world.run_until("all of them", MINUTE, |world| world.delivered(channel(1)).len() == 300);
    assert_eq!(world.delivered(channel(1)), (1..=300).collect::<Vec<_>>());
}

/// SPEC W-DEL-4.
#[test]
fn a_subscription_resumes_from_its_cursor_after_a_lost_connection() {
    let mut world = connected(WEBSOCKET, 7);
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
    world.server.append(channel(1), "seen");
    world.run_until("the first", SECOND, |world| world.delivered(channel(1)) == [1]);
    world.reachable = false;
    world.cut();
    (0..500).for_each(|_| world.server.append(channel(1), "missed"));
    world.run_for(SECOND);
    world.reachable = true;
    world.run_until("the rest", MINUTE, |world| world.delivered(channel(1)).len() == 501);
    assert_eq!(world.delivered(channel(1)), (1..=501).collect::<Vec<_>>());
}

#[test]
fn start_at_head_skips_history_once() {
    let mut world = connected(STREAM, 8);
    (0..10).for_each(|_| world.server.append(channel(1), "old"));
    world.client.subscribe(world.now, channel(1), Start::Head).expect("room");
    world.run_for(SECOND);
    world.server.append(channel(1), "new");
    world.run_until("the new one", SECOND, |world| world.delivered(channel(1)) == [11]);
    world.cut();
    world.server.append(channel(1), "while away");
    world.run_until("the one while away", MINUTE, |world| world.delivered(channel(1)) == [11, 12]);
}

#[test]
fn a_reset_surfaces_and_the_feed_goes_on_at_the_floor() {
    let mut world = connected(STREAM, 9);
    (0..20).for_each(|_| world.server.append(channel(1), "x"));
    world.server.channels.get_mut(&channel(1)).expect("there").floor = 14;
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::after(Seq(3)))).expect("room");
    world.run_until("the rest", MINUTE, |world| world.delivered(channel(1)).len() == 6);
    assert_eq!(world.delivered(channel(1)), (15..=20).collect::<Vec<_>>());
    let reset = ClientEvent::Reset { channel: channel(1), epoch: Epoch(1), floor: Seq(15), head: Seq(20) };
    assert_eq!(world.count(|event| *event == reset), 1);
}

#[test]
fn a_new_epoch_starts_the_channel_over() {
    let mut world = connected(STREAM, 10);
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
    (0..3).for_each(|_| world.server.append(channel(1), "x"));
    world.run_until("three", MINUTE, |world| world.delivered(channel(1)) == [1, 2, 3]);
    world.server.epoch = Epoch(2);
    world.cut();
    world.run_until("three again", MINUTE, |world| world.delivered(channel(1)) == [1, 2, 3, 1, 2, 3]);
    assert_eq!(world.client.saved_state().cursors[0].1.epoch, Some(Epoch(2)));
}

#[test]
fn lagged_all_syncs_the_inbox_and_repairs_the_channels() {
    let mut world = connected(STREAM, 11);
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
    world.run_for(SECOND);
    world.server.mood.drop_push = 1_000_000;
    (0..5).for_each(|_| world.server.append(channel(1), "x"));
    world.server.take_output();
    world.server.send(&Frame::Lagged(Lagged::All { user_seq: UserSeq(5) }));
    world.run_until("repair", MINUTE, |world| world.delivered(channel(1)).len() == 5);
    assert_eq!(world.client.saved_state().user_seq, UserSeq(5));
}

#[test]
fn a_user_without_room_is_not_flooded_and_misses_nothing() {
    let mut world = connected(STREAM, 12);
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
    world.client.set_room(world.now, channel(1), 0);
    (0..1000).for_each(|_| world.server.append(channel(1), "x"));
    world.run_for(SECOND);
    assert_eq!(world.delivered(channel(1)), []);
    for taken in (100..=1000).step_by(100) {
        world.client.set_room(world.now, channel(1), 100);
        world.drain();
        world.run_for(SECOND);
        assert_eq!(world.delivered(channel(1)).len(), taken);
    }
    assert_eq!(world.delivered(channel(1)), (1..=1000).collect::<Vec<_>>());
}

/// SPEC W-ERR-1.
#[test]
fn requests_are_repeated_until_answered_and_fail_at_their_deadline() {
    let mut world = connected(STREAM, 13);
    world.server.mood.refuse = 900_000;
    let request = world.client.request(world.now, Request::Open { peer: UserId::NIL }).expect("room");
    world.drain();
    let answered = |world: &World| world.count(|event| matches!(event, ClientEvent::Answered { .. }));
    world.run_until("an answer", MINUTE, |world| answered(world) == 1);
    assert!(matches!(
        world.events.last(),
        Some(ClientEvent::Answered { request: id, result: Ok(Answer::Channel { .. }) }) if *id == request
    ));
    world.server.mood.refuse = 1_000_000;
    world.client.request(world.now, Request::Open { peer: UserId::NIL }).expect("room");
    world.drain();
    world.run_until("a failure", MINUTE, |world| answered(world) == 2);
    let timeout = ClientEvent::Answered {
        request: throng_wire::RequestId(request.0 + 1),
        result: Err(RequestError::Timeout),
    };
    assert_eq!(world.events.last(), Some(&timeout), "{:?}", world.events.last());
}

#[test]
fn an_idle_session_speaks_within_its_heartbeat_and_hears_that_the_server_lives() {
    let mut world = connected(WEBSOCKET, 14);
    world.run_for(MINUTE);
    let pings = world.server.log.iter().filter(|name| *name == "PING").count();
    assert!((12..=24).contains(&pings), "one every 5 s: {pings}");
    assert!(world.client.is_open());
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let mut world = connected(STREAM, 15);
    world.server.silent = true;
    let silent =
        |event: &ClientEvent| matches!(event, ClientEvent::Disconnected { reason: Reason::Silent, .. });
    world.run_until("silence is noticed", Duration::from_secs(16), |world| world.count(silent) == 1);
}

#[test]
fn a_server_that_dies_without_a_word_is_left_soon_if_it_owes_an_answer() {
    let mut world = connected(STREAM, 24);
    world.run_for(MINUTE);
    world.server.dead = true;
    publish(&mut world, 1, "x");
    let silent =
        |event: &ClientEvent| matches!(event, ClientEvent::Disconnected { reason: Reason::Silent, .. });
    world.run_until("silence is noticed", Duration::from_millis(7100), |world| world.count(silent) == 1);
    world.server.dead = false;
    world.run_until("the ack", SECOND, |world| world.client.unanswered_sends() == 0);
}

#[test]
fn a_slow_answer_is_no_reason_to_leave() {
    let mut world = connected(STREAM, 25);
    world.server.mood.refuse = 1_000_000;
    publish(&mut world, 1, "x");
    world.run_for(MINUTE);
    assert_eq!(world.connects.len(), 1, "the server answers PINGs meanwhile");
}

#[test]
fn a_ping_that_asks_is_answered() {
    let mut world = connected(STREAM, 16);
    world.server.send(&Frame::Ping(Ping { wants_answer: true, nonce: 7 }));
    world.server.send(&Frame::Ping(Ping { wants_answer: false, nonce: 8 }));
    world.run_for(SECOND);
    assert_eq!(world.server.log.iter().filter(|name| *name == "PONG").count(), 1);
}

#[test]
fn a_refused_token_parks_the_client_until_there_is_another() {
    let mut world = World::new(STREAM, 17);
    world.server.refuse_login = Some(Code::TOKEN_EXPIRED);
    let refused = ClientEvent::TokenRefused { code: Code::TOKEN_EXPIRED };
    world.run_until("refusal", SECOND, |world| world.events.contains(&refused));
    world.run_for(MINUTE);
    assert_eq!(world.connects.len(), 1, "asking again with the same token is of no use");
    world.server.refuse_login = None;
    world.client.set_token(world.now, Bytes::from_static(b"token"));
    world.run_until("connect", SECOND, |world| world.client.is_open());
}

/// SPEC W-ERR-2.
#[test]
fn codes_to_give_up_on_end_the_client_and_codes_to_resume_on_do_not() {
    let mut world = World::new(STREAM, 18);
    world.server.refuse_login = Some(Code::VERSION);
    world.run_until("the end", SECOND, |world| world.client.is_done());
    let mut world = World::new(STREAM, 18);
    world.server.refuse_login = Some(Code::OVERLOADED);
    world.run_until("three tries", MINUTE, |world| world.connects.len() == 3);
}

#[test]
fn goaway_moves_the_session_to_where_it_says() {
    let mut world = connected(STREAM, 19);
    world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
    world.server.send(&Frame::Goaway(Goaway {
        after_ms: 2000,
        endpoints: vec!["ws://other:1"],
        ticket: b"t",
    }));
    world.run_until("the move", Duration::from_secs(2), |world| world.connects.len() == 2);
    assert_eq!(world.connects[1], "ws://other:1/v1/ws");
    assert!(world.server.log.contains(&"CLOSE".into()));
    world.server.append(channel(1), "x");
    world.run_until("delivery", SECOND, |world| world.delivered(channel(1)) == [1]);
}

#[test]
fn closing_says_goodbye_and_keeps_what_was_not_answered() {
    let mut world = connected(WEBSOCKET, 20);
    world.server.mood.refuse = 1_000_000;
    publish(&mut world, 1, "unheard");
    world.run_for(SECOND);
    world.client.close(world.now);
    world.drain();
    assert!(world.client.is_done() && world.client.poll_timeout().is_none());
    assert_eq!(world.server.log.last().map(String::as_str), Some("CLOSE"));
    let saved = world.client.saved_state();
    assert_eq!(
        (saved.sends.len(), saved.sends[0].client_msg_id, saved.next_client_msg_id),
        (1, ClientMsgId(1), ClientMsgId(2))
    );
}

#[test]
fn closing_is_possible_at_any_moment() {
    for url in [STREAM, WEBSOCKET] {
        for ms in 0..60 {
            let mut world = World::new(url, ms);
            world.run_for(Duration::from_millis(ms));
            world.client.close(world.now);
            world.drain();
            assert!(world.client.is_done() && world.client.poll_timeout().is_none());
            let closed = ClientEvent::Closed { reason: Reason::Local };
            assert_eq!(world.count(|event| *event == closed), 1);
        }
    }
}

/// No bytes of a server may make the machine panic; at worst it leaves.
#[test]
fn garbage_from_the_server_ends_the_connection_and_nothing_else() {
    for seed in 0..300 {
        let url = if seed % 2 == 0 { STREAM } else { WEBSOCKET };
        let mut world = connected(url, seed);
        world.client.subscribe(world.now, channel(1), Start::After(Cursor::default())).expect("room");
        publish(&mut world, 1, "x");
        for _ in 0..20 {
            let mut bytes: Vec<u8> =
                (0..world.rng.between(1, 64)).map(|_| world.rng.next_u64() as u8).collect();
            if world.rng.chance(700_000) {
                // A frame that begins well: length, type, no flags.
                let frame_type = world.rng.below(0x40) as u8;
                bytes.splice(0..0, [bytes.len() as u8 + 2, frame_type, 0]);
                if url == WEBSOCKET {
                    bytes.splice(0..0, [0x82, bytes.len() as u8]);
                }
            }
            world.client.handle_bytes(world.now, &mut bytes);
            world.drain();
            world.run_for(Duration::from_millis(20));
        }
    }
}

/// SPEC W-PUB-3.
#[test]
fn a_repeat_is_answered_with_the_first_number() {
    let mut world = connected(STREAM, 21);
    let id = publish(&mut world, 1, "once");
    world.run_until("the ack", SECOND, |world| world.client.unanswered_sends() == 0);
    assert!(world.client.repeat(world.now, channel(1), id, b"once"));
    world.drain();
    let repeated = ClientEvent::RepeatAcked { channel: channel(1), client_msg_id: id, seq: Seq(1) };
    world.run_until("the second answer", SECOND, |world| world.events.contains(&repeated));
    assert_eq!(world.server.head(channel(1)), Seq(1));
}

/// A copy from behind the window would be stored ahead of it.
#[test]
fn a_send_that_waits_for_its_turn_is_not_repeated() {
    let mut world = connected(STREAM, 21);
    let body = Bytes::from_static(b"x");
    let publish =
        |world: &mut World| world.client.publish(world.now, channel(1), body.clone()).expect("room");
    let ids: Vec<_> = (0..17).map(|_| publish(&mut world)).collect();
    assert!(world.client.repeat(world.now, channel(1), ids[15], &body), "it is on its way");
    assert!(!world.client.repeat(world.now, channel(1), ids[16], &body), "it is not");
}

#[test]
fn the_outbox_has_a_limit() {
    let mut world = World::new(STREAM, 22);
    world.reachable = false;
    let body = Bytes::from_static(b"x");
    let accepted =
        (0..10_000).take_while(|_| world.client.publish(world.now, channel(1), body.clone()).is_ok()).count();
    assert_eq!(accepted, throng_client_core::limits::OUTBOX_SENDS_MAX);
}

#[test]
fn a_thousand_subscriptions_are_made_with_sixty_four_in_flight() {
    let mut world = connected(STREAM, 23);
    for n in 0..1000u32 {
        let mut id = channel(9);
        id.0[..4].copy_from_slice(&n.to_be_bytes());
        world.client.subscribe(world.now, id, Start::After(Cursor::default())).expect("room");
        world.drain();
    }
    let subscribed = |event: &ClientEvent| matches!(event, ClientEvent::Subscribed { .. });
    world.run_until("all of them", MINUTE, |world| world.count(subscribed) == 1000);
}

#[test]
fn a_machine_at_rest_is_small() {
    assert!(size_of::<throng_client_core::Client>() <= 900, "{}", size_of::<throng_client_core::Client>());
}
