//! The log thread: what it reports durable is found again, in order; what it cannot write is fatal.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tempfile::tempdir;
use throng_storage::log::{LogDisk, Segment};
use throng_storage::{LogDriver, LogWriter, Report, SubmitError};
use throng_storage_core::entry::{Entry, HardState, Record};
use throng_storage_core::log::{BLOCK, Generation, Tail};
use throng_storage_core::store::{LogRead, PersistToken};
use throng_wire::ids::ShardId;

use crate::kit::{
    PATIENCE, Reports, entry, for_every_driver, open, open_by, persist, record, start, wait_durable,
};

for_every_driver!(
    what_was_durable_is_found_again_over_many_segments,
    a_group_starts_from_what_its_state_has_not_applied,
    older_entries_are_read_while_the_log_grows,
    a_segment_that_cannot_be_had_is_fatal,
    records_that_a_restart_would_refuse_are_not_written,
    a_group_commit_larger_than_a_segment_is_split_between_records,
    an_interrupted_segment_is_removed,
);

fn what_was_durable_is_found_again_over_many_segments(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let mut next = 1;
    for round in 1..=4u64 {
        let opened = open_by(driver, dir.path());
        assert_eq!(opened.log.tail(), Tail::Clean);
        let group = opened.log.reader().recovered_group(ShardId(2), 0, 0).expect("readable");
        let expected: Vec<Entry> = (1..next).map(|index| entry((index - 1) / 60 + 1, index)).collect();
        assert!(group.entries == expected, "round {round}");
        assert_eq!(group.hard_state.commit, next - 1);
        let (writer, reports) = start(opened.log);
        for _ in 0..30 {
            persist(
                &writer,
                &reports,
                next,
                vec![record(2, round, next + 1, next..=next + 1), record(0, round, 0, 1..=1)],
            );
            next += 2;
        }
    }
    let segments = fs::read_dir(dir.path().join("log")).expect("list").count();
    assert!(segments > 8, "120 commits of one block or more at 15 blocks a segment: {segments}");
}

fn a_group_starts_from_what_its_state_has_not_applied(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open_by(driver, dir.path()).log);
    for (n, from) in (1..).zip((1..=181).step_by(20)) {
        let term = if from <= 100 { 1 } else { 2 };
        persist(&writer, &reports, n, vec![record(1, term, from, from..=from + 19)]);
    }
    persist(&writer, &reports, 20, vec![record(1, 4, 181, 151..=190), record(1, 4, 185, 191..=200)]);
    drop(writer);
    let reader = open_by(driver, dir.path()).log.reader();
    let group = reader.recovered_group(ShardId(1), 120, 2).expect("readable");
    assert_eq!(group.hard_state, HardState { term: 4, vote: 1, commit: 185 });
    assert_eq!((group.first_index, group.applied, group.applied_term), (1, 120, 2));
    assert_eq!(
        group.terms.iter().map(|run| (run.first_index, run.term)).collect::<Vec<_>>(),
        [(1, 1), (101, 2)]
    );
    let indices: Vec<u64> = group.entries.iter().map(|entry| entry.index).collect();
    assert_eq!(indices, (121..=200).collect::<Vec<_>>());
    assert_eq!((reader.term(ShardId(1), 150), reader.term(ShardId(1), 151)), (Some(2), Some(4)));
    assert_eq!(reader.term(ShardId(1), 201), None);

    let caught_up = reader.recovered_group(ShardId(1), 200, 4).expect("readable");
    assert_eq!(caught_up.entries.last().expect("the last entry is always there").index, 200);
    assert!(caught_up.entries.len() < 100, "and few others");
    let empty = reader.recovered_group(ShardId(3), 0, 0).expect("readable");
    assert_eq!((empty.first_index, empty.entries.len(), empty.hard_state), (1, 0, HardState::default()));
}

fn older_entries_are_read_while_the_log_grows(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let log = open_by(driver, dir.path()).log;
    let reader = log.reader();
    let (writer, reports) = start(log);
    for n in 1..=60 {
        persist(&writer, &reports, n, vec![record(3, 1, n, n..=n)]);
        let read = reader.entries(ShardId(3), 1, n + 1, usize::MAX).expect("readable");
        assert_eq!(read.len() as u64, n);
        assert_eq!(read.last(), Some(&entry(1, n)));
    }
    let some = reader.entries(ShardId(3), 10, 61, 2000).expect("readable");
    assert!(some.len() > 1 && some.len() < 30 && some[0] == entry(1, 10), "{} entries", some.len());
    assert_eq!(reader.entries(ShardId(3), 39, 61, 0).expect("one at least"), [entry(1, 39)]);
    assert_eq!(reader.entries(ShardId(3), 60, 99, 9999).expect("what is there"), [entry(1, 60)]);
    for (shard, low) in [(3, 61), (3, 0), (2, 1)] {
        assert!(reader.entries(ShardId(shard), low, low + 1, 10).is_err(), "{shard} {low}");
    }
    // A new leader replaces entries; the old ones are gone.
    persist(&writer, &reports, 61, vec![record(3, 2, 60, 50..=50)]);
    assert_eq!(
        reader.entries(ShardId(3), 49, 61, usize::MAX).expect("readable"),
        [entry(1, 49), entry(2, 50)]
    );
    // Damage under a single entry is noticed.
    let segment = dir.path().join("log/0000000001.log");
    let file = File::options().write(true).open(segment).expect("open");
    file.write_all_at(&[0xff; 8], BLOCK as u64 + 100).expect("write");
    let error = reader.entries(ShardId(3), 1, 2, 10).expect_err("entry 1 is damaged");
    assert!(error.to_string().contains("entry 1 of shard 3 in segment 1"), "{error}");
}

#[test]
fn a_torn_tail_is_legal_and_the_log_goes_on_over_it() {
    let dir = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open(dir.path()).log);
    for n in 1..=3 {
        persist(&writer, &reports, n, vec![record(0, 1, n, n..=n)]);
    }
    drop(writer);
    let file = File::options().write(true).open(dir.path().join("log/0000000001.log")).expect("open");
    file.write_all_at(&[0xaa; 6000], 4 * BLOCK as u64).expect("a write that a crash cut short");
    let log = open(dir.path()).log;
    assert!(matches!(log.tail(), Tail::Torn { offset, .. } if offset == 4 * BLOCK as u64));
    let (writer, reports) = start(log);
    persist(&writer, &reports, 4, vec![record(0, 1, 4, 4..=4)]);
    drop(writer);
    let group = open(dir.path()).log.reader().recovered_group(ShardId(0), 0, 0).expect("readable");
    assert_eq!(group.entries, (1..=4).map(|n| entry(1, n)).collect::<Vec<_>>());
}

#[test]
fn what_queues_while_the_disk_is_busy_shares_one_commit() {
    let dir = tempdir().expect("a temporary directory");
    let (disk, calls, go) = SlowDisk::new();
    let (writer, reports) = start_on(open(dir.path()).log, disk);
    writer.submit(PersistToken(1), vec![record(0, 1, 0, 1..=1)]).expect("the log runs");
    calls.recv_timeout(PATIENCE).expect("the first commit is being written");
    for n in 2..=20 {
        writer.submit(PersistToken(n), vec![record(0, 1, 0, n..=n)]).expect("the log runs");
    }
    go.send(Ok(())).expect("the disk waits");
    let second = calls.recv_timeout(PATIENCE).expect("the second commit is being written");
    assert!(second > BLOCK && second.is_multiple_of(BLOCK), "19 records in whole blocks: {second}");
    assert_eq!(
        reports.recv_timeout(PATIENCE),
        Ok(Report::Durable(PersistToken(1))),
        "before the second is durable"
    );
    assert!(reports.is_empty(), "nothing is reported before its sync");
    go.send(Ok(())).expect("the disk waits");
    assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Durable(PersistToken(20))), "one report for all");
}

#[test]
fn a_failed_sync_is_fatal_and_never_tried_again() {
    let dir = tempdir().expect("a temporary directory");
    let (disk, calls, go) = SlowDisk::new();
    let attempts = Arc::clone(&disk.attempts);
    let (writer, reports) = start_on(open(dir.path()).log, disk);
    writer.submit(PersistToken(1), vec![record(0, 1, 0, 1..=1)]).expect("the log runs");
    calls.recv_timeout(PATIENCE).expect("the commit is being written");
    writer.submit(PersistToken(2), vec![record(0, 1, 0, 2..=2)]).expect("the log runs");
    go.send(Err(io::Error::other("the platter fell off"))).expect("the disk waits");
    let Ok(Report::Fatal(why)) = reports.recv_timeout(PATIENCE) else { panic!("a fatal report comes") };
    assert!(why.contains("cannot write and sync segment 1: the platter fell off"), "{why}");
    assert!(reports.recv_timeout(PATIENCE).is_err(), "the thread has ended: nothing follows");
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    assert_eq!(writer.submit(PersistToken(3), vec![]), Err(SubmitError::Stopped));
}

fn a_segment_that_cannot_be_had_is_fatal(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open_by(driver, dir.path()).log);
    // Renamed, not removed: the next segment may be in the making, and what is removed piece by piece would meet it.
    fs::rename(dir.path().join("log"), dir.path().join("gone")).expect("the disk goes away");
    let last = (1..=60).find_map(|n| {
        writer.submit(PersistToken(n), vec![record(0, 1, 0, n..=n)]).ok()?;
        match reports.recv_timeout(PATIENCE).expect("a report comes") {
            Report::Durable(_) => None,
            Report::Fatal(why) => Some(why),
        }
    });
    let why = last.expect("fifteen blocks do not last for sixty commits");
    assert!(why.contains("cannot take the next segment"), "{why}");
}

#[test]
fn a_full_queue_says_so() {
    let dir = tempdir().expect("a temporary directory");
    let (disk, calls, go) = SlowDisk::new();
    let (writer, reports) = start_on(open(dir.path()).log, disk);
    writer.submit(PersistToken(0), vec![record(0, 1, 0, 1..=1)]).expect("the log runs");
    calls.recv_timeout(PATIENCE).expect("the disk is busy");
    let refused = (1..10_000).find(|n| writer.submit(PersistToken(*n), vec![]) == Err(SubmitError::Full));
    let refused = refused.expect("the queue is bounded");
    go.send(Ok(())).expect("the disk waits");
    wait_durable(&reports, refused - 1);
}

fn records_that_a_restart_would_refuse_are_not_written(driver: LogDriver) {
    let gap =
        Record { shard: ShardId(1), hard_state: None, mark: None, entries: vec![entry(1, 3), entry(1, 5)] };
    let bad = [
        (vec![record(9, 1, 0, 1..=1)], "shard 9 in a store of 5"),
        (vec![record(1, 1, 0, 7..=7)], "entry 7 follows where 2 is the next"),
        (vec![record(1, 0, 0, 2..=2)], "shard 1: the hard state falls"),
        (vec![record(1, 1, 0, 2..=2), gap], "entry 5 follows where 4"),
        (vec![huge_record()], "does not fit a segment"),
    ];
    for (records, expected) in bad {
        let dir = tempdir().expect("a temporary directory");
        let (writer, reports) = start(open_by(driver, dir.path()).log);
        persist(&writer, &reports, 1, vec![record(1, 1, 0, 1..=1)]);
        writer.submit(PersistToken(2), records).expect("the log runs");
        let Ok(Report::Fatal(why)) = reports.recv_timeout(PATIENCE) else { panic!("a fatal report comes") };
        assert!(why.contains(expected), "{why}");
        drop(writer);
        let group =
            open_by(driver, dir.path()).log.reader().recovered_group(ShardId(1), 0, 0).expect("readable");
        assert_eq!(group.entries, [entry(1, 1)]);
    }
}

fn a_group_commit_larger_than_a_segment_is_split_between_records(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open_by(driver, dir.path()).log);
    let records: Vec<Record> =
        (0..200).map(|n| record(n % 4, 1, 0, u64::from(n / 4) + 1..=u64::from(n / 4) + 1)).collect();
    persist(&writer, &reports, 1, records);
    persist(&writer, &reports, 2, vec![]);
    drop(writer);
    let reader = open_by(driver, dir.path()).log.reader();
    for shard in 0..4 {
        assert_eq!(reader.recovered_group(ShardId(shard), 0, 0).expect("readable").entries.len(), 50);
    }
}

fn an_interrupted_segment_is_removed(driver: LogDriver) {
    let dir = tempdir().expect("a temporary directory");
    drop(open_by(driver, dir.path()));
    let unfinished = dir.path().join("log/0000000002.tmp");
    fs::write(&unfinished, "half a segment").expect("write");
    let (writer, reports) = start(open_by(driver, dir.path()).log);
    for n in 1..=40 {
        persist(&writer, &reports, n, vec![record(0, 1, n, n..=n)]);
    }
    drop(writer);
    let left = fs::read_dir(dir.path().join("log")).expect("list");
    let left =
        left.filter(|entry| entry.as_ref().expect("entry").path().extension().is_some_and(|e| e == "tmp"));
    assert_eq!(left.count(), 0);
    assert_eq!(open_by(driver, dir.path()).log.reader().hard_state(ShardId(0)).commit, 40);
}

fn huge_record() -> Record {
    let data = vec![1; 20 * BLOCK].into();
    Record {
        shard: ShardId(1),
        hard_state: None,
        mark: None,
        entries: vec![Entry { term: 1, index: 2, data, ..Entry::default() }],
    }
}

fn start_on(log: throng_storage::Log, disk: impl LogDisk + Send + 'static) -> (LogWriter, Reports) {
    let (sender, reports) = unbounded();
    let writer = log.start_on(move || Ok(disk), move |report| sender.send(report).expect("the test listens"));
    (writer.expect("threads are to be had"), reports)
}

/// A disk that tells the length of each write and waits to be told how it ends.
struct SlowDisk {
    calls: Sender<usize>,
    go: Receiver<io::Result<()>>,
    attempts: Arc<AtomicUsize>,
}

impl SlowDisk {
    fn new() -> (Self, Receiver<usize>, Sender<io::Result<()>>) {
        let ((calls, seen), (answer, go)) = (unbounded(), bounded(64));
        (Self { calls, go, attempts: Arc::default() }, seen, answer)
    }
}

impl LogDisk for SlowDisk {
    fn next_segment(&mut self) -> io::Result<Segment> {
        Err(io::Error::other("these tests stay in one segment"))
    }

    fn write_and_sync(&mut self, _: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        self.calls.send(bytes.len()).expect("the test listens");
        self.go.recv_timeout(PATIENCE).expect("the test answers")
    }

    fn release(&mut self, _: Generation) {}
}
