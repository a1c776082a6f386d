//! What a cluster does in fair weather.

use core::time::Duration;

use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};

use super::world::{Weather, World};
use crate::store::*;

const SECOND: Duration = Duration::from_secs(1);

fn calm(nodes: usize, shards: u32) -> World {
    World::new(nodes, shards, 7, Weather::calm())
}

fn all_serving(world: &World, shards: u32) -> bool {
    (0..shards).all(|shard| world.serving(ShardId(shard)).is_some())
}

#[test]
fn a_single_node_leads_without_waiting_for_an_election() {
    let mut world = calm(1, 4);
    world.until("leadership", Duration::from_millis(5), |world| all_serving(world, 4));
    assert!(world.propose(0, ShardId(2)));
    assert!(world.read(0, ShardId(2)));
    world.until("commit", Duration::from_millis(5), |world| {
        world.tally.committed == 1 && world.tally.reads == 1
    });
}

#[test]
fn a_single_node_keeps_everything_over_crashes() {
    let mut world = calm(1, 2);
    for round in 1..=10 {
        world.until("leadership", SECOND, |world| all_serving(world, 2));
        for _ in 0..20 {
            assert!(world.propose(0, ShardId(round % 2)));
        }
        if round % 3 == 0 {
            world.flush(0);
        }
        world.run(Duration::from_micros(u64::from(round) * 70));
        world.crash(0);
        world.start(0);
    }
    world.until("leadership", SECOND, |world| all_serving(world, 2) && world.is_even());
    let tally = world.tally;
    assert_eq!(tally.proposed, tally.committed + tally.orphaned, "{tally:?}");
}

#[test]
fn three_nodes_share_the_leaderships() {
    let mut world = calm(3, 9);
    world.until("leadership", SECOND, |world| all_serving(world, 9));
    for shard in 0..9 {
        assert_eq!(world.serving(ShardId(shard)), Some(shard as usize % 3), "shard {shard}");
    }
}

#[test]
fn proposals_and_reads_find_their_answers() {
    let mut world = calm(3, 3);
    world.until("leadership", SECOND, |world| all_serving(world, 3));
    for turn in 0..60u32 {
        let shard = ShardId(turn % 3);
        let leader = world.serving(shard).expect("somebody leads");
        assert!(world.propose(leader, shard));
        assert!(world.read(leader, shard));
        let other = (leader + 1) % 3;
        assert!(!world.propose(other, shard), "only the leader proposes");
        assert!(!world.read(other, shard), "only the leader reads");
    }
    world.until("answers", SECOND, |world| world.tally.committed == 60 && world.tally.reads == 60);
    world.until("replication", SECOND, World::is_even);
    assert_eq!(world.tally.lost + world.tally.reads_lost, 0);
}

#[test]
fn who_is_not_leader_says_who_is() {
    let mut world = calm(3, 1);
    world.until("leadership", SECOND, |world| all_serving(world, 1));
    world.run(SECOND);
    let refused = world.input(2, |store, now| store.propose(now, ShardId(0), "x".into()));
    assert_eq!(refused, Some(Err(ProposeError::NotLeader { leader: Some(NodeId(1)) })));
}

#[test]
fn a_dead_leader_is_replaced_and_gets_its_share_back() {
    let mut world = calm(3, 3);
    world.until("leadership", SECOND, |world| all_serving(world, 3));
    assert!(world.propose(0, ShardId(0)));
    world.crash(0);
    world.until("a new leader", SECOND, |world| world.serving(ShardId(0)).is_some_and(|leader| leader != 0));
    world.start(0);
    world.until("balance", 5 * SECOND, |world| world.serving(ShardId(0)) == Some(0) && world.is_even());
}

#[test]
fn handing_over_loses_nothing() {
    let mut world = calm(3, 1);
    world.until("leadership", SECOND, |world| all_serving(world, 1));
    for round in 0..20 {
        let leader = world.serving(ShardId(0)).expect("somebody leads");
        let next = (leader + 1) % 3;
        (0..5).for_each(|_| assert!(world.propose(leader, ShardId(0))));
        world.input(leader, |store, now| store.transfer_leader(now, ShardId(0), NodeId(next as u64 + 1)));
        assert!(!world.propose(leader, ShardId(0)), "busy while it hands over");
        world.until("the new leader", SECOND, |world| world.serving(ShardId(0)) == Some(next));
        assert_eq!((world.tally.committed, world.tally.lost), ((round + 1) * 5, 0));
    }
}

#[test]
fn leadership_that_nobody_takes_stays() {
    let mut world = calm(3, 1);
    world.until("leadership", SECOND, |world| all_serving(world, 1));
    world.isolate(2);
    world.input(0, |store, now| store.transfer_leader(now, ShardId(0), NodeId(3)));
    world.run(SECOND);
    let leader = world.serving(ShardId(0)).expect("somebody leads");
    assert!(world.propose(leader, ShardId(0)));
    world.until("commit", SECOND, |world| world.tally.committed == 1);
}

#[test]
fn a_retiring_node_gives_everything_away_and_stays_out() {
    let mut world = calm(3, 6);
    world.until("leadership", SECOND, |world| all_serving(world, 6));
    world.input(1, Store::retire);
    let gone = |world: &World| !world.nodes[1].store.as_ref().is_some_and(Store::leads_any);
    world.until("retirement", SECOND, |world| gone(world) && all_serving(world, 6));
    world.run(4 * SECOND);
    assert!(gone(&world));
    assert_eq!(world.tally.lost, 0);
}

#[test]
fn a_reluctant_node_gives_everything_away_until_it_is_not() {
    let mut world = calm(3, 6);
    world.until("leadership", SECOND, |world| all_serving(world, 6));
    let reluctant = |is_reluctant| move |store: &mut Store, now| store.set_reluctant(now, is_reluctant);
    let leads = |world: &World, node: usize| world.nodes[node].store.as_ref().is_some_and(Store::leads_any);
    world.input(1, reluctant(true));
    world.until("it leads nothing", SECOND, |world| !leads(world, 1) && all_serving(world, 6));
    for _ in 0..20 {
        world.run(SECOND);
        assert!(!leads(&world, 1), "balance offers it nothing that it takes");
        assert!(all_serving(&world, 6) && world.propose(world.serving(ShardId(1)).expect("led"), ShardId(1)));
    }
    // Where nobody wants to lead, somebody does, and nothing is lost.
    world.input(0, reluctant(true));
    world.input(2, reluctant(true));
    world.run(SECOND);
    world.until("leadership", SECOND, |world| all_serving(world, 6));
    world.crash(0);
    world.until("the others", 2 * SECOND, |world| all_serving(world, 6));
    world.start(0);
    for node in [1, 2] {
        world.input(node, reluctant(false)).expect("it runs");
    }
    world.until("balance", 60 * SECOND, World::is_even);
    assert_eq!(world.tally.lost, 0);
}

#[test]
fn a_hung_disk_moves_the_leadership_away() {
    let mut world = calm(3, 3);
    world.until("leadership", SECOND, |world| all_serving(world, 3));
    let mut store = world.nodes[0].store.take().expect("it runs");
    // From here on node 1's disk never answers: its group commits are taken and forgotten.
    store.propose(world.now, ShardId(0), "x".into()).expect("it leads");
    let mut transfers = 0;
    let mut now = world.now;
    for _ in 0..150 {
        now += Duration::from_millis(20);
        for peer in [2, 3] {
            let mut answer = heartbeat_answer(&store, peer);
            answer.messages.retain(|message| message.term > 0);
            store.handle_peer(now, NodeId(peer), answer);
        }
        store.handle_timeout(now);
        while store.poll_output().is_some() {}
        transfers = store.stats().transfers;
    }
    assert!(store.is_stalled());
    assert!(transfers > 0);
}

fn heartbeat_answer(store: &Store, from: u64) -> RaftBatch {
    let answer = throng_wire::peer::RaftMessage {
        kind: MessageType::MsgHeartbeatResponse as u32,
        from,
        to: 1,
        term: store.term(ShardId(0)),
        ..Default::default()
    };
    RaftBatch { messages: vec![answer] }
}

#[test]
fn heartbeats_of_all_groups_share_one_batch() {
    let mut world = World::tuned(3, 30, 3, Weather::calm(), |config| config.heartbeat_ticks = 1);
    world.until("leadership", SECOND, |world| all_serving(world, 30));
    world.run(SECOND);
    let store = world.nodes[0].store.as_mut().expect("it runs");
    let due = store.poll_timeout().expect("ticks");
    store.handle_timeout(due);
    let sends: Vec<usize> = std::iter::from_fn(|| store.poll_output())
        .filter_map(|output| match output {
            StoreOutput::Send { batch, .. } => Some(batch.messages.len()),
            _ => None,
        })
        .collect();
    // One message for all that are quiet; a few groups' own heartbeat from raft may be due as well.
    assert!(sends.len() == 2 && sends.iter().all(|messages| *messages < 10), "{sends:?}");
}

#[test]
fn too_many_open_proposals_are_busy() {
    let mut world = World::tuned(1, 1, 3, Weather::calm(), |config| config.proposals_max = 10);
    world.until("leadership", SECOND, |world| all_serving(world, 1));
    let taken = (0..20).filter(|_| world.propose(0, ShardId(0))).count();
    assert_eq!(taken, 10);
    world.until("commit", SECOND, |world| world.tally.committed == 10);
    assert!(world.propose(0, ShardId(0)));
}

#[test]
fn too_many_open_bytes_are_busy() {
    let config = StoreConfig::new(NodeId(1), vec![NodeId(1)], 1);
    let mut store = Store::new(config, 1, Instant::ZERO, vec![], Box::new(NoLog)).expect("empty");
    let mut token = None;
    while let Some(output) = store.poll_output() {
        if let StoreOutput::Persist { token: issued, .. } = output {
            token = Some(issued);
        }
    }
    store.handle_persisted(Instant::ZERO, token.expect("the leader's first entry"));
    let large = Bytes::from(vec![7; limits::ENTRY_BYTES_MAX]);
    let taken =
        (0..10).take_while(|_| store.propose(Instant::ZERO, ShardId(0), large.clone()).is_ok()).count();
    assert_eq!(taken as u64, limits::UNCOMMITTED_BYTES_MAX / limits::ENTRY_BYTES_MAX as u64);
}

#[test]
fn a_leader_serves_only_after_it_has_applied_an_entry_of_its_term() {
    let config = StoreConfig::new(NodeId(1), vec![NodeId(1)], 1);
    let (now, shard) = (Instant::ZERO, ShardId(0));
    let mut store = Store::new(config, 1, now, vec![], Box::new(NoLog)).expect("empty");
    let role = |serving| StoreOutput::Role { shard, leader: Some(NodeId(1)), term: 1, serving };
    assert!(matches!(store.poll_output(), Some(StoreOutput::Persist { token: PersistToken(1), .. })));
    assert_eq!(store.poll_output(), Some(role(false)));
    store.handle_persisted(now, PersistToken(1));
    assert!(matches!(store.poll_output(), Some(StoreOutput::Committed { .. })));
    assert!(store.leads_any() && !store.is_serving(shard));
    store.handle_applied(now, shard, 1);
    assert_eq!(store.poll_output(), Some(role(true)));
    assert!(store.is_serving(shard));
}

#[test]
fn group_commits_gather_what_many_groups_have() {
    let mut world = calm(1, 16);
    world.until("leadership", SECOND, |world| all_serving(world, 16));
    let store = world.nodes[0].store.as_mut().expect("it runs");
    for shard in 0..16 {
        for _ in 0..3 {
            store.propose(world.now, ShardId(shard), "x".into()).expect("it leads");
        }
    }
    let Some(StoreOutput::Persist { records, .. }) = store.poll_output() else {
        panic!("the group commit comes first");
    };
    assert_eq!(records.len(), 16);
    assert!(records.iter().all(|record| record.entries.len() == 3));
    assert_eq!(store.poll_output(), None);
}

#[test]
fn memory_holds_a_bounded_tail_and_who_was_away_is_served_from_the_log() {
    let mut world = World::tuned(3, 2, 3, Weather::calm(), |config| config.tail_bytes_max = 20_000);
    world.until("leadership", SECOND, |world| all_serving(world, 2));
    world.isolate(2);
    for _ in 0..600 {
        assert!(world.propose(0, ShardId(0)));
        world.run(Duration::from_millis(2));
    }
    assert!((0..3).all(|node| world.stats(node).tail_bytes <= 20_000), "{:?}", world.stats(0));
    assert_eq!(world.stats(0).log_reads, 0);
    world.heal();
    world.until("catching up", SECOND, World::is_even);
    assert!(world.stats(0).log_reads > 0);
    assert!((0..3).all(|node| world.stats(node).tail_bytes <= 20_000), "{:?}", world.stats(2));
}

#[test]
fn a_node_that_returns_disturbs_nobody() {
    let mut world = World::tuned(3, 3, 11, Weather::calm(), |config| config.balance = false);
    world.until("leadership", SECOND, |world| all_serving(world, 3));
    let shard = ShardId(0);
    let (leader, term) = (world.serving(shard), world.nodes[0].store.as_ref().map(|store| store.term(shard)));
    world.isolate(2);
    world.run(10 * SECOND);
    world.heal();
    world.run(10 * SECOND);
    assert_eq!(world.serving(shard), leader);
    assert_eq!(world.nodes[0].store.as_ref().map(|store| store.term(shard)), term, "pre-vote holds it back");
}

#[test]
fn a_leader_without_a_majority_gives_up_and_says_so() {
    let mut world = calm(3, 1);
    world.until("leadership", SECOND, |world| all_serving(world, 1));
    world.isolate(0);
    assert!(world.propose(0, ShardId(0)));
    assert!(world.read(0, ShardId(0)));
    world.until("its answers", 2 * SECOND, |world| world.tally.lost == 1 && world.tally.reads_lost == 1);
    world
        .until("another leader", SECOND, |world| world.serving(ShardId(0)).is_some_and(|leader| leader != 0));
}

#[test]
fn most_failovers_take_less_than_a_second() {
    let mut worst = Duration::ZERO;
    for seed in 0..40 {
        let mut world = World::new(3, 3, seed, Weather::calm());
        world.until("leadership", SECOND, |world| all_serving(world, 3));
        world.run(Duration::from_millis(seed * 13));
        let died = world.now;
        world.crash(1);
        world.until("failover", 3 * SECOND, |world| all_serving(world, 3));
        worst = worst.max(world.now.since(died));
    }
    assert!(worst < SECOND, "{worst:?}");
}

#[test]
fn a_store_may_move_to_its_thread() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
}
