//! Snapshots: a copy that was carried over in chunks is the copy it was made from.

use bytes::Bytes;
use proptest::prelude::*;
use throng_router_core::entry::Command;
use throng_router_core::machines::{MemoryLimits, StoredCopy, copies};
use throng_router_core::snapshot::{BadSnapshot, Chunk, Cursor, Import, Imported, next_chunk};
use throng_storage_core::entry::Conf;
use throng_storage_core::state::{MemState, StateRead, StateWrite, TABLES, Table, WriteBatch};
use throng_wire::ids::*;

use crate::harness::*;
use crate::replay::{command, view};

const COPY: u32 = 7;

/// All chunks of copy 0.
fn export(view: &MemState, max_bytes: usize) -> Vec<Chunk> {
    let (mut chunks, mut cursor) = (Vec::new(), Some(Cursor::start()));
    while let Some(at) = cursor {
        let chunk = next_chunk(view, SHARD, 0, &at, max_bytes).expect("a whole copy");
        assert_eq!(
            next_chunk(view, SHARD, 0, &at, max_bytes).as_ref(),
            Ok(&chunk),
            "a chunk can be made again"
        );
        cursor = chunk.next.clone();
        chunks.push(chunk);
    }
    chunks
}

fn take(import: &mut Import, number: usize, chunk: &Chunk) -> Result<Imported, BadSnapshot> {
    import.take(number as u64, chunk.rows.clone(), chunk.digest)
}

/// Rows of a copy by table and key behind the number, the shard's own row included.
fn rows(disk: &impl StateRead, copy: u32) -> Vec<(Table, Bytes, Bytes)> {
    let (from, to) = (copy.to_be_bytes(), (copy + 1).to_be_bytes());
    let mut all = Vec::new();
    for table in [Table::Objects, Table::Events] {
        let rows = disk.scan(table, &from, &to, usize::MAX).expect("readable");
        all.extend(rows.into_iter().map(|(key, value)| (table, key.slice(4..), value)));
    }
    let meta = [&b"shard\0\0\0\0"[..], &from].concat();
    all.extend(disk.get(Table::Meta, &meta).expect("readable").map(|row| (Table::Meta, Bytes::new(), row)));
    all
}

fn write(disk: &Disk, batch: &WriteBatch) {
    disk.0.borrow_mut().write(batch).expect("memory does not fail");
}

/// Carries copy 0 of `source` to a fresh disk; some chunks come twice.
fn carry(source: &Replica, max_bytes: usize, twice: &[prop::sample::Index]) -> Disk {
    let view = source.disk.0.borrow().clone();
    let chunks = export(&view, max_bytes);
    let (disk, mut import) = (Disk::default(), Import::new(SHARD, 1, COPY));
    let mut whole = None;
    for (number, chunk) in chunks.iter().enumerate() {
        match take(&mut import, number, chunk).expect("an honest sender") {
            Imported::Rows(batch) => write(&disk, &batch),
            Imported::Whole(batch, row) => {
                write(&disk, &batch);
                whole = Some(row);
            }
            Imported::Skipped => panic!("chunk {number} was wanted"),
        }
        let again = twice.iter().map(|index| index.index(chunks.len())).any(|repeated| repeated == number);
        if again {
            assert_eq!(take(&mut import, number, chunk), Ok(Imported::Skipped));
        }
    }
    let applied = throng_router_core::applied(&view, SHARD, 0).expect("readable");
    assert_eq!(whole, Some(applied));
    disk.0.borrow_mut().flush().expect("memory does not fail");
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_carried_copy_equals_its_source_and_goes_on_like_it(
        before in prop::collection::vec((prop::collection::vec(command(), 1..6), 0..4u8), 1..25),
        after in prop::collection::vec(prop::collection::vec(command(), 1..6), 0..6),
        max_bytes in 1..3_000usize,
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        tiny: bool,
    ) {
        let memory = if tiny {
            MemoryLimits { event_bytes: 300, object_bytes: 2_000 }
        } else {
            MemoryLimits::default()
        };
        let mut source = Replica::with_memory(memory);
        for (commands, then) in before {
            source.apply(&commands);
            source.ts += 1;
            match then {
                0 => source.flush(),
                1 => crate::inbox::deliver(&mut source),
                _ => {}
            }
        }
        source.machines.set_conf(SHARD, Conf { voters: vec![1, 2, 1 << 24 | 3], ..Conf::default() });
        source.flush();
        // Entries after the snapshot are in no row of it.
        let disk = carry(&source, max_bytes, &twice);
        prop_assert_eq!(rows(&disk, COPY), rows(&source.disk, 0));
        let mut carried = Replica::from_copy(&source, disk, COPY);
        prop_assert_eq!(carried.machines.applied(SHARD), source.machines.applied(SHARD));
        prop_assert_eq!(carried.machines.conf(SHARD), source.machines.conf(SHARD));
        for commands in &after {
            prop_assert_eq!(carried.apply(commands), source.apply(commands));
        }
        // The same sends once more: the dedup records came along.
        for commands in &after {
            prop_assert_eq!(carried.apply(commands), source.apply(commands));
        }
        prop_assert_eq!(
            carried.machines.unsent(SHARD, SHARD).expect("readable"),
            source.machines.unsent(SHARD, SHARD).expect("readable")
        );
        prop_assert_eq!(view(&mut carried), view(&mut source));
        carried.flush();
        source.flush();
        prop_assert_eq!(rows(&carried.disk, COPY), rows(&source.disk, 0));
    }
}

fn source() -> Replica {
    let mut source = Replica::new();
    let sends = (1..=40).map(|id| send(channel(1), user(1), id, &"x".repeat(100)));
    let commands: Vec<Command> = [group(1, &[1, 2]), group(2, &[2, 3])].into_iter().chain(sends).collect();
    source.apply(&commands);
    source.flush();
    source
}

#[test]
fn chunks_keep_their_size_and_a_row_larger_than_one_travels_alone() {
    let view = source().disk.0.borrow().clone();
    let chunks = export(&view, 1_000);
    assert!(chunks.len() > 5);
    for chunk in &chunks {
        let bytes: usize = chunk.rows.iter().map(|row| 4 + row.key.len() + row.value.len()).sum();
        assert!(bytes <= 1_100, "the shard's own row may come on top: {bytes}");
    }
    let single = export(&view, 1);
    // The last holds the last event and the shard's own row.
    assert!(single.iter().rev().skip(1).all(|chunk| chunk.rows.len() == 1));
    assert_eq!(single.iter().map(|chunk| chunk.rows.len()).sum::<usize>(), rows(&view, 0).len());
}

#[test]
fn chunks_out_of_order_are_skipped_and_change_nothing() {
    let source = source();
    let chunks = export(&source.disk.0.borrow().clone(), 1_000);
    let mut import = Import::new(SHARD, 1, COPY);
    assert_eq!(take(&mut import, 1, &chunks[1]), Ok(Imported::Skipped));
    assert!(matches!(take(&mut import, 0, &chunks[0]), Ok(Imported::Rows(_))));
    assert_eq!(take(&mut import, 0, &chunks[0]), Ok(Imported::Skipped));
    assert_eq!((import.next(), import.replica()), (1, COPY));
}

#[test]
fn a_changed_missing_or_foreign_row_is_refused() {
    let source = source();
    let chunks = export(&source.disk.0.borrow().clone(), usize::MAX);
    assert_eq!(chunks.len(), 1);
    let tampered = |tamper: &dyn Fn(&mut Chunk)| {
        let mut chunk = chunks[0].clone();
        tamper(&mut chunk);
        take(&mut Import::new(SHARD, 1, COPY), 0, &chunk)
    };
    assert!(matches!(tampered(&|_| {}), Ok(Imported::Whole(..))));
    let differs = Err(BadSnapshot("rows differ from what was sent"));
    assert_eq!(tampered(&|chunk| chunk.rows[3].value = Bytes::from_static(b"?")), differs);
    assert_eq!(tampered(&|chunk| drop(chunk.rows.remove(3))), differs);
    assert_eq!(tampered(&|chunk| chunk.digest = Some(1)), differs);
    assert_eq!(tampered(&|chunk| chunk.rows.swap(3, 4)), Err(BadSnapshot("rows out of order")));
    assert_eq!(tampered(&|chunk| chunk.rows[3].table = 9), Err(BadSnapshot("unknown table")));
    let foreign = Err(BadSnapshot("a key that is not the shard's"));
    assert_eq!(tampered(&|chunk| chunk.rows[0].key = chunk.rows[0].key.slice(..10)), foreign);
    let truncated = |chunk: &mut Chunk| drop(chunk.rows.pop());
    assert_eq!(tampered(&truncated), Err(BadSnapshot("it does not end with the shard's row")));
    assert!(tampered(&|chunk| chunk.digest = None).is_err());
    // Half of the slots are another shard's in a cluster of two.
    assert_eq!(take(&mut Import::new(ShardId(1), 2, COPY), 0, &chunks[0]), foreign);
}

#[test]
fn a_copy_that_is_not_there_has_no_snapshot() {
    let view = MemState::new();
    assert!(next_chunk(&view, SHARD, 3, &Cursor::start(), 100).is_err());
}

#[test]
fn a_snapshot_that_was_given_up_leaves_an_orphan_that_can_be_dropped() {
    let mut source = source();
    let chunks = export(&source.disk.0.borrow().clone(), 1_000);
    let mut import = Import::new(SHARD, 1, COPY);
    for (number, chunk) in chunks.iter().enumerate().take(3) {
        let Ok(Imported::Rows(batch)) = take(&mut import, number, chunk) else { panic!("more is to come") };
        write(&source.disk, &batch);
    }
    let orphan = StoredCopy { replica: COPY, shard: None };
    assert!(copies(&source.disk).expect("readable").contains(&orphan));
    source.machines.drop_copy(orphan);
    source.flush();
    assert!(rows(&source.disk, COPY).is_empty());
    let left: usize =
        TABLES.iter().map(|t| source.disk.scan(*t, b"", &[0xff; 40], 9_999).expect("readable").len()).sum();
    assert_eq!(left, rows(&source.disk, 0).len());
}
