//! Soft state comes back after broken links and new leaders, and nothing is lost silently (contracts C4, C5, C7).

use std::time::Duration;

use throng_base::Instant;
use throng_gateway_core::{SessionKey, Transport};
use throng_wire::event::EventKind;
use throng_wire::frame::{Frame, Sync};
use throng_wire::link::{Answer, Op, Refusal, ToGateway};
use throng_wire::{Code, Epoch, MemberNo, RequestId, Seq, UserSeq};

use crate::harness::{NODE, OTHER, SHARDS, World, channel};

/// Two members who watch channel 1 and have its first event.
fn scene() -> (World, SessionKey, SessionKey) {
    let mut world = World::new();
    world.router.add(1, &["alice", "bob"]);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    for key in [alice, bob] {
        world.subscribe(key, 1, 1);
    }
    world.event(1, "one");
    for key in [alice, bob] {
        assert_eq!(world.received(key), ["SUBSCRIBED 1 at 0", "DELIVER 1.1 one"]);
    }
    (world, alice, bob)
}

fn link_breaks(world: &mut World) {
    world.gateway.handle_router_down(world.now, NODE);
    world.router.forget_soft_state();
    world.pump();
}

fn link_returns(world: &mut World) {
    world.gateway.handle_router_up(world.now, NODE);
    world.pump();
}

#[test]
fn a_broken_link_heals_and_says_what_was_missed() {
    let (mut world, alice, bob) = scene();
    link_breaks(&mut world);
    let _ = world.router.event(1, EventKind::MESSAGE, "two, unheard".into(), None);
    link_returns(&mut world);
    assert!(world.router.subscribed.contains(&channel(1)));
    assert_eq!(world.router.registered.len(), 2);
    world.event(1, "three");
    for key in [alice, bob] {
        assert_eq!(world.received(key), ["LAGGED 1.2", "DELIVER 1.3 three"]);
    }
}

#[test]
fn a_break_in_which_nothing_happened_is_not_noticed() {
    let (mut world, alice, _) = scene();
    link_breaks(&mut world);
    link_returns(&mut world);
    world.event(1, "two");
    assert_eq!(world.received(alice), ["DELIVER 1.2 two"]);
}

#[test]
fn every_session_is_told_though_some_are_renewed_later_than_others() {
    let (mut world, alice, bob) = scene();
    link_breaks(&mut world);
    let _ = world.router.event(1, EventKind::MESSAGE, "two".into(), None);
    world.is_answering = false;
    link_returns(&mut world);
    let subscribes: Vec<_> =
        world.requests().into_iter().filter(|(_, r)| matches!(r.op, Op::Subscribe { .. })).collect();
    let [(_, first), (_, second)] = &subscribes[..] else { panic!("one for each user") };
    assert_eq!(first.op, Op::Subscribe { channel: channel(1), after: Seq(1), epoch: Epoch(1) });
    let subscribed = || Ok(Answer::Subscribed { head: Seq(2), member: MemberNo(1) });
    world.reply(NODE, first.id, subscribed());
    world.event(1, "three");
    world.reply(NODE, second.id, Ok(Answer::Subscribed { head: Seq(3), member: MemberNo(2) }));
    assert_eq!(world.received(alice), ["LAGGED 1.2", "DELIVER 1.3 three"]);
    assert_eq!(world.received(bob), ["LAGGED 1.3"], "silent until authorised again");
}

#[test]
fn who_was_removed_meanwhile_hears_nothing_more() {
    let (mut world, alice, bob) = scene();
    link_breaks(&mut world);
    let _unheard = world.router.leave(1, "bob");
    link_returns(&mut world);
    world.event(1, "secret");
    assert_eq!(world.received(alice), ["LAGGED 1.2", "DELIVER 1.3 secret"]);
    // Told that something happened: fetching shows its own LEFT event, and no more.
    assert_eq!(world.received(bob), ["LAGGED 1.2"]);
}

#[test]
fn a_new_leader_takes_over_and_the_old_ones_stream_is_ignored() {
    let (mut world, alice, bob) = scene();
    world.gateway.handle_router_up(world.now, OTHER);
    let late = world.router.event(1, EventKind::MESSAGE, "two, on the old link".into(), None);
    world.is_answering = false;
    world.lead_all(OTHER, 2);
    world.router_says(NODE, late);
    assert_eq!(world.received(alice), [""; 0]);
    let asked = world.requests();
    assert!(asked.iter().all(|(node, _)| *node == OTHER), "{asked:?}");
    assert_eq!(asked.len(), 4, "two registrations, two subscriptions");
    for (node, request) in asked {
        let answer = match request.op {
            Op::Register { .. } => Answer::Registered { user_seq: UserSeq(0) },
            _ => Answer::Subscribed { head: Seq(2), member: MemberNo(1) },
        };
        world.reply(node, request.id, Ok(answer));
    }
    let three = world.router.event(1, EventKind::MESSAGE, "three".into(), None);
    world.router_says(OTHER, three);
    for key in [alice, bob] {
        assert_eq!(world.received(key), ["LAGGED 1.2", "DELIVER 1.3 three"]);
    }
}

#[test]
fn only_the_leaders_stream_counts() {
    let (mut world, alice, _) = scene();
    world.gateway.handle_router_up(world.now, OTHER);
    world.lead_all(OTHER, 2);
    // The fake router answers whoever asks: everybody is live on the new leader's stream.
    let two = world.router.event(1, EventKind::MESSAGE, "two".into(), None);
    world.router_says(NODE, two.clone());
    assert_eq!(world.received(alice), [""; 0]);
    world.router_says(OTHER, two);
    assert_eq!(world.received(alice), ["DELIVER 1.2 two"]);
}

/// Removal moves the last entry of a list to the place of the removed one, which the walk may have passed.
#[test]
fn a_subscription_that_moves_during_a_renewal_is_renewed() {
    let mut world = World::new();
    let names: Vec<String> = (0..1_100).map(|n| format!("user {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.router.add(1, &names);
    let keys: Vec<SessionKey> = names.iter().map(|name| world.login(name)).collect();
    for key in &keys {
        world.subscribe(*key, 1, 1);
        world.received(*key);
    }
    link_breaks(&mut world);
    world.is_answering = false;
    link_returns(&mut world);
    // Registrations first, then as many subscriptions as may be under way at once.
    while world.asked.iter().all(|(_, message)| !format!("{message:?}").contains("Subscribe")) {
        for (node, message) in world.asked() {
            for message in world.router.handle(message) {
                world.gateway.handle_router(world.now, node, message);
            }
        }
        world.pump();
        world.pass(Duration::from_millis(5));
    }
    world.disconnect(keys[0]);
    world.answer_all();
    world.pass(Duration::from_millis(500));
    world.event(1, "one");
    for key in &keys[1..] {
        assert_eq!(world.received(*key), ["DELIVER 1.1 one"]);
    }
}

#[test]
fn an_answer_from_before_the_change_does_not_make_live() {
    let (mut world, alice, _) = scene();
    world.is_answering = false;
    world.router.add(2, &["alice"]);
    world.subscribe(alice, 5, 2);
    let (_, old) = world.requests().remove(0);
    world.lead_all(NODE, 2); // the same node, a new term
    world.reply(NODE, old.id, Ok(Answer::Subscribed { head: Seq(0), member: MemberNo(1) }));
    assert_eq!(world.received(alice), ["SUBSCRIBED 5 at 0"]);
    let unheard = world.router.event(2, EventKind::MESSAGE, "x".into(), None);
    world.router_says(NODE, unheard);
    assert_eq!(world.received(alice), [""; 0]);
    world.pass(Duration::from_millis(300));
    world.answer_all();
    world.pass(Duration::from_millis(300));
    assert_eq!(world.received(alice), ["LAGGED 2.1"]);
}

#[test]
fn what_a_shard_cannot_do_yet_is_tried_again() {
    let (mut world, alice, bob) = scene();
    link_breaks(&mut world);
    world.is_answering = false;
    link_returns(&mut world);
    let mut tries = 0;
    for _ in 0..4 {
        for (node, request) in world.requests() {
            tries += 1;
            let refusal = Refusal { code: Code::UNAVAILABLE, retry_after_ms: 0, leader: None };
            world.reply(node, request.id, Err(refusal));
        }
        world.pass(Duration::from_millis(260));
    }
    assert_eq!(tries, 16, "four tries of four, none in a hurry");
    world.answer_all();
    world.event(1, "two");
    for key in [alice, bob] {
        assert_eq!(world.received(key), ["DELIVER 1.2 two"]);
    }
}

#[test]
fn a_router_that_dropped_deliveries_makes_rights_unknown() {
    let (mut world, alice, bob) = scene();
    // Events 2 and 3 were dropped on the way; one of them removed bob.
    let _ = world.router.leave(1, "bob");
    let _ = world.router.event(1, EventKind::MESSAGE, "three".into(), None);
    world.router_says(NODE, ToGateway::Lagged { channel: channel(1), head: Seq(3) });
    world.event(1, "four");
    assert_eq!(world.received(alice), ["LAGGED 1.3", "DELIVER 1.4 four"]);
    assert_eq!(world.received(bob), ["LAGGED 1.2"]);
    // Nothing new in it: nothing happens.
    world.router_says(NODE, ToGateway::Lagged { channel: channel(1), head: Seq(4) });
    world.router_says(NODE, ToGateway::Lagged { channel: channel(99), head: Seq(4) });
    assert_eq!(world.received(alice), [""; 0]);
}

#[test]
fn a_renewed_registration_tells_how_far_the_inbox_moved() {
    let (mut world, alice, bob) = scene();
    link_breaks(&mut world);
    world.router.user_seq = UserSeq(40);
    link_returns(&mut world);
    for key in [alice, bob] {
        assert_eq!(world.received(key), ["LAGGED all 40"]);
    }
    link_breaks(&mut world);
    link_returns(&mut world);
    assert_eq!(world.received(alice), [""; 0], "it was told");
    // The first registration says nothing: the client's own SYNC comes behind it.
    let carol = world.login("carol");
    assert_eq!(world.received(carol), [""; 0]);
    // Nor does a later one about what a SYNC has shown.
    world.router.user_seq = UserSeq(50);
    let (request, after, epoch) = (RequestId(1), UserSeq(40), Epoch(1));
    world.send(carol, Frame::Sync(Sync { request, after, epoch, limit: 10 }));
    link_breaks(&mut world);
    link_returns(&mut world);
    assert_eq!(world.received(carol), ["SYNCED 1 to 50"]);
    assert_eq!(world.received(alice), ["LAGGED all 50"]);
}

#[test]
fn a_registration_refused_for_good_is_not_repeated() {
    let mut world = World::new();
    world.is_answering = false;
    let key = world.connect(Transport::Stream);
    world.log_in(key, "alice");
    let (node, register) = world.requests().remove(0);
    let refusal = Refusal { code: Code::LIMIT, retry_after_ms: 0, leader: None };
    world.reply(node, register.id, Err(refusal));
    world.pass_alive(key, Duration::from_secs(3));
    assert!(world.requests().is_empty());
    world.lead_all(NODE, 2);
    assert_eq!(world.requests().len(), 1, "a new leader may have room");
}

#[test]
fn a_reset_ends_the_subscription_until_the_client_starts_over() {
    let (mut world, alice, _) = scene();
    link_breaks(&mut world);
    world.is_answering = false;
    link_returns(&mut world);
    let requests = world.requests();
    let (_, renewal) =
        requests.iter().find(|(_, r)| matches!(r.op, Op::Subscribe { .. })).expect("a renewal");
    let reset = Answer::ResetChannel { epoch: Epoch(2), floor: Seq(5), head: Seq(9) };
    world.reply(NODE, renewal.id, Ok(reset));
    assert_eq!(world.received(alice), ["RESET 1 5..9"]);
    world.event(1, "x");
    assert_eq!(world.received(alice), [""; 0]);
}

#[test]
fn many_sessions_are_renewed_in_paced_batches() {
    let mut world = World::new();
    let names: Vec<String> = (0..2_000).map(|n| format!("user {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.router.add(1, &names);
    let keys: Vec<SessionKey> = names.iter().map(|name| world.login(name)).collect();
    for key in &keys {
        world.subscribe(*key, 1, 1);
    }
    link_breaks(&mut world);
    let _ = world.router.event(1, EventKind::MESSAGE, "unheard".into(), None);
    world.is_answering = false;
    link_returns(&mut world);
    let start: Instant = world.now;
    let mut rounds = 0;
    while world.router.registered.len() < keys.len() || world.router.renewed < 4_000 {
        assert!(world.asked.len() <= 512, "never more under way");
        for (node, message) in world.asked() {
            for message in world.router.handle(message) {
                world.gateway.handle_router(world.now, node, message);
            }
        }
        world.pump();
        world.pass(Duration::from_millis(5));
        rounds += 1;
        assert!(rounds < 100, "{} of {SHARDS} shards", world.router.registered.len());
    }
    assert!(world.now - start < Duration::from_millis(500));
    for key in keys {
        let received = world.received(key);
        assert_eq!(received.iter().filter(|frame| *frame == "LAGGED 1.1").count(), 1, "{received:?}");
    }
}
