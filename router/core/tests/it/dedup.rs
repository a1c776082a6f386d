//! C3: a send is stored once, whatever the client repeats.

use throng_router_core::limits::DEVICES_PER_MEMBER_MAX;
use throng_wire::code::Code;

use crate::harness::*;

fn one_member() -> Replica {
    let mut replica = Replica::new();
    replica.one(group(1, &[1]));
    replica
}

#[test]
fn a_retry_gets_the_original_number_and_stamp() {
    let mut replica = one_member();
    assert_eq!(replica.one(send(channel(1), user(1), 5, "a")), published(2, 1_000));
    replica.ts = 9_000;
    assert_eq!(replica.one(send(channel(1), user(1), 6, "b")), published(3, 9_000));
    assert_eq!(replica.one(send(channel(1), user(1), 5, "a")), duplicate(2, 1_000));
    assert_eq!(replica.history(channel(1), user(1)).len(), 3);
}

#[test]
fn one_number_with_two_contents_is_a_conflict() {
    let mut replica = one_member();
    replica.one(send(channel(1), user(1), 5, "a"));
    assert_eq!(replica.one(send(channel(1), user(1), 5, "b")), refused(Code::CONFLICT));
    assert_eq!(replica.one(send(channel(1), user(1), 5, "a")), duplicate(2, 1_000));
}

#[test]
fn ids_may_arrive_out_of_order_within_the_window() {
    let mut replica = one_member();
    for id in [3, 1, 2, 9, 4] {
        assert!(is_new(&replica.one(send(channel(1), user(1), id, "x"))), "{id}");
    }
}

#[test]
fn what_is_forgotten_is_never_stored_again() {
    let mut replica = one_member();
    for id in 1..=40 {
        assert!(is_new(&replica.one(send(channel(1), user(1), id, "x"))));
    }
    for id in 1..=24 {
        assert_eq!(replica.one(send(channel(1), user(1), id, "x")), refused(Code::UNKNOWN_OUTCOME), "{id}");
    }
    for id in 25..=40 {
        assert_eq!(replica.one(send(channel(1), user(1), id, "x")), duplicate(id + 1, 1_000), "{id}");
    }
    assert_eq!(replica.history(channel(1), user(1)).len(), 41);
}

#[test]
fn every_device_and_every_user_has_a_record_of_its_own() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    let outcomes = replica.apply(&[
        send_from(channel(1), user(1), 7, 1, "phone"),
        send_from(channel(1), user(1), 8, 1, "laptop"),
        send_from(channel(1), user(2), 7, 1, "somebody else's device of the same number"),
    ]);
    assert!(outcomes.iter().all(is_new), "{outcomes:?}");
}

#[test]
fn the_record_survives_leaving_and_answers_a_removed_members_retry() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    replica.one(send(channel(1), user(2), 1, "last words"));
    replica.one(leave(channel(1), user(1), user(2)));
    assert_eq!(replica.one(send(channel(1), user(2), 1, "last words")), duplicate(3, 1_000));
    assert_eq!(replica.one(send(channel(1), user(2), 1, "other words")), refused(Code::CONFLICT));
    assert_eq!(replica.one(send(channel(1), user(2), 2, "more words")), refused(Code::NOT_FOUND));
    replica.one(join(channel(1), user(1), user(2)));
    assert_eq!(replica.one(send(channel(1), user(2), 1, "last words")), duplicate(3, 1_000));
    assert!(
        is_new(&replica.one(send(channel(1), user(2), 2, "more words"))),
        "what was refused was not stored"
    );
}

#[test]
fn records_come_back_from_disk_one_by_one() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    for device in 0..20 {
        replica.one(send_from(channel(1), user(1), device, 5, "x"));
    }
    replica.flush();
    replica.crash_and_replay();
    for device in 0..20 {
        assert_eq!(replica.one(send_from(channel(1), user(1), device, 5, "x")), duplicate(3 + device, 1_000));
        assert!(is_new(&replica.one(send_from(channel(1), user(1), device, 6, "y"))));
    }
}

#[test]
fn a_member_has_so_many_devices_and_no_more() {
    let mut replica = one_member();
    for device in 0..u64::from(DEVICES_PER_MEMBER_MAX) {
        assert!(is_new(&replica.one(send_from(channel(1), user(1), device, 1, "x"))));
    }
    assert_eq!(replica.one(send_from(channel(1), user(1), 1 << 40, 1, "x")), refused(Code::LIMIT));
    assert!(is_new(&replica.one(send_from(channel(1), user(1), 0, 2, "x"))));
}

#[test]
fn numbers_beyond_the_wire_are_refused() {
    let mut replica = one_member();
    assert_eq!(replica.one(send(channel(1), user(1), 1 << 62, "x")), refused(Code::LIMIT));
    assert!(is_new(&replica.one(send(channel(1), user(1), (1 << 62) - 1, "x"))));
}
