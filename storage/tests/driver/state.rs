//! RocksDB keeps the contract of the state store; the flush thread reports what is durable.

use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::unbounded;
use tempfile::{TempDir, tempdir};
use throng_storage::{FlushPolicy, Flusher, Opened, Report, RocksState, SubmitError};
use throng_storage_core::state::suite::{self, Bench};
use throng_storage_core::state::{Change, StateRead, StateWrite, Table, WriteBatch};

use crate::kit::{PATIENCE, copy_dir, open};

/// Crashes by closing without a flush: the memtables are lost, as in a crash of the process.
#[derive(Default)]
struct Closing {
    dirs: Vec<TempDir>,
}

impl Bench for Closing {
    type State = RocksState;

    fn fresh(&mut self) -> RocksState {
        self.dirs.push(tempdir().expect("a temporary directory"));
        self.reopen()
    }

    fn crash(&mut self, state: RocksState) -> RocksState {
        drop(state);
        self.reopen()
    }
}

impl Closing {
    fn reopen(&self) -> RocksState {
        let Opened { state, .. } = open(self.dirs.last().expect("fresh comes first").path());
        state
    }
}

/// Crashes by copying the files of the running database and opening the copy: it was never closed at all.
#[derive(Default)]
struct Copying {
    dirs: Vec<TempDir>,
}

impl Bench for Copying {
    type State = RocksState;

    fn fresh(&mut self) -> RocksState {
        self.dirs.push(tempdir().expect("a temporary directory"));
        open(self.dirs.last().expect("just pushed").path()).state
    }

    fn crash(&mut self, state: RocksState) -> RocksState {
        let copy = tempdir().expect("a temporary directory");
        copy_dir(self.dirs.last().expect("fresh comes first").path(), copy.path());
        drop(state);
        self.dirs.push(copy);
        open(self.dirs.last().expect("just pushed").path()).state
    }
}

#[test]
fn rocksdb_passes_the_contract_suite_when_it_is_closed_unflushed() {
    suite::run(&mut Closing::default());
}

#[test]
fn rocksdb_passes_the_contract_suite_when_it_is_never_closed() {
    suite::run(&mut Copying::default());
}

#[test]
fn opening_and_closing_with_readers_about_does_not_crash() {
    let dir = tempdir().expect("a temporary directory");
    for round in 0..10u8 {
        let state = open(dir.path()).state;
        let reader = state.clone();
        let reading = std::thread::spawn(move || {
            for _ in 0..200 {
                reader.scan(Table::Objects, b"", &[0xff; 4], 10).expect("scan");
            }
        });
        state.write_batch(&batch(round, 100)).expect("write");
        state.flush_all().expect("flush");
        drop(state);
        reading.join().expect("the reader ends before the database is closed");
    }
    assert_eq!(open(dir.path()).state.scan(Table::Objects, b"", &[0xff; 4], 100).expect("scan").len(), 10);
}

#[test]
fn batches_are_flushed_together_and_the_last_ones_at_the_end() {
    let dir = tempdir().expect("a temporary directory");
    let (sender, reports) = unbounded();
    let state = open(dir.path()).state;
    let policy = FlushPolicy { bytes: 10_000, delay: PATIENCE * 2 };
    let flusher =
        Flusher::start(state.clone(), policy, move |report| sender.send(report).expect("listening"));
    let flusher = flusher.expect("a thread is to be had");
    for token in 1..=25u8 {
        flusher.submit(token, batch(token, 1000)).expect("the flusher runs");
    }
    let first = reports.recv_timeout(PATIENCE).expect("ten batches are enough");
    assert_eq!(first, Report::Durable(10));
    assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Durable(20)));
    assert!(state.get(Table::Objects, &[20]).expect("get").is_some(), "visible when reported");
    assert!(reports.is_empty(), "five batches are not enough");
    drop(flusher);
    assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Durable(25)), "the end flushes what is left");
    drop(state);
    let state = open(dir.path()).state;
    assert!((1..=25).all(|token| state.get(Table::Objects, &[token]).expect("get").is_some()));
}

#[test]
fn a_batch_does_not_wait_for_others_for_ever() {
    let dir = tempdir().expect("a temporary directory");
    let (sender, reports) = unbounded();
    let policy = FlushPolicy { bytes: usize::MAX, delay: Duration::from_millis(5) };
    let flusher =
        Flusher::start(open(dir.path()).state, policy, move |report| sender.send(report).expect("listening"));
    let flusher = flusher.expect("a thread is to be had");
    for token in 1..=3u8 {
        flusher.submit(token, batch(token, 10)).expect("the flusher runs");
        assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Durable(token)));
    }
}

#[test]
fn a_failed_flush_is_fatal_and_never_tried_again() {
    let dir = tempdir().expect("a temporary directory");
    let (sender, reports) = unbounded();
    let state = open(dir.path()).state;
    let policy = FlushPolicy { bytes: 1, ..FlushPolicy::default() };
    let flusher = Flusher::start(state, policy, move |report| sender.send(report).expect("listening"));
    let flusher = flusher.expect("a thread is to be had");
    flusher.submit(1u8, batch(1, 10)).expect("the flusher runs");
    assert_eq!(reports.recv_timeout(PATIENCE), Ok(Report::Durable(1)));
    std::fs::remove_dir_all(dir.path().join("state")).expect("the disk goes away");
    flusher.submit(2, batch(2, 10)).expect("the flusher runs");
    assert!(matches!(reports.recv_timeout(PATIENCE), Ok(Report::Fatal(_))));
    assert!(reports.recv_timeout(PATIENCE).is_err(), "the thread has ended: nothing follows");
    assert_eq!(flusher.submit(3, batch(3, 10)), Err(SubmitError::Stopped));
}

/// The memtables fill without a flush: RocksDB flushes by itself, and a crash still leaves a prefix of whole batches.
/// 480 MiB do not fit three memtables of 64 MiB, so writes have waited for a flush that was completed.
#[test]
fn a_flush_of_rocksdbs_own_is_atomic_over_tables() {
    let dir = tempdir().expect("a temporary directory");
    let mut state = open(dir.path()).state;
    let rounds = 160u8;
    for round in 0..rounds {
        let mut changes =
            vec![Change::Put(Table::Meta, Bytes::from_static(b"applied"), Bytes::from(vec![round]))];
        changes.extend(batch(round, 10));
        changes.push(Change::Put(Table::Events, Bytes::from(vec![round]), Bytes::from(vec![round; 3 << 20])));
        state.write(&changes).expect("write");
    }
    drop(state);
    let state = open(dir.path()).state;
    let applied = state.get(Table::Meta, b"applied").expect("get").map(|value| value[0]);
    let count = applied.map_or(0, |applied| usize::from(applied) + 1);
    assert!(count > 0 && count < usize::from(rounds), "{count} batches are on disk");
    for table in [Table::Objects, Table::Events] {
        assert_eq!(state.scan(table, b"", &[0xff; 2], 1000).expect("scan").len(), count, "{table:?}");
    }
}

fn batch(number: u8, bytes: usize) -> WriteBatch {
    vec![Change::Put(Table::Objects, Bytes::from(vec![number]), Bytes::from(vec![number; bytes]))]
}
