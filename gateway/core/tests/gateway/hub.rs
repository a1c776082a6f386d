//! Who gets an event.

use throng_gateway_core::limits::SUBSCRIPTIONS_PER_SESSION;
use throng_wire::event::EventKind;
use throng_wire::frame::{Frame, Subscribe, Unsubscribe};
use throng_wire::link::{SessionRef, ToGateway, ToRouter};
use throng_wire::{ChannelId, Epoch, RequestId, Seq, UserSeq};

use crate::harness::{NODE, World, channel, publish};

fn unsubscribe(n: u8) -> Frame<'static> {
    Frame::Unsubscribe(Unsubscribe { channel: channel(n) })
}

#[test]
fn events_go_to_subscribers_and_the_origin_to_the_senders_own_sessions() {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (phone, laptop, bob, idle) = (
        world.login("alice"),
        world.login_websocket("alice"),
        world.login_websocket("bob"),
        world.login("bob"),
    );
    for key in [phone, laptop, bob] {
        world.subscribe(key, 1, 1);
        assert_eq!(world.received(key), ["SUBSCRIBED 1 at 0"]);
    }
    world.send(phone, publish(1, 77, "hi"));
    assert_eq!(world.received(phone), ["DELIVER 1.1 hi from 1/77", "ACK 77 is 1"]);
    assert_eq!(world.received(laptop), ["DELIVER 1.1 hi from 1/77"]);
    assert_eq!(world.received(bob), ["DELIVER 1.1 hi"]); // SPEC W-DEL-3
    assert_eq!(world.received(idle), [""; 0]);
    world.event(1, "system");
    assert_eq!(world.received(laptop), ["DELIVER 1.2 system"]);
    let counters = world.gateway.counters();
    assert_eq!((counters.events, counters.deliveries, counters.deliveries_dropped), (2, 6, 0));
}

#[test]
fn a_stranger_is_refused_and_hears_nothing() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let (alice, mallory) = (world.login("alice"), world.login("mallory"));
    world.subscribe(alice, 1, 1);
    world.subscribe(mallory, 1, 1);
    assert_eq!(world.received(mallory), ["ERROR NOT_FOUND for 1"]);
    world.event(1, "secret");
    assert_eq!(world.received(mallory), [""; 0]);
    assert_eq!(world.received(alice).len(), 2);
}

#[test]
fn deliveries_begin_behind_the_point_of_subscription() {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    world.subscribe(alice, 1, 1);
    world.is_answering = false;
    world.subscribe(bob, 1, 1);
    world.event(1, "one"); // passes before bob's answer
    assert_eq!(world.received(bob), [""; 0]);
    world.answer_all();
    world.event(1, "two");
    assert_eq!(world.received(bob), ["SUBSCRIBED 1 at 1", "DELIVER 1.2 two"]);
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 one", "DELIVER 1.2 two"]);
}

#[test]
fn subscribing_twice_delivers_once() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let alice = world.login("alice");
    world.subscribe(alice, 1, 1);
    world.subscribe(alice, 2, 1);
    world.event(1, "once"); // SPEC W-SUB-3
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0", "SUBSCRIBED 2 at 0", "DELIVER 1.1 once"]);
}

#[test]
fn the_last_one_to_unsubscribe_ends_the_gateways_subscription() {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    world.subscribe(alice, 1, 1);
    world.subscribe(bob, 1, 1);
    world.send(alice, unsubscribe(1));
    world.event(1, "to bob");
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0"]);
    assert_eq!(world.received(bob), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 to bob"]);
    assert!(world.router.subscribed.contains(&channel(1)));
    world.disconnect(bob);
    assert!(world.router.subscribed.is_empty());
    assert_eq!(world.gateway.channel_count(), 0);
    world.send(alice, unsubscribe(1)); // harmless
}

#[test]
fn the_gateway_does_not_unsubscribe_under_a_request_on_its_way() {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    world.subscribe(alice, 1, 1);
    world.is_answering = false;
    world.subscribe(bob, 1, 1);
    world.send(alice, unsubscribe(1));
    assert!(world.asked.iter().all(|(_, message)| matches!(message, ToRouter::Request(_))));
    world.answer_all();
    world.event(1, "x");
    assert_eq!(world.received(bob), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 x"]);

    // And one that is cancelled before its answer leaves nothing behind.
    world.send(bob, unsubscribe(1));
    world.is_answering = false;
    world.subscribe(bob, 2, 1);
    world.send(bob, unsubscribe(1));
    world.answer_all();
    assert_eq!(world.received(bob), ["SUBSCRIBED 2 at 1"]);
    assert!(world.router.subscribed.is_empty());
    world.event(1, "y");
    assert_eq!(world.received(bob), [""; 0]);
}

/// Contract C7.
#[test]
fn who_leaves_gets_the_event_that_says_so_and_nothing_after() {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (alice, phone, laptop) = (world.login("alice"), world.login("bob"), world.login("bob"));
    for key in [phone, alice, laptop] {
        world.subscribe(key, 1, 1);
    }
    world.event(1, "before");
    let left = world.router.leave(1, "bob");
    world.router_says(NODE, left);
    world.event(1, "after");
    for key in [phone, laptop] {
        assert_eq!(world.received(key), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 before", "DELIVER 1.2 kind 2"]);
    }
    assert_eq!(world.received(alice).last().map(String::as_str), Some("DELIVER 1.3 after"));
    assert_eq!(world.gateway.counters().left, 2);
    // Not even through a subscription that was asked for before.
    world.subscribe(phone, 2, 1);
    world.event(1, "later");
    assert_eq!(world.received(phone), ["ERROR NOT_FOUND for 2"]);
    // A delivery for nobody.
    let left = world.router.leave(1, "alice");
    world.router_says(NODE, left);
    assert_eq!(world.gateway.channel_count(), 0);
    assert!(world.router.subscribed.is_empty());
}

/// An answer comes from behind every event that came before it, and decides.
#[test]
fn who_leaves_and_comes_back_is_subscribed_by_the_answer_on_its_way() {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    for key in [alice, bob] {
        world.subscribe(key, 1, 1);
        world.received(key);
    }
    world.is_answering = false;
    world.subscribe(bob, 2, 1);
    let left = world.router.leave(1, "bob");
    world.router_says(NODE, left);
    world.event(1, "without bob");
    world.router.add(1, &["bob"]);
    world.answer_all();
    world.event(1, "with bob");
    assert_eq!(world.received(bob), ["DELIVER 1.1 kind 2", "SUBSCRIBED 2 at 2", "DELIVER 1.3 with bob"]);
}

#[test]
fn unsubscribing_and_subscribing_again_while_answers_are_on_their_way() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let alice = world.login("alice");
    world.is_answering = false;
    world.subscribe(alice, 1, 1);
    world.send(alice, unsubscribe(1));
    world.subscribe(alice, 2, 1);
    world.answer_all();
    world.event(1, "once");
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0", "SUBSCRIBED 2 at 0", "DELIVER 1.1 once"]);
    world.send(alice, unsubscribe(1));
    assert!(world.router.subscribed.is_empty());
}

#[test]
fn a_router_that_still_sends_what_nobody_watches_is_told_so() {
    let mut world = World::new();
    world.router.subscribed.insert(channel(1));
    world.event(1, "to nobody");
    assert!(world.router.subscribed.is_empty());
}

#[test]
fn a_left_event_that_names_nobody_silences_the_channel_until_rights_are_known() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let alice = world.login("alice");
    world.subscribe(alice, 1, 1);
    world.is_answering = false;
    let left = world.router.event(1, EventKind::LEFT, "garbage".into(), None);
    world.router_says(NODE, left);
    world.event(1, "withheld");
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 kind 2"]);
    world.answer_all();
    world.event(1, "heard");
    assert_eq!(world.received(alice), ["LAGGED 1.2", "DELIVER 1.3 heard"]);
}

#[test]
fn hints_become_lagged_unless_a_delivery_as_new_has_passed() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let alice = world.login("alice");
    let session = SessionRef(alice.to_u64());
    let hint = |n: u8, head: u64, user_seq: u64| ToGateway::Hint {
        session,
        channel: channel(n),
        head: Seq(head),
        user_seq: UserSeq(user_seq),
    };
    world.subscribe(alice, 1, 1);
    world.event(1, "pushed");
    world.router_says(NODE, hint(1, 1, 10));
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 pushed"]);
    world.router_says(NODE, hint(1, 2, 11));
    world.router_says(NODE, hint(9, 4, 12));
    assert_eq!(world.received(alice), ["LAGGED 1.2", "LAGGED 9.4"]);
    assert_eq!(world.gateway.counters().hints_passed, 1);
    let stale = SessionRef(alice.to_u64() ^ 1 << 40);
    world.router_says(
        NODE,
        ToGateway::Hint { session: stale, channel: channel(1), head: Seq(9), user_seq: UserSeq(9) },
    );
    assert_eq!(world.received(alice), [""; 0]);
}

#[test]
fn events_come_in_rising_order_only() {
    let mut world = World::new();
    world.router.add(1, &["alice"]);
    let alice = world.login("alice");
    world.subscribe(alice, 1, 1);
    let deliver = |world: &mut World| world.router.event(1, EventKind::MESSAGE, "x".into(), None);
    let (first, second) = (deliver(&mut world), deliver(&mut world));
    world.router_says(NODE, second.clone());
    world.router_says(NODE, second);
    world.router_says(NODE, first);
    assert_eq!(world.received(alice), ["SUBSCRIBED 1 at 0", "DELIVER 1.2 x"]); // SPEC W-DEL-2
    let counters = world.gateway.counters();
    assert_eq!((counters.events_after_gap, counters.events_stale), (1, 2));
}

#[test]
fn subscriptions_of_a_session_are_bounded() {
    let mut world = World::new();
    let alice = world.login("alice");
    let id = |n: usize| {
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
        ChannelId(id)
    };
    for n in 0..=SUBSCRIPTIONS_PER_SESSION {
        world.router.members.insert(id(n), vec![crate::harness::user("alice")]);
        let subscribe =
            Subscribe { request: RequestId(n as u64), channel: id(n), after: Seq(0), epoch: Epoch(1) };
        world.send(alice, Frame::Subscribe(subscribe));
    }
    let received = world.received(alice);
    assert_eq!(received[SUBSCRIPTIONS_PER_SESSION], "ERROR LIMIT for 1024"); // SPEC W-LIM-3
    assert_eq!(world.gateway.channel_count(), SUBSCRIPTIONS_PER_SESSION);
    world.disconnect(alice);
    assert_eq!((world.gateway.channel_count(), world.router.subscribed.len()), (0, 0));
}
