//! Flipped bits in RocksDB's files: found at open or at the read that meets them, or in bytes that nobody reads; never a
//! wrong read, and what is read is always what some flush left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::tempdir;
use throng_base::Rng;
use throng_storage_core::state::{Change, StateError, StateRead, TABLES, Table};

use crate::kit::{copy_dir, open, options};

type Rows = BTreeMap<(u8, Bytes), Bytes>;

/// A closed store of several flushes, its files by kind, and what it held after each flush.
fn store(dir: &Path) -> Vec<Rows> {
    let state = open(dir).state;
    let (mut rows, mut after) = (Rows::new(), vec![Rows::new()]);
    for round in 0..4u8 {
        let mut batch = vec![Change::Put(Table::Meta, Bytes::from_static(b"applied"), vec![round].into())];
        for n in 0..60u8 {
            let key = |id: u8| Bytes::from([&[0; 6][..], &[id; 16], &[round, n]].concat());
            batch.push(Change::Put(Table::Events, key(n % 5), vec![n ^ round; 100].into()));
            batch.push(Change::Put(Table::Objects, key(n), vec![round; 40].into()));
        }
        for change in &batch {
            let Change::Put(table, key, value) = change else { continue };
            rows.insert((*table as u8, key.clone()), value.clone());
        }
        state.write_batch(&batch).expect("written");
        state.flush_all().expect("flushed");
        after.push(rows.clone());
    }
    after
}

fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("state"))
        .expect("a directory")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(kind)))
        .collect();
    files.sort();
    files
}

/// Every row, through scans and through gets.
fn read_all(state: &impl StateRead, known: &Rows) -> Result<Rows, StateError> {
    let mut rows = Rows::new();
    for table in TABLES {
        for (key, value) in state.scan(table, b"", &[0xff; 40], usize::MAX)? {
            rows.insert((table as u8, key), value);
        }
    }
    for (table, key) in known.keys() {
        let got = state.get(TABLES[usize::from(*table)], key)?;
        assert_eq!(got.as_ref(), rows.get(&(*table, key.clone())), "a get and a scan see the same");
    }
    Ok(rows)
}

#[derive(Debug, Default)]
struct Seen {
    at_open: u32,
    at_read: u32,
    in_dead_bytes: u32,
    /// The store opens as it was after an earlier flush.
    fell_back: u32,
}

fn flip(kind: &str, count: u64, seed: u64) -> Seen {
    let (mut seen, mut rng) = (Seen::default(), Rng::new(seed));
    let dir = tempdir().expect("a temporary directory");
    let after = store(dir.path());
    let all = after.last().expect("flushed");
    for _ in 0..count {
        let copy = tempdir().expect("a temporary directory");
        copy_dir(dir.path(), copy.path());
        let files = files(copy.path(), kind);
        let file = &files[rng.below(files.len() as u64) as usize];
        let mut bytes = std::fs::read(file).expect("readable");
        let (at, bit) = (rng.below(bytes.len() as u64) as usize, rng.below(8));
        bytes[at] ^= 1 << bit;
        std::fs::write(file, bytes).expect("writable");
        let Ok(opened) = throng_storage::open(copy.path(), &options()) else {
            seen.at_open += 1;
            continue;
        };
        match read_all(&opened.state, all) {
            Err(_) => seen.at_read += 1,
            Ok(rows) if rows == *all => seen.in_dead_bytes += 1,
            Ok(rows) if after.contains(&rows) => seen.fell_back += 1,
            Ok(_) => panic!("a wrong read: bit {bit} of byte {at} of {} was flipped", file.display()),
        }
    }
    println!("{kind}: {seen:?}");
    seen
}

#[test]
fn flipped_bits_in_tables_are_found() {
    let seen = flip(".sst", 120, 1);
    assert_eq!(seen.fell_back, 0, "{seen:?}");
    assert!(seen.at_open + seen.at_read > 60, "{seen:?}");
}

/// RocksDB takes damage to the length of MANIFEST's last record for a write that a crash cut short, and opens as of the
/// flush before, whole. The log then replays what is missing, or refuses if it no longer holds it; that is the store's
/// recovery, which compares the applied index with where the log begins.
#[test]
fn flipped_bits_in_the_manifest_are_found_or_cost_one_flush() {
    let seen = flip("MANIFEST", 80, 2);
    assert!(seen.fell_back <= 4, "{seen:?}");
    assert_eq!(seen.at_open + seen.fell_back, 80, "{seen:?}");
}

#[test]
fn flipped_bits_in_current_are_found() {
    let seen = flip("CURRENT", 40, 3);
    assert_eq!((seen.fell_back, seen.in_dead_bytes), (0, 0), "{seen:?}");
}
