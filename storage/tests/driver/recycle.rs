//! Truncation and recycling: the log stays small, nothing that is needed goes, a lost segment is noticed.

use std::fs;
use std::path::Path;
use std::time::Instant;

use tempfile::tempdir;
use throng_storage::{LogDriver, OpenError};
use throng_storage_core::entry::{HardState, Record};
use throng_storage_core::log::{BLOCK, Fault};
use throng_storage_core::store::LogRead;
use throng_wire::ids::ShardId;

use crate::kit::{PATIENCE, entry, for_every_driver, mark, open, open_by, options, persist, record, start};

for_every_driver!(
    a_truncated_log_stays_small_and_keeps_what_is_needed,
    a_group_that_pins_the_log_is_named_and_frees_it,
);

const SHARD: ShardId = ShardId(1);

/// Names of the segments, in order.
fn segments(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("log")).expect("list");
    let mut names: Vec<String> =
        names.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The log thread and the preparing thread work behind our back.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn a_truncated_log_stays_small_and_keeps_what_is_needed(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let vote = HardState { term: 3, vote: 2, commit: 0 };
    let mut next = 1;
    for round in 0..3 {
        let log = open_by(driver, dir.path()).log;
        let reader = log.reader();
        let (writer, reports) = start(log);
        if round == 0 {
            let idle = Record { shard: ShardId(3), hard_state: Some(vote), ..Record::default() };
            persist(&writer, &reports, 1, vec![idle]);
        }
        for _ in 0..150 {
            persist(&writer, &reports, next, vec![record(1, 1, next, next..=next)]);
            if next > 10 {
                writer.truncate(vec![(SHARD, mark(next - 10, 1))]).expect("the log runs");
            }
            let live = reader.live_bytes();
            assert!(live <= 4 * 16 * BLOCK as u64, "entry {next}: {live} bytes");
            next += 1;
        }
        drop(writer);
        // Active, spare, and what one more truncation would free.
        assert!(segments(dir.path()).len() <= 5, "{:?}", segments(dir.path()));
        let reader = open(dir.path()).log.reader();
        let group = reader.recovered_group(SHARD, next - 20, 1).expect("readable");
        assert!(group.first_index > 1 && group.first_index <= next - 10, "first {}", group.first_index);
        assert_eq!(group.mark.as_ref().map(|mark| mark.index), Some(group.first_index - 1));
        let kept: Vec<_> = (group.first_index..next).map(|index| entry(1, index)).collect();
        assert!(group.entries == kept && !group.is_suspect);
        assert_eq!(reader.hard_state(ShardId(3)), vote, "written again whenever its segment went");
        assert!(reader.entries(SHARD, 1, 2, 100).is_err(), "forgotten");
    }
}

fn a_group_that_pins_the_log_is_named_and_frees_it(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let log = open_by(driver, dir.path()).log;
    let reader = log.reader();
    let (writer, reports) = start(log);
    persist(&writer, &reports, 1, vec![record(2, 1, 1, 1..=5)]);
    for n in 1..=120 {
        persist(&writer, &reports, n + 1, vec![record(1, 1, n, n..=n)]);
        writer.truncate(vec![(SHARD, mark(n, 1))]).expect("the log runs");
    }
    assert_eq!(reader.oldest_pins(), [(ShardId(2), 1)]);
    assert!(reader.bytes_over_budget() > 0, "{} bytes", reader.live_bytes());
    assert_eq!(reader.entries(ShardId(2), 1, 6, usize::MAX).expect("it is needed").len(), 5);
    writer.truncate(vec![(ShardId(2), mark(5, 1))]).expect("the log runs");
    eventually("the log shrinks", || reader.bytes_over_budget() == 0);
    eventually("its space is given back", || segments(dir.path()).len() <= 4);
    drop(writer);
    let reader = open(dir.path()).log.reader();
    let group = reader.recovered_group(ShardId(2), 5, 1).expect("readable");
    assert_eq!((group.first_index, group.entries.len(), group.hard_state.commit), (6, 0, 1));
}

#[test]
fn a_segment_lost_from_the_front_is_refused() {
    let dir = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open(dir.path()).log);
    for n in 1..=100 {
        persist(&writer, &reports, n, vec![record(1, 1, n, n..=n)]);
    }
    writer.truncate(vec![(SHARD, mark(70, 1))]).expect("the log runs");
    persist(&writer, &reports, 101, vec![record(1, 1, 101, 101..=101)]);
    drop(writer);
    let first = segments(dir.path()).remove(0);
    assert_ne!(first, "0000000001.log", "the log begins later");
    drop(open(dir.path()));
    // Leftovers may go; the log's own first segment may not.
    let error = loop {
        fs::remove_file(dir.path().join("log").join(segments(dir.path()).remove(0))).expect("remove");
        match throng_storage::open(dir.path(), &options()) {
            Ok(opened) => drop(opened),
            Err(error) => break error,
        }
    };
    let OpenError::LogCorrupt { error, .. } = error else { panic!("{error}") };
    assert!(matches!(error.fault, Fault::FrontLost { .. }), "{error}");
}

/// A crash between the statement of a later begin and the recycling leaves old segments: they are legal and are used.
#[test]
fn leftovers_before_the_begin_are_recycled() {
    let dir = tempdir().expect("a temporary directory");
    let copy = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open(dir.path()).log);
    for n in 1..=20 {
        persist(&writer, &reports, n, vec![record(1, 1, n, n..=n)]);
    }
    let old = dir.path().join("log/0000000001.log");
    fs::copy(&old, copy.path().join("old")).expect("copy");
    writer.truncate(vec![(SHARD, mark(20, 1))]).expect("the log runs");
    persist(&writer, &reports, 21, vec![record(1, 1, 21, 21..=21)]);
    drop(writer);
    let begin = segments(dir.path()).remove(0);
    assert!(["0000000001.log", "0000000002.log"].contains(&&*begin), "the log begins at segment 2: {begin}");
    fs::copy(copy.path().join("old"), &old).expect("as if it had not been recycled");
    let (writer, reports) = start(open(dir.path()).log);
    for n in 22..=60 {
        persist(&writer, &reports, n, vec![record(1, 1, n, n..=n)]);
    }
    drop(writer);
    assert!(!segments(dir.path()).contains(&"0000000001.log".to_owned()), "it was recycled");
    assert_eq!(open(dir.path()).log.reader().hard_state(SHARD).commit, 60);
}
