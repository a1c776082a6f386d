//! The contract of [`StateWrite`] as tests, run on every implementation: RocksDB, the map in memory, the simulated disk.
//!
//! What an implementation must show: reads see a batch from the moment it is written; batches are atomic and in order,
//! also across tables; scans are in byte order and half-open; a crash keeps everything up to the last flush and of the
//! rest at most a prefix of whole batches.

use std::collections::BTreeMap;

use bytes::Bytes;
use throng_base::Rng;

use super::{Change, StateRead, StateWrite, TABLES, Table, WriteBatch};

/// How the suite makes and breaks an implementation.
pub trait Bench {
    /// The implementation.
    type State: StateWrite;

    /// A new, empty store.
    fn fresh(&mut self) -> Self::State;

    /// Crashes a store without warning and opens it again.
    fn crash(&mut self, state: Self::State) -> Self::State;
}

/// Runs all cases.
///
/// # Panics
/// If the implementation breaks the contract; the message says which part.
pub fn run(bench: &mut impl Bench) {
    reads_see_written_batches(bench);
    tables_are_apart(bench);
    scans_are_ordered_half_open_and_limited(bench);
    later_changes_of_a_batch_win(bench);
    ranges_are_deleted_half_open_and_in_order(bench);
    flushed_batches_survive_a_crash(bench);
    unflushed_batches_vanish_whole(bench);
    for seed in 0..4 {
        a_crash_leaves_a_prefix_of_batches(bench, seed);
    }
}

/// A write is visible at once, also as a replacement and a removal.
pub fn reads_see_written_batches(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    assert_eq!(state.get(Table::Objects, b"k").expect("get"), None, "a fresh store is empty");
    write(&mut state, vec![put(Table::Objects, b"k", b"1"), put(Table::Objects, b"l", b"")]);
    assert_eq!(value(&state, Table::Objects, b"k"), Some(Bytes::from_static(b"1")));
    assert_eq!(value(&state, Table::Objects, b"l"), Some(Bytes::new()), "an empty value is a value");
    write(
        &mut state,
        vec![put(Table::Objects, b"k", b"2"), delete(Table::Objects, b"l"), delete(Table::Objects, b"no")],
    );
    assert_eq!(value(&state, Table::Objects, b"k"), Some(Bytes::from_static(b"2")));
    assert_eq!(value(&state, Table::Objects, b"l"), None);
    write(&mut state, Vec::new());
}

/// The same key in two tables is two rows.
pub fn tables_are_apart(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    write(&mut state, TABLES.iter().map(|table| put(*table, b"same", &[*table as u8])).collect());
    for table in TABLES {
        assert_eq!(value(&state, table, b"same"), Some(Bytes::copy_from_slice(&[table as u8])));
        assert_eq!(state.scan(table, b"", b"\xff", 10).expect("scan").len(), 1);
    }
}

/// Scans, over keys that share prefixes of every length and over more than one prefix.
pub fn scans_are_ordered_half_open_and_limited(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    let keys: Vec<Vec<u8>> = (0..120u8)
        .map(|n| {
            let mut key = vec![0, 0, 0, 1, n / 40, n % 2];
            key.extend_from_slice(&[n / 10; 16]);
            key.extend_from_slice(&u64::from(n).to_be_bytes());
            key.truncate(if n % 7 == 0 { 8 + usize::from(n) % 20 } else { 30 });
            key
        })
        .collect();
    let mut model = BTreeMap::new();
    for (round, chunk) in keys.chunks(50).enumerate() {
        write(&mut state, chunk.iter().map(|key| put(Table::Events, key, key)).collect());
        model.extend(chunk.iter().map(|key| (key.clone(), key.clone())));
        if round == 0 {
            state.flush().expect("flush");
        }
    }
    let mut borders: Vec<Vec<u8>> = keys.clone();
    borders.extend([vec![], vec![0xff; 40], vec![0, 0, 0, 1], vec![0, 0, 0, 2]]);
    for (at, from) in borders.iter().enumerate() {
        for to in borders.iter().skip(at % 5).step_by(5) {
            for limit in [0, 1, 7, 1000] {
                let rows = state.scan(Table::Events, from, to, limit).expect("scan");
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| *key >= from && *key < to)
                    .take(limit)
                    .map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone())))
                    .collect();
                assert_eq!(rows, expected, "scan {from:?}..{to:?} limit {limit}");
            }
        }
    }
}

/// Changes of one batch apply in order.
pub fn later_changes_of_a_batch_win(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    let batch = vec![
        put(Table::Meta, b"a", b"1"),
        delete(Table::Meta, b"a"),
        put(Table::Meta, b"b", b"1"),
        put(Table::Meta, b"b", b"2"),
        delete(Table::Meta, b"c"),
        put(Table::Meta, b"c", b"3"),
    ];
    write(&mut state, batch);
    let seen = [b"a", b"b", b"c"].map(|key| value(&state, Table::Meta, key));
    assert_eq!(seen, [None, Some(Bytes::from_static(b"2")), Some(Bytes::from_static(b"3"))]);
}

/// A range is deleted from what is flushed and what is not, also within a batch; what is put later stays.
pub fn ranges_are_deleted_half_open_and_in_order(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    let key = |n: u8| [&[0, 0, 0, n / 10][..], &[n; 20]].concat();
    write(&mut state, (0..50).map(|n| put(Table::Events, &key(n), b"old")).collect());
    write(&mut state, vec![put(Table::Objects, &key(15), b"other table")]);
    state.flush().expect("flush");
    write(&mut state, (50..60).map(|n| put(Table::Events, &key(n), b"old")).collect());
    write(
        &mut state,
        vec![
            put(Table::Events, &key(20), b"put before"),
            delete_range(Table::Events, &key(10), &key(55)),
            delete_range(Table::Events, &key(8), &key(8)),
            delete_range(Table::Events, &key(9), &key(5)),
            put(Table::Events, &key(30), b"put after"),
        ],
    );
    let expected: Vec<_> = (0..10).chain([30]).chain(55..60).map(key).collect();
    let keys = |state: &_| {
        let rows = StateRead::scan(state, Table::Events, b"", &[0xff; 4], usize::MAX).expect("scan");
        rows.into_iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&state), expected);
    assert_eq!(value(&state, Table::Events, &key(20)), None);
    assert_eq!(value(&state, Table::Events, &key(30)), Some(Bytes::from_static(b"put after")));
    assert!(value(&state, Table::Objects, &key(15)).is_some(), "the other tables keep theirs");
    state.flush().expect("flush");
    let state = bench.crash(state);
    assert_eq!(keys(&state), expected);
}

/// Durable means durable: in every table, over several flushes and crashes.
pub fn flushed_batches_survive_a_crash(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    for round in 0..3u8 {
        write(&mut state, TABLES.iter().map(|table| put(*table, &[round], b"kept")).collect());
        state.flush().expect("flush");
        state.flush().expect("flush with nothing to do");
        state = bench.crash(state);
        for (table, key) in TABLES.iter().flat_map(|table| (0..=round).map(move |key| (*table, key))) {
            assert_eq!(value(&state, table, &[key]), Some(Bytes::from_static(b"kept")), "{table:?} {key}");
        }
    }
}

/// What was not flushed may go, but never a part of a batch.
pub fn unflushed_batches_vanish_whole(bench: &mut impl Bench) {
    let mut state = bench.fresh();
    write(&mut state, vec![put(Table::Meta, b"x", b"old"), put(Table::Events, b"x", b"old")]);
    state.flush().expect("flush");
    write(
        &mut state,
        vec![put(Table::Meta, b"x", b"new"), delete(Table::Events, b"x"), put(Table::Objects, b"y", b"new")],
    );
    let state = bench.crash(state);
    let seen = (
        value(&state, Table::Meta, b"x"),
        value(&state, Table::Events, b"x"),
        value(&state, Table::Objects, b"y"),
    );
    let (old, new) = (Some(Bytes::from_static(b"old")), Some(Bytes::from_static(b"new")));
    assert!(seen == (old.clone(), old, None) || seen == (new.clone(), None, new), "half a batch: {seen:?}");
}

/// Random batches, flushes and crashes against a model of all prefixes.
pub fn a_crash_leaves_a_prefix_of_batches(bench: &mut impl Bench, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut state = bench.fresh();
    // The states that a crash may leave: the flushed one, and one per batch since.
    let mut allowed: Vec<BTreeMap<(Table, Bytes), Bytes>> = vec![BTreeMap::new()];
    for step in 0..150 {
        match rng.below(10) {
            0..7 => {
                let batch = random_batch(&mut rng);
                let mut next = allowed.last().cloned().unwrap_or_default();
                batch.iter().for_each(|change| apply(&mut next, change));
                allowed.push(next);
                write(&mut state, batch);
            }
            7..9 => {
                state.flush().expect("flush");
                allowed.drain(..allowed.len() - 1);
            }
            _ => {
                state = bench.crash(state);
                let rows = all_rows(&state);
                assert!(
                    allowed.contains(&rows),
                    "seed {seed} step {step}: a crash left no prefix of whole batches"
                );
                allowed = vec![rows];
            }
        }
        if step % 10 == 0 {
            assert_eq!(
                Some(&all_rows(&state)),
                allowed.last(),
                "seed {seed} step {step}: reads see all that was written"
            );
        }
    }
}

fn random_batch(rng: &mut Rng) -> WriteBatch {
    (0..rng.between(1, 6))
        .map(|_| {
            let table = TABLES[rng.below(TABLES.len() as u64) as usize];
            let key = Bytes::from(vec![rng.below(40) as u8; rng.between(1, 30) as usize]);
            if rng.chance(300_000) {
                return Change::Delete(table, key);
            }
            if rng.chance(100_000) {
                let to = Bytes::from(vec![rng.below(40) as u8; rng.between(1, 30) as usize]);
                return Change::DeleteRange(table, key, to);
            }
            let value = vec![rng.below(256) as u8; rng.below(300) as usize];
            Change::Put(table, key, value.into())
        })
        .collect()
}

fn apply(rows: &mut BTreeMap<(Table, Bytes), Bytes>, change: &Change) {
    match change {
        Change::Put(table, key, value) => {
            rows.insert((*table, key.clone()), value.clone());
        }
        Change::Delete(table, key) => {
            rows.remove(&(*table, key.clone()));
        }
        Change::DeleteRange(table, from, to) => {
            rows.retain(|(of, key), _| of != table || key < from || key >= to);
        }
    }
}

fn all_rows(state: &impl StateWrite) -> BTreeMap<(Table, Bytes), Bytes> {
    let rows = |table| state.scan(table, b"", &[0xff; 40], usize::MAX).expect("scan");
    TABLES
        .into_iter()
        .flat_map(|table| rows(table).into_iter().map(move |(key, value)| ((table, key), value)))
        .collect()
}

fn write(state: &mut impl StateWrite, batch: WriteBatch) {
    state.write(&batch).expect("write");
}

fn value(state: &impl StateWrite, table: Table, key: &[u8]) -> Option<Bytes> {
    state.get(table, key).expect("get")
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change::Put(table, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
}

fn delete_range(table: Table, from: &[u8], to: &[u8]) -> Change {
    Change::DeleteRange(table, Bytes::copy_from_slice(from), Bytes::copy_from_slice(to))
}

fn delete(table: Table, key: &[u8]) -> Change {
    Change::Delete(table, Bytes::copy_from_slice(key))
}
