//! Opening a data directory: what is refused, in one clear sentence, with nothing changed.

use std::fs;
use std::path::Path;

use tempfile::tempdir;
use throng_storage::{OpenError, OpenOptions, read_format};
use throng_storage_core::log::BLOCK;
use throng_wire::ids::NodeId;

use crate::kit::{self, CLUSTER, contents, open, options, persist, record, refused, refused_with, start};

type Change = fn(&mut OpenOptions);

/// A directory with forty commits over more than one segment.
fn filled() -> tempfile::TempDir {
    let dir = tempdir().expect("a temporary directory");
    let (writer, reports) = start(open(dir.path()).log);
    for n in 0..40 {
        persist(&writer, &reports, n, vec![record(1, 1, n, n + 1..=n + 1)]);
    }
    dir
}

fn assert_refused_untouched(dir: &Path, expected: &str) {
    let before = contents(dir);
    let error = refused(dir);
    assert!(error.to_string().contains(expected), "{error}");
    assert!(!error.to_string().contains('\n'), "one sentence: {error}");
    assert!(contents(dir) == before, "nothing was changed");
}

#[test]
fn an_empty_or_missing_directory_is_formatted_once() {
    let dir = tempdir().expect("a temporary directory");
    for path in [dir.path().join("a/b/c"), dir.path().join("a/b")] {
        if path.ends_with("b") {
            fs::remove_dir_all(path.join("c")).expect("remove");
        }
        let first = open(&path).format;
        assert_eq!((first.cluster, first.node, first.shards), (CLUSTER, NodeId(1), kit::SHARDS));
        assert_eq!(read_format(&path).expect("readable"), Some(first.clone()));
        assert_eq!(open(&path).format, first, "the second time it is only opened");
    }
}

#[test]
fn what_is_not_there_is_not_made_unasked() {
    let dir = tempdir().expect("a temporary directory");
    let mut options = options();
    options.create = false;
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = refused_with(&path, &options);
        assert!(matches!(error, OpenError::Missing(_)), "{error}");
        assert!(!path.join("LOCK").exists() && read_format(&path).expect("readable").is_none());
    }
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let dir = tempdir().expect("a temporary directory");
    fs::write(dir.path().join("thesis.tex"), "important").expect("write");
    assert_refused_untouched(dir.path(), "is not empty and is not a Throng data directory");
    let mut options = options();
    options.foreign = vec!["thesis.tex".to_owned()];
    drop(throng_storage::open(dir.path(), &options).expect("known names are no obstacle"));
    drop(open(dir.path()));
}

#[test]
fn a_second_process_is_told() {
    let dir = tempdir().expect("a temporary directory");
    let opened = open(dir.path());
    let error = refused(dir.path());
    assert!(error.to_string().ends_with("is already locked by another process"), "{error}");
    // The lock is held as long as anything of it is in use.
    let state = opened.state.clone();
    drop(opened);
    assert!(matches!(refused(dir.path()), OpenError::Locked(_)));
    drop(state);
    drop(open(dir.path()));
}

#[test]
fn another_cluster_node_or_shard_count_is_refused() {
    let dir = filled();
    let cases: [(&str, Change); 3] = [
        ("belongs to cluster 07070707070707070707070707070707, not to cluster 09", |o| o.cluster = [9; 16]),
        ("belongs to node 1, not to node 2", |o| o.node = NodeId(2)),
        ("was formatted with 4 shards, not 8", |o| o.shards = 8),
    ];
    for (expected, change) in cases {
        let before = contents(dir.path());
        let mut options = options();
        change(&mut options);
        let error = refused_with(dir.path(), &options);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(contents(dir.path()) == before, "nothing was changed");
    }
}

#[test]
fn another_version_or_a_damaged_format_file_is_refused() {
    let dir = filled();
    let path = dir.path().join("FORMAT");
    let good = fs::read_to_string(&path).expect("read");
    for (version, advice) in [(2, "there is no conversion before 1.0"), (4, "run the newer version")] {
        fs::write(&path, good.replacen("throng data 3", &format!("throng data {version}"), 1))
            .expect("write");
        let expected = format!("has format version {version}, this program reads version 3 ({advice}");
        assert_refused_untouched(dir.path(), &expected);
    }
    for (at, _) in good.char_indices().filter(|(at, _)| *at > "throng data 3".len()) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("write");
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::FormatDamaged { .. }), "byte {at}: {error}");
        fs::write(&path, &good.as_bytes()[..at]).expect("write");
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::FormatDamaged { .. }), "cut at {at}: {error}");
    }
    fs::write(&path, &good).expect("write");
    drop(open(dir.path()));
}

#[test]
fn lost_parts_are_refused_not_replaced() {
    for part in ["log/0000000001.log", "log/0000000002.log", "log", "state"] {
        let dir = filled();
        let path = dir.path().join(part);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("remove");
        // A log may begin later than at its first segment; this one says that it does not.
        let expected = match part {
            "log/0000000001.log" => "the log begins with segment 1, the oldest one here is 2".to_owned(),
            _ => format!("{} is missing", path.display()),
        };
        assert_refused_untouched(dir.path(), &expected);
    }
}

#[test]
fn an_interrupted_format_begins_anew() {
    let dir = tempdir().expect("a temporary directory");
    drop(open(dir.path()));
    let path = dir.path().join("FORMAT");
    fs::rename(&path, dir.path().join("FORMAT.tmp")).expect("as if the last step was missing");
    fs::remove_dir_all(dir.path().join("state")).expect("and the one before");
    drop(open(dir.path()));
    assert!(path.exists() && !dir.path().join("FORMAT.tmp").exists());
}

#[test]
fn without_its_format_file_data_is_never_overwritten() {
    let dir = filled();
    fs::remove_file(dir.path().join("FORMAT")).expect("remove");
    assert_refused_untouched(dir.path(), "is not a Throng data directory");
}

#[test]
fn a_damaged_log_is_refused_with_the_place() {
    let dir = filled();
    let path = dir.path().join("log/0000000001.log");
    let good = fs::read(&path).expect("read");
    let mut bytes = good.clone();
    bytes[3 * BLOCK + 100] ^= 4;
    fs::write(&path, &bytes).expect("write");
    assert_refused_untouched(
        dir.path(),
        "log segment 1 at byte 12288: commit 3 is damaged or missing, but commit 4 is intact in segment 1 at byte 16384",
    );
    fs::write(&path, &good[..5 * BLOCK]).expect("write");
    assert_refused_untouched(dir.path(), "the file has 20480 bytes instead of 65536");
    fs::write(&path, &good).expect("write");
    drop(open(dir.path()));
}

#[test]
fn nonsense_options_are_refused() {
    let dir = tempdir().expect("a temporary directory");
    let cases: [Change; 4] = [
        |o| o.shards = 0,
        |o| o.shards = 70_000,
        |o| o.log.segment_bytes = 5000,
        |o| o.log.segment_bytes = 0,
    ];
    for change in cases {
        let mut options = options();
        change(&mut options);
        assert!(matches!(refused_with(dir.path(), &options), OpenError::Options(_)));
    }
    assert!(contents(dir.path()).is_empty());
}
