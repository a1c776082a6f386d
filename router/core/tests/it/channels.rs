//! C1: one sequence without gaps, stamps that never fall, the same on every replica.

use throng_router_core::entry::{Command, EntryBuilder};
use throng_router_core::machines::{Machines, MemoryLimits, NoEffects};
use throng_router_core::{Applied, Outcome};
use throng_wire::code::Code;
use throng_wire::event::EventKind;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::*;

use crate::harness::*;

#[test]
fn numbers_are_taken_at_apply_and_leave_no_gap() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    let outcomes = replica.apply(&[
        send(channel(1), user(1), 1, "a"),
        send(channel(1), user(9), 1, "a stranger's"),
        send(channel(1), user(2), 1, "b"),
        send(channel(2), user(1), 1, "to nowhere"),
        send(channel(1), user(1), 1, "a"),
        send(channel(1), user(1), 2, "c"),
    ]);
    let expected = [
        published(3, 1_000),
        refused(Code::NOT_FOUND),
        published(4, 1_000),
        refused(Code::NOT_FOUND),
        duplicate(3, 1_000),
        published(5, 1_000),
    ];
    assert_eq!(outcomes, expected);
    let history = replica.history(channel(1), user(2));
    assert_eq!(history.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(history[0].kind, EventKind::JOINED);
    assert_eq!(&history[4].body[..], b"c");
}

#[test]
fn stamps_never_fall_whatever_the_proposers_clock_does() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1]));
    replica.ts = 5_000;
    assert_eq!(replica.one(send(channel(1), user(1), 1, "a")), published(2, 5_000));
    replica.ts = 400;
    assert_eq!(replica.one(send(channel(1), user(1), 2, "b")), published(3, 5_000));
    replica.ts = u64::MAX;
    assert_eq!(replica.one(send(channel(1), user(1), 3, "c")), published(4, (1 << 48) - 1));
}

#[test]
fn a_channel_counts_messages_not_membership() {
    let mut replica = Replica::new();
    replica.apply(&[
        group(1, &[1, 2]),
        send(channel(1), user(1), 1, "a"),
        leave(channel(1), user(1), user(2)),
    ]);
    let rows = crate::inbox::rows_of(&mut replica, user(1));
    assert_eq!(rows, [(channel(1), 4, 1)]);
}

#[test]
fn two_replicas_of_one_log_have_the_same_chain_and_another_log_another() {
    let run = |bodies: &[&str]| {
        let mut replica = Replica::new();
        replica.one(group(1, &[1]));
        for (id, body) in (1..).zip(bodies) {
            replica.one(send(channel(1), user(1), id, body));
        }
        replica.machines.read_chain(&channel(1)).expect("a readable disk").expect("it exists")
    };
    assert_eq!(run(&["a", "b"]), run(&["a", "b"]));
    assert_ne!(run(&["a", "b"]).1, run(&["b", "a"]).1);
    assert_ne!(run(&["a", "b"]).1, run(&["a", "c"]).1);
}

#[test]
fn only_messages_may_be_sent() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1]));
    let Command::Publish(mut forged) = send(channel(1), user(1), 1, "I never left") else { unreachable!() };
    forged.kind = EventKind::JOINED;
    assert_eq!(replica.one(Command::Publish(forged)), refused(Code::UNSUPPORTED));
}

#[test]
fn other_shards_channels_do_not_exist_here() {
    let mut machines =
        Machines::load(Disk::default(), &[0, 1], 1, MemoryLimits::default()).expect("an empty disk");
    let own = ShardId::of_channel(&channel(7), 2);
    let other = ShardId(1 - own.0);
    let mut entry = EntryBuilder::new();
    entry.push(&create(channel(7), user(1), ChannelClass::Group, &[]));
    let entry = entry.seal(ServerTs(1));
    let mut outcomes = Vec::new();
    for shard in [other, own] {
        machines
            .apply(shard, Applied { index: 1, term: 1 }, &entry, &mut outcomes, &mut NoEffects)
            .expect("valid");
    }
    assert_eq!(outcomes[0], refused(Code::NOT_FOUND));
    assert!(matches!(outcomes[1], Outcome::Channel { head: Seq(1), member: MemberNo(1), .. }));
}

#[test]
fn pages_are_whole_bounded_and_the_same_from_memory_and_disk() {
    let tiny = MemoryLimits { event_bytes: 0, object_bytes: 0 };
    let (mut hot, mut cold) = (Replica::new(), Replica::with_memory(tiny));
    for replica in [&mut hot, &mut cold] {
        replica.one(group(1, &[1, 2]));
        for id in 1..=100 {
            let body = "x".repeat(if id == 50 { BODY_MAX } else { (id as usize) * 37 });
            replica.one(send(channel(1), user(1), id, &body));
            if id % 30 == 0 {
                replica.flush();
            }
        }
    }
    assert!(cold.machines.memory().event_bytes < hot.machines.memory().event_bytes);
    let (history, from_disk) = (hot.history(channel(1), user(1)), cold.history(channel(1), user(1)));
    assert_eq!(history, from_disk);
    assert_eq!(history.len(), 102);
    for after in [0, 10, 50, 51, 91, 99] {
        let page =
            cold.machines.read_page(&channel(1), MemberNo(1), Seq(after), 200, BODY_MAX).expect("readable");
        let bytes: usize = page.events.iter().map(|event| event.body.len() + 50).sum();
        assert!(bytes <= BODY_MAX + 4096, "page after {after} has {bytes} bytes");
        assert_eq!(page.events[0].seq.0, after + 1);
    }
}

#[test]
fn origins_are_for_their_sender_alone() {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2]), send(channel(1), user(1), 7, "a")]);
    let (own, other) = (replica.history(channel(1), user(1)), replica.history(channel(1), user(2)));
    assert_eq!(own[2].origin.map(|origin| origin.client_msg_id), Some(ClientMsgId(7)));
    assert_eq!(other[2].origin, None);
    assert_eq!(own[2].body, other[2].body);
}
