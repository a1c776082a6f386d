//! Views do not change and are few; scrubs find what a flipped bit hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::unbounded;
use tempfile::tempdir;
use throng_storage::limits::VIEWS_MAX;
use throng_storage::{FlushPolicy, Flusher, Report, RocksState, StateConfig};
use throng_storage_core::state::{Change, StateRead, Table, WriteBatch};

use crate::kit::{PATIENCE, open, options};

fn put(n: u32, value: &str) -> Change {
    let key = [&[0; 22][..], &n.to_be_bytes()].concat();
    Change::Put(Table::Events, key.into(), Bytes::copy_from_slice(value.as_bytes()))
}

fn all(state: &impl StateRead) -> Vec<(Bytes, Bytes)> {
    state.scan(Table::Events, b"", &[0xff; 4], usize::MAX).expect("readable")
}

fn write(state: &RocksState, batch: WriteBatch) {
    state.write_batch(&batch).expect("written");
}

#[test]
fn a_view_stays_as_it_was_while_the_store_goes_on() {
    let dir = tempdir().expect("a temporary directory");
    let state = open(dir.path()).state;
    write(&state, (0..100).map(|n| put(n, "old")).collect());
    state
        .with_view(|view| {
            let before = all(view);
            write(&state, (50..150).map(|n| put(n, "new")).collect());
            write(&state, vec![Change::DeleteRange(Table::Events, vec![0; 4].into(), vec![1].into())]);
            state.flush_all().expect("flushed");
            write(&state, (0..10).map(|n| put(n, "newer")).collect());
            assert_eq!((before.len(), all(view)), (100, before));
            assert_eq!(all(&state).len(), 10);
            let (key, value) = all(view).remove(7);
            assert_eq!(view.get(Table::Events, &key), Ok(Some(value)));
        })
        .expect("no other view is open");
}

#[test]
fn only_so_many_views_are_open_at_once() {
    let dir = tempdir().expect("a temporary directory");
    let state = open(dir.path()).state;
    write(&state, (0..100).map(|n| put(n, "x")).collect());
    let endless = || state.stream(1, || {}, |view| Some(all(view).len()));
    let streams: Vec<_> = (0..VIEWS_MAX).map(|_| endless().expect("there is room")).collect();
    assert!(endless().is_err() && state.with_view(|_| ()).is_err());
    drop(streams);
    let until = Instant::now() + PATIENCE;
    while state.with_view(|_| ()).is_err() {
        assert!(Instant::now() < until, "a stream that nobody reads ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stream_waits_for_credit_and_ends() {
    let dir = tempdir().expect("a temporary directory");
    let state = open(dir.path()).state;
    write(&state, (0..10).map(|n| put(n, "x")).collect());
    let (made, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, wakes) = (Arc::clone(&made), Arc::clone(&woken));
    let values = state
        .stream(
            2,
            move || {
                wakes.fetch_add(1, Ordering::AcqRel);
            },
            move |view| {
                let number = counted.fetch_add(1, Ordering::AcqRel);
                (number < 6).then(|| (number, all(view).len()))
            },
        )
        .expect("there is room");
    // Opened already: what follows is not in it.
    write(&state, (10..20).map(|n| put(n, "later")).collect());
    std::thread::sleep(Duration::from_millis(50));
    assert!(made.load(Ordering::Acquire) <= 3, "two wait to be taken, one to be handed over");
    let taken: Vec<_> = values.iter().collect();
    assert_eq!(taken, (0..6).map(|number| (number, 10)).collect::<Vec<_>>());
    let until = Instant::now() + PATIENCE;
    while woken.load(Ordering::Acquire) < 7 {
        assert!(Instant::now() < until, "every value and the end wake");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_scrub_reads_what_is_flushed_and_names_a_damaged_file() {
    let dir = tempdir().expect("a temporary directory");
    let state = open(dir.path()).state;
    for round in 0..4 {
        write(&state, (0..500).map(|n| put(round * 500 + n, &"v".repeat(100))).collect());
        state.flush_all().expect("flushed");
    }
    let mut scrub = state.scrub().expect("opens");
    let mut steps = 1;
    while !scrub.step(20_000).expect("whole") {
        steps += 1;
    }
    assert_eq!(scrub.rows(), 2_000);
    assert!(steps > 5, "{steps} steps");
    let largest = std::fs::read_dir(dir.path().join("state"))
        .expect("a directory")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|name| name == "sst"))
        .max_by_key(|path| path.metadata().expect("a file").len())
        .expect("flushed files");
    let mut bytes = std::fs::read(&largest).expect("readable");
    bytes[20_000] ^= 4;
    std::fs::write(&largest, bytes).expect("writable");
    let mut scrub = state.scrub().expect("only rows are damaged");
    let error = loop {
        match scrub.step(20_000) {
            Ok(is_done) => assert!(!is_done, "the damage is found"),
            Err(error) => break error,
        }
    };
    let name = largest.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.0.contains(&name), "{error}");
}

/// Compaction is held to a trickle, so that files pile up before the sorted levels: RocksDB slows and stops writers. The
/// flush thread says so before its batches wait and again when it is over, and nothing is lost.
#[test]
fn a_write_stall_is_reported_and_its_end_too() {
    let dir = tempdir().expect("a temporary directory");
    let mut options = options();
    options.state = StateConfig {
        write_buffer_bytes: 256 << 10,
        level0_slowdown_files: 6,
        level0_stop_files: 8,
        background_bytes_per_second: Some(4 << 20),
    };
    let state = throng_storage::open(dir.path(), &options).expect("opens").state;
    let (durable, reports) = unbounded();
    let (say, pressure) = unbounded();
    let flusher = Flusher::start_watched(
        state.clone(),
        FlushPolicy { bytes: 200 << 10, delay: Duration::from_millis(50) },
        move |report| durable.send(report).expect("listening"),
        move |is_slow| say.send((is_slow, Instant::now())).expect("listening"),
    )
    .expect("a thread is to be had");
    let mut token = 0u32;
    let until = Instant::now() + PATIENCE;
    while pressure.is_empty() {
        assert!(Instant::now() < until, "RocksDB stalls");
        // 100 KiB of keys from everywhere: every file overlaps every other.
        let batch = (0..100).map(|n| put(n * 10_000 + token, &"s".repeat(1_000))).collect();
        if flusher.submit(token + 1, batch).is_ok() {
            token += 1;
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let (is_slow, slow_at) = pressure.recv().expect("just seen");
    assert!(is_slow, "the first word is that it is slow");
    let (is_slow, ok_at) = pressure.recv_timeout(PATIENCE).expect("it ends once nobody writes");
    assert!(!is_slow && ok_at > slow_at);
    loop {
        match reports.recv_timeout(PATIENCE).expect("everything becomes durable") {
            Report::Durable(reached) if reached == token => break,
            Report::Durable(_) => {}
            Report::Fatal(why) => panic!("a stall is no failure: {why}"),
        }
    }
    assert_eq!(all(&state).len(), 100 * token as usize);
}
