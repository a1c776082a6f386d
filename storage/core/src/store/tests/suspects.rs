//! Replicas whose logs ended in damage: what they say counts for nothing until a leader has cleared them.

use core::time::Duration;

use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftBatch;

use super::world::{Weather, World};
use crate::store::*;

const SECOND: Duration = Duration::from_secs(1);
const SHARD: ShardId = ShardId(0);

/// Three nodes with something in their logs, and one to spare; the leader and the two others.
fn world() -> (World, usize, [usize; 2]) {
    let tune: fn(&mut StoreConfig) = |config| config.balance = false;
    let mut world = World::with_spares(3, 4, 1, 7, Weather::calm(), tune);
    world.until("leadership", 2 * SECOND, |world| world.serving(SHARD).is_some());
    let leader = world.serving(SHARD).expect("somebody leads");
    propose(&mut world, leader, 5);
    let others = [1, 2].map(|n| (leader + n) % 3);
    (world, leader, others)
}

fn propose(world: &mut World, node: usize, count: usize) {
    for _ in 0..count {
        world.propose(node, SHARD);
        world.run(Duration::from_millis(20));
    }
}

/// Ends a node, and starts it on a log that ends in damage.
fn restart_torn(world: &mut World, node: usize) {
    world.crash(node);
    world.torn.insert(node);
    world.start(node);
}

fn is_clear(world: &World) -> bool {
    (0..world.nodes.len()).all(|node| !world.is_suspect(node, SHARD)) && world.is_even()
}

fn committed(world: &World) -> usize {
    world.log[&SHARD].len()
}

#[test]
fn a_suspect_neither_acknowledges_nor_votes_alone() {
    let (mut world, leader, [suspect, other]) = world();
    world.crash(other);
    restart_torn(&mut world, suspect);
    let before = committed(&world);
    propose(&mut world, leader, 3);
    world.read(leader, SHARD);
    let reads = world.tally.reads;
    world.run(3 * SECOND);
    assert_eq!((committed(&world), world.tally.reads), (before, reads), "one of three is no majority");
    assert!(world.is_suspect(suspect, SHARD) && world.serving(SHARD).is_none());
    world.start(other);
    world.until("clearance", 3 * SECOND, is_clear);
    let leader = world.serving(SHARD).expect("somebody leads");
    propose(&mut world, leader, 3);
    assert!(committed(&world) > before && world.is_even());
}

#[test]
fn a_suspect_is_cleared_while_the_others_go_on() {
    let (mut world, leader, [suspect, _]) = world();
    restart_torn(&mut world, suspect);
    world.until("clearance", SECOND / 2, is_clear);
    assert_eq!(world.serving(SHARD), Some(leader), "nobody had to be elected");
    assert_eq!((world.stats(suspect).suspects, world.stats(suspect).released), (1, 1));
    let before = committed(&world);
    world.crash((0..3).find(|node| ![leader, suspect].contains(node)).expect("a third"));
    propose(&mut world, leader, 1);
    world.run(SECOND / 10);
    assert_eq!(committed(&world), before + 1, "its acknowledgement counts again");
}

#[test]
fn people_may_acquit_where_a_node_never_comes_back() {
    let (mut world, ..) = world();
    (0..3).for_each(|node| world.crash(node));
    world.torn.extend(0..2);
    [0, 1].into_iter().for_each(|node| world.start(node));
    world.run(5 * SECOND);
    assert_eq!(world.serving(SHARD), None, "the third may have acknowledged more");
    let acquit = |world: &mut World, node| world.input(node, |store, now| store.acquit(now, SHARD));
    assert_eq!(acquit(&mut world, 0), Some(true));
    assert_eq!(acquit(&mut world, 0), Some(false), "it is no suspect any more");
    world.run(5 * SECOND);
    assert_eq!(world.serving(SHARD), None, "the vote of the other one does not count yet");
    assert_eq!(acquit(&mut world, 1), Some(true));
    world.until("a leader", 5 * SECOND, |world| world.serving(SHARD).is_some());
    let leader = world.serving(SHARD).expect("somebody leads");
    let before = committed(&world);
    propose(&mut world, leader, 2);
    assert_eq!(committed(&world), before + 2);
    world.crash(0);
    world.start(0);
    assert!(!world.is_suspect(0, SHARD), "that is on disk");
}

#[test]
fn after_a_power_cut_all_votes_are_needed() {
    let (mut world, ..) = world();
    (0..3).for_each(|node| world.crash(node));
    world.torn.extend(0..3);
    [0, 1].into_iter().for_each(|node| world.start(node));
    world.run(5 * SECOND);
    assert_eq!(world.serving(SHARD), None, "the third may have acknowledged more");
    world.start(2);
    world.until("a leader", 5 * SECOND, |world| world.serving(SHARD).is_some());
    world.until("clearance", SECOND, is_clear);
}

#[test]
fn one_of_two_elects_with_the_suspect() {
    let mut world = World::tuned(2, 1, 7, Weather::calm(), |config| config.balance = false);
    world.until("leadership", 2 * SECOND, |world| world.serving(SHARD).is_some());
    let leader = world.serving(SHARD).expect("somebody leads");
    propose(&mut world, leader, 2);
    restart_torn(&mut world, 1 - leader);
    world.until("clearance", 5 * SECOND, is_clear);
}

#[test]
fn a_node_alone_needs_nobody() {
    let mut world = World::new(1, 1, 7, Weather::calm());
    world.until("leadership", SECOND, |world| world.serving(SHARD).is_some());
    propose(&mut world, 0, 2);
    restart_torn(&mut world, 0);
    world.until("leadership", SECOND, |world| world.serving(SHARD).is_some());
    assert!(!world.is_suspect(0, SHARD));
    world.crash(0);
    world.start(0);
    assert_eq!(world.stats(0).suspects, 0, "that it was cleared is on disk");
}

#[test]
fn whoever_lost_what_it_acknowledged_is_brought_up_to_date() {
    let (mut world, leader, [loser, _]) = world();
    propose(&mut world, leader, 1);
    world.run(SECOND);
    world.crash(loser);
    world.lose_newest(loser);
    world.start(loser);
    assert!(!world.is_suspect(loser, SHARD), "the end of its log looks sound");
    propose(&mut world, leader, 1);
    world.until("clearance", 3 * SECOND, |world| world.stats(loser).released == 1 && is_clear(world));
    assert!(world.stats(loser).dropped_beyond_log > 0);
}

#[test]
fn restarts_do_not_clear_it() {
    let (mut world, leader, [suspect, _]) = world();
    world.isolate(suspect);
    restart_torn(&mut world, suspect);
    for _ in 0..3 {
        world.run(SECOND / 10);
        world.crash(suspect);
        world.start(suspect);
        assert!(world.is_suspect(suspect, SHARD), "the end of its log is sound by now");
    }
    world.heal();
    world.until("clearance", 3 * SECOND, is_clear);
    propose(&mut world, leader, 1);
    world.crash(suspect);
    world.start(suspect);
    assert!(!world.is_suspect(suspect, SHARD));
}

#[test]
fn old_words_change_nothing() {
    let (mut world, leader, [suspect, _]) = world();
    restart_torn(&mut world, suspect);
    world.until("clearance", SECOND, is_clear);
    let words: Vec<_> =
        world.recent.iter().filter(|message| Word::of(message.kind).is_some()).cloned().collect();
    world.isolate(suspect);
    restart_torn(&mut world, suspect);
    for message in words {
        let (from, to) = (PeerId(message.from).node(), PeerId(message.to).node().0 as usize - 1);
        let batch = RaftBatch { messages: vec![message] };
        world.input(to, |store, now| store.handle_peer(now, from, batch));
    }
    world.run(SECOND / 5);
    assert!(world.is_suspect(suspect, SHARD), "that was about another life");
    world.heal();
    world.until("clearance", 3 * SECOND, is_clear);
    propose(&mut world, leader, 1);
}

#[test]
fn a_learner_is_cleared_as_well_also_before_its_first_snapshot() {
    let (mut world, leader, _) = world();
    world.propose_conf(SHARD, vec![ConfStep::AddLearner(NodeId(4))]).expect("somebody leads").expect("taken");
    world.until("a replica", SECOND, |world| {
        world.nodes[3].store.as_ref().is_some_and(|s| s.peer(SHARD).0 != 0)
    });
    world.run(Duration::from_millis(1));
    restart_torn(&mut world, 3);
    world.until("clearance", 5 * SECOND, is_clear);
    restart_torn(&mut world, 3);
    world.until("clearance", 5 * SECOND, is_clear);
    propose(&mut world, leader, 1);
    assert!(world.is_even());
}

#[test]
fn a_learner_that_missed_its_removal_hears_of_it() {
    let (mut world, leader, _) = world();
    world.propose_conf(SHARD, vec![ConfStep::AddLearner(NodeId(4))]).expect("somebody leads").expect("taken");
    let peer = |world: &World| world.nodes[3].store.as_ref().map(|store| store.peer(SHARD)).expect("it runs");
    world.until("a learner", 5 * SECOND, |world| {
        world.is_even() && world.conf_of(3, SHARD).contains(peer(world).0)
    });
    world.isolate(3);
    let learner = peer(&world);
    world.propose_conf(SHARD, vec![ConfStep::Remove(learner)]).expect("somebody leads").expect("taken");
    propose(&mut world, leader, 1);
    world.heal();
    let hears =
        |world: &World| world.nodes[3].store.as_ref().is_some_and(|store| store.leader(SHARD).is_none());
    world.until("no leader", 4 * SECOND, hears);
    world.until("removal", 4 * SECOND, |world| world.conf_of(3, SHARD).is_empty());
}
