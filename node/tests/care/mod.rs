//! Retention, holds, `throng verify` and scrubs on real processes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::{Cluster, Node, Said, throng, wait};
use crate::{assert_refused, path};

/// Numbers of the messages that a history shows.
fn numbers(history: &str) -> Vec<u64> {
    let lines = history.lines().filter_map(|line| line.strip_prefix('#'));
    lines.filter_map(|line| line.split_once(' ')?.0.parse().ok()).collect()
}

#[test]
fn old_messages_go_by_count_and_age_unless_the_channel_is_held() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("throng.toml"));
    let settings = "[retention]\ndirect_events = 4\n\n[scrub]\nevery_hours = 0\n";
    fs::write(&file, settings).expect("written");
    let node = Node::start(&data, &["--config", path(&file)]);
    let hold = |state: &str| throng(&["hold", "alice,bob", state, "--ops", &node.ops()]);
    assert_refused(&hold("on"), 1, &["no such channel"]);
    for n in 1..=12 {
        node.send("alice", "bob", &format!("message {n}"));
    }
    // Two joined before the first message.
    wait("all but four are gone", || {
        (numbers(&node.history("bob", "alice")) == [11, 12, 13, 14]).then_some(())
    });
    assert!(node.history("bob", "alice").starts_with("(history before #11 is gone)"));

    let said = hold("on");
    assert!(said.code == Some(0) && said.stdout.contains("is held"), "{}{}", said.stdout, said.stderr);
    for n in 13..=16 {
        node.send("bob", "alice", &format!("message {n}"));
    }
    node.send("carol", "bob", "not held");
    for n in 1..=6 {
        node.send("bob", "carol", &format!("{n}"));
    }
    wait("the other channel is cut", || (numbers(&node.history("bob", "carol")).len() == 4).then_some(()));
    assert_eq!(numbers(&node.history("alice", "bob")), (11..=18).collect::<Vec<_>>());
    node.kill();

    // A hold outlives the process; what was cut stays cut.
    let settings = "[retention]\ndirect_age = \"2s\"\n";
    fs::write(&file, settings).expect("written");
    let node = Node::start(&data, &["--config", path(&file)]);
    wait("the other channel is empty", || numbers(&node.history("bob", "carol")).is_empty().then_some(()));
    assert_eq!(numbers(&node.history("alice", "bob")), (11..=18).collect::<Vec<_>>());
    let said = throng(&["hold", "alice,bob", "off", "--ops", &node.ops()]);
    assert!(said.code == Some(0) && said.stdout.contains("no longer held"), "{}", said.stderr);
    wait("it is empty", || numbers(&node.history("alice", "bob")).is_empty().then_some(()));
    node.send("alice", "bob", "numbers go on");
    assert!(node.history("alice", "bob").contains("#19 alice: numbers go on"));
    let said = throng(&["verify", "--ops", &node.ops()]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert_eq!(node.terminate(), Some(0));
}

/// The largest table file of a node's state.
fn largest_table(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("state")).expect("a directory");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let tables = files.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    tables.max_by_key(|path| fs::metadata(path).expect("there").len()).expect("something was flushed")
}

fn verify(cluster: &Cluster, flags: &[&str]) -> Said {
    let mut words = vec!["verify", "--cluster", path(cluster.dir())];
    words.extend(flags);
    throng(&words)
}

#[test]
fn verify_compares_replicas_and_names_the_node_and_the_file_that_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path(), &["--shards", "8"]);
    let long = "x".repeat(3_000);
    for n in 0..12 {
        cluster.send(n % 3, "alice", "bob", &format!("{n} {long}"));
    }
    cluster.send(0, "carol", "dave", "hello");
    let said = std::thread::scope(|scope| {
        // Compared while somebody writes.
        let writer = scope.spawn(|| (0..6).for_each(|n| cluster.send(n % 3, "bob", "alice", &long)));
        let said = verify(&cluster, &[]);
        writer.join().expect("it does not panic");
        said
    });
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(
        said.stdout.contains("all replicas of 8 shards and of the metadata on 3 nodes hold the same"),
        "{}",
        said.stdout
    );
    assert_eq!(said.stdout.matches("  1 2 3  ").count(), 9, "{}", said.stdout);
    assert_eq!(said.stdout.matches("bytes on disk are whole").count(), 3, "{}", said.stdout);
    assert_eq!(cluster.terminate(), Some(0));

    let table = largest_table(&dir.path().join("cluster/node-2"));
    let mut bytes = fs::read(&table).expect("readable");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&table, bytes).expect("written");
    let name = table.file_name().expect("a name").to_str().expect("plain").to_owned();

    let cluster = Cluster::start(dir.path(), &["--shards", "8"]);
    let said = verify(&cluster, &[]);
    assert_refused(&said, 1, &["shards are not the same", "1 of 3 nodes have damage on disk"]);
    assert!(said.stdout.contains("UNREADABLE"), "{}", said.stdout);
    let blamed = said.stdout.lines().filter(|line| line.contains(&name)).count();
    assert!(blamed >= 2, "by the comparison and by the scrub: {}", said.stdout);
    assert!(said.stdout.contains("node 2: 1 DAMAGES"), "{}", said.stdout);
    let said = verify(&cluster, &["--no-scrub"]);
    assert_refused(&said, 1, &["shards are not the same"]);
    let metrics = cluster.metrics(1);
    assert!(metrics.contains("\nthrong_scrub_last_errors 1\n"), "{metrics}");
    let metrics = cluster.metrics(0);
    assert!(metrics.contains("\nthrong_scrub_last_errors 0\n"));
    assert!(metrics.contains("\nthrong_suspect_replicas 0\n"), "{metrics}");
    assert!(metrics.contains("\nthrong_raft_messages_dropped_total{reason=\"malformed\"} 0\n"), "{metrics}");
    assert!(metrics.contains("\nthrong_log_over_budget_bytes 0\n"), "{metrics}");
    let commits = metrics.lines().find_map(|line| line.strip_prefix("throng_log_group_commits_total "));
    assert!(commits.is_some_and(|count| count != "0"), "{metrics}");
    drop(cluster);
    assert_refused(&throng(&["verify", "--ops", "127.0.0.1:1"]), 1, &["no node answers"]);
    assert_refused(&throng(&["verify", "--cluster", path(dir.path())]), 2, &["cluster.json is not there"]);
    assert_refused(&throng(&["hold", "nobody", "on"]), 2, &["is no channel"]);
    assert_refused(&throng(&["acquit", "--ops", "127.0.0.1:1"]), 1, &["no node answers"]);
}
