//! A process that is killed: what it reported durable is there, whatever else.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use crossbeam_channel::unbounded;
use tempfile::tempdir;
use throng_storage::{FlushPolicy, Flusher, Report, fsync_floor};
use throng_storage_core::state::{Change, StateRead, Table};
use throng_storage_core::store::PersistToken;
use throng_wire::ids::ShardId;

use crate::kit::{PATIENCE, entry, mark, open, options, record};

const VICTIM_DIR: &str = "THRONG_TEST_VICTIM_DIR";

/// Runs as a child process only: writes until it is killed, printing what is durable.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(VICTIM_DIR) else { return };
    let opened = open(Path::new(&dir));
    let first = opened.log.reader().hard_state(ShardId(0)).commit + 1;
    let (lines, printed) = unbounded();
    let flush_lines = lines.clone();
    let log = opened.log.start(move |report| match report {
        Report::Durable(PersistToken(token)) => lines.send(format!("log {token}")).expect("main prints"),
        Report::Fatal(why) => panic!("{why}"),
    });
    let log = log.expect("threads are to be had");
    let policy = FlushPolicy { bytes: 2000, ..FlushPolicy::default() };
    let flusher = Flusher::start(opened.state, policy, move |report| match report {
        Report::Durable(token) => flush_lines.send(format!("state {token}")).expect("main prints"),
        Report::Fatal(why) => panic!("{why}"),
    });
    let flusher = flusher.expect("a thread is to be had");
    for index in first.. {
        while log.submit(PersistToken(index), vec![record(0, 1, index, index..=index)]).is_err() {
            print_all(&printed);
        }
        if index % 8 == 0 {
            log.truncate(vec![(ShardId(0), mark(index - 4, 1))]).expect("the log runs");
        }
        let applied = Bytes::copy_from_slice(&index.to_be_bytes());
        let batch = vec![
            Change::Put(Table::Meta, Bytes::from_static(b"applied"), applied.clone()),
            Change::Put(Table::Events, applied, entry(1, index).data),
        ];
        // A full queue only means that this batch is not flushed; the next one stands for it too, as in a node.
        let mut batch = Some(batch);
        while let Some(now) = batch.take() {
            if flusher.submit(index, now.clone()).is_err() {
                print_all(&printed);
                batch = Some(now);
            }
        }
        print_all(&printed);
    }
}

fn print_all(printed: &crossbeam_channel::Receiver<String>) {
    let mut out = std::io::stdout().lock();
    for line in printed.try_iter() {
        writeln!(out, "{line}").expect("the parent reads");
    }
    out.flush().expect("the parent reads");
}

#[test]
fn a_killed_process_loses_nothing_that_was_durable() {
    let dir = tempdir().expect("a temporary directory");
    let mut before = 0;
    for round in 0..20 {
        let (log, flushed) = kill_one(dir.path(), 20 + round * 37 % 90);
        let opened = open(dir.path());
        let reader = opened.log.reader();
        let commit = reader.hard_state(ShardId(0)).commit;
        assert!(log > before && commit >= log, "token {log} was durable, the log ends at {commit}");
        let group = reader.recovered_group(ShardId(0), 0, 0).expect("readable");
        let kept: Vec<_> = (group.first_index..=commit).map(|index| entry(1, index)).collect();
        assert!(group.entries == kept, "entries {} to {commit}", group.first_index);
        assert!(reader.live_bytes() <= options().log.budget_bytes, "old segments are recycled");
        let applied = opened.state.get(Table::Meta, b"applied").expect("get").expect("something was flushed");
        let applied = u64::from_be_bytes(applied[..].try_into().expect("eight bytes"));
        assert!(applied >= flushed, "token {flushed} was durable, the state is at {applied}");
        let events =
            opened.state.scan(Table::Events, &1u64.to_be_bytes(), &u64::MAX.to_be_bytes(), usize::MAX);
        let last = events.expect("scan").last().map(|(key, _)| key.clone());
        assert_eq!(
            last.as_deref(),
            Some(&applied.to_be_bytes()[..]),
            "state and applied index are one batch"
        );
        before = commit;
    }
}

/// Starts a victim, kills it after so many lines, and returns the highest tokens that it printed.
fn kill_one(dir: &Path, lines: usize) -> (u64, u64) {
    let program = std::env::current_exe().expect("this test has a path");
    let mut child = Command::new(program)
        .args(["--exact", "crash::victim", "--nocapture", "--test-threads=1"])
        .env(VICTIM_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the victim starts");
    let (mut log, mut state) = (0, 0);
    let output = BufReader::new(child.stdout.take().expect("piped"));
    for (number, line) in output.lines().enumerate() {
        let line = line.unwrap_or_default();
        let token = |name: &str| line.strip_prefix(name).and_then(|rest| rest.trim().parse().ok());
        log = token("log ").unwrap_or(log);
        state = token("state ").unwrap_or(state);
        // Everything printed before the kill counts; the pipe is read to its end.
        if number >= lines && state > 0 && log > 0 {
            child.kill().expect("it runs");
        }
    }
    child.wait().expect("it was killed");
    (log, state)
}

#[test]
fn the_floor_is_measured_and_leaves_nothing_behind() {
    let dir = tempdir().expect("a temporary directory");
    let floor = fsync_floor(dir.path(), 50).expect("the disk answers");
    assert!(floor.samples > 0 && floor.p50 <= floor.p99 && floor.p99 <= floor.max && floor.max < PATIENCE);
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
}
