//! Members come and go in foul weather: changes of all kinds while messages are lost, doubled and reordered, logs are
//! truncated, snapshots travel, and nodes end between any two outputs. What must hold is checked at every output
//! (`world.rs`: one leader a term, one history, every change once and the same for all, nothing committed on too few
//! disks); at the end everything must come to rest and every learner become a voter.

use core::time::Duration;

use throng_base::Rng;
use throng_wire::ids::{NodeId, ShardId};

use super::world::{Tally, Weather, World};
use crate::entry::PeerId;
use crate::store::*;

const SHARD: ShardId = ShardId(0);
const NODES: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

fn storm(seed: u64) -> World {
    println!("seed {seed}"); // For whoever looks for what failed.
    let mut rng = Rng::new(seed ^ 0xc4a_6e5);
    let weather = stormy(&mut rng);
    let voters = 1 + rng.below(3) as usize;
    // So short a log that whoever was away for a moment needs a snapshot.
    let mut world = World::with_spares(voters, NODES, 1, seed, weather, |config| {
        (config.tail_bytes_max, config.log_keep_entries, config.log_keep_bytes) = (4000, 8, 4000);
    });
    for _ in 0..250 {
        disturb(&mut world, &mut rng);
        for _ in 0..rng.below(6) {
            world.propose(rng.below(NODES as u64) as usize, SHARD);
        }
        if rng.chance(300_000) {
            change(&mut world, &mut rng);
        }
        world.run(Duration::from_micros(rng.below(40_000)));
    }
    calm_down(&mut world);
    world
}

fn stormy(rng: &mut Rng) -> Weather {
    Weather { crash_per_million: rng.below(3_000) as u32, ..Weather::stormy(rng) }
}

fn disturb(world: &mut World, rng: &mut Rng) {
    let node = rng.below(NODES as u64) as usize;
    match rng.below(40) {
        0 if world.nodes[node].store.is_some() => world.crash(node),
        1 => world.isolate(node),
        2 => world.cut(node, rng.below(NODES as u64) as usize),
        3..=5 => world.heal(),
        6..=12 => world.flush(node),
        13 => world.weather = stormy(rng),
        14 if world.nodes[node].store.is_some() => {
            let of = NodeId(1 + (node as u64 + 1 + rng.below(NODES as u64 - 1)) % NODES as u64);
            let silence = Duration::from_millis(rng.below(600));
            world.input(node, |store, now| store.handle_peer_silent(now, of, silence));
        }
        _ if world.nodes[node].store.is_none() && rng.chance(300_000) => world.start(node),
        _ => (),
    }
}

/// One or two steps that may make sense for the members there are.
fn change(world: &mut World, rng: &mut Rng) {
    let conf = world.newest_conf(SHARD);
    let pick = |list: &[u64], rng: &mut Rng| {
        (!list.is_empty()).then(|| PeerId(list[rng.below(list.len() as u64) as usize]))
    };
    let mut steps = Vec::new();
    for _ in 0..1 + rng.below(2) {
        let step = match rng.below(8) {
            0..=2 => Some(ConfStep::AddLearner(NodeId(1 + rng.below(NODES as u64)))),
            3..=5 => pick(&conf.learners, rng).map(ConfStep::Promote),
            6 => pick(&conf.voters, rng).map(ConfStep::Demote),
            _ => conf
                .members()
                .nth(rng.below(NODES as u64) as usize)
                .map(|peer| ConfStep::Remove(PeerId(peer))),
        };
        steps.extend(step);
    }
    world.propose_conf(SHARD, steps);
}

fn is_at_rest(world: &World) -> bool {
    world.serving(SHARD).is_some()
        && !world.newest_conf(SHARD).is_joint()
        && world.is_even()
        && world.nodes.iter().all(|node| node.open.is_empty())
}

fn calm_down(world: &mut World) {
    world.heal();
    world.weather = Weather::calm();
    for node in 0..NODES {
        if world.nodes[node].store.is_none() {
            world.start(node);
        }
    }
    world.until("peace", 30 * SECOND, is_at_rest);
    while let Some(learner) = world.newest_conf(SHARD).learners.first().copied() {
        let promoted = |world: &World| world.newest_conf(SHARD).voters.contains(&learner);
        let mut answer = None;
        for _ in 0..400 {
            if promoted(world) {
                break;
            }
            answer = world.propose_conf(SHARD, vec![ConfStep::Promote(PeerId(learner))]);
            world.run(Duration::from_millis(25));
        }
        let conf = world.newest_conf(SHARD);
        assert!(promoted(world), "learner {learner:#x} of {conf:?} is stuck: {answer:?}");
        world.until("peace", 30 * SECOND, is_at_rest);
    }
}

#[test]
fn members_change_in_storms_and_nothing_breaks() {
    let mut sum = Tally::default();
    let mut truncations = 0;
    for seed in 0..150 {
        let world = storm(seed);
        let tally = world.tally;
        assert_eq!(tally.proposed, tally.committed + tally.lost + tally.orphaned, "seed {seed}: {tally:?}");
        sum.committed += tally.committed;
        sum.changes += tally.changes;
        sum.restored += tally.restored;
        sum.crashes += tally.crashes;
        truncations += (0..NODES).map(|node| world.stats(node).truncations).sum::<u64>();
    }
    // A storm in which something never happens tests nothing.
    let counts = [sum.committed, sum.changes, sum.restored, sum.crashes, truncations];
    assert!(
        counts.iter().all(|count| *count > 150),
        "committed, changes, snapshots, crashes, truncations: {counts:?}"
    );
}
