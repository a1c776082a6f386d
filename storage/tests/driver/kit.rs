//! What the tests share: a data directory with small segments, records, bounded waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, unbounded};
use throng_storage::{Log, LogConfig, LogDriver, LogWriter, OpenError, OpenOptions, Opened, Report};
use throng_storage_core::entry::{Conf, Entry, EntryKind, HardState, Mark, Record};
use throng_storage_core::log::BLOCK;
use throng_storage_core::store::PersistToken;
use throng_wire::ids::{NodeId, ShardId};

pub(crate) const CLUSTER: [u8; 16] = [7; 16];
pub(crate) const SHARDS: u32 = 4;
/// Bounds every wait; far above what anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Reports = Receiver<Report<PersistToken>>;

pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new(CLUSTER, NodeId(1), SHARDS);
    options.log = LogConfig {
        segment_bytes: 16 * BLOCK as u64,
        budget_bytes: 64 * BLOCK as u64,
        ..LogConfig::default()
    };
    options
}

/// As [`open`], its log written by `driver`.
pub(crate) fn open_by(driver: LogDriver, dir: &Path) -> Opened {
    let mut options = options();
    options.log.driver = driver;
    throng_storage::open(dir, &options).expect("the data directory opens")
}

/// Runs each of these functions as one test for every driver.
macro_rules! for_every_driver {
    ($($test:ident),* $(,)?) => {
        mod thread {
            $( #[test] fn $test() { super::$test(throng_storage::LogDriver::Thread) } )*
        }
        mod uring {
            $( #[test] fn $test() { super::$test(throng_storage::LogDriver::Uring) } )*
        }
    };
}
pub(crate) use for_every_driver;

pub(crate) fn open(dir: &Path) -> Opened {
    throng_storage::open(dir, &options()).expect("the data directory opens")
}

pub(crate) fn refused(dir: &Path) -> OpenError {
    refused_with(dir, &options())
}

pub(crate) fn refused_with(dir: &Path, options: &OpenOptions) -> OpenError {
    match throng_storage::open(dir, options) {
        Ok(_) => panic!("the data directory was to be refused"),
        Err(error) => error,
    }
}

pub(crate) fn start(log: Log) -> (LogWriter, Reports) {
    let (sender, reports) = unbounded();
    let writer = log
        .start(move |report| sender.send(report).expect("the test listens"))
        .expect("threads are to be had");
    (writer, reports)
}

/// Waits until `token` is durable.
pub(crate) fn wait_durable(reports: &Reports, token: u64) {
    loop {
        match reports.recv_timeout(PATIENCE).expect("a report comes") {
            Report::Durable(PersistToken(reached)) if reached >= token => return,
            Report::Durable(_) => {}
            Report::Fatal(why) => panic!("{why}"),
        }
    }
}

/// Submits and waits, one token per call.
pub(crate) fn persist(writer: &LogWriter, reports: &Reports, token: u64, records: Vec<Record>) {
    writer.submit(PersistToken(token), records).expect("the log runs");
    wait_durable(reports, token);
}

pub(crate) fn entry(term: u64, index: u64) -> Entry {
    let data = Bytes::from(format!("entry {index} of term {term}, ").repeat(1 + index as usize % 40));
    Entry { kind: EntryKind::Normal, term, index, data, context: Bytes::from(vec![term as u8; 3]) }
}

pub(crate) fn record(shard: u32, term: u64, commit: u64, indices: core::ops::RangeInclusive<u64>) -> Record {
    let entries = indices.map(|index| entry(term, index)).collect();
    Record {
        shard: ShardId(shard),
        hard_state: Some(HardState { term, vote: 1, commit }),
        mark: None,
        entries,
    }
}

/// A mark of a group's own past: entries through `index` are not needed.
pub(crate) fn mark(index: u64, term: u64) -> Mark {
    Mark { index, term, peer: 1, replica: 1, conf: Conf::of_voters([1, 2, 3]), ..Mark::default() }
}

/// All files below a directory with their bytes, but not RocksDB's own, which it may rewrite when it is opened.
pub(crate) fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).expect("read")));
        }
    }
    found.sort();
    found
}

/// Copies a directory as a crash would leave it. RocksDB makes and removes files when it likes, and a copy that takes
/// time while it does so is no moment in anybody's life: it is repeated until nothing has changed meanwhile.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    let copied = (0..100).any(|_| {
        let _again = std::fs::remove_dir_all(to);
        let before = listing(from).ok();
        try_copy(from, to).is_ok() && before.is_some() && listing(from).ok() == before
    });
    assert!(copied, "files keep changing in {}", from.display());
}

/// Every file below a directory with its length.
fn listing(dir: &Path) -> std::io::Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.append(&mut listing(&entry.path())?);
        } else {
            found.insert(entry.path(), entry.metadata()?.len());
        }
    }
    Ok(found)
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            try_copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
