//! Requests find their shard, and every one is answered.

use std::time::Duration;

use throng_gateway_core::GatewayConfig;
use throng_wire::frame::{ChannelClass, Create, Fetch, Frame, Freshness, Join, Leave, Members, Open, Sync};
use throng_wire::link::{Answer, Op, Refusal, ToGateway};
use throng_wire::{
    ChannelId, Code, Epoch, MemberNo, NodeId, RequestId, Seq, ServerTs, ShardId, UserId, UserSeq,
};

use crate::harness::{NODE, OTHER, SHARDS, World, channel, publish, user};

fn fetch(request: u64, n: u8) -> Frame<'static> {
    Frame::Fetch(Fetch {
        request: RequestId(request),
        channel: channel(n),
        after: Seq(0),
        epoch: Epoch(1),
        limit: 200,
        freshness: Freshness::Linearizable,
    })
}

fn refusal(code: Code, leader: Option<NodeId>) -> Refusal {
    Refusal { code, retry_after_ms: 0, leader }
}

#[test]
fn every_request_becomes_its_operation_and_every_answer_its_frame() {
    let mut world = World::new();
    let key = world.login("alice");
    world.is_answering = false;
    let (alice, bob) = (user("alice"), user("bob"));
    let (request, one) = (RequestId(1), channel(1));
    let channel_answer = || Answer::Channel { class: ChannelClass::Group, head: Seq(1), member: MemberNo(7) };
    let create = Create { request, channel: one, class: ChannelClass::Group, members: vec![bob] };
    let direct = ChannelId::direct(alice, bob);
    let cases: Vec<(Frame<'_>, Op, Answer, &str)> = vec![
        (
            Frame::Create(create),
            Op::Create { channel: one, class: ChannelClass::Group, members: vec![bob] },
            channel_answer(),
            "CHANNEL 1 Group member 7",
        ),
        (
            Frame::Open(Open { request, peer: bob }),
            Op::Create { channel: direct, class: ChannelClass::Direct, members: vec![bob] },
            Answer::Channel { class: ChannelClass::Direct, head: Seq(1), member: MemberNo(1) },
            "CHANNEL 1 Direct member 1",
        ),
        (
            Frame::Open(Open { request, peer: alice }),
            Op::Create {
                channel: ChannelId::direct(alice, alice),
                class: ChannelClass::Direct,
                members: vec![],
            },
            channel_answer(),
            "CHANNEL 1 Group member 7",
        ),
        (
            Frame::Join(Join { request, channel: one, user: UserId::NIL }),
            Op::Join { channel: one, user: alice },
            channel_answer(),
            "CHANNEL 1 Group member 7",
        ),
        (
            Frame::Leave(Leave { request, channel: one, user: bob }),
            Op::Leave { channel: one, user: bob },
            channel_answer(),
            "CHANNEL 1 Group member 7",
        ),
        (
            Frame::Members(Members { request, channel: one, after: MemberNo(0), limit: 10 }),
            Op::Members { channel: one, after: MemberNo(0), limit: 10 },
            Answer::Members { more: false, members: vec![] },
            "MEMBERS_PAGE 1 of 0",
        ),
        (
            fetch(1, 1),
            Op::Fetch {
                channel: one,
                after: Seq(0),
                epoch: Epoch(1),
                limit: 200,
                freshness: Freshness::Linearizable,
            },
            Answer::ResetChannel { epoch: Epoch(1), floor: Seq(5), head: Seq(9) },
            "RESET 1 5..9",
        ),
        (
            Frame::Sync(Sync { request, after: UserSeq(3), epoch: Epoch(1), limit: 50 }),
            Op::Sync { after: UserSeq(3), epoch: Epoch(1), limit: 50 },
            Answer::Synced { cursor: UserSeq(8), more: false, entries: vec![] },
            "SYNCED 1 to 8",
        ),
        (
            Frame::Sync(Sync { request, after: UserSeq(3), epoch: Epoch(1), limit: 50 }),
            Op::Sync { after: UserSeq(3), epoch: Epoch(1), limit: 50 },
            Answer::ResetInbox { epoch: Epoch(2), user_seq: UserSeq(8) },
            "RESET inbox 8",
        ),
    ];
    for (frame, op, answer, shown) in cases {
        world.send(key, frame);
        let [(NODE, request)] = &world.requests()[..] else { panic!("one request") };
        assert_eq!((&request.op, request.user), (&op, alice));
        world.reply(NODE, request.id, Ok(answer));
        assert_eq!(world.received(key), [shown]);
    }
    assert_eq!(world.gateway.pending_count(), 0);
}

#[test]
fn create_of_a_direct_channel_is_unsupported() {
    let mut world = World::new();
    let key = world.login("alice");
    let create = Create {
        request: RequestId(4),
        channel: channel(1),
        class: ChannelClass::Direct,
        members: vec![user("bob")],
    };
    world.send(key, Frame::Create(create)); // SPEC W-CH-2
    assert_eq!(world.received(key), ["ERROR UNSUPPORTED for 4"]);
}

#[test]
fn create_under_an_id_kept_for_direct_channels_goes_nowhere() {
    let mut world = World::new();
    let key = world.login("mallory");
    world.is_answering = false;
    let channel = ChannelId::direct(user("alice"), user("bob"));
    for class in [ChannelClass::Group, ChannelClass::Open] {
        let create = Create { request: RequestId(4), channel, class, members: vec![] };
        world.send(key, Frame::Create(create)); // SPEC W-CH-6
        assert_eq!(world.received(key), ["ERROR LIMIT for 4"]);
    }
    assert!(world.requests().is_empty(), "no router was asked");
}

#[test]
fn an_answer_that_does_not_fit_its_request_is_an_internal_error() {
    let mut world = World::new();
    let key = world.login("alice");
    world.is_answering = false;
    world.send_all(key, &[fetch(1, 1), publish(1, 2, "x")]);
    for (_, request) in world.requests() {
        world.reply(NODE, request.id, Ok(Answer::Registered { user_seq: UserSeq(1) }));
        world.reply(NODE, request.id, Ok(Answer::Registered { user_seq: UserSeq(1) })); // twice: ignored
    }
    assert_eq!(world.received(key), ["ERROR INTERNAL for 1", "ERROR INTERNAL for send 2"]);
    world.reply(NODE, 999, Err(refusal(Code::BUSY, None)));
}

#[test]
fn requests_go_to_the_leader_of_their_shard() {
    let mut world = World::new();
    world.gateway.handle_router_up(world.now, OTHER);
    let shard = ShardId::of_channel(&channel(1), SHARDS);
    world.router_says(OTHER, ToGateway::Leads { shards: vec![(shard, Some(OTHER), 2)] });
    let key = world.login("alice");
    world.is_answering = false;
    world.send(key, publish(1, 1, "x"));
    assert_eq!(world.requests()[0].0, OTHER);
    let elsewhere = (2..99).find(|n| ShardId::of_channel(&channel(*n), SHARDS) != shard).expect("spread");
    world.send(key, publish(elsewhere, 2, "x"));
    assert_eq!(world.requests()[0].0, NODE);
}

#[test]
fn a_refusal_that_names_the_leader_is_followed_three_times() {
    let mut world = World::new();
    world.gateway.handle_router_up(world.now, OTHER);
    let key = world.login("alice");
    world.is_answering = false;
    world.send(key, publish(1, 1, "x"));
    let mut at = NODE;
    for _ in 0..4 {
        let [(node, request)] = &world.requests()[..] else { panic!("one request") };
        assert_eq!(*node, at);
        assert_eq!(world.received(key), [""; 0]);
        let next = if at == NODE { OTHER } else { NODE };
        world.reply(at, request.id, Err(refusal(Code::UNAVAILABLE, Some(next))));
        at = next;
    }
    assert_eq!(world.received(key), ["ERROR UNAVAILABLE for send 1"]);
    assert_eq!((world.gateway.counters().rerouted, world.gateway.pending_count()), (3, 0));

    // To nowhere: a node without a link, or the node itself.
    for leader in [Some(NodeId(9)), Some(NODE), None] {
        world.send(key, publish(1, 1, "x"));
        let (_, request) = world.requests().remove(0);
        world.reply(NODE, request.id, Err(refusal(Code::UNAVAILABLE, leader)));
        assert_eq!(world.received(key), ["ERROR UNAVAILABLE for send 1"]);
    }
}

#[test]
fn without_a_leader_or_link_the_answer_comes_at_once() {
    let mut world = World::without_router(GatewayConfig { shards: SHARDS, ..GatewayConfig::default() });
    let key = world.login("alice");
    world.send_all(key, &[publish(1, 1, "x"), fetch(2, 1)]);
    assert_eq!(world.received(key), ["ERROR UNAVAILABLE for send 1", "ERROR UNAVAILABLE for 2"]);
    world.subscribe(key, 3, 1);
    assert_eq!(world.received(key), ["ERROR UNAVAILABLE for 3"]);
    assert_eq!(world.gateway.channel_count(), 0);
}

#[test]
fn a_broken_link_answers_everything_that_waits_on_it() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    world.is_answering = false;
    world.send_all(alice, &[publish(1, 1, "x"), fetch(2, 1)]);
    world.send(bob, publish(2, 1, "x"));
    world.gateway.handle_router_down(world.now, NODE);
    world.pump();
    assert_eq!(world.received(alice), ["ERROR UNAVAILABLE for send 1", "ERROR UNAVAILABLE for 2"]);
    assert_eq!(world.received(bob), ["ERROR UNAVAILABLE for send 1"]);
    assert_eq!(world.gateway.pending_count(), 0);
    // What the link still carried is no longer heard.
    world.reply(NODE, 2, Ok(Answer::Published { seq: Seq(1), ts: ServerTs(1), duplicate: false }));
    assert_eq!(world.received(alice), [""; 0]);
}

#[test]
fn only_the_asked_node_answers() {
    let mut world = World::new();
    world.gateway.handle_router_up(world.now, OTHER);
    let key = world.login("alice");
    world.is_answering = false;
    world.send(key, publish(1, 1, "x"));
    let (_, request) = world.requests().remove(0);
    let published = || Ok(Answer::Published { seq: Seq(1), ts: ServerTs(1), duplicate: false });
    world.reply(OTHER, request.id, published());
    assert_eq!(world.received(key), [""; 0]);
    world.reply(NODE, request.id, published());
    assert_eq!(world.received(key), ["ACK 1 is 1"]);
}

#[test]
fn a_link_that_hangs_is_given_up_after_ten_seconds() {
    let mut world = World::new();
    let key = world.login("alice");
    world.is_answering = false;
    world.send(key, publish(1, 1, "x"));
    world.pass_alive(key, Duration::from_millis(9_900));
    assert_eq!(world.received(key), [""; 0]);
    world.pass(Duration::from_millis(400));
    assert_eq!(world.received(key), ["ERROR UNAVAILABLE for send 1"]);
}

#[test]
fn sixty_four_requests_may_be_open_and_the_next_is_busy() {
    let mut world = World::new();
    let key = world.login("alice");
    world.is_answering = false;
    for id in 1..=65 {
        world.send(key, fetch(id, 1)); // SPEC W-LIM-3
    }
    assert_eq!(world.received(key), ["ERROR BUSY for 65"]);
    // Only as many are under way as pages find a place; the others follow as the client reads.
    let mut answered = 0;
    loop {
        let requests = world.requests();
        if requests.is_empty() {
            break;
        }
        assert!(requests.len() <= 5, "five pages of 68 KiB in 320 KiB");
        for (node, request) in requests {
            answered += 1;
            world.reply(node, request.id, Ok(Answer::Page { head: Seq(0), events: vec![] }));
        }
    }
    assert_eq!(answered, 64);
    let received = world.received(key);
    assert_eq!((received.len(), received[63].as_str()), (64, "PAGE 64 of 0 events to 0"));
    world.send(key, fetch(66, 1));
    assert_eq!(world.requests().len(), 1);
}

#[test]
fn a_page_is_cut_at_the_frame_limit() {
    let mut world = World::new();
    let key = world.login("alice");
    world.is_answering = false;
    world.send(key, fetch(1, 1));
    let (_, request) = world.requests().remove(0);
    let events = (1..=10).map(|seq| throng_wire::Event {
        seq: Seq(seq),
        kind: throng_wire::EventKind::MESSAGE,
        sender: MemberNo(1),
        ts: ServerTs(1),
        origin: None,
        body: vec![b'x'; 10_000].into(),
    });
    world.reply(NODE, request.id, Ok(Answer::Page { head: Seq(10), events: events.collect() }));
    assert_eq!(world.received(key), ["PAGE 1 of 6 events to 10"]); // SPEC W-LIM-2
}

#[test]
fn answers_for_sessions_that_are_gone_are_dropped() {
    let mut world = World::new();
    let key = world.login("alice");
    world.is_answering = false;
    world.subscribe(key, 1, 1);
    world.send(key, publish(1, 1, "x"));
    world.disconnect(key);
    let next = world.login("bob");
    assert_eq!(next.index, key.index, "the place is used again");
    world.router.add(1, &["alice", "bob"]);
    world.answer_all();
    assert_eq!(world.received(next), [""; 0]);
    assert_eq!((world.gateway.pending_count(), world.gateway.channel_count()), (0, 0));
    assert!(world.router.subscribed.is_empty(), "nobody is left, so the gateway unsubscribed");
}

#[test]
fn a_read_that_any_replica_may_answer_is_asked_at_home_and_the_rest_at_the_leader() {
    let mut world =
        World::with(GatewayConfig { shards: SHARDS, home: Some(OTHER), ..GatewayConfig::default() });
    let key = world.login("alice");
    world.is_answering = false;
    let read = |request, freshness| {
        let Frame::Fetch(fetch) = fetch(request, 1) else { unreachable!("a FETCH was made") };
        Frame::Fetch(Fetch { freshness, ..fetch })
    };
    let free = [Freshness::Stale, Freshness::AtLeast(Seq(1))];
    let place = |world: &mut World, request, freshness| {
        world.send(key, read(request, freshness));
        world.asked().into_iter().map(|(node, _)| node).collect::<Vec<_>>()
    };
    // Without a link to it, home is no place to ask.
    assert_eq!(place(&mut world, 1, Freshness::Stale), [NODE]);
    world.gateway.handle_router_up(world.now, OTHER);
    world.asked();
    for (request, freshness) in (2..).zip(free) {
        assert_eq!(place(&mut world, request, freshness), [OTHER]);
    }
    assert_eq!(place(&mut world, 4, Freshness::Linearizable), [NODE]);
}
