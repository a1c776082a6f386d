//! Retention at apply, what a leader proposes, holds, and RESET to whoever reads below the floor.

use proptest::prelude::*;
use throng_router_core::Outcome;
use throng_router_core::entry::{Command, Hold, Retain};
use throng_router_core::limits::RETAIN_EVENTS_MAX;
use throng_router_core::machines::verify::Check;
use throng_router_core::machines::{MemoryLimits, Retention, RetentionBudget, RetentionRule};
use throng_storage_core::state::{StateRead, Table};
use throng_wire::code::Code;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::*;
use throng_wire::link::Answer;

use crate::harness::*;
use crate::world::{World, fetch, subscribe};

fn retain(channel: ChannelId, floor: u64) -> Command {
    Command::Retain(Retain { channel, floor: Seq(floor) })
}

fn hold(channel: ChannelId, is_held: bool) -> Command {
    Command::Hold(Hold { channel, is_held })
}

fn floor(replica: &mut Replica, id: ChannelId) -> u64 {
    replica.machines.read_channel(&id, &user(1)).expect("readable").expect("a member").floor.0
}

/// Numbers of the events of a channel that are stored.
fn stored(disk: &Disk, id: &ChannelId) -> Vec<u64> {
    let rows = disk.scan(Table::Events, &[0; 4], &[0, 0, 0, 1], usize::MAX).expect("readable");
    let of = rows.iter().filter(|(key, _)| key[6..22] == id.0);
    of.map(|(key, _)| u64::from_be_bytes(key[22..].try_into().expect("a number"))).collect()
}

fn assert_whole(replica: &mut Replica) {
    replica.flush();
    let view = replica.disk.0.borrow().clone();
    let mut check = Check::new(SHARD, 1, 0);
    while !check.step(&view, 7).expect("readable") {}
    assert_eq!(check.report().findings, []);
}

fn busy(messages: u64) -> Replica {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    for id in 1..=messages {
        replica.ts += 10;
        replica.one(send(channel(1), user(1), id, "x"));
    }
    replica
}

#[test]
fn a_floor_rises_takes_no_number_and_gives_the_events_back() {
    let mut replica = busy(8); // events 1 to 10
    replica.flush();
    replica.ears.events.clear();
    assert_eq!(replica.one(retain(channel(1), 5)), Outcome::Done);
    assert_eq!(replica.one(retain(channel(1), 3)), Outcome::Done, "a floor never falls");
    assert_eq!(floor(&mut replica, channel(1)), 5);
    assert!(replica.ears.events.is_empty(), "nobody is told");
    replica.flush();
    assert_eq!(stored(&replica.disk, &channel(1)), (5..=10).collect::<Vec<_>>());
    assert_eq!(replica.one(send(channel(1), user(1), 9, "x")), published(11, replica.ts));
    assert_eq!(replica.one(retain(ChannelId::group([9; 16]), 5)), refused(Code::NOT_FOUND));
    assert_whole(&mut replica);
}

#[test]
fn a_floor_never_passes_the_head_and_an_emptied_channel_goes_on() {
    let mut replica = busy(3);
    replica.one(retain(channel(1), u64::MAX));
    assert_eq!(floor(&mut replica, channel(1)), 6);
    assert_whole(&mut replica);
    assert_eq!(stored(&replica.disk, &channel(1)), []);
    replica.crash_and_replay();
    assert_eq!(replica.one(send(channel(1), user(1), 1, "x")), duplicate(3, 1_010), "its record stays");
    assert_eq!(replica.one(send(channel(1), user(2), 1, "y")), published(6, 1_030));
    assert_whole(&mut replica);
    assert_eq!(stored(&replica.disk, &channel(1)), [6]);
}

#[test]
fn events_that_are_dropped_before_they_were_flushed_leave_no_row() {
    let mut replica = busy(8);
    replica.one(retain(channel(1), 9));
    assert_whole(&mut replica);
    assert_eq!(stored(&replica.disk, &channel(1)), [9, 10]);
}

#[test]
fn one_command_raises_a_floor_by_a_bounded_number_of_events() {
    let mut replica = busy(RETAIN_EVENTS_MAX + 100);
    replica.one(retain(channel(1), u64::MAX));
    assert_eq!(floor(&mut replica, channel(1)), 1 + RETAIN_EVENTS_MAX);
    assert_whole(&mut replica);
}

#[test]
fn a_held_channel_keeps_everything() {
    let mut replica = busy(8);
    assert_eq!(replica.one(hold(channel(1), true)), Outcome::Done);
    replica.one(retain(channel(1), 5));
    assert_eq!(floor(&mut replica, channel(1)), 1);
    replica.flush();
    replica.crash_and_replay();
    replica.one(retain(channel(1), 5));
    assert_eq!(floor(&mut replica, channel(1)), 1, "a hold survives a restart");
    let all = policy(RetentionRule { max_events: Some(1), ..RetentionRule::default() });
    assert_eq!(due(&mut replica, &all, 1), []);
    replica.one(hold(channel(1), false));
    replica.one(retain(channel(1), 5));
    assert_eq!(floor(&mut replica, channel(1)), 5);
    assert_eq!(replica.one(hold(ChannelId::group([9; 16]), true)), refused(Code::NOT_FOUND));
}

fn policy(group: RetentionRule) -> Retention {
    Retention { group, ..Retention::default() }
}

/// Everything one round over a shard proposes.
fn due(replica: &mut Replica, policy: &Retention, now: u64) -> Vec<Command> {
    replica.flush();
    let budget = RetentionBudget { objects: 1_000, commands: 1_000 };
    replica.machines.retention_due(SHARD, policy, ServerTs(now), budget).expect("readable")
}

#[test]
fn policy_by_count_and_by_age_and_by_class() {
    let mut replica = busy(8); // stamps 1000, 1000, 1010, 1020 … 1080
    replica.one(create(channel(3), user(1), ChannelClass::Open, &[]));
    let by_count = policy(RetentionRule { max_events: Some(4), ..RetentionRule::default() });
    let by_age = policy(RetentionRule { max_age_ms: Some(50), ..RetentionRule::default() });
    let both = policy(RetentionRule { max_events: Some(4), max_age_ms: Some(50) });
    for memory in [true, false] {
        if !memory {
            replica.flush();
            replica.crash_and_replay(); // nothing is in memory
        }
        assert_eq!(due(&mut replica, &Retention::default(), 9_999), []);
        assert_eq!(due(&mut replica, &by_count, 1), [retain(channel(1), 7)]);
        // At 1100, events through stamp 1050 are 50 old.
        assert_eq!(due(&mut replica, &by_age, 1_100), [retain(channel(1), 8)]);
        assert_eq!(due(&mut replica, &by_age, 1_049), []);
        assert_eq!(due(&mut replica, &by_age, 9_999), [retain(channel(1), 11)]);
        assert_eq!(due(&mut replica, &both, 1_050), [retain(channel(1), 7)]);
        assert_eq!(due(&mut replica, &both, 1_110), [retain(channel(1), 9)]);
    }
    let commands = due(&mut replica, &both, 1_100);
    replica.apply(&commands);
    assert_eq!(due(&mut replica, &both, 1_100), []);
    assert_whole(&mut replica);
}

#[test]
fn a_turn_is_bounded_and_rounds_reach_every_channel() {
    let mut replica = Replica::new();
    for n in 1..=30u8 {
        replica.one(group(n, &[1, 2, 3]));
        for id in 1..=u64::from(n) {
            replica.one(send(channel(n), user(2), id, "x"));
        }
    }
    crate::inbox::deliver(&mut replica); // users' rows lie between the channels'
    replica.flush();
    let keep = policy(RetentionRule { max_events: Some(5), ..RetentionRule::default() });
    let budget = RetentionBudget { objects: 4, commands: 2 };
    for _ in 0..60 {
        let commands = replica.machines.retention_due(SHARD, &keep, ServerTs(0), budget).expect("readable");
        assert!(commands.len() <= 2);
        replica.apply(&commands);
    }
    for n in 1..=30u8 {
        let head = 3 + u64::from(n);
        assert_eq!(floor(&mut replica, channel(n)), (head + 1).saturating_sub(5).max(1), "channel {n}");
    }
    assert_whole(&mut replica);
}

#[test]
fn a_channel_with_much_to_drop_takes_several_commands_and_turns() {
    let mut replica = busy(4 * RETAIN_EVENTS_MAX);
    replica.flush();
    let keep = policy(RetentionRule { max_events: Some(2), ..RetentionRule::default() });
    let budget = RetentionBudget { objects: 10, commands: 3 };
    let mut commands = 0;
    for _ in 0..2 {
        let due = replica.machines.retention_due(SHARD, &keep, ServerTs(0), budget).expect("readable");
        commands += due.len();
        replica.apply(&due);
    }
    assert_eq!((commands, floor(&mut replica, channel(1))), (4, 4 * RETAIN_EVENTS_MAX + 1));
}

#[test]
fn whoever_reads_below_the_floor_is_told_to_begin_anew() {
    let mut world = World::new(1, 1);
    world.group(channel(1), &[1, 2]);
    for id in 1..=8 {
        world.publish(channel(1), user(1), id, "x").expect("a member");
    }
    // The store is not asked for another entry afterwards: this one is applied past it.
    let mut entry = throng_router_core::entry::EntryBuilder::new();
    entry.push(&retain(channel(1), 5));
    let machines = world.node(1).router.machines();
    let before = machines.applied(ShardId(0));
    let at = throng_router_core::Applied { index: before.index + 1, ..before };
    machines
        .apply(ShardId(0), at, &entry.seal(ServerTs(1)), &mut vec![], &mut Ears::default())
        .expect("valid");
    let read = |world: &mut World, after| world.call(user(2), fetch(channel(1), after)).expect("a member");
    let is_reset =
        |answer: &Answer| matches!(answer, Answer::ResetChannel { floor: Seq(5), head: Seq(10), .. });
    for after in [0, 3] {
        let answer = read(&mut world, after);
        assert!(is_reset(&answer), "{after}: {answer:?}");
    }
    let Answer::Page { events, .. } = read(&mut world, 4) else { panic!("all is there") };
    assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), (5..=10).collect::<Vec<_>>());
    let answer = world.call(user(2), subscribe(channel(1), 3)).expect("a member");
    assert!(is_reset(&answer), "{answer:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Sends, floors, holds, flushes and crashes in any order: replicas agree, and what is stored is whole.
    #[test]
    fn floors_survive_crashes_and_replay(
        steps in prop::collection::vec((0..10u8, 1..40u64), 1..60), tiny: bool,
    ) {
        let memory = if tiny { MemoryLimits { event_bytes: 300, object_bytes: 500 } } else { MemoryLimits::default() };
        let (mut straight, mut crashing) = (Replica::new(), Replica::with_memory(memory));
        for replica in [&mut straight, &mut crashing] {
            replica.apply(&[group(1, &[1, 2]), group(2, &[2, 1])]);
        }
        for (id, (what, n)) in (1..).zip(steps) {
            let id = id as u64;
            let command = match what {
                0..5 => send(channel(1 + (n % 2) as u8), user(1), id, &"x".repeat(n as usize)),
                5 | 6 => retain(channel(1 + (n % 2) as u8), n / 2),
                7 => hold(channel(1), n > 30),
                8 => { crashing.flush(); continue }
                _ => { crashing.crash_and_replay(); continue }
            };
            prop_assert_eq!(straight.one(command.clone()), crashing.one(command));
        }
        for n in [1, 2] {
            prop_assert_eq!(floor(&mut straight, channel(n)), floor(&mut crashing, channel(n)));
            prop_assert_eq!(straight.machines.read_chain(&channel(n)), crashing.machines.read_chain(&channel(n)));
        }
        assert_whole(&mut straight);
        assert_whole(&mut crashing);
        let digest = |replica: &Replica| {
            let (view, mut check) = (replica.disk.0.borrow().clone(), Check::new(SHARD, 1, 0));
            while !check.step(&view, 100).expect("readable") {}
            check.report().clone()
        };
        prop_assert_eq!(digest(&straight), digest(&crashing));
    }
}
