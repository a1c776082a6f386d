//! Nodes that come and go: the metadata group, and shards that follow its map.

use throng_router_core::meta::{MetaCommand, MetaDone, MetaError, MetaRefused, NodeState};
use throng_storage_core::entry::PeerId;
use throng_wire::frame::SyncEntry;
use throng_wire::ids::*;
use throng_wire::link::*;

use crate::harness::{channel, user};
use crate::world::*;

impl World {
    /// Carries a command to the metadata group from a node, until it has an answer.
    fn meta(&mut self, node: u64, command: &MetaCommand) -> Result<MetaDone, MetaError> {
        for ticket in 1_000 * self.now.as_millis().. {
            let now = self.now;
            self.node(node).router.handle_meta(now, ticket, command);
            for _ in 0..200 {
                self.pass_ms(20);
                match self.node(node).done.get(&ticket) {
                    Some(Err(MetaError::Unavailable)) => break,
                    Some(result) => return *result,
                    None => {}
                }
            }
            assert!(ticket % 1_000 < 50, "the metadata group never answers");
        }
        unreachable!("tickets do not end")
    }

    /// A node joins: it asks node 1 for a number, starts, and is waited for until it may take shards.
    fn join(&mut self, id: u64) {
        self.until("the cluster is founded", |world| !world.node(1).nodes.is_empty());
        let command = MetaCommand::Register { number: None, node: registration(NodeId(id)) };
        assert_eq!(self.meta(1, &command), Ok(MetaDone::Registered(NodeId(id))));
        self.start_another(id);
        self.until("the node is active", |world| {
            let state = |node: u64, world: &mut Self| {
                world.node(node).router.machines().meta()?.node(NodeId(id)).map(|row| row.state)
            };
            state(1, world) == Some(NodeState::Active) && state(id, world) == Some(NodeState::Active)
        });
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        for _ in 0..3_000 {
            if is_so(self) {
                return;
            }
            self.pass_ms(20);
        }
        panic!("it never comes about that {what}");
    }

    /// The voters of a shard, as its leader has them; nobody while a change is under way.
    fn members(&mut self, shard: ShardId) -> Vec<u64> {
        let leader = self.leader(shard);
        let conf = self.node(leader).router.store().conf(shard);
        if !conf.learners.is_empty() || conf.is_joint() {
            return Vec::new(); // on the way
        }
        let mut nodes: Vec<u64> = conf.members().map(|peer| PeerId(peer).node().0).collect();
        nodes.sort_unstable();
        nodes
    }

    /// Waits until every shard has the members that the map wants.
    fn settle(&mut self) {
        self.until("the shards are where they should be", |world| {
            (0..world.shards).map(ShardId).all(|shard| {
                let map = world.node(1).router.machines().meta().expect("it has a copy").replicas(shard);
                let wanted: Vec<u64> = map.iter().map(|node| node.0).collect();
                world.members(shard) == wanted
            })
        });
    }
}

#[test]
fn a_cluster_is_founded_by_the_nodes_it_was_formatted_with() {
    let mut world = World::new(3, 4);
    world.until("all know all", |world| (1..=3).all(|id| world.node(id).nodes == [1, 2, 3]));
    for id in 1..=3 {
        let meta = world.node(id).router.machines().meta().expect("it has a copy").clone();
        assert_eq!((meta.epoch(), meta.replicas(ShardId(3)).len()), (1, 3));
    }
    // And founded once: a restart finds it so.
    world.pass_ms(2_000);
    world.restart(NodeId(2));
    assert_eq!(world.node(2).nodes, [1, 2, 3], "told at the start");
}

/// The metadata's entries are few and lie in the oldest segments: without them no log would ever be short again.
#[test]
fn a_log_over_its_budget_forgets_the_metadata_too() {
    let mut world = World::new(3, 4);
    world.until("it is founded", |world| (1..=3).all(|id| world.node(id).nodes == [1, 2, 3]));
    world.pass_ms(2_000);
    let (now, metadata) = (world.now, ShardId(4));
    for id in 1..=3 {
        world.node(id).router.handle_log_over_budget(now, &[metadata, ShardId(5)]);
        world.run();
        world.pass_ms(1_000);
        world.node(id).router.handle_log_over_budget(now, &[metadata, ShardId(5)]);
        world.run();
        assert!(world.node(id).truncated.contains(&metadata), "node {id}");
    }
}

#[test]
fn commands_reach_the_leader_from_everywhere_and_refusals_come_back() {
    let mut world = World::new(3, 2);
    world.until("it is founded", |world| world.node(1).nodes.len() == 3);
    for id in 1..=3 {
        let unknown = MetaCommand::SetState { node: NodeId(9), state: NodeState::Leaving };
        let refused = Err(MetaError::Refused(MetaRefused::UnknownNode));
        assert_eq!(world.meta(id, &unknown), refused, "asked at {id}");
        assert_eq!(world.meta(id, &MetaCommand::Balance { replicas: 3 }), Ok(MetaDone::Unchanged));
    }
    // Without a majority the outcome stays open, and that is said.
    world.cut_off.extend([NodeId(2), NodeId(3)]);
    world.pass_ms(3_000);
    let now = world.now;
    world.node(1).router.handle_meta(now, 7, &MetaCommand::Balance { replicas: 1 });
    world.pass_ms(5_000);
    assert_eq!(world.node(1).done.get(&7), Some(&Err(MetaError::Unavailable)));
}

#[test]
fn a_cluster_grows_from_one_node_to_three_and_five_and_keeps_everything() {
    let mut world = World::new(1, 4);
    let mut stored = 1;
    world.group(channel(1), &[1, 2]);
    let send = |world: &mut World, stored: &mut u64| {
        *stored += 1;
        let seq = world.publish(channel(1), user(1), *stored, "on the way").expect("it serves");
        assert_eq!(seq, *stored + 1, "no gap and no repeat");
    };
    for id in 2..=3 {
        send(&mut world, &mut stored);
        world.join(id);
    }
    assert!(matches!(world.meta(3, &MetaCommand::Balance { replicas: 3 }), Ok(MetaDone::Changed(_))));
    send(&mut world, &mut stored);
    world.settle();
    assert!((0..4).all(|shard| world.members(ShardId(shard)) == [1, 2, 3]));
    for id in 4..=5 {
        send(&mut world, &mut stored);
        world.join(id);
    }
    assert!(matches!(world.meta(5, &MetaCommand::Balance { replicas: 0 }), Ok(MetaDone::Changed(_))));
    send(&mut world, &mut stored);
    world.settle();
    let held: Vec<usize> = (1..=5)
        .map(|id| (0..4).filter(|shard| world.members(ShardId(*shard)).contains(&id)).count())
        .collect();
    assert_eq!(held.iter().sum::<usize>(), 12);
    assert!(held.iter().all(|count| (2..=3).contains(count)), "{held:?}");
    // The node that began everything leaves, and nothing is lost with it.
    for command in [
        MetaCommand::SetState { node: NodeId(1), state: NodeState::Leaving },
        MetaCommand::Balance { replicas: 0 },
    ] {
        assert!(matches!(world.meta(2, &command), Ok(MetaDone::Changed(_))));
    }
    world.settle();
    assert!((0..4).all(|shard| !world.members(ShardId(shard)).contains(&1)));
    let gone = MetaCommand::SetState { node: NodeId(1), state: NodeState::Gone };
    assert!(matches!(world.meta(2, &gone), Ok(MetaDone::Changed(_))));
    world.until("it is no member", |world| world.node(2).nodes == [2, 3, 4, 5]);
    world.cut_off.insert(NodeId(1));
    send(&mut world, &mut stored);
    match world.fetch(channel(1), user(2), 0) {
        Answer::Page { head, events } => {
            assert_eq!((head.0, events.len() as u64), (stored + 1, stored + 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dead_node_is_replaced() {
    let mut world = World::new(3, 2);
    world.group(channel(1), &[1, 2]);
    world.until("it is founded", |world| world.node(1).nodes.len() == 3);
    world.cut_off.insert(NodeId(3));
    world.join(4);
    for command in [
        MetaCommand::SetState { node: NodeId(3), state: NodeState::Leaving },
        MetaCommand::Balance { replicas: 0 },
    ] {
        assert!(matches!(world.meta(2, &command), Ok(MetaDone::Changed(_))));
    }
    world.settle();
    assert!((0..2).all(|shard| world.members(ShardId(shard)) == [1, 2, 4]));
    // Now another one may fail.
    world.cut_off.insert(NodeId(2));
    assert_eq!(world.publish(channel(1), user(1), 1, "still there"), Ok(3));
}

#[test]
fn inbox_rows_find_shards_that_have_no_replica_here() {
    let mut world = World::new(1, 8);
    world.join(2);
    world.join(3);
    assert!(matches!(world.meta(1, &MetaCommand::Balance { replicas: 1 }), Ok(MetaDone::Changed(_))));
    world.settle();
    let holders: Vec<Vec<u64>> = (0..8).map(|shard| world.members(ShardId(shard))).collect();
    assert!(holders.iter().all(|nodes| nodes.len() == 1), "{holders:?}");
    for n in 1..=6 {
        world.group(channel(n), &[n, n + 1]);
        assert_eq!(world.publish(channel(n), user(n), 1, "hello"), Ok(3));
    }
    world.pass_ms(8_000);
    for n in 1..=6 {
        let Ok(Answer::Synced { entries, .. }) = world.call(user(n + 1), sync(0)) else { panic!("no inbox") };
        let head = |entry: &SyncEntry| (entry.channel == channel(n)).then_some(entry.head.0);
        assert_eq!(entries.iter().find_map(head), Some(3), "of {n}");
    }
}
