//! A cluster of `throng serve` processes that a campaign starts, breaks and starts again. It ends with the value.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::space::Spaces;
use super::wait;
use crate::Result;
use crate::process;
use crate::server::temporary_folder;

pub(super) const NODES: usize = 3;
pub(super) const SHARDS: usize = 64;

/// A cluster is whole within this, or something is wrong.
pub(super) const WHOLE_MAX: Duration = Duration::from_secs(60);

/// A node that joins takes shards within this.
const JOIN_MAX: Duration = Duration::from_secs(30);

/// A node that was told to stop has stopped within this.
const STOP_MAX: Duration = Duration::from_secs(15);

/// One node: where it listens, where its data lies, and the process while there is one.
pub(super) struct Node {
    pub(super) client: String,
    listen: [String; 3],
    peer: String,
    ops: String,
    pub(super) data: PathBuf,
    /// The development certificate names its address.
    pub(super) has_quic: bool,
    /// It joined the running cluster, through these peer addresses.
    joined: Option<String>,
    /// It was taken out of the cluster: its place stays empty, because numbers are not used again.
    pub(super) is_gone: bool,
    /// Words before the program's name: another namespace, for instance.
    wrap: Vec<String>,
    /// More of its environment.
    pub(super) env: Vec<(String, String)>,
    child: Option<Child>,
}

/// The cluster.
pub(super) struct Cluster {
    throng: PathBuf,
    pub(super) folder: PathBuf,
    id: String,
    pub(super) nodes: Vec<Node>,
    shape: Shape,
}

/// What a campaign may want otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) shards: usize,
    /// Links between nodes are mutual TLS.
    pub(super) has_tls: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { shards: SHARDS, has_tls: true }
    }
}

impl Cluster {
    /// Three nodes on loopback, formatted and whole.
    pub(super) fn start(throng: &Path) -> Result<Self> {
        Self::start_with(throng, Shape::default())
    }

    /// The same in another shape.
    pub(super) fn start_with(throng: &Path, shape: Shape) -> Result<Self> {
        let mut cluster = Self::lay_out(throng, None)?;
        cluster.shape = shape;
        cluster.launch()?;
        Ok(cluster)
    }

    /// Three nodes, each in its own network namespace.
    pub(super) fn start_in(throng: &Path, spaces: &Spaces) -> Result<Self> {
        let mut cluster = Self::lay_out(throng, Some(spaces))?;
        cluster.launch()?;
        Ok(cluster)
    }

    /// Folders and addresses; nothing runs.
    pub(super) fn lay_out(throng: &Path, spaces: Option<&Spaces>) -> Result<Self> {
        let folder = temporary_folder()?;
        let mut held = Vec::new();
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let data = folder.join(format!("node-{}", number + 1));
            nodes.push(match spaces {
                Some(spaces) => spaces.node(number, data),
                None => Node::on_loopback(data, &mut held)?,
            });
        }
        // 32 hexadecimal digits; the folder's name is this process's own.
        let id = format!("{:016x}{:016x}", u64::from(std::process::id()), super::unix_ms());
        Ok(Self { throng: throng.to_owned(), folder, id, nodes, shape: Shape::default() })
    }

    /// Starts all nodes: the first one makes the keys, the others find them.
    pub(super) fn launch(&mut self) -> Result<()> {
        self.certify()?;
        self.spawn(0)?;
        let keys = self.keys();
        wait("the keys", WHOLE_MAX, || {
            keys.join("token.pk8").exists() && keys.join("dev-cert.pem").exists()
        })?;
        for node in 1..self.nodes.len() {
            self.spawn(node)?;
        }
        self.wait_whole().map(drop)
    }

    /// Certificates for all nodes that there are places for; those that run take theirs over.
    fn certify(&self) -> Result<()> {
        let mut certificates = Command::new(&self.throng);
        let nodes = self.nodes.len().to_string();
        certificates.args(["cluster", "certs", "--cluster-id", &self.id, "--nodes", &nodes]);
        process::run(certificates.arg("--data-dir").arg(&self.folder).stdout(Stdio::null()))
    }

    /// Starts another node, which joins through those that run. Its place.
    pub(super) fn join(&mut self) -> Result<usize> {
        let through: Vec<_> = self.running().map(|node| self.nodes[node].peer.clone()).collect();
        let place = self.nodes.len();
        let mut node = Node::on_loopback(self.folder.join(format!("node-{}", place + 1)), &mut Vec::new())?;
        node.joined = Some(through.join(","));
        self.nodes.push(node);
        self.certify()?;
        self.spawn(place)?;
        Ok(place)
    }

    /// Waits until a node that joined takes shards, as another one sees it.
    pub(super) fn wait_active(&self, asked: usize, node: usize) -> Result<Duration> {
        let number = format!("\n{} ", node + 1);
        wait("the new node takes shards", JOIN_MAX, || {
            let nodes = self.operate(asked, &["nodes"]).unwrap_or_default();
            let line = nodes.split_once(&number).and_then(|(_, rest)| rest.lines().next());
            line.is_some_and(|line| line.contains("active"))
        })
    }

    /// The places of nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].child.is_some())
    }

    /// `throng cluster …`, asked at a node; what it printed.
    pub(super) fn operate(&self, node: usize, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.throng);
        command.arg("cluster").args(words).args(["--ops", &self.nodes[node].ops]);
        let output = command.output().map_err(|error| format!("throng cluster: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => {
                Err(format!("throng cluster {words:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
            }
        }
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// Starts a node that does not run. Does not wait.
    pub(super) fn spawn(&mut self, node: usize) -> Result<()> {
        let log = self.log_path(node);
        let failed = |what: &str, error: std::io::Error| format!("node {}: {what}: {error}", node + 1);
        let log = File::options().create(true).append(true).open(&log);
        let log = log.map_err(|error| failed("its log", error))?;
        let errors = log.try_clone().map_err(|error| failed("its log", error))?;
        let mut command = self.command(node);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(|error| failed("cannot start", error))?;
        self.nodes[node].child = Some(child);
        Ok(())
    }

    fn command(&self, number: usize) -> Command {
        let node = &self.nodes[number];
        let mut command = match node.wrap.split_first() {
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(&self.throng);
                command
            }
            None => Command::new(&self.throng),
        };
        let founders = self.nodes.iter().enumerate().filter(|(_, node)| node.joined.is_none());
        let peers: Vec<_> = founders.map(|(n, node)| format!("{}={}", n + 1, node.peer)).collect();
        command.envs(node.env.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--node-id", &(number + 1).to_string(), "--cluster-id", &self.id]);
        match &node.joined {
            Some(through) => command.args(["--join", through]),
            None => command.args(["--peers", &peers.join(",")]),
        };
        command.args(["--shards", &self.shape.shards.to_string()]);
        let [client, peer, ops] = &node.listen;
        command.args(["--listen", client, "--peer-listen", peer, "--ops-listen", ops]);
        let files = [
            ("--peer-cert", format!("node-{}.pem", number + 1)),
            ("--peer-key", format!("node-{}-key.pem", number + 1)),
            ("--peer-ca", "peer-ca.pem".to_owned()),
        ];
        for (flag, file) in files.iter().filter(|_| self.shape.has_tls) {
            command.arg(flag).arg(self.keys().join(file));
        }
        command.arg("--data-dir").arg(&node.data).arg("--keys").arg(self.keys()).arg("--exit-with-parent");
        command
    }

    /// Where a node's output goes.
    pub(super) fn log_path(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{}.log", node + 1))
    }

    /// The last lines that a node printed.
    pub(super) fn last_words(&self, node: usize) -> String {
        let text = fs::read(self.log_path(node)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(600)..]).into_owned();
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// The process id of a running node.
    pub(super) fn pid(&self, node: usize) -> Option<u32> {
        self.nodes[node].child.as_ref().map(Child::id)
    }

    /// How a node ended; `None` while it runs or if it was not started.
    pub(super) fn ended(&mut self, node: usize) -> Option<ExitStatus> {
        let status = self.nodes[node].child.as_mut()?.try_wait().ok().flatten()?;
        self.nodes[node].child = None;
        Some(status)
    }

    /// SIGKILL to all of them, then waits until they are gone.
    pub(super) fn kill(&mut self, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            if let Some(child) = &mut self.nodes[*node].child {
                child.kill().map_err(|error| format!("node {}: cannot kill: {error}", node + 1))?;
            }
        }
        for node in nodes {
            if let Some(mut child) = self.nodes[*node].child.take() {
                child.wait().map_err(|error| format!("node {}: {error}", node + 1))?;
            }
        }
        Ok(())
    }

    /// Sends a signal by name.
    pub(super) fn signal(&self, node: usize, name: &str) -> Result<()> {
        let pid = self.pid(node).ok_or_else(|| format!("node {} does not run", node + 1))?;
        let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
        sent.map(drop).map_err(|error| format!("cannot run kill: {error}"))
    }

    /// SIGTERM, then waits for the end.
    pub(super) fn stop(&mut self, node: usize) -> Result<ExitStatus> {
        self.signal(node, "TERM")?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.ended(node) {
                return Ok(status);
            }
            if begin.elapsed() > STOP_MAX {
                self.kill(&[node])?;
                return Err(format!("node {} did not stop within {STOP_MAX:?}", node + 1));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a node says of itself; `None` if it does not answer within two seconds.
    pub(super) fn status(&self, node: usize) -> Option<Value> {
        self.nodes[node].child.as_ref()?;
        get(&self.nodes[node].ops, "/status")
    }

    /// Asks something of a node's operations port.
    pub(super) fn post(&self, node: usize, path: &str, body: &str) -> Result<String> {
        let failed = |error: std::io::Error| format!("node {}{path}: {error}", node + 1);
        let address = &self.nodes[node].ops;
        let mut stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed)?;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close");
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(format!("node {}{path}: {answer}", node + 1)),
        }
    }

    /// Shards that each node leads and serves.
    pub(super) fn serving(&self) -> Vec<u64> {
        let serving = |node| self.status(node).and_then(|view| view["router"]["serving"].as_u64());
        (0..self.nodes.len()).map(|node| serving(node).unwrap_or(0)).collect()
    }

    /// Whether a node answers clients that write with BUSY, or does not answer at all, which they notice as well.
    pub(super) fn refuses(&self, node: usize) -> bool {
        let is_busy = |view: Value| view["router"]["busy"].as_array().is_some_and(|why| !why.is_empty());
        self.status(node).is_none_or(is_busy)
    }

    /// The node that leads most shards.
    pub(super) fn first_leader(&self) -> usize {
        let serving = self.serving();
        (0..serving.len()).max_by_key(|node| serving[*node]).unwrap_or(0)
    }

    /// By shard: leader and term, as the highest term known to any node tells.
    pub(super) fn leaders(&self) -> Vec<(u64, u64)> {
        let mut leaders = vec![(0, 0); self.shape.shards];
        for view in (0..self.nodes.len()).filter_map(|node| self.status(node)) {
            let rows = view["router"]["shard_leader_term_applied"].as_array().cloned().unwrap_or_default();
            for (known, row) in leaders.iter_mut().zip(&rows) {
                let (leader, term) = (row[0].as_u64().unwrap_or(0), row[1].as_u64().unwrap_or(0));
                if leader != 0 && term >= known.1 {
                    *known = (leader, term);
                }
            }
        }
        leaders
    }

    /// All nodes answer, every shard has a leader, and the leaders serve.
    pub(super) fn is_whole(&self) -> bool {
        let members = self.nodes.iter().filter(|node| !node.is_gone).count();
        let views: Vec<_> = (0..self.nodes.len()).filter_map(|node| self.status(node)).collect();
        let serving: u64 = views.iter().filter_map(|view| view["router"]["serving"].as_u64()).sum();
        views.len() == members && serving == self.shape.shards as u64
    }

    /// Waits until it is whole; how long it took. A node that ends meanwhile is an error.
    pub(super) fn wait_whole(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        while !self.is_whole() {
            for node in 0..self.nodes.len() {
                if let Some(status) = self.ended(node) {
                    return Err(format!("node {} ended ({status}): {}", node + 1, self.last_words(node)));
                }
            }
            if begin.elapsed() > WHOLE_MAX {
                return Err(format!("not whole within {WHOLE_MAX:?}; serving {:?}", self.serving()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(begin.elapsed())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failure to kill means that it has ended; what is left then is the folder.
        let all: Vec<_> = (0..self.nodes.len()).collect();
        let _ = self.kill(&all);
        if std::env::var_os("THRONG_KEEP").is_some() {
            println!("chaos: kept {}", self.folder.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    fn on_loopback(data: PathBuf, held: &mut Vec<(TcpListener, UdpSocket)>) -> Result<Self> {
        let mut take = || -> Result<String> { Ok(format!("127.0.0.1:{}", free_port(held)?)) };
        let listen = [take()?, take()?, take()?];
        let [client, peer, ops] = listen.clone();
        let (wrap, env) = (Vec::new(), Vec::new());
        let (joined, is_gone) = (None, false);
        Ok(Self { client, listen, peer, ops, data, has_quic: true, joined, is_gone, wrap, env, child: None })
    }

    /// A node that others reach at `host` though it listens on loopback of its own, started through `wrap`.
    pub(super) fn at(host: &str, data: PathBuf, wrap: Vec<String>) -> Self {
        let at = |host: &str, port: u16| format!("{host}:{port}");
        let [client, peer, ops] = [at(host, 4400), at(host, 4401), at(host, 4402)];
        let listen = [4400, 4401, 4402].map(|port| at("127.0.0.1", port));
        let (joined, is_gone, env) = (None, false, Vec::new());
        Self { client, listen, peer, ops, data, has_quic: false, joined, is_gone, wrap, env, child: None }
    }
}

/// A port that is free for TCP and UDP; held until all are taken, so that none is named twice.
fn free_port(held: &mut Vec<(TcpListener, UdpSocket)>) -> Result<u16> {
    for _ in 0..64 {
        let tcp = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
        let port = tcp.local_addr().map_err(|error| error.to_string())?.port();
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)) {
            held.push((tcp, udp));
            return Ok(port);
        }
    }
    Err("no port is free for both TCP and UDP".into())
}

/// The JSON at a path of the operations port.
fn get(address: &str, path: &str) -> Option<Value> {
    let timeout = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
