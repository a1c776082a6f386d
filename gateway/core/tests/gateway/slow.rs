//! Readers that do not keep up: bounded, told, and in the end closed. Nobody else waits.

use std::time::Duration;

use throng_base::Rng;
use throng_gateway_core::{GatewayConfig, SessionKey};
use throng_wire::frame::{Fetch, Frame, Freshness, Ping};
use throng_wire::link::Answer;
use throng_wire::{Epoch, Event, EventKind, MemberNo, RequestId, Seq, ServerTs};

use crate::harness::{SHARDS, World, channel, publish};

fn scene(config: GatewayConfig) -> (World, SessionKey, SessionKey) {
    let mut world = World::with(GatewayConfig { shards: SHARDS, ..config });
    world.router.add(1, &["slow", "quick"]);
    let (slow, quick) = (world.login_websocket("slow"), world.login_websocket("quick"));
    for key in [slow, quick] {
        world.subscribe(key, 1, 1);
        world.received(key);
    }
    (world, slow, quick)
}

#[test]
fn deliveries_above_the_budget_are_dropped_and_announced_once() {
    let (mut world, slow, quick) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    let text = "x".repeat(1_000);
    for _ in 0..200 {
        world.event(1, &text);
    }
    assert_eq!(world.received(quick).len(), 200);
    let waiting = world.gateway.outbox_len(slow);
    assert!(waiting <= 64 * 1024);
    // A little room is no reason to announce a head that will not last.
    assert_eq!(world.gateway.pull(world.now, slow, &mut Vec::new(), 0), 0);
    world.read_some(slow, 100);
    assert_eq!(world.gateway.outbox_len(slow), waiting - 100);
    world.unstick(slow);
    let received = world.received(slow);
    let kept = received.len() - 1;
    assert!(kept > 60, "{kept} of 64 KiB");
    assert!(received[kept - 1].starts_with(&format!("DELIVER 1.{kept} ")), "in order, without a hole");
    assert_eq!(received[kept], "LAGGED 1.200"); // SPEC W-LAG-1
    world.event(1, "again");
    assert_eq!(world.received(slow), ["DELIVER 1.201 again"]);
    assert_eq!(world.gateway.counters().deliveries_dropped, 200 - kept as u64);
    assert_eq!(world.gateway.queued_bytes(), 0);
}

#[test]
fn lagged_comes_before_the_next_delivery_of_its_channel() {
    let (mut world, slow, _) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    let text = "x".repeat(30_000);
    for _ in 0..4 {
        world.event(1, &text);
    }
    // Room for small ones, but the third and fourth are owed.
    world.event(1, "small");
    world.unstick(slow);
    let heads: Vec<String> =
        world.received(slow).iter().map(|frame| frame.chars().take(11).collect()).collect();
    assert_eq!(heads, ["DELIVER 1.1", "DELIVER 1.2", "LAGGED 1.5"]);
}

#[test]
fn above_sixteen_channels_one_lagged_stands_for_all() {
    let mut world = World::new();
    for n in 1..=17 {
        world.router.add(n, &["slow"]);
    }
    let slow = world.login("slow");
    for n in 1..=17 {
        world.subscribe(slow, u64::from(n), n);
    }
    world.received(slow);
    let session = throng_wire::link::SessionRef(slow.to_u64());
    let hint = throng_wire::link::ToGateway::Hint {
        session,
        channel: channel(99),
        head: Seq(1),
        user_seq: throng_wire::UserSeq(123),
    };
    for (channels, expected) in [(16, 16), (17, 1)] {
        world.stuck.insert(slow);
        world.event(1, &"x".repeat(65_000));
        for n in (1..=channels).rev() {
            world.event(n, &"y".repeat(2_000));
        }
        world.unstick(slow);
        let lagged: Vec<String> =
            world.received(slow).into_iter().filter(|frame| frame.starts_with("LAGGED")).collect();
        assert_eq!(lagged.len(), expected, "{lagged:?}");
        if channels == 17 {
            assert_eq!(lagged, ["LAGGED all 123"]);
        }
        world.router_says(crate::harness::NODE, hint.clone());
        world.received(slow);
    }
}

#[test]
fn answers_are_never_dropped() {
    let (mut world, slow, _) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    for _ in 0..100 {
        world.event(1, &"x".repeat(1_000));
    }
    for id in 1..=50 {
        world.send(slow, publish(1, id, "x"));
    }
    world.unstick(slow);
    let acks = world.received(slow).into_iter().filter(|frame| frame.starts_with("ACK")).count();
    assert_eq!(acks, 50);
}

#[test]
fn requests_for_pages_wait_until_the_client_reads() {
    let (mut world, slow, _) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    world.is_answering = false;
    let fetch = |request| {
        Frame::Fetch(Fetch {
            request: RequestId(request),
            channel: channel(1),
            after: Seq(0),
            epoch: Epoch(1),
            limit: 200,
            freshness: Freshness::Stale,
        })
    };
    let page = || {
        let body: bytes::Bytes = vec![b'x'; 60_000].into();
        let (sender, ts, kind) = (MemberNo(1), ServerTs(1), EventKind::MESSAGE);
        let event = Event { seq: Seq(1), kind, sender, ts, origin: None, body };
        Answer::Page { head: Seq(1), events: vec![event] }
    };
    for request in 1..=12 {
        world.send(slow, fetch(request));
    }
    let mut answered = 0;
    while answered < 12 {
        let requests = world.requests();
        if requests.is_empty() {
            assert!(world.gateway.outbox_len(slow) > 200_000);
            world.unstick(slow);
            world.stuck.insert(slow);
        }
        for (node, request) in requests {
            answered += 1;
            world.reply(node, request.id, Ok(page()));
            assert!(world.gateway.outbox_len(slow) <= 64 * 1024 + 256 * 1024, "bounded whatever is asked");
        }
    }
    world.unstick(slow);
    assert_eq!(world.received(slow).len(), 12);
    assert!(world.closed.is_empty());
}

#[test]
fn who_does_not_read_for_ten_seconds_is_closed() {
    let (mut world, slow, quick) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    world.event(1, "unread");
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        for key in [slow, quick] {
            world.send(key, Frame::Ping(Ping { wants_answer: false, nonce: 0 }));
        }
    }
    assert!(world.closed.is_empty());
    world.pass(Duration::from_millis(400));
    assert_eq!(world.closed, [(slow, throng_wire::Code::SLOW_CONSUMER)]);
    assert!(world.gateway.outbox_len(slow) < 50, "the backlog is freed; CLOSE waits for its chance");
    world.unstick(slow);
    assert_eq!(world.received(slow), ["CLOSE SLOW_CONSUMER"]);
    world.event(1, "for the others");
    assert_eq!(world.received(quick).len(), 2);
}

#[test]
fn a_reader_that_takes_a_little_at_a_time_is_not_closed() {
    let (mut world, slow, quick) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    for _ in 0..20 {
        world.event(1, &"x".repeat(1_000));
    }
    // It stays 6 s behind for 18 s.
    let mut out = Vec::new();
    for _ in 0..60 {
        world.pass(Duration::from_millis(300));
        world.event(1, &"x".repeat(1_000));
        world.gateway.pull(world.now, slow, &mut out, 1_040);
        for key in [slow, quick] {
            world.send(key, Frame::Ping(Ping { wants_answer: false, nonce: 0 }));
        }
    }
    assert!(world.closed.is_empty());
}

#[test]
fn who_provokes_more_than_it_reads_is_closed() {
    let (mut world, slow, _) = scene(GatewayConfig::default());
    world.stuck.insert(slow);
    let mut pings = 0;
    while world.closed.is_empty() {
        world.send(slow, Frame::Ping(Ping { wants_answer: true, nonce: 1 }));
        pings += 1;
        assert!(pings < 100_000, "bounded");
        assert!(world.gateway.outbox_len(slow) < 360 * 1024);
    }
    assert_eq!(world.closed, [(slow, throng_wire::Code::SLOW_CONSUMER)]);
}

#[test]
fn the_loops_budget_holds_and_only_lagging_sessions_pay() {
    let config = GatewayConfig { queued_total: 200_000, ..GatewayConfig::default() };
    let mut world = World::with(GatewayConfig { shards: SHARDS, ..config });
    let names: Vec<String> = (0..20).map(|n| format!("user {n}")).collect();
    world.router.add(1, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let keys: Vec<SessionKey> = names.iter().map(|name| world.login(name)).collect();
    for key in &keys {
        world.subscribe(*key, 1, 1);
    }
    world.stuck.extend(&keys[..19]);
    for _ in 0..50 {
        world.event(1, &"x".repeat(1_000));
        assert!(world.gateway.queued_bytes() <= 200_000);
    }
    assert_eq!(world.received(keys[19]).len(), 51);
}

/// Whatever a client reads and when: its numbers rise, and every hole is announced before the next delivery.
#[test]
fn no_hole_is_silent() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let (mut world, slow, _) = scene(GatewayConfig { outbox_bytes: 4_096, ..GatewayConfig::default() });
        for _ in 0..300 {
            match rng.below(10) {
                0 => {
                    world.stuck.insert(slow);
                }
                1 => world.unstick(slow),
                _ => world.event(1, &"x".repeat(rng.below(1_500) as usize)),
            }
        }
        world.unstick(slow);
        let mut known = 0;
        for frame in world.received(slow) {
            if let Some(head) = frame.strip_prefix("LAGGED 1.") {
                known = head.parse().expect("a number");
            } else {
                let rest = frame.strip_prefix("DELIVER 1.").expect("nothing else is sent");
                let seq: u64 = rest.split(' ').next().and_then(|seq| seq.parse().ok()).expect("a number");
                assert_eq!(seq, known + 1, "seed {seed}");
                known = seq;
            }
        }
        assert_eq!(known, world.router.head(1).0, "seed {seed}");
    }
}
