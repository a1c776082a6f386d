//! Nodes that join, leave and die, and shards that follow: real processes.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use super::rig::{LOOPBACK, Node, Said, run, serve_with, throng, wait};
use super::{assert_refused, path};

/// A node of a cluster that is on loopback in the clear. A cluster's nodes keep their peer ports.
struct Member {
    node: Node,
    peer: String,
}

fn free_port() -> String {
    let listener = TcpListener::bind(LOOPBACK).expect("a port");
    listener.local_addr().expect("bound").to_string()
}

impl Member {
    fn start(dir: &Path, name: &str, peer: &str, flags: &[&str]) -> Self {
        let data = dir.join(name);
        let mut command = serve_with(&data, &[("--peer-listen", peer)]);
        command.arg("--exit-with-parent").arg("--keys").arg(dir.join("keys")).args(flags);
        let node = Node::spawn(command, dir, &dir.join(format!("{name}-scratch")));
        Self { node, peer: peer.to_owned() }
    }

    fn founder(dir: &Path) -> Self {
        Self::start(dir, "one", &free_port(), &["--shards", "8"])
    }

    fn join(dir: &Path, name: &str, member: &Self) -> Self {
        Self::start(dir, name, &free_port(), &["--join", &member.peer])
    }

    /// `throng cluster …`, asked here.
    fn cluster(&self, args: &[&str]) -> Said {
        throng(&[&["cluster"], args, &["--ops", &self.node.ops()]].concat())
    }

    fn change(&self, args: &[&str]) -> String {
        let said = self.cluster(args);
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        said.stdout
    }

    fn status(&self) -> Value {
        super::rig::status(&self.node.ops()).expect("it answers")
    }

    fn send(&self, text: &str) {
        wait("the message is stored", || {
            (run(self.node.command("send", "alice", "bob").arg(text)).code == Some(0)).then_some(())
        });
    }

    fn texts(&self) -> Vec<String> {
        let history = self.node.history("bob", "alice");
        history.lines().filter_map(|line| Some(line.split_once("alice: text ")?.1.to_owned())).collect()
    }
}

/// Waits until a node shows this many nodes that take shards.
fn wait_active(member: &Member, count: usize) {
    wait("the nodes are active", || {
        (member.cluster(&["nodes"]).stdout.matches(" active ").count() == count).then_some(())
    });
}

/// One node becomes three, the first one dies and is replaced, and a client notices nothing but a pause.
#[test]
fn a_cluster_grows_loses_its_first_node_and_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = Member::founder(dir.path());
    one.send("text 1");
    let two = Member::join(dir.path(), "two", &one);
    let three = Member::join(dir.path(), "three", &two);
    wait_active(&one, 3);
    one.send("text 2");
    let said = two.change(&["balance", "--replicas", "3"]);
    assert!(said.contains("all 8 shards are where they should be"), "{said}");
    assert_eq!(three.status()["router"]["replicas"], 8);
    three.send("text 3");
    let before = ["1", "2", "3"];
    assert_eq!(two.texts(), before);

    // Who changes their mind gets the node back.
    let said = one.cluster(&["leave", "3", "--timeout", "0"]);
    assert_refused(&said, 1, &["have not moved within 0 s"]);
    let said = one.change(&["stay", "3"]);
    assert!(said.contains("node 3 stays"), "{said}");
    wait_active(&one, 3);
    wait("it has every shard again", || (three.status()["router"]["replicas"] == 8).then_some(()));

    // Nobody is lost with the node that began everything.
    one.node.kill();
    two.send("text 4");
    let four = Member::join(dir.path(), "four", &three);
    wait_active(&two, 4);
    let said = two.change(&["leave", "1"]);
    assert!(said.contains("node 1 is no member any more"), "{said}");
    assert_eq!(four.status()["router"]["replicas"], 8);
    four.send("text 5");
    for member in [&two, &three, &four] {
        assert_eq!(member.texts(), ["1", "2", "3", "4", "5"]);
    }
    let nodes = two.change(&["nodes"]);
    assert!(nodes.lines().any(|line| line.starts_with("1 ") && line.contains(" gone ")), "{nodes}");

    // A node that joined finds its way back without being told where.
    let peer = four.peer.clone();
    four.node.kill();
    let four = Member::start(dir.path(), "four", &peer, &[]);
    wait("it leads or follows every shard again", || {
        let router = &four.status()["router"];
        (router["leaderless"] == 0 && router["replicas"] == 8).then_some(())
    });
    assert_eq!(four.status()["ready"]["node"], 4);
    wait("the others know its new operations port", || {
        three.change(&["nodes"]).contains(&four.node.ops()).then_some(())
    });
    four.send("text 6");
    assert_eq!(three.texts().len(), 6);
}

#[test]
fn what_a_cluster_refuses_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = Member::founder(dir.path());
    wait_active(&one, 1);
    let refused = |args: &[&str], words: &[&str]| assert_refused(&one.cluster(args), 1, words);
    refused(&["leave", "9"], &["no such node"]);
    refused(&["stay", "9"], &["no such node"]);
    refused(&["move", "0", "1", "2"], &["no such node"]);
    refused(&["move", "99", "1", "2"], &["no such shard"]);
    assert_refused(&one.cluster(&["leave", "1"]), 2, &["node 1 itself"]);
    // Its own number is taken, and a peer port that is not known yet cannot be dialled.
    let data = dir.path().join("two");
    let start = |peer: &str, flags: &[&str]| {
        let mut command = serve_with(&data, &[("--peer-listen", peer)]);
        run(command.args(["--exit-with-parent", "--join", &one.peer]).args(flags))
    };
    assert_refused(&start(&free_port(), &["--node-id", "1"]), 1, &["was given to a node before"]);
    assert_refused(&start(LOOPBACK, &[]), 2, &["join needs a peer_listen address"]);
    assert_refused(&start(&free_port(), &["--peers", "1=127.0.0.1:1"]), 2, &["exclude each other"]);
    assert!(!path(&data).is_empty() && !data.join("FORMAT").exists(), "nothing was formatted");
}
