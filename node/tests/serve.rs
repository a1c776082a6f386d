//! `throng` as its users meet it: real processes, what they print, how they end, and what they leave on disk.

mod care;
mod members;
mod peer_tls;
mod rig;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use rig::{Cluster, LOOPBACK, Node, Said, command, contents, flip_synced_commit, serve, throng};
use throng_client::mint::Minter;

/// Asserts a refusal: the exit code, one sentence on standard error, and its key words.
#[track_caller]
fn assert_refused(said: &Said, code: i32, words: &[&str]) {
    let text = &said.stderr;
    assert_eq!(said.code, Some(code), "{text}");
    assert!(text.starts_with("throng: ") && text.trim_end().lines().count() == 1, "one sentence: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

#[test]
fn a_wrong_configuration_ends_with_2_and_makes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, data) = (dir.path().join("throng.toml"), dir.path().join("data"));
    let missing = dir.path().join("absent.toml");
    let said = rig::run(serve(&data).args(["--config", path(&missing)]));
    assert_refused(&said, 2, &["configuration", "cannot read", "absent.toml"]);
    for (text, words) in [
        ("listen = [", ["throng.toml", "line 1"]),
        ("\nlissten = \"127.0.0.1:4400\"", ["line 2", "lissten"]),
        ("[limits]\nbody_max = \"much\"", ["line 2", "invalid type"]),
        ("[limits]\nbody_max = 0", ["limits.body_max", "between"]),
    ] {
        fs::write(&file, text).expect("written");
        assert_refused(&rig::run(serve(&data).args(["--config", path(&file)])), 2, &words);
    }
    assert_refused(&rig::run(serve(&data).args(["--role", "gateway"])), 2, &["--join"]);
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn a_port_in_use_is_named_and_the_data_directory_is_not_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let tcp = TcpListener::bind(LOOPBACK).expect("a port");
    let held = tcp.local_addr().expect("bound").to_string();
    let udp = UdpSocket::bind(LOOPBACK).expect("a port");
    let held_udp = udp.local_addr().expect("bound").to_string();
    for (flag, address, word) in [
        ("--listen", &held, "(TCP)"),
        ("--listen", &held_udp, "(UDP)"),
        ("--peer-listen", &held, "for other nodes"),
        ("--ops-listen", &held, "for operations"),
    ] {
        let said = rig::run(rig::serve_with(&data, &[(flag, address)]).arg("--exit-with-parent"));
        assert_refused(&said, 1, &["cannot listen on", address, word, "in use"]);
        assert!(!data.exists(), "{flag}: the directory was made");
    }
}

#[test]
fn a_directory_of_somebody_else_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("thesis.tex"), "the only copy").expect("written");
    let before = contents(dir.path());
    assert_refused(&rig::run(&mut serve(dir.path())), 1, &["not empty", "not a Throng data directory"]);
    let said = throng(&["cluster", "start", "--port", "0", "--data-dir", path(dir.path())]);
    assert_refused(&said, 1, &["not empty", "no Throng cluster"]);
    let said = throng(&["token", "--user", "alice", "--data-dir", path(dir.path())]);
    assert_refused(&said, 1, &["no key at", "token.pk8", "throng serve"]);
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_data_directory_that_does_not_fit_is_refused_untouched_and_serves_again_once_it_fits() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let node = Node::start(&data, &[]);
    for number in 0..5 {
        node.send("alice", "bob", &format!("message {number}"));
    }
    let history = node.history("alice", "bob");
    let said = rig::run(&mut serve(&data));
    assert_refused(&said, 1, &["already locked", path(&data)]);
    node.send("bob", "alice", "the first node did not notice");
    node.kill();

    let refused = |flags: &[&str], words: &[&str]| {
        let before = contents(&data);
        assert_refused(&rig::run(serve(&data).args(flags)), 1, words);
        assert_eq!(contents(&data), before, "{words:?}: something was changed");
    };
    refused(&["--cluster-id", "00112233445566778899aabbccddeeff"], &["belongs to cluster", "00112233"]);
    refused(&["--shards", "32"], &["64 shards", "not 32"]);
    refused(&["--node-id", "2"], &["belongs to node 1", "not to node 2"]);

    let format = data.join("FORMAT");
    let text = fs::read_to_string(&format).expect("there");
    fs::write(&format, text.replacen("throng data 3", "throng data 7", 1)).expect("written");
    refused(&[], &["format version 7", "reads version 3"]);
    fs::write(&format, text.replacen("shards 64", "shards 32", 1)).expect("written");
    refused(&[], &["FORMAT", "damaged", "checksum"]);
    fs::write(&format, &text).expect("written");

    let restore = flip_synced_commit(&data);
    refused(&[], &["log", "damaged", "must not start"]);
    restore();

    let state = data.join("state");
    fs::rename(&state, dir.path().join("aside")).expect("moved");
    refused(&[], &["incomplete", "state"]);
    fs::rename(dir.path().join("aside"), &state).expect("moved back");

    let after = Node::start(&data, &[]).history("alice", "bob");
    assert!(after.starts_with(&history) && after.contains("did not notice"), "{history}\nbecame\n{after}");
}

#[test]
fn a_killed_node_has_the_same_history_and_a_terminated_one_ends_with_0() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    for number in 0..10 {
        node.send("alice", "bob", &format!("message {number}"));
    }
    let before = node.history("bob", "alice");
    assert_eq!(before.matches("alice: message").count(), 10, "{before}");
    node.kill();
    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.history("bob", "alice"), before);
    assert_eq!(node.terminate(), Some(0));
    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.history("bob", "alice"), before);
}

#[test]
fn a_refused_token_is_named_by_its_code_and_status_tells_how_the_node_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let minter = Minter::from_file(&dir.path().join("keys/token.pk8")).expect("the node made it");
    let expired = minter.mint("alice", 1, 1_000_000, 60);
    let foreign = tempfile::tempdir().expect("a directory");
    let other = Node::start(foreign.path(), &[]);
    let foreign = throng(&["token", "--user", "alice", "--data-dir", path(foreign.path())]).stdout;
    drop(other);
    for (token, code) in
        [(&*expired, "TOKEN_EXPIRED"), ("garbage", "TOKEN_INVALID"), (foreign.trim(), "TOKEN_INVALID")]
    {
        let said = rig::run(node.command("send", "alice", "bob").args(["--token", token, "hello"]));
        assert_refused(&said, 1, &["cannot connect", code]);
    }
    let good = throng(&["token", "--user", "alice", "--data-dir", path(dir.path())]).stdout;
    let said = rig::run(node.command("send", "alice", "bob").args(["--token", good.trim(), "hello"]));
    assert_eq!((said.code, said.stdout.starts_with("stored as #")), (Some(0), true), "{}", said.stderr);

    let said = throng(&["status", "--ops", &node.ops()]);
    for word in ["node 1", "ready", "64 of 64 led here", "0 without a leader"] {
        assert!(said.stdout.contains(word), "{word:?} is not in: {}", said.stdout);
    }
    let ops = node.ops();
    assert_eq!(rig::status(&ops).expect("answers")["ready"]["pid"], node.pid());
    drop(node);
    assert_refused(&throng(&["status", "--ops", &ops]), 1, &["no node answers at", &ops]);
}

#[test]
fn two_users_talk_through_a_gateway_process_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, own) = (dir.path().join("router"), dir.path().join("gateway"));
    let router = Node::start(&data, &["--role", "router,storage"]);
    let keys = data.join("keys");
    let flags = ["--role", "gateway", "--keys", path(&keys), "--join", &router.address("peer")];
    let gateway = Node::start(&own, &flags);
    // Commands take the key from the router's directory.
    let talk = |action: &str, user: &str, with: &str| {
        command(action, user, with, &gateway.address("websocket"), &data)
    };
    assert_eq!(rig::run(talk("send", "alice", "bob").arg("hello bob")).code, Some(0));
    assert_eq!(rig::run(talk("send", "bob", "alice").args(["--transport", "quic", "hi"])).code, Some(0));
    let said = rig::run(&mut talk("history", "alice", "bob"));
    assert!(said.stdout.contains("alice: hello bob") && said.stdout.contains("bob: hi"), "{}", said.stdout);
    assert_eq!(gateway.terminate(), Some(0));
    let peer = router.address("peer");
    drop(router);
    let said = rig::run(serve(&own).args(["--role", "gateway", "--join", &peer]));
    assert_refused(&said, 1, &["no router answers at", &peer]);
}

#[test]
fn the_demo_delivers_and_ends_with_0() {
    let said = throng(&["demo"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("bob (QUIC): #"), "{}", said.stdout);
}

#[test]
fn a_local_cluster_survives_the_death_of_a_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path(), &[]);
    cluster.send(0, "alice", "bob", "before");
    cluster.kill_node(2);
    cluster.send(1, "alice", "bob", "after");
    cluster.send(0, "bob", "alice", "and on");
    let history = cluster.history(1, "bob", "alice");
    for text in ["alice: before", "alice: after", "bob: and on"] {
        assert!(history.contains(text), "{text:?} is not in: {history}");
    }
    assert_eq!(cluster.terminate(), Some(0));
}

/// A backup is of the moment it was taken, a restored node goes on from there in a new epoch, and damage is refused.
#[test]
fn a_restored_backup_serves_what_was_stored_and_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, backup, new) = (dir.path().join("data"), dir.path().join("backup"), dir.path().join("new"));
    let node = Node::start(&data, &[]);
    for number in 0..5 {
        node.send("alice", "bob", &format!("message {number}"));
    }
    let history = node.history("alice", "bob");
    let said = throng(&["backup", path(&backup), "--ops", &node.ops()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_refused(&throng(&["backup", path(&backup), "--ops", &node.ops()]), 1, &["not empty"]);
    node.send("bob", "alice", "too late for the backup");
    assert_refused(&throng(&["restore", path(&backup), "--data-dir", path(&data)]), 1, &["is not empty"]);
    assert_eq!(node.terminate(), Some(0));

    let restore = || throng(&["restore", path(&backup), "--data-dir", path(&new)]);
    let part = fs::read_dir(&backup).expect("there").map(|entry| entry.expect("an entry").path());
    let part = part
        .filter(|path| path.extension().is_some_and(|end| end == "rows"))
        .max_by_key(|path| fs::metadata(path).expect("there").len());
    let part = part.expect("a shard with rows");
    let bytes = fs::read(&part).expect("readable");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&part, damaged).expect("written");
    let said = restore();
    assert!(said.code == Some(1) && !new.exists(), "{}", said.stderr);
    fs::write(&part, bytes).expect("written back");
    let said = restore();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("history epoch 2"), "{}", said.stdout);

    // The keys are not part of a backup.
    let restored = Node::start(&new, &["--keys", path(&data.join("keys"))]);
    let server = restored.address("websocket");
    let with_keys = |action: &str, user: &str, with: &str| command(action, user, with, &server, &data);
    let seen = rig::run(&mut with_keys("history", "alice", "bob"));
    assert_eq!((seen.code, seen.stdout), (Some(0), history), "{}", seen.stderr);
    let said = rig::run(with_keys("send", "bob", "alice").arg("after the restore"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    restored.kill();
    let restored = Node::start(&new, &["--keys", path(&data.join("keys"))]);
    let server = restored.address("websocket");
    let seen = rig::run(&mut command("history", "alice", "bob", &server, &data));
    assert!(
        seen.stdout.contains("after the restore") && !seen.stdout.contains("too late"),
        "{}",
        seen.stdout
    );
}
