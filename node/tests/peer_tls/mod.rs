//! Mutual TLS between real processes: who may link to whom, what refusal looks like, and renewal without a restart.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::{self, Cluster, LOOPBACK, Node, status, throng, wait};
use crate::{assert_refused, path};

const CLUSTER: &str = "00112233445566778899aabbccddeeff";

/// An authority with certificates for nodes 1 to 3 and a gateway; gives the directory of the files.
fn issue(dir: &Path) -> PathBuf {
    let said =
        throng(&["cluster", "certs", "--data-dir", path(dir), "--cluster-id", CLUSTER, "--nodes", "3"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    dir.join("keys")
}

/// Flags that name the files of one member.
fn certified(keys: &Path, member: &str) -> Vec<String> {
    let file = |name: String| keys.join(name).to_str().expect("plain").to_owned();
    [
        ("--peer-cert", file(format!("{member}.pem"))),
        ("--peer-key", file(format!("{member}-key.pem"))),
        ("--peer-ca", file("peer-ca.pem".into())),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

/// A port that was free a moment ago.
fn free_address() -> String {
    TcpListener::bind(LOOPBACK).and_then(|listener| listener.local_addr()).expect("a port").to_string()
}

/// Two nodes of a static cluster and where they are.
struct Pair {
    dir: tempfile::TempDir,
    addresses: [String; 2],
}

impl Pair {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), addresses: [free_address(), free_address()] }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `throng serve` as node `id`, listening at the `place`-th address and knowing who is listed in `table`.
    fn command(&self, id: u64, place: usize, table: [u64; 2], flags: &[String]) -> (Command, PathBuf) {
        let data = self.path(&format!("data-{id}-at-{place}"));
        let mut command = rig::serve_with(&data, &[("--peer-listen", &self.addresses[place])]);
        let [first, second] = table;
        let peers = format!("{first}={},{second}={}", self.addresses[0], self.addresses[1]);
        command.args(["--exit-with-parent", "--cluster-id", CLUSTER, "--shards", "4", "--peers", &peers]);
        command.args(["--node-id", &id.to_string()]).args(flags);
        (command, data)
    }

    fn start(&self, id: u64, place: usize, table: [u64; 2], flags: &[String]) -> (Node, PathBuf) {
        let (command, data) = self.command(id, place, table, flags);
        let scratch = self.path(&format!("scratch-{id}-at-{place}"));
        (Node::spawn(command, &data, &scratch), scratch.join("log"))
    }
}

fn links_up(node: &Node) -> Vec<u64> {
    let status = status(&node.ops()).expect("it answers");
    let links = status["router"]["links_up"].as_array().expect("a list");
    links.iter().map(|node| node.as_u64().expect("a number")).collect()
}

fn wait_for_words(log: &Path, words: &[&str]) {
    wait(&format!("{words:?} in {}", log.display()), || {
        let text = fs::read_to_string(log).unwrap_or_default();
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        found.then_some(())
    });
}

#[test]
fn nodes_of_one_authority_link_and_others_are_refused_with_a_reason() {
    let pair = Pair::new();
    let (keys, foreign) = (issue(&pair.path("ours")), issue(&pair.path("theirs")));
    let (one, log) = pair.start(1, 0, [1, 2], &certified(&keys, "node-1"));
    let name = status(&one.ops()).expect("it answers")["peer_certificate"]["name"].clone();
    assert_eq!(name, format!("node-1.{CLUSTER}.throng"));

    // Another authority: neither believes the other.
    let (two, other_log) = pair.start(2, 1, [1, 2], &certified(&foreign, "node-2"));
    wait_for_words(&log, &["no secure link", "not signed by our authority"]);
    wait_for_words(&other_log, &["no secure link", "not signed by our authority"]);
    assert!(links_up(&one).is_empty() && links_up(&two).is_empty());
    two.kill();

    // The right authority, but node 3 where node 2 should be: who dials it refuses, and so does whom it dials.
    let (three, other_log) = pair.start(3, 1, [1, 3], &certified(&keys, "node-3"));
    wait_for_words(&log, &["no secure link", "is of node-3", "expected was node-2"]);
    wait_for_words(&log, &["peer refused", "node 3 is no member here"]);
    wait_for_words(&other_log, &["refused by the other node", "no member"]);
    assert!(links_up(&one).is_empty() && links_up(&three).is_empty());
    three.kill();

    // No TLS at all, in both directions.
    let (plain, other_log) = pair.start(2, 1, [1, 2], &[]);
    wait_for_words(&log, &["peer refused", "does not speak TLS"]);
    wait_for_words(&other_log, &["peer refused", "speaks TLS and we do not"]);
    assert!(links_up(&one).is_empty() && links_up(&plain).is_empty());
    plain.kill();

    // The real node 2; the first node has lived through all of it.
    let (two, _) = pair.start(2, 1, [1, 2], &certified(&keys, "node-2"));
    wait("both links are up", || (links_up(&one) == [2] && links_up(&two) == [1]).then_some(()));
    wait("a shard has a leader", || {
        let status = status(&one.ops()).expect("it answers");
        (status["router"]["leaderless"] == 0).then_some(())
    });

    // A process with gateways alone, under a gateway's certificate and without one.
    let join = |flags: &[String]| {
        let mut command = rig::serve(&pair.path("gateway"));
        let routers = pair.addresses.join(",");
        let keys = pair.path("data-1-at-0").join("keys");
        command.args(["--role", "gateway", "--join", &routers, "--keys", path(&keys)]).args(flags);
        command
    };
    assert_refused(&rig::run(&mut join(&[])), 1, &["no router answers"]);
    assert_refused(&rig::run(&mut join(&certified(&keys, "node-1"))), 2, &["is of node-1", "is a gateway"]);
    assert_refused(
        &rig::run(&mut join(&certified(&foreign, "gateway"))),
        1,
        &["not signed by our authority"],
    );
    let gateway = Node::spawn(
        join(&certified(&keys, "gateway")),
        &pair.path("data-1-at-0"),
        &pair.path("scratch-gateway"),
    );
    wait("a message goes through", || {
        let said = rig::run(gateway.command("send", "alice", "bob").arg("under TLS"));
        (said.code == Some(0)).then_some(())
    });
    assert!(gateway.history("bob", "alice").contains("under TLS"));
}

#[test]
fn a_process_does_not_start_with_certificates_that_nobody_would_accept() {
    let pair = Pair::new();
    let keys = issue(&pair.path("ours"));
    let foreign = issue(&pair.path("theirs"));
    let refused = |flags: &[String], words: &[&str]| {
        let (mut command, data) = pair.command(1, 0, [1, 2], flags);
        assert_refused(&rig::run(&mut command), 2, words);
        assert!(!data.exists(), "{words:?}: a directory was made");
    };
    refused(&certified(&keys, "node-2"), &["peer_cert is of node-2", "this process is node 1"]);
    refused(&certified(&keys, "gateway"), &["peer_cert is of gateway", "this process is node 1"]);
    let mut mixed = certified(&keys, "node-1");
    mixed[5] = foreign.join("peer-ca.pem").to_str().expect("plain").to_owned();
    refused(&mixed, &["node-1.pem", "not signed by our authority"]);
    mixed = certified(&keys, "node-1");
    mixed[3] = keys.join("node-2-key.pem").to_str().expect("plain").to_owned();
    refused(&mixed, &["node-1.pem", "KeyMismatch"]);
    let mut other = certified(&keys, "node-1");
    other.extend(["--cluster-id".into(), "ffffffffffffffffffffffffffffffff".into()]);
    let mut command = rig::serve(&pair.path("other"));
    assert_refused(
        &rig::run(command.args(&other)),
        2,
        &["peer_cert is of node-1", "belongs to cluster ffff"],
    );

    fs::write(keys.join("node-1.pem"), "spoiled").expect("written");
    refused(&certified(&keys, "node-1"), &["node-1.pem", "no certificate"]);
    let far = pair.path("far");
    let said = rig::run(&mut rig::serve_with(&far, &[("--peer-listen", "192.0.2.1:1")]));
    assert_refused(&said, 2, &["peer_listen 192.0.2.1:1 is no loopback address", "mutual TLS", "peer_cert"]);
    assert!(!far.exists());
}

#[test]
fn a_cluster_takes_renewed_certificates_over_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path(), &["--restart"]);
    let seconds_left = |node| {
        let status = cluster.status(node)?;
        status["peer_certificate"]["seconds_left"].as_u64()
    };
    assert!(seconds_left(0).expect("it is certified") > 29 * 86_400);
    cluster.send(0, "alice", "bob", "before");

    let said = throng(&["cluster", "certs", "--days", "2", "--data-dir", path(cluster.dir())]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    wait("all nodes have the new ones", || {
        (0..3).all(|node| seconds_left(node).is_some_and(|left| left <= 2 * 86_400)).then_some(())
    });
    cluster.send(1, "alice", "bob", "renewed");

    // A node that comes back meets the others in new handshakes, both ways.
    let links = |node: usize| cluster.status(node)?["router"]["links_up"].as_array().map(Vec::len);
    let pid = |node: usize| cluster.status(node)?["ready"]["pid"].as_u64();
    let before = pid(2).expect("it answers");
    cluster.kill_node(2);
    wait("the node is back and linked", || {
        let is_back = pid(2).is_some_and(|pid| pid != before);
        (is_back && (0..3).all(|node| links(node) == Some(2))).then_some(())
    });
    cluster.send(2, "alice", "bob", "after");
    let history = cluster.history(2, "bob", "alice");
    for text in ["before", "renewed", "after"] {
        assert!(history.contains(text), "{text}: {history}");
    }
    assert_eq!(cluster.terminate(), Some(0));
}
