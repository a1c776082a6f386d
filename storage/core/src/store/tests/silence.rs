//! Nodes that fall silent, and heartbeats of groups in which nothing happens.

use core::time::Duration;

use throng_wire::ids::{NodeId, ShardId};

use super::world::{Weather, World};
use crate::store::StoreConfig;
use crate::store::beats::Side;

const SECOND: Duration = Duration::from_secs(1);
const SHARD: ShardId = ShardId(0);

/// One write at a time: what waits for it goes into the next one, as in the log.
fn merging(config: &mut StoreConfig) {
    (config.balance, config.persists_in_flight_max) = (false, 1);
}

fn world(shards: u32) -> (World, usize) {
    let mut world = World::tuned(3, shards, 7, Weather::calm(), merging);
    let all = |world: &World| (0..shards).all(|shard| world.serving(ShardId(shard)).is_some());
    world.until("leadership", 2 * SECOND, all);
    let leader = world.serving(SHARD).expect("somebody leads");
    world.propose(leader, SHARD);
    world.run(SECOND);
    (world, leader)
}

fn silent(world: &mut World, node: usize, of: usize, silence: Duration) {
    world.input(node, |store, now| store.handle_peer_silent(now, NodeId(of as u64 + 1), silence));
}

fn term(world: &World, node: usize) -> u64 {
    world.nodes[node].store.as_ref().expect("it runs").term(SHARD)
}

#[test]
fn a_leader_that_nobody_can_answer_is_followed_soon() {
    let (mut world, leader) = world(1);
    let others = [1, 2].map(|n| (leader + n) % 3);
    world.isolate(leader);
    others.iter().for_each(|node| silent(&mut world, *node, leader, Duration::MAX));
    let since = world.now;
    let followed = |world: &World| others.iter().any(|node| world.serving(SHARD) == Some(*node));
    world.until("another leader", Duration::from_millis(280), followed);
    assert!(world.now.since(since) < Duration::from_millis(280), "without the hint it takes 300 ms and more");
}

#[test]
fn a_leader_lets_go_when_it_can_talk_to_no_majority() {
    let (mut world, leader) = world(1);
    let others = [1, 2].map(|n| (leader + n) % 3);
    silent(&mut world, leader, others[0], Duration::from_millis(250));
    assert_eq!((world.serving(SHARD), world.stats(leader).let_go), (Some(leader), 0));
    silent(&mut world, leader, others[1], Duration::from_millis(250));
    assert_eq!((world.serving(SHARD), world.stats(leader).let_go), (None, 1));
    world.until("a leader", 2 * SECOND, |world| world.serving(SHARD).is_some());
}

#[test]
fn a_follower_alone_with_its_silence_elects_nobody() {
    let (mut world, leader) = world(1);
    let (follower, before) = ((leader + 1) % 3, term(&world, leader));
    world.cut(leader, follower);
    world.cut(follower, leader);
    silent(&mut world, follower, leader, Duration::from_millis(250));
    world.run(5 * SECOND);
    assert_eq!(world.serving(SHARD), Some(leader));
    assert!(world.stats(follower).campaigns > 3, "it asks in vain");
    world.heal();
    world.run(2 * SECOND);
    assert_eq!(term(&world, leader), before, "who comes back disturbs nobody");
}

/// Two syncs, one behind the other, take longer than the time-out of an election: whoever begins anew too early ends the
/// election that was about to succeed.
#[test]
fn disks_that_are_slower_than_elections_get_leaders_all_the_same() {
    for seed in 0..6 {
        let weather = Weather { disk_delay: Duration::from_millis(1_200), ..Weather::calm() };
        let mut world = World::tuned(3, 16, seed, weather, merging);
        let all = |world: &World| (0..16).all(|shard| world.serving(ShardId(shard)).is_some());
        world.until("leadership", 30 * SECOND, all);
        let begun: u64 = (0..3).map(|node| world.stats(node).campaigns).sum();
        assert!(begun < 16 * 3 * 20, "seed {seed}: {begun} elections");
    }
}

/// Slow disks make everything slow and depose nobody: that a follower is there it says at once, whatever it has to write.
#[test]
fn a_leader_outlasts_syncs_that_are_slower_than_elections() {
    let (mut world, leader) = world(4);
    let elections = |world: &World| (0..3).map(|node| world.stats(node).campaigns).sum::<u64>();
    let before = (term(&world, leader), elections(&world));
    world.weather.disk_delay = Duration::from_millis(1_500);
    for _ in 0..100 {
        (0..4).for_each(|shard| _ = world.propose(leader, ShardId(shard)));
        world.run(Duration::from_millis(100));
    }
    assert_eq!((world.serving(SHARD), (term(&world, leader), elections(&world))), (Some(leader), before));
}

#[test]
fn quiet_groups_share_one_heartbeat_and_elect_nobody() {
    let (mut world, leader) = world(30);
    let before = term(&world, leader);
    world.run(10 * SECOND);
    let whole = world.recent.iter().filter(|message| Side::of(message.kind).is_none()).count();
    assert!(!world.recent.is_empty(), "leaders are heard");
    assert_eq!(whole, 0, "of the newest {} messages, none is raft's", world.recent.len());
    assert_eq!(term(&world, leader), before);
    for node in 0..3 {
        assert_eq!(world.stats(node).beats_unanswered, 0);
    }
}

#[test]
fn a_follower_that_lacks_something_gets_it_with_the_next_heartbeats() {
    let (mut world, leader) = world(1);
    let (follower, before) = ((leader + 1) % 3, term(&world, leader));
    for turn in 0..40 {
        world.propose(leader, SHARD);
        // Sometimes the entry is lost on its way, sometimes only that it is committed.
        world.run(Duration::from_micros(turn * 25));
        world.cut(leader, follower);
        world.run(Duration::from_millis(60));
        world.heal();
        world.until("agreement", Duration::from_millis(150), World::is_even);
    }
    assert_eq!(term(&world, leader), before);
}
