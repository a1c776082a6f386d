//! Truncation, and the snapshots that it makes necessary.

use core::time::Duration;

use throng_wire::ids::ShardId;

use super::world::{Weather, World};
use crate::entry::PeerId;
use crate::store::StoreOutput;

const SECOND: Duration = Duration::from_secs(1);
const SHARD: ShardId = ShardId(0);

/// Three nodes whose logs keep nothing for those who are behind.
fn world(seed: u64) -> World {
    let mut world = World::tuned(3, 1, seed, Weather::calm(), |config| {
        (config.log_keep_bytes, config.log_keep_entries) = (0, 0);
        config.balance = false;
    });
    world.until("leadership", SECOND, |world| world.serving(SHARD).is_some());
    world
}

fn write(world: &mut World, count: usize) {
    for _ in 0..count {
        let leader = world.serving(SHARD).expect("somebody leads");
        assert!(world.propose(leader, SHARD));
        world.run(Duration::from_millis(2));
    }
}

fn first_index(world: &World, node: usize) -> u64 {
    world.nodes[node].disk.group(SHARD).base() + 1
}

#[test]
fn what_is_flushed_and_everywhere_is_forgotten() {
    let mut world = world(1);
    write(&mut world, 50);
    world.run(SECOND);
    assert_eq!(first_index(&world, 0), 1, "nothing was flushed");
    (0..3).for_each(|node| world.flush(node));
    assert!((0..3).all(|node| first_index(&world, node) > 50), "{}", first_index(&world, 1));
    world.crash(1);
    world.start(1);
    write(&mut world, 10);
    world.until("catching up", SECOND, World::is_even);
    assert_eq!(world.tally.restored, 0);
}

#[test]
fn a_leader_keeps_what_its_slowest_follower_lacks_within_the_budget() {
    let mut world = World::tuned(3, 1, 1, Weather::calm(), |config| config.log_keep_entries = 100);
    world.until("leadership", SECOND, |world| world.serving(SHARD).is_some());
    write(&mut world, 20);
    world.isolate(2);
    write(&mut world, 50);
    world.flush(0);
    assert!(first_index(&world, 0) <= 22, "node 3 lacks what came after");
    write(&mut world, 100);
    world.flush(0);
    let kept = world.log[&SHARD].len() as u64 + 1 - first_index(&world, 0);
    assert!((100..=101).contains(&kept), "{kept}");
    let pressed = world.input(0, |store, now| store.handle_log_pressure(now, SHARD));
    assert_eq!((pressed, first_index(&world, 0)), (Some(()), world.log[&SHARD].len() as u64 + 1));
}

#[test]
fn who_was_away_too_long_gets_a_snapshot_and_goes_on() {
    let mut world = world(2);
    write(&mut world, 10);
    world.isolate(2);
    write(&mut world, 60);
    (0..2).for_each(|node| world.flush(node));
    world.heal();
    world.until("catching up", 2 * SECOND, World::is_even);
    assert_eq!(world.tally.restored, 1);
    write(&mut world, 10);
    world.until("going on", SECOND, World::is_even);
    world.crash(2);
    world.start(2);
    write(&mut world, 10);
    world.until("going on after a restart", SECOND, World::is_even);
    assert_eq!(world.tally.restored, 1);
}

#[test]
fn a_snapshot_that_failed_is_sent_again() {
    let mut world = world(3);
    world.isolate(2);
    write(&mut world, 60);
    (0..2).for_each(|node| world.flush(node));
    world.weather.lost_per_million = 500_000;
    world.heal();
    world.run(3 * SECOND);
    world.weather = Weather::calm();
    world.until("catching up", 4 * SECOND, World::is_even);
    assert!(world.tally.restored >= 1);
}

#[test]
fn a_crash_before_the_mark_is_durable_leaves_the_old_state() {
    let mut world = world(4);
    write(&mut world, 5);
    world.isolate(2);
    world.flush(2);
    write(&mut world, 60);
    (0..2).for_each(|node| world.flush(node));
    world.weather.disk_delay = 10 * SECOND;
    world.heal();
    world.until("a snapshot", 2 * SECOND, |world| world.stats(2).snapshots_taken == 1);
    assert_eq!(world.tally.restored, 0);
    world.crash(2);
    world.weather = Weather::calm();
    world.start(2);
    world.until("catching up", 4 * SECOND, World::is_even);
    assert_eq!(world.tally.restored, 1);
}

#[test]
fn stale_snapshots_are_refused() {
    let mut world = world(5);
    write(&mut world, 10);
    world.isolate(2);
    write(&mut world, 30);
    (0..2).for_each(|node| world.flush(node));
    world.heal();
    world.until("catching up", 2 * SECOND, World::is_even);
    write(&mut world, 30);
    world.until("going on", SECOND, World::is_even);
    let refused = world.tally.snapshots_refused;
    for offer in world.offers.clone() {
        let from = PeerId(offer.message.from).node().0 as usize - 1;
        assert!(!world.bring(from, 2, offer), "everything in it is applied");
    }
    assert!(world.tally.snapshots_refused > refused);
    write(&mut world, 5);
    world.until("going on", SECOND, World::is_even);
    assert_eq!(world.tally.restored, 1);
}

#[test]
fn a_snapshot_of_what_the_log_holds_only_commits_it() {
    let mut world = world(6);
    write(&mut world, 10);
    let leader = world.serving(SHARD).expect("somebody leads");
    // The follower hears nothing of the commit, but has the entries.
    let follower = (leader + 1) % 3;
    let mut offer = None;
    for _ in 0..50 {
        assert!(world.propose(leader, SHARD));
        world.run(Duration::from_micros(400));
        let known = world.nodes[follower].applied.get(&SHARD).copied().unwrap_or(0);
        let held = world.nodes[follower].disk.group(SHARD).last_index();
        let all = world.log[&SHARD].len() as u64;
        if held >= all && known < all {
            offer = Some(world.offer(leader, follower, SHARD));
            break;
        }
    }
    let offer = offer.expect("followers hear of a commit with the next message");
    let index = offer.meta.index;
    assert!(!world.bring(leader, follower, offer), "its rows are not needed");
    world.run(Duration::from_millis(5));
    assert!(world.nodes[follower].applied[&SHARD] >= index);
    assert_eq!(world.tally.restored, 0);
}

#[test]
fn whoever_needs_no_snapshot_says_how_far_its_log_reaches() {
    let mut world = world(9);
    write(&mut world, 20);
    world.until("catching up", SECOND, World::is_even);
    (0..3).for_each(|node| world.flush(node));
    let leader = world.serving(SHARD).expect("somebody leads");
    let follower = (leader + 1) % 3;
    let offer = world.offer(leader, follower, SHARD);
    let before = world.stats(leader);
    let store = world.nodes[follower].store.as_mut().expect("it runs");
    assert!(!store.wants_snapshot(&offer.message));
    let now = store.poll_timeout().expect("a store always ticks");
    store.decline_snapshot(now, &offer.message);
    let outputs = core::iter::from_fn(|| store.poll_output());
    let answers: Vec<_> = outputs
        .filter_map(|output| match output {
            StoreOutput::Send { batch, .. } => Some(batch.messages),
            _ => None,
        })
        .flatten()
        .map(|message| (message.from, message.to, message.index >= offer.message.index, message.reject))
        .collect();
    assert_eq!(answers, [(offer.message.to, offer.message.from, true, false)]);
    assert_eq!(world.stats(leader), before);
}
