//! Copies of a shard: membership beside the applied index, changing over, dropping.

use throng_router_core::machines::{Machines, MemoryLimits, StoredCopy, copies, next_replica};
use throng_router_core::{Applied, applied};
use throng_storage_core::entry::Conf;
use throng_storage_core::state::{Change, StateRead, StateWrite, TABLES, Table};
use throng_wire::ids::*;

use crate::harness::*;

fn conf(voters: &[u64]) -> Conf {
    Conf { voters: voters.to_vec(), learners: vec![7], ..Conf::default() }
}

/// Copies all rows of copy 0 to another number, as the arrival of a snapshot does.
fn receive(disk: &Disk, replica: u32) {
    let mut batch = Vec::new();
    for table in [Table::Objects, Table::Events] {
        for (key, value) in disk.scan(table, &[0; 4], &1u32.to_be_bytes(), usize::MAX).expect("readable") {
            let key = [&replica.to_be_bytes()[..], &key[4..]].concat();
            batch.push(Change::Put(table, key.into(), value));
        }
    }
    for (key, value) in disk.scan(Table::Meta, b"", b"z", usize::MAX).expect("readable") {
        let key = [&key[..9], &replica.to_be_bytes()[..]].concat();
        batch.push(Change::Put(Table::Meta, key.into(), value));
    }
    let mut disk = disk.0.borrow_mut();
    disk.write(&batch).expect("memory does not fail");
    disk.flush().expect("memory does not fail");
}

fn rows(disk: &Disk) -> usize {
    TABLES.iter().map(|table| disk.scan(*table, b"", &[0xff; 40], usize::MAX).expect("readable").len()).sum()
}

#[test]
fn membership_is_flushed_with_the_index_it_belongs_to() {
    let mut replica = Replica::new();
    replica.one(group(1, &[1, 2]));
    assert_eq!(replica.machines.conf(SHARD), None);
    replica.flush();
    replica.one(send(channel(1), user(1), 1, "x"));
    replica.machines.set_conf(SHARD, conf(&[1, 2, 1 << 24 | 3]));
    assert!(replica.machines.is_dirty());
    assert_eq!(applied(&replica.disk, SHARD, 0).expect("readable").conf, None);
    replica.flush();
    let row = applied(&replica.disk, SHARD, 0).expect("readable");
    assert_eq!((row.index, row.term, row.conf.as_ref()), (2, 1, Some(&conf(&[1, 2, 1 << 24 | 3]))));
    replica.crash_and_replay();
    assert_eq!(replica.machines.conf(SHARD), row.conf.as_ref());
}

#[test]
fn a_copy_without_rows_has_applied_nothing() {
    let replica = Replica::new();
    let row = applied(&replica.disk, SHARD, 5).expect("readable");
    assert_eq!((row.applied(), row.conf), (Applied::default(), None));
}

#[test]
fn switching_forgets_what_the_old_copy_had_and_drops_its_rows() {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2]), send(channel(1), user(1), 1, "in the snapshot")]);
    crate::inbox::deliver(&mut replica);
    replica.flush();
    receive(&replica.disk, 9);
    let rows_of_a_copy = rows(&replica.disk) / 2;
    let snapshot = replica.machines.applied(SHARD);
    // What follows is only in the old copy: written, cut, and not even cut.
    replica.one(send(channel(1), user(1), 2, "written"));
    replica.flush();
    replica.one(send(channel(1), user(1), 3, "not cut"));
    replica.one(group(2, &[3]));

    replica.machines.switch(SHARD, 9).expect("the copy is whole");
    assert_eq!((replica.machines.replica(SHARD), replica.machines.applied(SHARD)), (9, snapshot));
    assert_eq!(replica.history(channel(1), user(2)).len(), 3);
    assert!(replica.history(channel(2), user(3)).is_empty());
    assert_eq!(crate::inbox::rows_of(&mut replica, user(2)).len(), 1);

    replica.flush();
    assert_eq!(copies(&replica.disk), Ok(vec![StoredCopy { replica: 9, shard: Some(SHARD) }]));
    assert_eq!(rows(&replica.disk), rows_of_a_copy);
    // The log goes on behind the snapshot.
    replica.log.truncate(snapshot.index as usize);
    assert_eq!(replica.one(send(channel(1), user(1), 2, "again")), published(4, 1_000));
    assert_eq!(replica.machines.memory().channels, 1);
}

#[test]
fn orphans_are_found_without_their_meta_row_and_dropped() {
    let mut replica = Replica::new();
    replica.apply(&[group(1, &[1, 2])]);
    replica.flush();
    receive(&replica.disk, 4);
    let half = vec![Change::Put(Table::Events, [6u32.to_be_bytes(), [0; 4]].concat().into(), "x".into())];
    replica.disk.0.borrow_mut().write(&half).expect("memory does not fail");
    let whole = |replica| StoredCopy { replica, shard: Some(SHARD) };
    let orphan = StoredCopy { replica: 6, shard: None };
    let all = copies(&replica.disk).expect("readable");
    assert_eq!(all, [whole(0), whole(4), orphan]);
    assert_eq!((next_replica(&all, 1), next_replica(&all, 64), next_replica(&[], 3)), (Ok(7), Ok(64), Ok(3)));
    assert!(next_replica(&[whole(u32::MAX - 2)], 1).is_err());

    replica.machines.drop_copy(whole(4));
    replica.machines.drop_copy(orphan);
    replica.flush();
    assert_eq!(copies(&replica.disk), Ok(vec![whole(0)]));
    assert_eq!(replica.history(channel(1), user(2)).len(), 2);
}

#[test]
#[should_panic(expected = "a copy in use is not dropped")]
fn a_copy_in_use_is_not_dropped() {
    let mut replica = Replica::new();
    replica.machines.drop_copy(StoredCopy { replica: 0, shard: None });
}

#[test]
fn other_shards_keep_what_is_in_memory() {
    let disk = Disk::default();
    let mut machines =
        Machines::load(disk.clone(), &[0, 1], 1, MemoryLimits::default()).expect("an empty disk");
    let ids: Vec<_> = (1..40).map(channel).collect();
    let of = |shard| *ids.iter().find(|id| ShardId::of_channel(id, 2) == ShardId(shard)).expect("40 ids");
    for shard in 0..2 {
        let mut entry = throng_router_core::entry::EntryBuilder::new();
        entry.push(&create(of(shard), user(1), throng_wire::frame::ChannelClass::Group, &[]));
        let at = Applied { index: 1, term: 1 };
        let mut outcomes = Vec::new();
        machines
            .apply(ShardId(shard), at, &entry.seal(ServerTs(1)), &mut outcomes, &mut Ears::default())
            .expect("a valid entry");
    }
    machines.switch(ShardId(1), 5).expect("an empty copy");
    assert_eq!(machines.read_chain(&of(1)), Ok(None));
    assert_eq!(machines.read_chain(&of(0)).expect("readable").map(|(head, _)| head), Some(Seq(1)));
    assert_eq!(machines.applied(ShardId(1)), Applied::default());
}
