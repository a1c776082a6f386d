//! Checks of a copy: whole ones pass, replicas agree, and every kind of damage is found.

use bytes::Bytes;
use throng_router_core::entry::{Command, Retain};
use throng_router_core::machines::verify::{Check, Finding, VerifyReport};
use throng_storage_core::state::{Change, MemState, StateRead, StateWrite, Table};
use throng_wire::ids::*;

use crate::harness::*;

fn check(view: &MemState, rows: usize) -> VerifyReport {
    let mut check = Check::new(SHARD, 1, 0);
    for _ in 0..100_000 {
        if check.step(view, rows).expect("readable") {
            return check.report().clone();
        }
    }
    panic!("a check ends");
}

fn replica() -> Replica {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2]), group(2, &[2, 3]), group(3, &[3])]);
    for id in 1..=30 {
        replica.one(send(channel(1), user(1), id, "hello"));
        replica.one(send(channel(2), user(3), id, "there"));
    }
    replica.one(Command::Retain(Retain { channel: channel(2), floor: Seq(10) }));
    crate::inbox::deliver(&mut replica);
    replica.one(send(channel(3), user(3), 1, "unsent"));
    replica.flush();
    replica
}

fn view() -> MemState {
    replica().disk.0.borrow().clone()
}

/// Keys of event rows of a channel, by number.
fn event_key(channel: ChannelId, seq: u64) -> Bytes {
    let slot = channel.slot().0.to_be_bytes();
    [&[0; 4][..], &slot, &channel.0, &seq.to_be_bytes()].concat().into()
}

fn head_key(channel: ChannelId) -> Bytes {
    [&[0; 4][..], &channel.slot().0.to_be_bytes(), &channel.0, &[1]].concat().into()
}

#[test]
fn a_whole_copy_passes_whatever_the_step() {
    let view = view();
    let report = check(&view, usize::MAX);
    assert_eq!((report.bad, report.channels, report.events), (0, 3, 32 + 23 + 2));
    assert_eq!(report.rows as usize, view.len() - 1, "all but the shard's own");
    for rows in [1, 2, 3, 10] {
        assert_eq!(check(&view, rows), report, "{rows} rows a step");
    }
}

#[test]
fn replicas_with_the_same_entries_have_the_same_digest_and_others_do_not() {
    let (mut one, mut other) = (replica(), replica());
    let of = |replica: &Replica| check(&replica.disk.0.borrow(), 50);
    assert_eq!(of(&one), of(&other));
    one.one(send(channel(1), user(2), 1, "a"));
    other.one(send(channel(1), user(2), 1, "b"));
    one.flush();
    other.flush();
    assert_eq!(of(&one).applied, of(&other).applied);
    assert_ne!(of(&one).digest, of(&other).digest);
}

#[test]
fn every_kind_of_damage_is_found() {
    let damaged = |changes: Vec<Change>| {
        let mut view = view();
        view.write(&changes).expect("memory does not fail");
        let report = check(&view, 5);
        assert_eq!(report.bad as usize, report.findings.len());
        report.findings
    };
    let one = channel(1);
    let other_body = |row: Bytes| {
        let mut row = row.to_vec();
        *row.last_mut().expect("a body") ^= 1;
        Bytes::from(row)
    };
    let row = view().get(Table::Events, &event_key(one, 20)).expect("readable").expect("an event");
    let put = |key: Bytes, value: Bytes| vec![Change::Put(Table::Events, key, value)];
    assert_eq!(damaged(put(event_key(one, 20), other_body(row.clone()))), [Finding::Chain { channel: one }]);
    let missing = |seq| [Finding::Missing { channel: one, seq: Seq(seq) }];
    assert_eq!(damaged(vec![Change::Delete(Table::Events, event_key(one, 20))]), missing(20));
    assert_eq!(damaged(vec![Change::Delete(Table::Events, event_key(one, 1))]), missing(1));
    assert_eq!(damaged(vec![Change::Delete(Table::Events, event_key(one, 32))]), missing(32));
    let stray = |channel, seq| [Finding::Stray { channel, seq: Seq(seq) }];
    assert_eq!(damaged(put(event_key(one, 33), row.clone())), stray(one, 33));
    assert_eq!(damaged(put(event_key(channel(2), 9), row.clone())), stray(channel(2), 9), "below the floor");
    for n in [0, 77, 0xff] {
        let unknown = ChannelId([n; 16]);
        assert_eq!(damaged(put(event_key(unknown, 4), row.clone())), stray(unknown, 4), "no such channel");
    }
    let unreadable = damaged(put(event_key(one, 20), Bytes::from_static(&[9])));
    assert!(matches!(
        unreadable[..],
        [Finding::Unreadable { table: Table::Events, field: "event.version", .. }]
    ));
    // A head row that does not parse: its events belong to nobody that is known.
    let bad_head = damaged(vec![Change::Put(Table::Objects, head_key(one), Bytes::from_static(&[1, 7]))]);
    assert!(matches!(bad_head[0], Finding::Unreadable { table: Table::Objects, field: "channel.class", .. }));
    let no_head = damaged(vec![Change::Delete(Table::Objects, head_key(one))]);
    assert_eq!(no_head, stray(one, 1));
    let every_object = {
        let rows = view().scan(Table::Objects, &[0; 4], &[0, 0, 0, 1], usize::MAX).expect("readable");
        rows.into_iter()
            .map(|(key, _)| Change::Put(Table::Objects, key, Bytes::from_static(&[99])))
            .collect::<Vec<_>>()
    };
    let all = every_object.len();
    let mut view = view();
    view.write(&every_object).expect("memory does not fail");
    assert!(check(&view, 5).bad as usize >= all, "no row of one wrong byte parses");
}

#[test]
fn a_flipped_bit_in_any_row_is_a_finding_or_another_digest() {
    let whole = view();
    let digest = check(&whole, 100).digest;
    for table in [Table::Objects, Table::Events] {
        for (key, value) in whole.scan(table, &[0; 4], &[0, 0, 0, 1], usize::MAX).expect("readable") {
            for at in 0..value.len() {
                let mut row = value.to_vec();
                row[at] ^= 1 << (at % 8);
                let mut view = whole.clone();
                view.write(&vec![Change::Put(table, key.clone(), row.into())]).expect("memory does not fail");
                let report = check(&view, 1_000);
                assert!(report.bad > 0 || report.digest != digest, "{table:?} {key:?} at {at}");
            }
        }
    }
}
