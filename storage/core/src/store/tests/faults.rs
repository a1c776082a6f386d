//! What must hold in foul weather: messages lost, doubled and reordered, slow disks, partitions and crashes.

use core::time::Duration;

use throng_base::Rng;
use throng_wire::ids::ShardId;

use super::world::{Weather, World};
use crate::store::StoreConfig;

const SHARDS: u32 = 3;

/// One run: a storm with faults from the seed, then calm, in which everything must come to an end.
fn storm(seed: u64) -> World {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let nodes = if rng.chance(200_000) { 5 } else { 3 };
    let weather = Weather::stormy(&mut rng);
    // So little memory that followers that were away are served from the log on disk; group commits with and without
    // others in flight.
    let tune: fn(&mut StoreConfig) = match seed % 2 {
        0 => |config| config.tail_bytes_max = 4000,
        _ => |config| (config.tail_bytes_max, config.persists_in_flight_max) = (4000, 1),
    };
    let mut world = World::tuned(nodes, SHARDS, seed, weather, tune);
    for _ in 0..250 {
        disturb(&mut world, &mut rng);
        use_it(&mut world, &mut rng);
        let pause = Duration::from_micros(rng.below(40_000));
        world.run(pause);
    }
    calm_down(&mut world);
    world
}

fn disturb(world: &mut World, rng: &mut Rng) {
    let node = rng.below(world.nodes.len() as u64) as usize;
    match rng.below(40) {
        0 if world.nodes[node].store.is_some() => {
            world.crash(node);
            if rng.chance(500_000) {
                world.torn.insert(node);
            }
        }
        1 => world.isolate(node),
        2 => world.cut(node, rng.below(world.nodes.len() as u64) as usize),
        3..=5 => world.heal(),
        6 => world.flush(node),
        7 => world.weather = Weather::stormy(rng),
        _ if world.nodes[node].store.is_none() && rng.chance(200_000) => world.start(node),
        _ => (),
    }
}

fn use_it(world: &mut World, rng: &mut Rng) {
    for _ in 0..rng.below(8) {
        let node = rng.below(world.nodes.len() as u64) as usize;
        let shard = ShardId(rng.below(u64::from(SHARDS)) as u32);
        if rng.chance(300_000) {
            world.read(node, shard);
        } else {
            world.propose(node, shard);
        }
    }
}

fn calm_down(world: &mut World) {
    world.heal();
    world.weather = Weather::calm();
    for node in 0..world.nodes.len() {
        if world.nodes[node].store.is_none() {
            world.start(node);
        }
    }
    let settled = |world: &World| {
        (0..SHARDS).all(|shard| world.serving(ShardId(shard)).is_some())
            && world.is_even()
            && world.nodes.iter().all(|node| node.open.is_empty())
    };
    world.until("peace", Duration::from_secs(20), settled);
    for shard in (0..SHARDS).map(ShardId) {
        commit_one(world, shard);
    }
    world.until("answers", Duration::from_secs(2), |world| {
        world.nodes.iter().all(|node| node.open.is_empty())
    });
}

/// A client that tries again: leadership may be on its way to another node.
fn commit_one(world: &mut World, shard: ShardId) {
    let before = world.tally.committed;
    for _ in 0..100 {
        if let Some(leader) = world.serving(shard) {
            world.propose(leader, shard);
        }
        world.run(Duration::from_millis(20));
        if world.tally.committed > before {
            return;
        }
    }
    panic!("shard {shard} takes nothing in calm weather");
}

#[test]
fn storms_break_no_promise_and_end() {
    let mut sum = [0; 7];
    for seed in 0..120 {
        let world = storm(seed);
        let tally = world.tally;
        let log_reads: u64 = (0..world.nodes.len()).map(|node| world.stats(node).log_reads).sum();
        assert_eq!(tally.proposed, tally.committed + tally.lost + tally.orphaned, "seed {seed}: {tally:?}");
        let counts = [
            tally.committed,
            tally.lost,
            tally.orphaned,
            tally.reads,
            tally.reads_lost,
            tally.crashes,
            log_reads,
        ];
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    // A storm in which something never happens tests nothing.
    let names = "committed, lost, orphaned, reads, reads lost, crashes, log reads";
    assert!(sum.iter().all(|count| *count > 50), "{names}: {sum:?}");
}

/// A follower needs an entry that has left the leader's memory and that its disk does not return.
#[test]
fn an_entry_that_cannot_be_read_back_ends_the_node() {
    let mut world = World::tuned(3, 1, 1, Weather::calm(), |config| config.tail_bytes_max = 4000);
    let shard = ShardId(0);
    let second = Duration::from_secs(1);
    world.until("leadership", second, |world| world.serving(shard).is_some());
    let leader = world.serving(shard).expect("somebody leads");
    let follower = (leader + 1) % 3;
    world.crash(follower);
    let from = world.log[&shard].len() as u64;
    for _ in 0..200 {
        world.propose(leader, shard);
        world.run(Duration::from_millis(2));
    }
    world.nodes[leader].disk.spoil(shard, from + 20);
    world.spoilt.insert(leader);
    world.start(follower);
    world.until("the leader's end", 5 * second, |world| world.nodes[leader].store.is_none());
    world.until("another leader", 5 * second, |world| world.serving(shard).is_some());
    commit_one(&mut world, shard);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 500..510 {
        let (a, b) = (storm(seed), storm(seed));
        assert_eq!((a.trace, a.tally), (b.trace, b.tally), "seed {seed}");
    }
}
