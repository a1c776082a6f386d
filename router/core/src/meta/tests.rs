use core::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use throng_storage_core::state::{Change, MemState, StateWrite, WriteBatch};
use throng_wire::ids::ServerTs;

use super::*;
use crate::limits::META_GONE_KEPT;
use crate::state::PREFIX_LEN;

const SHARDS: u32 = 8;
const SPEAKS: Versions = Versions { oldest: 1, newest: 2 };

fn node(join: u8) -> Registration {
    in_zone(join, "")
}

fn in_zone(join: u8, zone: &str) -> Registration {
    Registration {
        join: JoinId([join; 16]),
        peer: SocketAddr::from(([127, 0, 0, join], 4401)),
        client: join.is_multiple_of(2).then(|| "[::1]:4400".parse().expect("an address")),
        ops: None,
        zone: zone.to_owned(),
        certificate: format!("node-{join}"),
        speaks: SPEAKS,
    }
}

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|number| NodeId(*number)).collect()
}

fn founded(nodes: &[u64]) -> Meta {
    let mut meta = Meta::empty(SHARDS);
    let founders = nodes.iter().map(|id| (NodeId(*id), node(*id as u8))).collect();
    assert_eq!(meta.apply(&MetaCommand::Found(founders)), Ok(MetaDone::Changed(1)));
    meta
}

fn join(meta: &mut Meta, number: u8, zone: &str) -> NodeId {
    let command = MetaCommand::Register { number: None, node: in_zone(number, zone) };
    let Ok(MetaDone::Registered(id)) = meta.apply(&command) else { panic!("registered") };
    assert_eq!(set(meta, id.0, NodeState::Active), Ok(MetaDone::Changed(meta.epoch())));
    id
}

fn set(meta: &mut Meta, node: u64, state: NodeState) -> Result<MetaDone, MetaRefused> {
    meta.apply(&MetaCommand::SetState { node: NodeId(node), state })
}

fn loads(meta: &Meta) -> Vec<(u64, usize)> {
    meta.usable().map(|id| (id.0, meta.shards_of(id).count())).collect()
}

#[test]
fn a_cluster_is_founded_once_with_all_shards_on_all_founders() {
    let mut meta = Meta::empty(SHARDS);
    let register = MetaCommand::Register { number: None, node: node(1) };
    assert_eq!(meta.apply(&register), Err(MetaRefused::Founding));
    assert_eq!(meta.apply(&MetaCommand::Found(vec![])), Err(MetaRefused::Replicas));
    let mut meta = founded(&[1, 2, 3]);
    for shard in 0..SHARDS {
        assert_eq!(meta.replicas(ShardId(shard)), ids(&[1, 2, 3]));
    }
    let again = MetaCommand::Found(vec![(NodeId(1), node(1))]);
    assert_eq!(meta.apply(&again), Ok(MetaDone::Unchanged), "a new leader says it again");
    let others = MetaCommand::Found(vec![(NodeId(9), node(9))]);
    assert_eq!(meta.apply(&others), Err(MetaRefused::Founding));
    assert_eq!(meta.own_replicas(), (ids(&[1, 2, 3]), vec![]));
    assert_eq!(meta.replicas(ShardId(SHARDS)), &[]);
}

#[test]
fn a_join_that_is_repeated_gets_the_same_number_and_numbers_are_never_given_again() {
    let mut meta = founded(&[1, 2, 3]);
    let ask = |meta: &mut Meta, number: Option<u64>, who: u8| {
        meta.apply(&MetaCommand::Register { number: number.map(NodeId), node: node(who) })
    };
    assert_eq!(ask(&mut meta, None, 77), Ok(MetaDone::Registered(NodeId(4))));
    assert_eq!(ask(&mut meta, None, 77), Ok(MetaDone::Registered(NodeId(4))));
    assert_eq!(ask(&mut meta, Some(4), 77), Ok(MetaDone::Registered(NodeId(4))));
    assert_eq!(ask(&mut meta, Some(5), 77), Err(MetaRefused::NumberTaken), "it has another one");
    assert_eq!(ask(&mut meta, Some(4), 78), Err(MetaRefused::NumberTaken), "somebody else has it");
    assert_eq!(set(&mut meta, 4, NodeState::Gone), Ok(MetaDone::Changed(1)));
    assert_eq!(ask(&mut meta, None, 77), Err(MetaRefused::NumberTaken), "it is gone for good");
    assert_eq!(ask(&mut meta, Some(4), 79), Err(MetaRefused::NumberTaken));
    assert_eq!(ask(&mut meta, Some(7), 80), Ok(MetaDone::Registered(NodeId(7))), "its certificate says so");
    assert_eq!(ask(&mut meta, None, 81), Ok(MetaDone::Registered(NodeId(8))));
    assert_eq!(ask(&mut meta, Some(6), 82), Err(MetaRefused::NumberTaken), "skipped numbers stay unused");
    for round in 0..3 * META_GONE_KEPT as u64 {
        let node = Registration {
            join: JoinId([
                (round % 200) as u8,
                1,
                2,
                3,
                4,
                5,
                6,
                7,
                8,
                9,
                (round / 200) as u8,
                11,
                12,
                13,
                14,
                15,
            ]),
            ..node(1)
        };
        let Ok(MetaDone::Registered(id)) = meta.apply(&MetaCommand::Register { number: None, node }) else {
            panic!("registered")
        };
        assert_eq!(id, NodeId(9 + round));
        set(&mut meta, id.0, NodeState::Gone).expect("it holds nothing");
    }
    assert_eq!(meta.nodes().filter(|row| row.state == NodeState::Gone).count(), META_GONE_KEPT);
}

#[test]
fn a_node_leaves_through_its_states_and_only_without_shards() {
    let mut meta = founded(&[1, 2, 3]);
    join(&mut meta, 4, "");
    assert_eq!(set(&mut meta, 3, NodeState::Gone), Err(MetaRefused::Transition));
    assert_eq!(set(&mut meta, 3, NodeState::Joining), Err(MetaRefused::Transition));
    assert_eq!(set(&mut meta, 9, NodeState::Leaving), Err(MetaRefused::UnknownNode));
    assert!(set(&mut meta, 3, NodeState::Leaving).is_ok());
    assert_eq!(set(&mut meta, 3, NodeState::Leaving), Ok(MetaDone::Unchanged));
    assert_eq!(set(&mut meta, 3, NodeState::Gone), Err(MetaRefused::HoldsShards));
    let to = |to| MetaCommand::Move { shard: ShardId(0), from: NodeId(1), to: NodeId(to) };
    assert_eq!(meta.apply(&to(3)), Err(MetaRefused::NotThere));
    assert_eq!(meta.apply(&MetaCommand::Balance { replicas: 0 }), Ok(MetaDone::Changed(2)));
    assert_eq!(meta.replicas(ShardId(0)), ids(&[1, 2, 4]));
    assert_eq!(meta.apply(&to(3)), Err(MetaRefused::NotActive));
    assert!(set(&mut meta, 3, NodeState::Gone).is_ok());
    assert_eq!(set(&mut meta, 3, NodeState::Active), Err(MetaRefused::Transition));
    for last in [1, 2] {
        assert!(set(&mut meta, last, NodeState::Leaving).is_ok());
    }
    assert_eq!(set(&mut meta, 4, NodeState::Leaving), Err(MetaRefused::LastNode));
    assert_eq!(meta.apply(&MetaCommand::Balance { replicas: 0 }), Ok(MetaDone::Changed(3)));
    assert_eq!(meta.replicas(ShardId(5)), ids(&[4]));
}

#[test]
fn replicas_are_moved_and_set_by_hand() {
    let mut meta = founded(&[1]);
    join(&mut meta, 2, "");
    let shard = ShardId(3);
    let to_two = MetaCommand::Move { shard, from: NodeId(1), to: NodeId(2) };
    assert_eq!(meta.apply(&to_two), Ok(MetaDone::Changed(2)));
    assert_eq!(meta.apply(&to_two), Ok(MetaDone::Unchanged), "asked again");
    assert_eq!(meta.replicas(shard), ids(&[2]));
    let set = |numbers: &[u64]| MetaCommand::SetReplicas { shard, nodes: ids(numbers) };
    assert_eq!(meta.apply(&set(&[2, 1])), Ok(MetaDone::Changed(3)));
    assert_eq!(meta.replicas(shard), ids(&[1, 2]), "sorted");
    for (numbers, refused) in [
        (&[][..], MetaRefused::Replicas),
        (&[1, 1], MetaRefused::Replicas),
        (&[1, 2, 3, 4, 5, 6, 7, 8], MetaRefused::Replicas),
        (&[1, 9], MetaRefused::UnknownNode),
    ] {
        assert_eq!(meta.apply(&set(numbers)), Err(refused), "{numbers:?}");
    }
    let nowhere = MetaCommand::SetReplicas { shard: ShardId(SHARDS), nodes: ids(&[1]) };
    assert_eq!(meta.apply(&nowhere), Err(MetaRefused::UnknownShard));
}

#[test]
fn growing_from_one_node_to_three_and_five_spreads_the_shards() {
    let mut meta = founded(&[1]);
    for number in 2..=3 {
        join(&mut meta, number, "");
    }
    assert_eq!(meta.own_replicas(), (ids(&[1, 2, 3]), vec![]));
    assert_eq!(meta.apply(&MetaCommand::Balance { replicas: 3 }), Ok(MetaDone::Changed(2)));
    assert_eq!(loads(&meta), [(1, 8), (2, 8), (3, 8)]);
    for number in 4..=5 {
        join(&mut meta, number, "");
    }
    assert_eq!(meta.apply(&MetaCommand::Balance { replicas: 0 }), Ok(MetaDone::Changed(3)));
    let mut spread: Vec<usize> = loads(&meta).iter().map(|(_, load)| *load).collect();
    spread.sort_unstable();
    assert_eq!(spread, [4, 5, 5, 5, 5]);
    assert_eq!(meta.apply(&MetaCommand::Balance { replicas: 0 }), Ok(MetaDone::Unchanged));
    assert_eq!(meta.own_replicas().0, ids(&[1, 2, 3, 4, 5]));
}

#[test]
fn replicas_of_a_shard_stand_in_different_zones_where_there_are_enough() {
    let mut meta = Meta::empty(SHARDS);
    let founders = (1..=3).map(|id| (NodeId(id), in_zone(id as u8, "a"))).collect();
    meta.apply(&MetaCommand::Found(founders)).expect("founded");
    for (number, zone) in [(4, "b"), (5, "b"), (6, "c"), (7, "c")] {
        join(&mut meta, number, zone);
    }
    for founder in [2, 3] {
        set(&mut meta, founder, NodeState::Leaving).expect("it may");
    }
    meta.apply(&MetaCommand::Balance { replicas: 0 }).expect("balanced");
    for shard in (0..SHARDS).map(ShardId) {
        let zones: BTreeSet<&str> =
            meta.replicas(shard).iter().map(|id| meta.node(*id).expect("known").zone.as_str()).collect();
        assert_eq!(zones.len(), 3, "{shard:?}: {:?}", meta.replicas(shard));
    }
}

#[test]
fn a_version_opens_when_every_node_speaks_it_and_older_nodes_are_refused_from_then_on() {
    let mut meta = founded(&[1, 2]);
    let mut old = node(3);
    old.speaks.newest = 1;
    let register = |node: &Registration| MetaCommand::Register { number: None, node: node.clone() };
    assert_eq!(meta.apply(&register(&old)), Ok(MetaDone::Registered(NodeId(3))));
    assert_eq!(meta.version_spoken_by_all(), Some(1));
    assert_eq!(meta.apply(&MetaCommand::OpenVersion(2)), Err(MetaRefused::Version));
    assert!(meta.is_open(1) && !meta.is_open(2));
    old.speaks.newest = 2;
    assert_eq!(meta.apply(&register(&old)), Ok(MetaDone::Registered(NodeId(3))), "it was upgraded");
    assert_eq!(meta.apply(&MetaCommand::OpenVersion(2)), Ok(MetaDone::Changed(1)));
    assert_eq!(meta.apply(&MetaCommand::OpenVersion(1)), Ok(MetaDone::Unchanged), "it never closes");
    assert!(meta.is_open(2));
    old.speaks.newest = 1;
    assert_eq!(meta.apply(&register(&old)), Err(MetaRefused::Version), "no way back");
    old.join = JoinId([9; 16]);
    assert_eq!(meta.apply(&register(&old)), Err(MetaRefused::Version));
}

// ---- properties ----------------------------------------------------------------------------------------------------

fn registration() -> impl Strategy<Value = Registration> {
    (0..24u8, prop_oneof![Just(""), Just("a"), Just("b"), Just("c")], 1..3u8).prop_map(
        |(join, zone, newest)| {
            let mut node = in_zone(join, zone);
            node.speaks.newest = newest;
            node
        },
    )
}

fn number() -> impl Strategy<Value = NodeId> {
    (0..14u64).prop_map(NodeId)
}

fn state() -> impl Strategy<Value = NodeState> {
    prop_oneof![
        1 => Just(NodeState::Joining),
        6 => Just(NodeState::Active),
        2 => Just(NodeState::Leaving),
        3 => Just(NodeState::Gone),
    ]
}

fn command() -> impl Strategy<Value = MetaCommand> {
    let shard = || (0..SHARDS + 1).prop_map(ShardId);
    prop_oneof![
        1 => vec((number(), registration()), 0..4).prop_map(MetaCommand::Found),
        5 => (proptest::option::weighted(0.2, (1..14u64).prop_map(NodeId)), registration())
            .prop_map(|(number, node)| MetaCommand::Register { number, node }),
        8 => (number(), state()).prop_map(|(node, state)| MetaCommand::SetState { node, state }),
        3 => (shard(), number(), number()).prop_map(|(shard, from, to)| MetaCommand::Move { shard, from, to }),
        2 => (shard(), vec(number(), 0..5)).prop_map(|(shard, nodes)| MetaCommand::SetReplicas { shard, nodes }),
        3 => (0..5u8).prop_map(|replicas| MetaCommand::Balance { replicas }),
        1 => (0..4u8).prop_map(MetaCommand::OpenVersion),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_the_registry_and_the_map_stay_sound(commands in vec(command(), 0..80), founders in 1..4u64) {
        let mut meta = founded(&(1..=founders).collect::<Vec<_>>());
        let mut disk = MemState::default();
        disk.write(&meta.take_changes(7)).expect("written");
        let (mut owner_by_number, mut epoch) = (BTreeMap::new(), meta.epoch());
        for command in &commands {
            let before = meta.clone();
            let done = meta.apply(command);
            prop_assert_eq!(meta.check(), Ok(()));
            // A number belongs to one join id for ever.
            for row in meta.nodes() {
                let owner = *owner_by_number.entry(row.id).or_insert(row.join);
                prop_assert_eq!(owner, row.join);
            }
            // The epoch rises exactly when the map changes.
            let has_moved = meta.map != before.map;
            prop_assert_eq!(meta.epoch(), epoch + u64::from(has_moved));
            epoch = meta.epoch();
            if done.is_err() || done == Ok(MetaDone::Unchanged) {
                let is_balance = matches!(command, MetaCommand::Balance { .. }); // remembers the wish
                prop_assert!(is_balance || (&meta.map, &meta.nodes) == (&before.map, &before.nodes));
            }
            // Shards always have a place, and active nodes have all of it that can be had.
            for shard in (0..SHARDS).map(ShardId) {
                prop_assert!(!meta.replicas(shard).is_empty());
            }
            disk.write(&meta.take_changes(7)).expect("written");
            prop_assert_eq!(&Meta::load(&disk, 7, SHARDS).expect("sound"), &meta);
        }
        prop_assert_eq!(Meta::load(&disk, 8, SHARDS), Ok(Meta::empty(SHARDS)), "another copy is another copy");
    }

    #[test]
    fn balance_converges_at_once_and_moves_as_little_as_possible(
        map in vec(vec(1..8u64, 3), 24), active in 3..8u64, zones in vec(0..3u8, 7), with_zones: bool,
    ) {
        let mut meta = Meta::empty(24);
        let zone = |id: u64| if with_zones { ["a", "b", "c"][usize::from(zones[id as usize - 1])] } else { "" };
        let founder = |id: u64| (NodeId(id), in_zone(id as u8, zone(id)));
        meta.apply(&MetaCommand::Found((1..=active).map(founder).collect())).expect("founded");
        for (shard, nodes) in map.iter().enumerate() {
            // Three different active nodes, drawn by walking on from the drawn ones.
            let mut drawn = BTreeSet::new();
            for mut id in nodes.iter().map(|id| (id - 1) % active + 1) {
                while !drawn.insert(NodeId(id)) {
                    id = id % active + 1;
                }
            }
            let nodes = drawn.into_iter().collect();
            meta.apply(&MetaCommand::SetReplicas { shard: ShardId(shard as u32), nodes }).expect("set");
        }
        let before = meta.clone();
        meta.apply(&MetaCommand::Balance { replicas: 3 }).expect("balanced");
        let again = meta.clone();
        prop_assert_eq!(meta.apply(&MetaCommand::Balance { replicas: 3 }), Ok(MetaDone::Unchanged));
        prop_assert_eq!(&meta.map, &again.map);

        let spread = |meta: &Meta, shard: u32| {
            let nodes = meta.replicas(ShardId(shard)).iter();
            nodes.map(|id| meta.node(*id).expect("known").zone.clone()).collect::<BTreeSet<_>>().len()
        };
        for shard in 0..24 {
            prop_assert!(spread(&meta, shard) >= spread(&before, shard), "zones are kept apart");
        }
        if with_zones {
            return Ok(());
        }
        let [old, new] = [&before, &meta].map(|meta| loads(meta).iter().map(|(_, load)| *load).collect::<Vec<_>>());
        let (floor, ceiling) = (24 * 3 / new.len(), (24 * 3usize).div_ceil(new.len()));
        prop_assert!(new.iter().all(|load| (floor..=ceiling).contains(load)), "{:?}", new);
        let moved: usize = (0..24)
            .map(|shard| {
                let kept = |id: &&NodeId| before.replicas(ShardId(shard)).contains(id);
                meta.replicas(ShardId(shard)).iter().filter(|id| !kept(id)).count()
            })
            .sum();
        // What must leave the too full nodes, or enter the too empty ones, whichever is more.
        let surplus: usize = old.iter().map(|load| load.saturating_sub(ceiling)).sum();
        let deficit: usize = old.iter().map(|load| floor.saturating_sub(*load)).sum();
        prop_assert_eq!(moved, surplus.max(deficit));
    }

    #[test]
    fn entries_come_back_and_spoiled_ones_are_errors_or_other_entries(
        commands in vec(command(), 0..8), ts in 0..1u64 << 40, at: prop::sample::Index, bits in 1..=255u8,
    ) {
        let entry = write_entry(&commands, ServerTs(ts));
        prop_assert_eq!(read_entry(&entry), Ok((ServerTs(ts), commands)));
        for len in 1..entry.len() {
            prop_assert!(read_entry(&entry[..len]).is_err());
        }
        let mut spoiled = entry.to_vec();
        let at = at.index(spoiled.len());
        spoiled[at] ^= bits;
        let _ = read_entry(&spoiled); // no panic
    }

    #[test]
    fn any_row_bytes_are_a_machine_or_an_error(bytes in vec(any::<u8>(), 0..60), at in 0..3usize) {
        let mut meta = founded(&[1, 2]);
        let mut batch = meta.take_changes(7);
        let parses = |batch: &WriteBatch| batch.iter().all(|change| {
            let Change::Put(_, key, value) = change else { unreachable!("all are puts") };
            Meta::check_row(&key[PREFIX_LEN..], value, SHARDS).is_ok()
        });
        prop_assert!(parses(&batch));
        let Change::Put(_, _, value) = &mut batch[at] else { unreachable!("all are puts") };
        *value = bytes.into();
        let mut disk = MemState::default();
        disk.write(&batch).expect("written");
        // What cannot be loaded because of a row, `throng verify` finds in that row.
        prop_assert!(parses(&batch) || Meta::load(&disk, 7, SHARDS).is_err());
    }
}

#[test]
fn an_unknown_version_or_command_stops_the_replica() {
    use crate::entry::EntryError;
    assert_eq!(read_entry(&[]), Ok((ServerTs(0), vec![])));
    assert_eq!(read_entry(&[META_VERSION + 1]), Err(EntryError::Version(META_VERSION + 1)));
    let mut entry = write_entry(&[], ServerTs(1)).to_vec();
    entry[12] = 1;
    entry.push(99);
    assert_eq!(read_entry(&entry), Err(EntryError::UnknownCommand(99)));
}
