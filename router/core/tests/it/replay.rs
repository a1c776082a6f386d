//! Write-behind: whatever was flushed when, a crash and a replay end where straight application ends.

use proptest::prelude::*;
use throng_router_core::entry::Command;
use throng_router_core::machines::MemoryLimits;
use throng_storage_core::state::StateWrite;
use throng_wire::ids::*;

use crate::harness::*;

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Command>),
    Flush,
    /// A batch is written but its flush has not returned when the machine dies.
    WriteOnly,
    /// The same, but the store had flushed the batch on its own.
    WriteKept,
    Crash,
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let (c, u) = (1..4u8, 1..5u8);
    prop_oneof![
        1 => (c.clone(), u.clone(), u.clone()).prop_map(|(c, a, b)| group(c, &[a, b])),
        1 => (c.clone(), u.clone(), u.clone()).prop_map(|(c, a, b)| join(channel(c), user(a), user(b))),
        1 => (c.clone(), u.clone(), u.clone()).prop_map(|(c, a, b)| leave(channel(c), user(a), user(b))),
        6 => (c, u, 0..2u64, 1..60u64).prop_map(|(c, a, device, id)| {
            send_from(channel(c), user(a), device, id, &"x".repeat(id as usize))
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(command(), 1..6).prop_map(Step::Apply),
        2 => Just(Step::Flush),
        1 => Just(Step::WriteOnly),
        1 => Just(Step::WriteKept),
        1 => Just(Step::Crash),
    ]
}

/// All that can be seen of a replica.
pub(crate) fn view(replica: &mut Replica) -> impl PartialEq + std::fmt::Debug {
    let users = || (1..5).map(user);
    let mut seen = Vec::new();
    for c in (1..4).map(channel) {
        let chain = replica.machines.read_chain(&c).expect("readable");
        let histories: Vec<_> = users().map(|user| replica.history(c, user)).collect();
        seen.push((chain, histories));
    }
    let inboxes: Vec<_> = users().map(|user| crate::inbox::rows_of(replica, user)).collect();
    (seen, inboxes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn crash_and_replay_equal_straight_application(steps in prop::collection::vec(step(), 1..40)) {
        let tiny = MemoryLimits { event_bytes: 300, object_bytes: 2_000 };
        let (mut straight, mut crashing) = (Replica::new(), Replica::with_memory(tiny));
        for step in steps {
            match step {
                Step::Apply(commands) => {
                    prop_assert_eq!(straight.apply(&commands), crashing.apply(&commands));
                }
                Step::Flush => crashing.flush(),
                Step::WriteOnly => {
                    crashing.write_without_flush();
                    crashing.crash_and_replay();
                }
                Step::WriteKept => {
                    crashing.write_without_flush();
                    crashing.disk.0.borrow_mut().flush().expect("memory does not fail");
                    crashing.crash_and_replay();
                }
                Step::Crash => crashing.crash_and_replay(),
            }
        }
        prop_assert_eq!(view(&mut straight), view(&mut crashing));
    }
}

#[test]
fn an_unchanged_machine_writes_nothing_but_what_changed() {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2]), group(2, &[1])]);
    replica.flush();
    assert!(!replica.machines.is_dirty());
    replica.one(send(channel(2), user(1), 1, "x"));
    let (_, batch) = replica.machines.cut();
    // Channel head, member (its first device), device record, event, applied index; the outbox row is there already.
    assert_eq!(batch.len(), 5, "{batch:?}");
}

#[test]
fn memory_stays_within_its_limits_once_flushed() {
    let tiny = MemoryLimits { event_bytes: 10_000, object_bytes: 40_000 };
    let mut replica = Replica::with_memory(tiny);
    for n in 1..=200u8 {
        replica.one(group(n, &[1, 2]));
        for id in 1..=5 {
            replica.one(send(channel(n), user(1), id, &"y".repeat(200)));
        }
        replica.flush();
    }
    let memory = replica.machines.memory();
    assert!(memory.event_bytes <= 10_000, "{memory:?}");
    assert!(memory.object_bytes <= 40_000, "{memory:?}");
    for n in 1..=200 {
        assert_eq!(replica.history(channel(n), user(2)).len(), 7);
        assert_eq!(replica.one(send(channel(n), user(1), 3, &"y".repeat(200))), duplicate(5, 1_000));
    }
    assert_eq!(replica.history(channel(1), user(1)).last().map(|event| event.seq), Some(Seq(7)));
}

#[test]
fn several_batches_may_be_under_way_and_one_report_covers_them() {
    let mut replica = Replica::with_memory(MemoryLimits { event_bytes: 0, object_bytes: 0 });
    replica.one(group(1, &[1]));
    let mut tokens = Vec::new();
    for id in 1..=3 {
        replica.one(send(channel(1), user(1), id, "x"));
        let (token, batch) = replica.machines.cut();
        replica.disk.0.borrow_mut().write(&batch).expect("memory does not fail");
        tokens.push(token);
    }
    replica.one(send(channel(1), user(1), 4, "not cut"));
    replica.disk.0.borrow_mut().flush().expect("memory does not fail");
    assert!(replica.machines.memory().event_bytes > 0);
    replica.machines.handle_flushed(tokens[2]);
    assert_eq!(replica.history(channel(1), user(1)).len(), 5);
    let left = replica.machines.memory();
    assert_eq!((left.channels, left.event_bytes < 200), (1, true), "only what was not cut stays: {left:?}");
    replica.machines.handle_flushed(tokens[1]); // late, and harmless
    replica.crash_and_replay();
    assert_eq!(replica.history(channel(1), user(1)).len(), 5);
}

#[test]
fn an_object_stays_until_the_batch_that_last_wrote_it_is_flushed() {
    let mut replica = Replica::with_memory(MemoryLimits { event_bytes: 0, object_bytes: 0 });
    replica.one(group(1, &[1]));
    let (first, batch) = replica.machines.cut();
    replica.disk.0.borrow_mut().write(&batch).expect("memory does not fail");
    replica.one(send(channel(1), user(1), 1, "x"));
    let (second, batch) = replica.machines.cut();
    replica.machines.handle_flushed(first);
    assert_eq!(replica.history(channel(1), user(1)).len(), 2, "the disk knows of one only");
    replica.disk.0.borrow_mut().write(&batch).expect("memory does not fail");
    replica.machines.handle_flushed(second);
    assert_eq!(replica.machines.memory().channels, 0);
    assert_eq!(replica.history(channel(1), user(1)).len(), 2);
}
