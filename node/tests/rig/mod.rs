//! Starts `throng` processes, waits for them within limits, and never leaves one behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Any free port.
pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

/// Longest wait for anything; a loaded machine needs a fraction of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a process ended and what it printed.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Asks until there is an answer.
pub(crate) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child that ends with its owner.
struct Owned(Child);

impl Owned {
    fn exit_code(&mut self) -> Option<i32> {
        wait("the process ends", || self.0.try_wait().expect("it is our child")).code()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it is our child, not yet waited for");
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    let files = [(); 2].map(|()| tempfile::tempfile().expect("a temporary file"));
    let [out, err] = files.each_ref().map(|file| file.try_clone().expect("a second handle"));
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("the program starts");
    let code = Owned(child).exit_code();
    let [stdout, stderr] = files.map(|mut file| {
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("readable");
        text
    });
    Said { code, stdout, stderr }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    command.env_remove("THRONG_LOG").env_remove("THRONG_TOKEN");
    command
}

/// `throng …`, to its end.
pub(crate) fn throng(args: &[&str]) -> Said {
    run(program().args(args))
}

/// `throng serve` on any free ports.
pub(crate) fn serve(data: &Path) -> Command {
    let mut command = serve_with(data, &[]);
    command.arg("--exit-with-parent");
    command
}

/// `throng serve` on given ports, the others free ones.
pub(crate) fn serve_with(data: &Path, addresses: &[(&str, &str)]) -> Command {
    let mut command = program();
    command.args(["serve", "--loops", "1", "--data-dir"]).arg(data);
    for flag in ["--listen", "--peer-listen", "--ops-listen"] {
        let given = addresses.iter().find(|(name, _)| *name == flag);
        command.args([flag, given.map_or(LOOPBACK, |(_, address)| address)]);
    }
    command
}

/// `throng send`, `history` …: an action of `user` towards `with`.
pub(crate) fn command(action: &str, user: &str, with: &str, server: &str, data: &Path) -> Command {
    let mut command = program();
    command.args([action, "--as", user, "--with", with, "--server", server, "--data-dir"]).arg(data);
    command
}

/// What a node's operations port says.
pub(crate) fn status(ops: &str) -> Option<Value> {
    let said = throng(&["status", "--json", "--ops", ops]);
    (said.code == Some(0)).then(|| serde_json::from_str(&said.stdout).expect("JSON"))
}

/// A node that serves.
pub(crate) struct Node {
    child: Owned,
    data: PathBuf,
    ready: Value,
}

impl Node {
    /// Starts one and waits until it takes traffic.
    pub(crate) fn start(data: &Path, flags: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let mut command = serve(data);
        command.args(flags);
        Self::spawn(command, data, scratch.path())
    }

    /// Starts `throng serve …`, with its log and ready file below `scratch`, and waits until it takes traffic.
    pub(crate) fn spawn(mut command: Command, data: &Path, scratch: &Path) -> Self {
        fs::create_dir_all(scratch).expect("a directory");
        let (ready, log) = (scratch.join("ready.json"), scratch.join("log"));
        let _ = fs::remove_file(&ready); // of a node before, if there was one
        command.arg("--ready-file").arg(&ready);
        let output = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut child = Owned(command.spawn().expect("the program starts"));
        let text = wait("the node is ready", || {
            let ended = child.0.try_wait().expect("it is our child");
            assert!(ended.is_none(), "it ended: {}", fs::read_to_string(&log).unwrap_or_default());
            fs::read_to_string(&ready).ok()
        });
        let ready = serde_json::from_str(&text).expect("JSON");
        Self { child, data: data.to_owned(), ready }
    }

    /// One of its addresses, by its name in the ready file.
    pub(crate) fn address(&self, name: &str) -> String {
        self.ready[name].as_str().expect("an address").to_owned()
    }

    pub(crate) fn ops(&self) -> String {
        self.address("ops")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn command(&self, action: &str, user: &str, with: &str) -> Command {
        command(action, user, with, &self.address("websocket"), &self.data)
    }

    pub(crate) fn send(&self, user: &str, with: &str, text: &str) {
        let said = run(self.command("send", user, with).arg(text));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }

    pub(crate) fn history(&self, user: &str, with: &str) -> String {
        let said = run(&mut self.command("history", user, with));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        said.stdout
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(crate) fn kill(self) {
        drop(self.child);
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.child.signal(Signal::TERM);
        self.child.exit_code()
    }
}

/// `throng cluster start --nodes 3`.
pub(crate) struct Cluster {
    child: Owned,
    dir: PathBuf,
    nodes: Vec<Value>,
}

impl Cluster {
    /// Starts it and waits until no shard is without a leader.
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Self {
        let data = dir.join("cluster");
        let mut command = program();
        command
            .args(["cluster", "start", "--nodes", "3", "--port", "0", "--data-dir"])
            .arg(&data)
            .args(flags);
        let log = dir.join("supervisor.log");
        let output = File::create(&log).expect("a log");
        let errors = output.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let mut child = Owned(command.spawn().expect("the program starts"));
        wait("the cluster serves", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(child.0.try_wait().expect("it is our child").is_none(), "it ended: {said}");
            said.contains("try: ").then_some(())
        });
        let text = fs::read_to_string(data.join("cluster.json")).expect("laid out");
        let laid_out: Value = serde_json::from_str(&text).expect("JSON");
        let nodes = laid_out["nodes"].as_array().expect("a list").clone();
        let cluster = Self { child, dir: data, nodes };
        wait("every shard has a leader", || {
            let leaderless = |node| status(cluster.address(node, "ops"))?["router"]["leaderless"].as_u64();
            (0..3).all(|node| leaderless(node) == Some(0)).then_some(())
        });
        cluster
    }

    /// Where the cluster keeps its data.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a node's operations port says, if it answers.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        status(self.address(node, "ops"))
    }

    /// A node's metrics.
    pub(crate) fn metrics(&self, node: usize) -> String {
        let ops = self.address(node, "ops");
        let mut stream = TcpStream::connect(ops).expect("it listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {ops}\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    }

    fn address(&self, node: usize, name: &str) -> &str {
        self.nodes[node][name].as_str().expect("an address")
    }

    /// Sends through a node, again and again until it is stored.
    pub(crate) fn send(&self, node: usize, user: &str, with: &str, text: &str) {
        let server = self.address(node, "client");
        wait("the message is stored", || {
            (run(command("send", user, with, server, &self.dir).arg(text)).code == Some(0)).then_some(())
        });
    }

    pub(crate) fn history(&self, node: usize, user: &str, with: &str) -> String {
        let said = run(&mut command("history", user, with, self.address(node, "client"), &self.dir));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        said.stdout
    }

    /// SIGKILL to a node, by the process id that it says it has.
    pub(crate) fn kill_node(&self, node: usize) {
        let status = status(self.address(node, "ops")).expect("it answers");
        let pid = status["ready"]["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32));
        kill_process(pid.expect("a process id"), Signal::KILL).expect("it lives");
    }

    /// SIGTERM to the supervisor, which stops the nodes; its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.child.signal(Signal::TERM);
        self.child.exit_code()
    }
}

/// Every file below a directory with a hash of its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let mut hash = DefaultHasher::new();
            if path.is_dir() {
                left.push(path.clone());
            } else {
                fs::read(&path).expect("readable").hash(&mut hash);
            }
            found.insert(path, hash.finish());
        }
    }
    found
}

/// Flips one bit in the log: inside a synced commit that others follow. Gives the way back.
pub(crate) fn flip_synced_commit(data: &Path) -> impl FnOnce() {
    let path = data.join("log/0000000001.log");
    let bytes = fs::read(&path).expect("the first segment");
    // Commits begin at block boundaries with this magic (storage/core/src/log/layout.rs).
    let commits: Vec<usize> =
        (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"TLCM")).collect();
    assert!(commits.len() > 4, "several commits in one segment");
    let mut damaged = bytes.clone();
    damaged[commits[commits.len() / 2] + 64] ^= 1;
    fs::write(&path, damaged).expect("written");
    move || fs::write(&path, bytes).expect("written back")
}
