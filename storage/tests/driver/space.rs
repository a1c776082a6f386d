//! What retention drops is given back to the disk, and a scrub of the log finds what a flipped bit hit.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::tempdir;
use throng_storage::RocksState;
use throng_storage_core::state::{Change, StateRead, Table, WriteBatch};
use throng_wire::ids::ShardId;

use crate::kit::{PATIENCE, open, persist, record, start};

const CHANNELS: u64 = 200;
const EVENTS: u64 = 2_000;
const BODY: usize = 200;

/// `replica, slot, id, seq`, the ids spread as hashes are.
fn key(channel: u64, seq: u64) -> Bytes {
    let id = channel.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    [&[0; 4][..], &id[..2], &id, &id, &seq.to_be_bytes()].concat().into()
}

fn write(state: &RocksState, batch: WriteBatch) {
    state.write_batch(&batch).expect("written");
}

fn table_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir.join("state")).expect("a directory").filter_map(Result::ok);
    let tables = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".sst"));
    tables.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// A tenth of what was written stays. A part comes back with the flushes of a leader's turns, the rest when they are over.
#[test]
fn ranges_that_are_dropped_in_turns_are_given_back() {
    let dir = tempdir().expect("a temporary directory");
    let state = open(dir.path()).state;
    for seq in 0..EVENTS {
        let row = |channel| Change::Put(Table::Events, key(channel, seq), vec![seq as u8; BODY].into());
        write(&state, (0..CHANNELS).map(row).collect());
        if seq % 500 == 499 {
            state.flush_all().expect("flushed");
        }
    }
    let filled = table_bytes(dir.path());
    assert!(filled > CHANNELS * EVENTS * BODY as u64, "{filled} bytes");
    let floor = EVENTS / 10 * 9;
    for (turn, channel) in (0..CHANNELS).enumerate() {
        for from in (0..floor).step_by(512) {
            let to = floor.min(from + 512);
            write(&state, vec![Change::DeleteRange(Table::Events, key(channel, from), key(channel, to))]);
        }
        if turn % 20 == 19 {
            state.flush_all().expect("flushed");
        }
    }
    let turned = table_bytes(dir.path());
    assert_eq!(state.reclaim(Duration::from_secs(3_600), &|| false), Ok(false), "too soon");
    assert_eq!(state.reclaim(Duration::ZERO, &|| false), Ok(true));
    assert_eq!(state.reclaim(Duration::ZERO, &|| false), Ok(false), "nothing more");
    let (begin, mut left) = (Instant::now(), table_bytes(dir.path()));
    while left * 6 > filled {
        assert!(begin.elapsed() < PATIENCE, "{left} of {filled} bytes are still there");
        std::thread::sleep(Duration::from_millis(20));
        left = table_bytes(dir.path());
    }
    println!("{filled} bytes, {turned} after the turns, {left} in the end");
    let rows = state.scan(Table::Events, &key(7, 0), &key(7, u64::MAX), usize::MAX).expect("readable");
    assert_eq!(rows.len() as u64, EVENTS - floor);
}

/// Its second handle opens files that the first one may just have removed.
#[test]
fn scrubs_begin_while_flushes_and_merges_replace_files() {
    let dir = tempdir().expect("a temporary directory");
    let state = open(dir.path()).state;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seq = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                seq += 1;
                write(&state, vec![Change::Put(Table::Events, key(seq % 50, seq), vec![1; BODY].into())]);
                state.flush_all().expect("flushed");
            }
        });
        for _ in 0..40 {
            let mut scrub = state.scrub().expect("it opens");
            while !scrub.step(1 << 20).expect("whole") {}
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_scrub_of_the_log_reads_what_is_needed_and_names_every_damage() {
    let dir = tempdir().expect("a temporary directory");
    let opened = open(dir.path());
    let reader = opened.log.reader();
    let (writer, reports) = start(opened.log);
    for number in 1..=40u64 {
        persist(&writer, &reports, 2 * number - 1, vec![record(1, 1, number, number..=number)]);
        persist(&writer, &reports, 2 * number, vec![record(3, 1, number, number..=number)]);
    }
    let mut scrub = reader.scrub(4);
    while !scrub.step(500).expect("whole") {}
    assert_eq!(scrub.entries(), 80);
    assert!(scrub.bytes() > 80, "{} bytes", scrub.bytes());

    // The 12th commit of the first segment: the entries of shard 3 and 1 alternate, a block each.
    let path = dir.path().join("log/0000000001.log");
    let mut bytes = fs::read(&path).expect("the first segment");
    for block in [11, 13] {
        assert!(bytes[block * 4096..].starts_with(b"TLCM"), "a commit begins there");
        let end =
            block * 4096 + 4096 - bytes[block * 4096..][..4096].iter().rev().take_while(|b| **b == 0).count();
        bytes[end - 1] ^= 1;
    }
    fs::write(&path, &bytes).expect("written");
    let (mut scrub, mut errors) = (reader.scrub(4), Vec::new());
    loop {
        match scrub.step(500) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|error| error.contains("0000000001.log")), "{errors:?}");
    // The same log, cut behind the damage, is whole.
    assert_eq!(reader.hard_state(ShardId(1)).commit, 40);
}
