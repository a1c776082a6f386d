//! Routers end to end: one node, then three.

use throng_router_core::{Operation, PeerMessage};
use throng_wire::code::Code;
use throng_wire::event::EventKind;
use throng_wire::frame::{ChannelClass, Freshness, SyncEntry};
use throng_wire::ids::*;
use throng_wire::link::*;
use throng_wire::peer::RouterMessage;

use crate::harness::{channel, user};
use crate::world::*;

fn refused(code: Code) -> Result<Answer, Refusal> {
    Err(Refusal { code, retry_after_ms: 0, leader: None })
}

fn seqs(answer: &Answer) -> (u64, Vec<u64>) {
    match answer {
        Answer::Page { head, events } => (head.0, events.iter().map(|event| event.seq.0).collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_is_stored_fetched_and_found_again_after_a_restart() {
    let mut world = World::new(1, 4);
    world.group(channel(1), &[1, 2]);
    assert_eq!(world.publish(channel(1), user(1), 1, "hello"), Ok(3));
    let page = world.fetch(channel(1), user(2), 0);
    assert_eq!(seqs(&page), (3, vec![1, 2, 3]));
    for flush_first in [false, true] {
        if flush_first {
            world.pass_ms(3_000);
            assert!(world.node(1).flushes > 0);
        }
        world.restart(NodeId(1));
        assert_eq!(world.fetch(channel(1), user(2), 0), page);
        assert_eq!(world.publish(channel(1), user(1), 1, "hello"), Ok(3), "a retry across the restart");
    }
    assert_eq!(world.publish(channel(1), user(2), 1, "hi"), Ok(4));
}

#[test]
fn sends_of_a_turn_share_one_entry() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    let before = world.node(1).router.machines().applied(ShardId(0)).index;
    let ids: Vec<_> = (1..=16).map(|id| world.ask(1, user(1), publish(channel(1), id, "x"))).collect();
    world.run();
    assert_eq!(world.node(1).router.machines().applied(ShardId(0)).index, before + 1);
    for (id, seq) in ids.into_iter().zip(2..) {
        let Some(Ok(Answer::Published { seq: stored, .. })) = world.reply(1, id) else {
            panic!("not stored")
        };
        assert_eq!(stored, Seq(seq));
    }
}

/// SPEC W-PUB-2.
#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    world.node(1).log_hangs = true;
    let id = world.ask(1, user(1), publish(channel(1), 1, "x"));
    world.pass_ms(500);
    assert_eq!(world.reply(1, id), None);
    world.node(1).log_hangs = false;
    world.run();
    assert!(matches!(world.reply(1, id), Some(Ok(Answer::Published { seq: Seq(2), .. }))));
}

#[test]
fn the_seventeenth_unacknowledged_send_is_refused_and_the_others_are_not() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1, 2]);
    world.node(1).log_hangs = true;
    let ids: Vec<_> = (1..=17).map(|id| world.ask(1, user(1), publish(channel(1), id, "x"))).collect();
    let other = world.ask(1, user(2), publish(channel(1), 1, "y"));
    world.run();
    let code =
        |result: Option<Result<Answer, Refusal>>| result.map(|result| result.map_err(|refusal| refusal.code));
    assert_eq!(code(world.reply(1, ids[16])), Some(Err(Code::TOO_MANY_INFLIGHT)));
    assert!(ids[..16].iter().all(|&id| world.reply(1, id).is_none()));
    world.node(1).log_hangs = false;
    world.run();
    assert!(ids[..16].iter().all(|&id| matches!(world.reply(1, id), Some(Ok(_)))));
    assert!(matches!(world.reply(1, other), Some(Ok(_))));
    assert_eq!(world.node(1).router.stats().commands, 0);
}

#[test]
fn bad_requests_have_their_codes() {
    let mut world = World::with_config(1, 1, |config| config.body_max = 1_024);
    world.group(channel(1), &[1]);
    let too_long = "x".repeat(1_025);
    assert_eq!(world.call(user(1), publish(channel(1), 1, &too_long)), refused(Code::BODY_TOO_LARGE));
    assert_eq!(world.call(user(9), publish(channel(1), 1, "x")), refused(Code::NOT_FOUND));
    assert_eq!(world.call(user(1), publish(channel(2), 1, "x")), refused(Code::NOT_FOUND));
    assert_eq!(world.call(user(9), fetch(channel(1), 0)), refused(Code::NOT_FOUND));
    assert_eq!(world.call(user(9), subscribe(channel(1), 0)), refused(Code::NOT_FOUND));
    let members = |channel| Op::Members { channel, after: MemberNo(0), limit: 10 };
    assert_eq!(world.call(user(9), members(channel(1))), refused(Code::NOT_FOUND));
    assert_eq!(world.call(user(1), members(channel(2))), refused(Code::NOT_FOUND));
    let edit = Op::Publish {
        channel: channel(1),
        client_msg_id: ClientMsgId(1),
        kind: EventKind::EDIT,
        body: Default::default(),
    };
    assert_eq!(world.call(user(1), edit), refused(Code::UNSUPPORTED));
    let crowd = Op::Create { channel: channel(3), class: ChannelClass::Group, members: vec![user(2); 201] };
    assert_eq!(world.call(user(1), crowd), refused(Code::LIMIT));
    let kept = ChannelId::direct(user(1), user(2)); // SPEC W-CH-6
    let grab = Op::Create { channel: kept, class: ChannelClass::Open, members: vec![] };
    assert_eq!(world.call(user(9), grab), refused(Code::LIMIT));
}

#[test]
fn void_cursors_are_reset_and_never_replayed_in_part() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    let reset = Ok(Answer::ResetChannel { epoch: EPOCH, floor: Seq(1), head: Seq(1) });
    let fetch_of =
        |epoch, after, freshness| Op::Fetch { channel: channel(1), after, epoch, limit: 10, freshness };
    assert_eq!(world.call(user(1), fetch_of(Epoch(2), Seq(0), Freshness::Linearizable)), reset);
    assert_eq!(world.call(user(1), fetch_of(Epoch(4), Seq(0), Freshness::Stale)), reset);
    assert_eq!(
        world.call(user(1), fetch_of(EPOCH, Seq(2), Freshness::Linearizable)),
        reset,
        "beyond the head"
    );
    let empty = Ok(Answer::Page { head: Seq(1), events: vec![] });
    assert_eq!(world.call(user(1), fetch_of(EPOCH, Seq(2), Freshness::Stale)), empty);
    assert_eq!(world.call(user(1), fetch_of(EPOCH, Seq(1), Freshness::AtLeast(Seq(1)))), empty);
    let old = Op::Subscribe { channel: channel(1), after: Seq(0), epoch: Epoch(1) };
    assert_eq!(world.call(user(1), old), reset);
    assert_eq!(world.node(1).router.stats().subscriptions, 0);
    world.pass_ms(100);
    let reset = Ok(Answer::ResetInbox { epoch: EPOCH, user_seq: UserSeq(1) });
    let sync_of = |epoch, after| Op::Sync { after: UserSeq(after), epoch, limit: 10 };
    assert_eq!(world.call(user(1), sync_of(Epoch(2), 0)), reset);
    assert_eq!(world.call(user(1), sync_of(EPOCH, 5)), reset);
}

#[test]
fn subscribers_hear_every_event_behind_their_snapshot_in_order_up_to_the_removal() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1, 2]);
    let subscribed = world.call(user(2), subscribe(channel(1), 0));
    assert_eq!(subscribed, Ok(Answer::Subscribed { head: Seq(2), member: MemberNo(2) }));
    world.take_heard(1, GATEWAY);
    for id in 1..=3 {
        world.publish(channel(1), user(1), id, "x").expect("a member");
    }
    world.call(user(1), Op::Leave { channel: channel(1), user: user(2) }).expect("the owner removes");
    world.publish(channel(1), user(1), 4, "after").expect("a member");
    let heard = world.take_heard(1, GATEWAY);
    let delivered: Vec<_> = heard
        .iter()
        .map(|message| match message {
            ToGateway::Deliver { event, sender, .. } => (event.seq.0, event.kind, *sender == user(1)),
            other => panic!("{other:?}"),
        })
        .collect();
    let message = |seq| (seq, EventKind::MESSAGE, true);
    // The gateway stays subscribed: it is the gateway that drops the removed member's sessions at LEFT (C7).
    assert_eq!(delivered, [message(3), message(4), message(5), (6, EventKind::LEFT, true), message(7)]);
    assert_eq!(world.call(user(2), subscribe(channel(1), 5)), refused(Code::NOT_FOUND));
    let now = world.now;
    world.node(1).router.handle_gateway(now, GATEWAY, ToRouter::Unsubscribe { channel: channel(1) });
    world.publish(channel(1), user(1), 5, "unheard").expect("a member");
    assert_eq!(world.take_heard(1, GATEWAY), []);
}

#[test]
fn a_removed_member_may_still_fetch_up_to_the_removal() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1, 2]);
    world.call(user(1), Op::Leave { channel: channel(1), user: user(2) }).expect("the owner removes");
    world.publish(channel(1), user(1), 1, "secret").expect("a member");
    for after in [0, 3, 4, 9] {
        let (head, events) = seqs(&world.fetch(channel(1), user(2), after));
        assert_eq!((head, events), (3, (after + 1..=3).collect()));
    }
}

#[test]
fn a_subscription_that_ends_while_it_waits_does_not_stay() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    let id = world.ask(1, user(1), subscribe(channel(1), 0));
    let now = world.now;
    world.node(1).router.handle_gateway(now, GATEWAY, ToRouter::Unsubscribe { channel: channel(1) });
    world.run();
    assert!(matches!(world.reply(1, id), Some(Ok(Answer::Subscribed { .. }))));
    assert_eq!(world.node(1).router.stats().subscriptions, 0);
}

#[test]
fn inboxes_move_and_sessions_get_hints() {
    let mut world = World::new(1, 4);
    let registered = world.call(user(2), Op::Register { session: SessionRef(5) });
    assert_eq!(registered, Ok(Answer::Registered { user_seq: UserSeq(0) }));
    world.group(channel(1), &[1, 2]);
    world.publish(channel(1), user(1), 1, "x").expect("a member");
    world.take_heard(1, GATEWAY);
    world.pass_ms(100);
    let hint = |head, seq| ToGateway::Hint {
        session: SessionRef(5),
        channel: channel(1),
        head: Seq(head),
        user_seq: UserSeq(seq),
    };
    assert_eq!(world.take_heard(1, GATEWAY), [hint(3, 1)], "one row for all that moved meanwhile");
    let entry = SyncEntry { channel: channel(1), head: Seq(3), count: 1, user_seq: UserSeq(1) };
    let synced = Answer::Synced { cursor: UserSeq(1), more: false, entries: vec![entry] };
    assert_eq!(world.call(user(2), sync(0)), Ok(synced));
    let nothing = Answer::Synced { cursor: UserSeq(1), more: false, entries: vec![] };
    assert_eq!(world.call(user(2), sync(1)), Ok(nothing));
    let now = world.now;
    let gone = ToRouter::Unregister { user: user(2), session: SessionRef(5) };
    world.node(1).router.handle_gateway(now, GATEWAY, gone);
    world.publish(channel(1), user(1), 2, "y").expect("a member");
    world.pass_ms(100);
    assert_eq!(world.take_heard(1, GATEWAY), []);
    assert_eq!(world.node(1).router.stats().sessions, 0);
}

#[test]
fn a_broken_link_takes_its_registrations_and_answers_with_it() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    world.call(user(1), subscribe(channel(1), 0)).expect("a member");
    world.call(user(1), Op::Register { session: SessionRef(1) }).expect("room");
    world.node(1).log_hangs = true;
    let id = world.ask(1, user(1), publish(channel(1), 1, "x"));
    world.run();
    let now = world.now;
    world.node(1).router.handle_gateway_down(now, GATEWAY);
    let stats = world.node(1).router.stats();
    assert_eq!((stats.sessions, stats.subscriptions), (0, 0));
    world.node(1).router.handle_gateway_up(now, GATEWAY);
    world.node(1).heard.clear();
    world.node(1).log_hangs = false;
    world.run();
    assert_eq!(world.reply(1, id), None, "the number may mean another request on the new link");
    let heard = std::mem::take(&mut world.node(1).heard);
    let leads = ToGateway::Leads { shards: vec![(ShardId(0), Some(NodeId(1)), 1)] };
    assert_eq!(heard, [(GATEWAY, leads)]);
    assert_eq!(world.publish(channel(1), user(1), 1, "x"), Ok(2), "it was stored all the same");
}

#[test]
fn members_are_listed_in_pages() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1, 2, 3]);
    let op = |after| Op::Members { channel: channel(1), after: MemberNo(after), limit: 2 };
    let page = |answer| match answer {
        Ok(Answer::Members { more, members }) => {
            (more, members.iter().map(|member| member.member.0).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(page(world.call(user(2), op(0))), (true, vec![1, 2]));
    assert_eq!(page(world.call(user(2), op(2))), (false, vec![3]));
}

#[test]
fn three_nodes_agree_and_a_new_leader_goes_on_without_gap_or_copy() {
    let mut world = World::new(3, 2);
    world.group(channel(1), &[1, 2]);
    let shard = world.shard_of(&channel(1));
    for id in 1..=20 {
        assert_eq!(world.publish(channel(1), user(1), id, "x"), Ok(id + 2));
        if id % 5 == 0 {
            let leader = world.leader(shard);
            world.cut_off = [NodeId(leader)].into();
            assert_eq!(world.publish(channel(1), user(1), id, "x"), Ok(id + 2), "the retry elsewhere");
            world.cut_off.clear();
            world.pass_ms(500);
        }
    }
    assert_eq!(seqs(&world.fetch(channel(1), user(2), 0)), (22, (1..=22).collect()));
    world.pass_ms(500);
    let chains: Vec<_> =
        world.nodes.values_mut().map(|node| node.router.machines().read_chain(&channel(1))).collect();
    assert!(chains.windows(2).all(|pair| pair[0] == pair[1]), "{chains:?}");
}

#[test]
fn who_does_not_lead_says_who_does() {
    let mut world = World::new(3, 1);
    let leader = world.leader(ShardId(0));
    world.pass_ms(200);
    let follower = (1..=3).find(|id| *id != leader).expect("three nodes");
    let id = world.ask(follower, user(1), publish(channel(1), 1, "x"));
    let refusal = Refusal { code: Code::UNAVAILABLE, retry_after_ms: 0, leader: Some(NodeId(leader)) };
    world.run();
    assert_eq!(world.reply(follower, id), Some(Err(refusal)));
    let told = world.node(follower).heard.iter().rev().find_map(|(_, message)| match message {
        ToGateway::Leads { shards } => Some(shards.clone()),
        _ => None,
    });
    assert_eq!(told.expect("gateways are told")[0].1, Some(NodeId(leader)));
}

#[test]
fn lost_leadership_answers_everybody_and_forgets_who_listened() {
    let mut world = World::new(3, 1);
    world.group(channel(1), &[1]);
    let old = world.leader(ShardId(0));
    world.call(user(1), subscribe(channel(1), 0)).expect("a member");
    world.call(user(1), Op::Register { session: SessionRef(1) }).expect("room");
    world.cut_off = [NodeId(old)].into();
    let write = world.ask(old, user(1), publish(channel(1), 1, "x"));
    let read = world.ask(old, user(1), fetch(channel(1), 0));
    world.pass_ms(3_000);
    for id in [write, read] {
        let refusal = world.reply(old, id).expect("answered").expect_err("the outcome is open");
        assert_eq!((refusal.code, refusal.leader), (Code::UNAVAILABLE, None));
    }
    let stats = world.node(old).router.stats();
    assert_eq!((stats.sessions, stats.subscriptions, stats.commands), (0, 0, 0));
    assert_eq!(world.publish(channel(1), user(1), 1, "x"), Ok(2));
    world.cut_off.clear();
    world.pass_ms(1_000);
    assert_eq!(seqs(&world.fetch(channel(1), user(1), 0)), (2, vec![1, 2]), "one copy");
}

#[test]
fn inbox_rows_reach_other_nodes_and_survive_their_senders_fall() {
    let mut world = World::new(3, 8);
    let members: Vec<u8> = (1..=9).collect();
    world.group(channel(1), &members);
    world.publish(channel(1), user(1), 1, "x").expect("a member");
    // The leader of the channel falls before its outbox is drained.
    let shard = world.shard_of(&channel(1));
    let old = world.leader(shard);
    world.cut_off = [NodeId(old)].into();
    world.pass_ms(5_000);
    for n in members {
        let Ok(Answer::Synced { entries, .. }) = world.call(user(n), sync(0)) else { panic!("no inbox") };
        assert_eq!(
            entries.iter().map(|entry| (entry.channel, entry.head)).collect::<Vec<_>>(),
            [(channel(1), Seq(10))]
        );
    }
}

#[test]
fn a_restarted_follower_catches_up_and_can_lead() {
    let mut world = World::new(3, 1);
    world.group(channel(1), &[1]);
    for id in 1..=5 {
        world.publish(channel(1), user(1), id, "x").expect("a member");
        for node in 1..=3 {
            world.restart(NodeId(node));
            world.leader(ShardId(0));
        }
    }
    assert_eq!(seqs(&world.fetch(channel(1), user(1), 0)), (6, (1..=6).collect()));
}

#[test]
fn an_unknown_command_stops_the_replica() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    let leader = world.node(1);
    assert_eq!(leader.fatal, None);
    // A newer leader's entry, as a follower of a mixed cluster would meet it.
    let mut entry = throng_router_core::entry::EntryBuilder::new();
    entry.push(&throng_router_core::entry::Command::Noop);
    let entry = entry.seal(ServerTs(1)).to_vec();
    let newer_version = |bytes: &mut Vec<u8>| bytes[0] = throng_router_core::entry::VERSION + 1;
    let unknown_command = |bytes: &mut Vec<u8>| *bytes.last_mut().expect("a tag") = 200;
    for alter in [newer_version as fn(&mut Vec<u8>), unknown_command] {
        let mut bytes = entry.clone();
        alter(&mut bytes);
        let before = leader.router.machines().applied(ShardId(0)).index;
        let error = leader.router.machines().apply(
            ShardId(0),
            throng_router_core::Applied { index: before + 1, term: 9 },
            &bytes.into(),
            &mut vec![],
            &mut throng_router_core::machines::NoEffects,
        );
        assert!(matches!(error, Err(throng_router_core::Fatal::Entry(_))), "{error:?}");
        assert_eq!(leader.router.machines().applied(ShardId(0)).index, before, "nothing was applied");
    }
}

#[test]
fn a_hot_channel_leaves_room_for_the_others() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1]);
    world.group(channel(2), &[1]);
    world.node(1).log_hangs = true;
    let again = |channel| Op::Join { channel, user: user(1) };
    let hot: Vec<_> = (0..=8_192).map(|_| world.ask(1, user(1), again(channel(1)))).collect();
    let cool = world.ask(1, user(1), again(channel(2)));
    world.run();
    let refusal = world.reply(1, hot[8_192]).expect("refused at once").expect_err("above the limit");
    assert_eq!((refusal.code, refusal.leader), (Code::BUSY, None));
    world.node(1).log_hangs = false;
    world.run();
    assert!(matches!(world.reply(1, hot[8_191]), Some(Ok(_))));
    assert!(matches!(world.reply(1, cool), Some(Ok(_))));
}

#[test]
fn a_stale_read_needs_no_quorum_and_a_linearizable_one_does() {
    let mut world = World::new(3, 1);
    world.group(channel(1), &[1]);
    let leader = world.leader(ShardId(0));
    world.cut_off = [NodeId(leader)].into();
    let read =
        |freshness| Op::Fetch { channel: channel(1), after: Seq(0), epoch: EPOCH, limit: 10, freshness };
    let stale = world.ask(leader, user(1), read(Freshness::Stale));
    let known = world.ask(leader, user(1), read(Freshness::AtLeast(Seq(1))));
    let newer = world.ask(leader, user(1), read(Freshness::AtLeast(Seq(2))));
    let fresh = world.ask(leader, user(1), read(Freshness::Linearizable));
    world.run();
    assert_eq!(seqs(&world.reply(leader, stale).expect("at once").expect("a page")), (1, vec![1]));
    assert_eq!(seqs(&world.reply(leader, known).expect("at once").expect("a page")), (1, vec![1]));
    assert_eq!((world.reply(leader, newer), world.reply(leader, fresh)), (None, None));
    world.pass_ms(3_000);
    for id in [newer, fresh] {
        assert_eq!(world.reply(leader, id).expect("lost").expect_err("lost").code, Code::UNAVAILABLE);
    }
}

#[test]
fn a_follower_answers_what_it_has_and_names_the_leader_for_the_rest() {
    let mut world = World::new(3, 1);
    world.group(channel(1), &[1]);
    world.pass_ms(500);
    let leader = world.leader(ShardId(0));
    let follower = leader % 3 + 1;
    let read =
        |n, freshness| Op::Fetch { channel: channel(n), after: Seq(0), epoch: EPOCH, limit: 10, freshness };
    let stale = world.ask(follower, user(1), read(1, Freshness::Stale));
    let known = world.ask(follower, user(1), read(1, Freshness::AtLeast(Seq(1))));
    let newer = world.ask(follower, user(1), read(1, Freshness::AtLeast(Seq(2))));
    let fresh = world.ask(follower, user(1), read(1, Freshness::Linearizable));
    let foreign = world.ask(follower, user(1), read(2, Freshness::Stale));
    world.run();
    for id in [stale, known] {
        assert_eq!(seqs(&world.reply(follower, id).expect("at once").expect("a page")), (1, vec![1]));
    }
    for id in [newer, fresh, foreign] {
        let refusal = world.reply(follower, id).expect("at once").expect_err("not its to say");
        assert_eq!((refusal.code, refusal.leader), (Code::UNAVAILABLE, Some(NodeId(leader))));
    }
}

#[test]
fn lost_inbox_updates_and_lost_answers_are_made_good() {
    let mut world = World::new(3, 8);
    // Leaders are spread, so that most rows travel.
    for shard in 0..8 {
        let leader = world.leader(ShardId(shard));
        let (to, now) = (NodeId(u64::from(shard) % 3 + 1), world.now);
        world.node(leader).router.handle_operation(now, 1, Operation::Transfer { shard: ShardId(shard), to });
        world.pass_ms(300);
    }
    let members: Vec<u8> = (1..=9).collect();
    world.group(channel(1), &members);
    world.lose_router_mail = true;
    for id in 1..=3 {
        world.publish(channel(1), user(1), id, "x").expect("a member");
        world.pass_ms(700);
    }
    assert!(world.lost_mail > 0, "rows travelled");
    // Answers to tickets of an earlier life clear nothing.
    for (from, dest) in (0..8).flat_map(|from| (0..8).map(move |dest| (ShardId(from), ShardId(dest)))) {
        let stored = RouterMessage::InboxStored { to_shard: from, from_shard: dest, batch: 1 };
        let now = world.now;
        for node in world.nodes.values_mut() {
            node.router.handle_peer(now, NodeId(2), PeerMessage::Router(stored.clone()));
        }
    }
    world.run();
    world.lose_router_mail = false;
    world.pass_ms(2_500);
    for n in members {
        let Ok(Answer::Synced { entries, .. }) = world.call(user(n), sync(0)) else { panic!("no inbox") };
        assert_eq!(entries.iter().map(|entry| (entry.head.0, entry.count)).collect::<Vec<_>>(), [(12, 3)]);
    }
    world.pass_ms(2_500);
    for node in world.nodes.values_mut() {
        for shard in (0..8).map(ShardId) {
            for dest in (0..8).map(ShardId) {
                assert_eq!(node.router.machines().unsent(shard, dest), Ok(None), "all is cleared everywhere");
            }
        }
    }
}

#[test]
fn a_session_is_hinted_by_whichever_node_leads_its_user() {
    let mut world = World::new(3, 8);
    let session = SessionRef(9);
    world.call(user(2), Op::Register { session }).expect("room");
    world.group(channel(1), &[1, 2]);
    world.pass_ms(200);
    let leader = world.leader(ShardId::of_user(&user(2), 8));
    let heard = world.take_heard(leader, GATEWAY);
    let hint = ToGateway::Hint { session, channel: channel(1), head: Seq(2), user_seq: UserSeq(1) };
    assert_eq!(heard, [hint]);
}

#[test]
fn a_gateway_that_is_not_known_is_not_heard() {
    let mut world = World::new(1, 1);
    let now = world.now;
    world.node(1).router.handle_gateway_down(now, GATEWAY);
    world.node(1).heard.clear();
    world.ask(1, user(1), sync(0));
    world.run();
    assert_eq!(world.node(1).heard, []);
}
