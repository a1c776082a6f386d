//! The outbox and the inbox at apply: what is marked, what is cleared, what survives.

use throng_router_core::Outcome;
use throng_router_core::entry::{Command, InboxUpdate, OutboxClear};
use throng_wire::ids::*;
use throng_wire::peer::InboxRow;

use crate::harness::*;

/// Carries a shard's outbox to its own users, as the leaders would.
pub(crate) fn deliver(replica: &mut Replica) {
    while let Some((rows, channels)) = replica.machines.unsent(SHARD, SHARD).expect("a readable disk") {
        replica.one(Command::InboxUpdate(InboxUpdate { from: SHARD, rows }));
        replica.one(Command::OutboxClear(OutboxClear { dest: SHARD, rows: channels }));
    }
}

/// Delivers everything and reads one user's rows.
pub(crate) fn rows_of(replica: &mut Replica, user: UserId) -> Vec<(ChannelId, u64, u64)> {
    deliver(replica);
    let view = replica.machines.read_inbox(&user, UserSeq(0), 200).expect("a readable disk");
    view.entries.iter().map(|entry| (entry.channel, entry.head.0, entry.count)).collect()
}

#[test]
fn every_member_learns_of_every_event() {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2]), group(2, &[2, 3]), send(channel(2), user(3), 1, "x")]);
    assert_eq!(rows_of(&mut replica, user(2)), [(channel(1), 2, 0), (channel(2), 3, 1)]);
    replica.one(send(channel(1), user(1), 1, "y"));
    assert_eq!(
        rows_of(&mut replica, user(2)),
        [(channel(2), 3, 1), (channel(1), 3, 1)],
        "in the order they moved"
    );
    assert_eq!(rows_of(&mut replica, user(3)), [(channel(2), 3, 1)]);
}

#[test]
fn a_removed_member_learns_of_the_removal_and_of_nothing_after_it() {
    let mut replica = Replica::new();
    replica.apply(&[
        group(1, &[1, 2]),
        leave(channel(1), user(1), user(2)),
        send(channel(1), user(1), 1, "secret"),
    ]);
    assert_eq!(rows_of(&mut replica, user(2)), [(channel(1), 3, 0)]);
    assert_eq!(rows_of(&mut replica, user(1)), [(channel(1), 4, 1)]);
}

#[test]
fn unsent_rows_survive_a_crash() {
    for flush_first in [true, false] {
        let mut replica = Replica::new();
        replica.apply(&[group(1, &[1, 2]), send(channel(1), user(1), 1, "x")]);
        if flush_first {
            replica.flush();
        }
        replica.crash_and_replay();
        assert_eq!(rows_of(&mut replica, user(2)), [(channel(1), 3, 1)]);
        replica.flush();
        replica.crash_and_replay();
        assert!(
            replica.machines.unsent(SHARD, SHARD).expect("readable").is_none(),
            "cleared rows stay cleared"
        );
        assert_eq!(rows_of(&mut replica, user(2)), [(channel(1), 3, 1)]);
    }
}

#[test]
fn what_moved_while_rows_were_under_way_stays_unsent() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1]));
    let (_, channels) = replica.machines.unsent(SHARD, SHARD).expect("readable").expect("just marked");
    replica.one(send(channel(1), user(1), 1, "meanwhile"));
    replica.one(Command::OutboxClear(OutboxClear { dest: SHARD, rows: channels }));
    let (rows, _) = replica.machines.unsent(SHARD, SHARD).expect("readable").expect("2 is unsent");
    assert_eq!(rows, [InboxRow { user: user(1), channel: channel(1), head: Seq(2), count: 1 }]);
}

#[test]
fn above_the_threshold_only_who_comes_and_goes_is_written_to() {
    let mut replica = Replica::new();
    let nth = |n: u16| {
        let mut id = [9u8; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        UserId(id)
    };
    replica.one(group(1, &[1]));
    let joins: Vec<_> = (1..500).map(|n| join(channel(1), user(1), nth(n))).collect();
    assert!(replica.apply(&joins).iter().all(|outcome| matches!(outcome, Outcome::Channel { .. })));
    assert_eq!(rows_of(&mut replica, nth(7)), [(channel(1), 500, 0)]);
    replica.one(join(channel(1), user(1), user(2)));
    assert_eq!(rows_of(&mut replica, user(2)), [(channel(1), 501, 0)], "who joins");
    replica.one(send(channel(1), user(1), 1, "x"));
    assert_eq!(rows_of(&mut replica, nth(7)), [(channel(1), 500, 0)], "nobody else");
    replica.one(leave(channel(1), user(1), nth(8)));
    assert_eq!(rows_of(&mut replica, nth(8)), [(channel(1), 503, 1)], "who leaves");
    assert_eq!(rows_of(&mut replica, nth(7)), [(channel(1), 503, 1)], "500 again");
}

#[test]
fn moved_rows_are_told_once() {
    let mut replica = Replica::new();
    let row = InboxRow { user: user(1), channel: channel(1), head: Seq(4), count: 2 };
    let update = || Command::InboxUpdate(InboxUpdate { from: SHARD, rows: vec![row, row] });
    replica.one(update());
    replica.one(update());
    assert_eq!(replica.ears.moved, [(user(1), channel(1), Seq(4), UserSeq(1))]);
}
