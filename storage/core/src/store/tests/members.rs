//! Membership: adding, removing and replacing members while the group works.

use core::time::Duration;

use bytes::Bytes;
use raft::eraftpb::MessageType;
use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftBatch, RaftMessage};

use super::world::{Weather, World};
use crate::entry::{Conf, PeerId};
use crate::store::*;

const SECOND: Duration = Duration::from_secs(1);
const SHARD: ShardId = ShardId(0);

fn world(voters: usize, nodes: usize, seed: u64) -> World {
    let mut world =
        World::with_spares(voters, nodes, 1, seed, Weather::calm(), |config| config.balance = false);
    world.until("leadership", 2 * SECOND, |world| world.serving(SHARD).is_some());
    write(&mut world, 10);
    world
}

fn write(world: &mut World, count: usize) {
    for _ in 0..count {
        if let Some(leader) = world.serving(SHARD) {
            world.propose(leader, SHARD);
        }
        world.run(Duration::from_millis(3));
    }
}

/// Asks until it is taken and applied, as an administrator does.
#[track_caller]
fn change(world: &mut World, steps: Vec<ConfStep>) {
    for _ in 0..400 {
        let before = world.tally.changes;
        match world.propose_conf(SHARD, steps.clone()) {
            Some(Ok(_)) => {
                let done =
                    |world: &World| world.tally.changes > before && !world.newest_conf(SHARD).is_joint();
                world.until("the change", 10 * SECOND, done);
                return;
            }
            Some(Err(ProposeConfError::Refused(why))) => panic!("{why}"),
            _ => write(world, 4),
        }
    }
    panic!("{steps:?} is never taken");
}

fn peer(world: &World, node: usize) -> PeerId {
    let on = |peer: &u64| PeerId(*peer).node() == NodeId(node as u64 + 1);
    world.newest_conf(SHARD).members().find(on).map(PeerId).expect("a member")
}

fn add(world: &mut World, node: usize) {
    change(world, vec![ConfStep::AddLearner(NodeId(node as u64 + 1))]);
    let peer = peer(world, node);
    change(world, vec![ConfStep::Promote(peer)]);
}

fn voters(world: &World) -> Vec<u64> {
    let conf = world.newest_conf(SHARD);
    conf.voters.iter().map(|peer| PeerId(*peer).node().0).collect()
}

#[track_caller]
fn settles(world: &mut World) {
    write(world, 10);
    world.until("agreement", 5 * SECOND, |world| world.is_even() && world.serving(SHARD).is_some());
    write(world, 10);
    world.until("agreement", 5 * SECOND, World::is_even);
}

#[test]
fn whoever_is_left_hears_from_those_who_have_gone_that_they_have() {
    for seed in 1..20 {
        let mut world = world(3, 3, seed);
        let leader = world.serving(SHARD).expect("one leads");
        let others = (0..3).filter(|node| *node != leader);
        let removals = others.map(|node| ConfStep::Remove(peer(&world, node))).collect();
        change(&mut world, removals);
        world.run(SECOND);
        // The end of the joint configuration is in its log, but that it is committed is not.
        world.crash(leader);
        world.start(leader);
        world.until("leadership", 5 * SECOND, |world| world.serving(SHARD) == Some(leader));
        assert_eq!(voters(&world), [leader as u64 + 1]);
        write(&mut world, 3);
    }
}

#[test]
fn one_node_grows_to_three_and_five_and_shrinks_to_one() {
    let mut world = world(1, 5, 1);
    (1..5).for_each(|node| add(&mut world, node));
    settles(&mut world);
    let mut nodes = voters(&world);
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2, 3, 4, 5]);
    assert_eq!(world.tally.restored, 4, "each began with a snapshot");
    let learners = [1, 2].map(|node| peer(&world, node));
    change(&mut world, learners.map(ConfStep::Remove).to_vec());
    for node in [0, 3] {
        let peer = peer(&world, node);
        change(&mut world, vec![ConfStep::Remove(peer)]);
    }
    settles(&mut world);
    assert_eq!(voters(&world), [5]);
    world.until("passive groups", 5 * SECOND, |world| {
        (0..4).all(|node| world.nodes[node].disk.group(SHARD).entries.is_empty())
    });
    (0..5).for_each(|node| world.crash(node));
    (0..5).for_each(|node| world.start(node));
    world.until("leadership", SECOND, |world| world.serving(SHARD) == Some(4));
    settles(&mut world);
}

#[test]
fn a_leader_hands_over_before_it_loses_its_vote() {
    let mut world = world(3, 4, 2);
    let leader = world.serving(SHARD).expect("somebody leads");
    add(&mut world, 3);
    let (old, new) = (peer(&world, leader), peer(&world, 3));
    change(&mut world, vec![ConfStep::Demote(new), ConfStep::Remove(old)]);
    settles(&mut world);
    assert!(world.serving(SHARD).is_some_and(|now| now != leader));
    assert_eq!(world.newest_conf(SHARD).learners, [new.0]);
}

#[test]
fn a_dead_node_is_replaced_under_traffic() {
    let mut world = world(3, 4, 3);
    let leader = world.serving(SHARD).expect("somebody leads");
    let dead = (leader + 1) % 3;
    world.crash(dead);
    change(&mut world, vec![ConfStep::AddLearner(NodeId(4))]);
    let (old, new) = (peer(&world, dead), peer(&world, 3));
    change(&mut world, vec![ConfStep::Promote(new), ConfStep::Remove(old)]);
    settles(&mut world);
    // The dead one comes back, and bothers nobody.
    let term = world.nodes[leader].store.as_ref().map(|store| store.term(SHARD));
    world.start(dead);
    world.run(5 * SECOND);
    settles(&mut world);
    assert_eq!(world.nodes[leader].store.as_ref().map(|store| store.term(SHARD)), term);
    assert!(!voters(&world).contains(&(dead as u64 + 1)));
    assert!(world.nodes[dead].disk.group(SHARD).entries.is_empty(), "it was told that it is gone");
}

/// Those that it knows have gone as well, and one of them is back as somebody else: to that one it is a stranger.
#[test]
fn a_dead_node_is_told_by_one_that_left_and_came_back() {
    let mut world = world(3, 5, 6);
    let leader = world.serving(SHARD).expect("somebody leads");
    let [dead, gone, back] = [1, 2, 3].map(|n| (leader + n) % 3);
    world.crash(dead);
    add(&mut world, 3);
    add(&mut world, 4);
    for node in [dead, gone, back] {
        let peer = peer(&world, node);
        change(&mut world, vec![ConfStep::Remove(peer)]);
        settles(&mut world);
    }
    add(&mut world, back);
    settles(&mut world);
    world.start(dead);
    world.run(5 * SECOND);
    assert!(world.nodes[dead].disk.group(SHARD).entries.is_empty(), "it was told that it is gone");
    settles(&mut world);
}

#[test]
fn who_comes_back_is_somebody_else_and_old_messages_do_nothing() {
    let mut world = world(3, 3, 4);
    let leader = world.serving(SHARD).expect("somebody leads");
    let node = (leader + 1) % 3;
    let first = peer(&world, node);
    let old: Vec<_> = world.recent.iter().cloned().collect();
    change(&mut world, vec![ConfStep::Remove(first)]);
    settles(&mut world);
    let bring = |world: &mut World, messages: &[RaftMessage]| {
        for message in messages {
            let (from, to) = (PeerId(message.from).node(), PeerId(message.to).node().0 as usize - 1);
            let batch = RaftBatch { messages: vec![message.clone()] };
            world.input(to, |store, now| store.handle_peer(now, from, batch));
        }
    };
    bring(&mut world, &old);
    assert_eq!(world.conf_of(node, SHARD), Conf::default(), "a removed replica never wakes up again");
    change(&mut world, vec![ConfStep::AddLearner(NodeId(node as u64 + 1))]);
    let second = peer(&world, node);
    change(&mut world, vec![ConfStep::Promote(second)]);
    assert!(second.incarnation() > 0 && second != first);
    settles(&mut world);
    let before: u64 = (0..3).map(|node| world.stats(node).dropped_stranger).sum();
    bring(&mut world, &old);
    let after: u64 = (0..3).map(|node| world.stats(node).dropped_stranger).sum();
    assert!(after > before, "messages of and to the removed replica are counted");
    settles(&mut world);
}

#[test]
fn only_a_member_that_it_knows_tells_a_replica_that_it_is_gone() {
    let mut world = world(3, 4, 6);
    let leader = world.serving(SHARD).expect("somebody leads");
    let node = (leader + 1) % 3;
    let gone = |from: PeerId, term: u64| RaftMessage {
        kind: MessageType::MsgHeartbeat as u32,
        from: from.0,
        to: node as u64 + 1,
        term,
        context: Bytes::from_static(b"throng: gone"),
        ..RaftMessage::default()
    };
    let say = |world: &mut World, message: RaftMessage| {
        let from = PeerId(message.from).node();
        let batch = RaftBatch { messages: vec![message] };
        world.input(node, |store, now| store.handle_peer(now, from, batch));
    };
    let term = world.nodes[leader].store.as_ref().expect("it runs").term(SHARD);
    // Nodes that it has never heard of as members, under an id that a member to come may have; and no term at all.
    for from in [PeerId(4), PeerId::new(NodeId(4), 1 << 30).expect("in range")] {
        say(&mut world, gone(from, term));
    }
    say(&mut world, gone(PeerId(leader as u64 + 1), 0));
    assert!(!world.conf_of(node, SHARD).is_empty(), "it still takes part");
    settles(&mut world);
    say(&mut world, gone(PeerId(leader as u64 + 1), term));
    assert!(world.conf_of(node, SHARD).is_empty());
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut world = world(3, 4, 5);
    let leader = world.serving(SHARD).expect("somebody leads");
    let refused = |world: &mut World, steps: &[ConfStep]| {
        let result = world.propose_conf(SHARD, steps.to_vec());
        assert!(matches!(result, Some(Err(ProposeConfError::Refused(_)))), "{steps:?}: {result:?}");
    };
    let other = PeerId((leader as u64 + 1) % 3 + 1);
    refused(&mut world, &[]);
    refused(&mut world, &[ConfStep::AddLearner(NodeId(other.0))]);
    refused(&mut world, &[ConfStep::AddLearner(NodeId(0))]);
    refused(&mut world, &[ConfStep::Remove(other), ConfStep::AddLearner(NodeId(other.0))]);
    refused(&mut world, &[ConfStep::Promote(other)]);
    refused(&mut world, &[ConfStep::Promote(PeerId(4))]);
    refused(&mut world, &[ConfStep::Demote(PeerId(4))]);
    refused(&mut world, &[ConfStep::Remove(PeerId(4))]);
    refused(&mut world, &[ConfStep::Demote(other), ConfStep::Remove(other)]);
    refused(&mut world, &[1, 2, 3].map(|node| ConfStep::Remove(PeerId(node))));
    let follower = world.nodes[(leader + 1) % 3].store.as_mut().expect("it runs");
    let elsewhere = follower.propose_conf(Instant::ZERO, SHARD, vec![ConfStep::AddLearner(NodeId(4))]);
    assert_eq!(elsewhere, Err(ProposeConfError::NotLeader { leader: Some(NodeId(leader as u64 + 1)) }));
}
