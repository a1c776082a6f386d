//! Retention as a leader runs it, operators' questions, and checkpoints that compare replicas.

use std::time::Duration;

use throng_router_core::entry::{FIRST_VERSION, VERSION};
use throng_router_core::machines::verify::Check;
use throng_router_core::machines::{Retention, RetentionRule};
use throng_router_core::{Checkpoint, Operation, RouterConfig};
use throng_wire::code::Code;
use throng_wire::ids::*;
use throng_wire::link::Answer;

use crate::harness::{channel, user};
use crate::world::*;

/// Groups keep six events, or a second; a turn comes every 100 ms.
fn six_or_a_second(config: &mut RouterConfig) {
    let group = RetentionRule { max_events: Some(6), max_age_ms: Some(1_000) };
    config.retention = Retention { group, ..Retention::default() };
    config.flush_age = Duration::from_millis(20);
}

fn floor(world: &mut World, node: u64, channel: ChannelId) -> u64 {
    let machines = world.node(node).router.machines();
    machines.read_channel(&channel, &user(1)).expect("readable").expect("a member").floor.0
}

fn publish_all(world: &mut World, channel: ChannelId, ids: core::ops::RangeInclusive<u64>) {
    for id in ids {
        world.publish(channel, user(1), id, "x").expect("a member");
    }
}

#[test]
fn a_leader_raises_floors_by_count_then_by_age_on_every_replica() {
    let mut world = World::with_config(3, 4, six_or_a_second);
    for n in 1..=9 {
        world.group(channel(n), &[1, 2]); // two events
        publish_all(&mut world, channel(n), 1..=u64::from(n));
    }
    world.pass_ms(900);
    for n in 1..=9 {
        let expected = (u64::from(n) + 3).saturating_sub(6).max(1); // two joined before
        for node in 1..=3 {
            assert_eq!(floor(&mut world, node, channel(n)), expected, "channel {n} on node {node}");
        }
    }
    world.pass_ms(1_500);
    let leader = world.leader(world.shard_of(&channel(9)));
    assert_eq!(floor(&mut world, leader, channel(9)), 12, "everything is older than a second");
    let answer = world.fetch(channel(9), user(2), 0);
    assert!(matches!(answer, Answer::ResetChannel { floor: Seq(12), head: Seq(11), .. }), "{answer:?}");
    assert_eq!(world.publish(channel(9), user(1), 99, "x"), Ok(12), "numbers go on");
    let proposed: u64 = (1..=3).map(|n| world.node(n).router.stats().retentions).sum();
    world.pass_ms(500);
    assert_eq!((1..=3).map(|n| world.node(n).router.stats().retentions).sum::<u64>(), proposed, "done");
}

#[test]
fn a_follower_proposes_nothing_and_no_policy_costs_no_timer() {
    let mut world = World::new(3, 1);
    world.group(channel(1), &[1, 2]);
    publish_all(&mut world, channel(1), 1..=20);
    world.pass_ms(2_000);
    assert_eq!((1..=3).map(|n| world.node(n).router.stats().retentions).sum::<u64>(), 0);
    let mut world = World::with_config(3, 1, six_or_a_second);
    world.group(channel(1), &[1, 2]);
    publish_all(&mut world, channel(1), 1..=20);
    world.pass_ms(500);
    let leader = world.leader(ShardId(0));
    for node in 1..=3 {
        let proposed = world.node(node).router.stats().retentions;
        assert_eq!(proposed > 0, node == leader, "node {node}");
    }
}

#[test]
fn commands_that_are_lost_with_the_leader_do_not_stop_retention() {
    let mut world = World::with_config(3, 1, six_or_a_second);
    world.group(channel(1), &[1, 2]);
    publish_all(&mut world, channel(1), 1..=20);
    for _ in 0..8 {
        let leader = world.leader(ShardId(0));
        world.cut_off.insert(NodeId(leader));
        world.pass_ms(3_000);
        world.cut_off.clear();
        world.pass_ms(500);
    }
    let leader = world.leader(ShardId(0));
    assert_eq!(floor(&mut world, leader, channel(1)), 23);
}

/// The same, and node 3 runs a program that does not know retention.
fn with_an_old_node(config: &mut RouterConfig) {
    six_or_a_second(config);
    if let Some(me) = config.me.as_mut().filter(|_| config.node == NodeId(3)) {
        me.speaks.newest = FIRST_VERSION;
    }
}

#[test]
fn what_an_older_node_cannot_apply_is_not_proposed_before_it_is_upgraded() {
    let mut world = World::with_config(3, 1, with_an_old_node);
    world.group(channel(1), &[1, 2]);
    publish_all(&mut world, channel(1), 1..=20);
    world.pass_ms(3_000);
    let leader = world.leader(ShardId(0));
    assert_eq!(floor(&mut world, leader, channel(1)), 1, "nothing is deleted");
    let hold = Operation::Hold { channel: channel(1), is_held: true };
    operate(&mut world, leader, 1, hold);
    let refusal = world.node(leader).operated.pop().expect("an answer").1.expect_err("refused");
    assert_eq!(refusal.code, Code::UNSUPPORTED);
    let open = |world: &mut World, node: u64| {
        world.node(node).router.machines().meta().map(throng_router_core::meta::Meta::version)
    };
    assert_eq!(open(&mut world, leader), Some(FIRST_VERSION));

    world.config = six_or_a_second;
    world.restart(NodeId(3));
    world.pass_ms(3_000);
    assert!((1..=3).all(|node| open(&mut world, node) == Some(VERSION)), "it opens by itself");
    let leader = world.leader(ShardId(0));
    assert_eq!(floor(&mut world, leader, channel(1)), 23);
    operate(&mut world, leader, 2, hold);
    assert_eq!(world.node(leader).operated.pop(), Some((2, Ok(()))));

    // There is no way back: the older program says why it does not go on.
    world.config = with_an_old_node;
    world.restart(NodeId(3));
    let reason = world.node(3).fatal.clone().expect("it ends");
    assert!(reason.contains("version 2") && reason.contains("knows 1 to 1"), "{reason}");
}

fn operate(world: &mut World, node: u64, ask: u64, operation: Operation) {
    let now = world.now;
    world.node(node).router.handle_operation(now, ask, operation);
    world.run();
    world.pass_ms(100);
}

#[test]
fn an_operator_holds_a_channel_and_the_others_name_the_leader() {
    let mut world = World::with_config(3, 1, six_or_a_second);
    world.group(channel(1), &[1, 2]);
    world.pass_ms(500); // until every node has said what it speaks
    let leader = world.leader(ShardId(0));
    let other = leader % 3 + 1;
    let hold = |is_held| Operation::Hold { channel: channel(1), is_held };
    operate(&mut world, other, 1, hold(true));
    let refusal = world.node(other).operated.pop().expect("an answer").1.expect_err("no leader");
    assert_eq!((refusal.code, refusal.leader), (Code::UNAVAILABLE, Some(NodeId(leader))));
    operate(&mut world, leader, 2, hold(true));
    assert_eq!(world.node(leader).operated.pop(), Some((2, Ok(()))));
    publish_all(&mut world, channel(1), 1..=20);
    world.pass_ms(3_000);
    assert_eq!(floor(&mut world, leader, channel(1)), 1, "held");
    operate(&mut world, leader, 3, hold(false));
    world.pass_ms(1_000);
    assert_eq!(floor(&mut world, leader, channel(1)), 23);
    let unknown = Operation::Hold { channel: ChannelId::group([9; 16]), is_held: true };
    operate(&mut world, leader, 4, unknown);
    let refusal = world.node(leader).operated.pop().expect("an answer").1.expect_err("no channel");
    assert_eq!(refusal.code, Code::NOT_FOUND);
}

#[test]
fn an_operator_moves_a_leadership_and_a_question_that_is_lost_is_answered() {
    let mut world = World::new(3, 2);
    world.group(channel(1), &[1, 2]);
    let shard = world.shard_of(&channel(1));
    let leader = world.leader(shard);
    let to = leader % 3 + 1;
    operate(&mut world, leader, 1, Operation::Transfer { shard, to: NodeId(to) });
    assert_eq!(world.node(leader).operated.pop(), Some((1, Ok(()))));
    world.pass_ms(500);
    assert_eq!(world.leader(shard), to);
    let asks = [
        (2, Operation::Transfer { shard, to: NodeId(9) }, Code::BUSY),
        (3, Operation::Transfer { shard: ShardId(7), to: NodeId(1) }, Code::NOT_FOUND),
    ];
    for (ask, operation, code) in asks {
        operate(&mut world, to, ask, operation);
        let refusal = world.node(to).operated.pop().expect("an answer").1.expect_err("refused");
        assert_eq!(refusal.code, code, "{operation:?}");
    }
    // Cut off, a leader cannot commit: it answers when it learns that it does not lead any more.
    world.cut_off.insert(NodeId(to));
    operate(&mut world, to, 4, Operation::Hold { channel: channel(1), is_held: true });
    world.pass_ms(5_000);
    world.cut_off.clear();
    world.pass_ms(2_000);
    let (ask, result) = world.node(to).operated.pop().expect("an answer");
    assert_eq!((ask, result.map_err(|refusal| refusal.code)), (4, Err(Code::UNAVAILABLE)));
}

/// What a check of a node's disk finds in shard 0, and how far it has applied.
fn digest(world: &mut World, node: u64) -> (u64, [u8; 16]) {
    let view = world.node(node).disk.0.borrow().clone();
    let mut check = Check::new(ShardId(0), 1, 0);
    while !check.step(&view, 50).expect("readable") {}
    assert_eq!(check.report().findings, []);
    (check.report().applied.index, check.report().digest)
}

#[test]
fn a_checkpoint_makes_replicas_comparable_under_load() {
    let mut world = World::new(3, 1);
    world.group(channel(1), &[1, 2]);
    publish_all(&mut world, channel(1), 1..=5);
    let applied = world.node(1).router.machines().applied(ShardId(0)).index;
    let (wanted, now) = (applied + 3, world.now);
    for node in 1..=3 {
        world.node(node).router.handle_checkpoint(now, 7, ShardId(0), wanted);
        world.node(node).router.handle_checkpoint(now, 8, ShardId(0), wanted);
        world.run();
        assert_eq!(world.node(node).checkpoints.pop(), Some((8, Checkpoint::Busy)));
    }
    publish_all(&mut world, channel(1), 6..=12);
    let mut digests = Vec::new();
    for node in 1..=3 {
        assert_eq!(world.node(node).checkpoints.pop(), Some((7, Checkpoint::Ready { replica: 0 })));
        assert!(world.node(node).router.machines().applied(ShardId(0)).index > wanted, "it went on");
        digests.push(digest(&mut world, node));
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]) && digests[0].0 == wanted, "{digests:?}");
    for node in 1..=3 {
        world.node(node).router.handle_checkpoint_done(now, 7);
    }
    world.pass_ms(2_000);
    assert!(digest(&mut world, 1).0 > wanted, "batches go on");
}

#[test]
fn a_checkpoint_that_is_passed_or_not_reached_says_how_far_it_is() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1, 2]);
    publish_all(&mut world, channel(1), 1..=5);
    world.pass_ms(500);
    let (applied, now) = (world.node(1).router.machines().applied(ShardId(0)).index, world.now);
    world.node(1).router.handle_checkpoint(now, 1, ShardId(0), applied - 1);
    world.run();
    assert_eq!(world.node(1).checkpoints.pop(), Some((1, Checkpoint::Elsewhere { applied })));
    world.node(1).router.handle_checkpoint(now, 2, ShardId(0), applied + 1);
    // 1 is the metadata, 2 is nothing.
    world.node(1).router.handle_checkpoint(now, 3, ShardId(2), applied);
    world.run();
    assert_eq!(world.node(1).checkpoints.pop(), Some((3, Checkpoint::NoReplica)));
    world.pass_ms(2_100);
    assert_eq!(world.node(1).checkpoints.pop(), Some((2, Checkpoint::Elsewhere { applied })));
    // One that nobody looks at does not keep batches back for long.
    let now = world.now;
    world.node(1).router.handle_checkpoint(now, 4, ShardId(0), applied);
    publish_all(&mut world, channel(1), 6..=7);
    world.pass_ms(3_000);
    assert_eq!(world.node(1).checkpoints.pop(), Some((4, Checkpoint::Ready { replica: 0 })));
    assert_eq!(digest(&mut world, 1).0, world.node(1).router.machines().applied(ShardId(0)).index);
}
