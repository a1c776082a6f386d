//! A three-node cluster of real processes under load while the node that leads most shards is killed with SIGKILL and
//! started again, ten times in turn: nothing acknowledged may be lost, doubled or skipped.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::programs::{LOADGEN, THRONG};
use crate::server::temporary_folder;
use crate::tally::Tally;

const NODES: usize = 3;
const KILLS: usize = 10;
/// 1,000 channels (pairs), 100,000 messages; the schedule outlasts the kills.
const PAIRS: &str = "1000";
const MESSAGES: &str = "100000";
const RATE: &str = "1250";
/// Load before the first kill and between kills.
const PAUSE: Duration = Duration::from_secs(1);
/// A killed node is back, and every shard has a leader, within this.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A local cluster that ends with the value.
struct Cluster {
    supervisor: Child,
    folder: PathBuf,
    nodes: Vec<Value>,
}

impl Cluster {
    fn start(throng: &Path) -> Result<Self> {
        let folder = temporary_folder()?;
        let mut command = Command::new(throng);
        command.args(["cluster", "start", "--restart", "--port", "0", "--nodes", &NODES.to_string()]);
        command.arg("--data-dir").arg(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        let supervisor = command.spawn().map_err(|error| format!("cannot start a cluster: {error}"))?;
        let mut cluster = Self { supervisor, folder, nodes: Vec::new() };
        let layout = cluster.folder.join("cluster.json");
        wait("the cluster's layout", || layout.exists())?;
        let text = fs::read_to_string(&layout).map_err(|error| format!("{}: {error}", layout.display()))?;
        let layout: Value = serde_json::from_str(&text).map_err(|error| format!("cluster.json: {error}"))?;
        cluster.nodes = layout["nodes"].as_array().cloned().unwrap_or_default();
        wait("leaders of all shards", || cluster.is_whole())?;
        Ok(cluster)
    }

    fn status(&self, node: usize) -> Option<Value> {
        get(self.nodes[node]["ops"].as_str()?, "/status")
    }

    /// All nodes answer, every shard has a leader, and the leaders serve.
    fn is_whole(&self) -> bool {
        let views: Vec<Value> = (0..self.nodes.len()).filter_map(|node| self.status(node)).collect();
        let serving: u64 = views.iter().filter_map(|view| view["router"]["serving"].as_u64()).sum();
        let shards = views.first().and_then(|view| view["router"]["shards"].as_u64());
        views.len() == NODES && Some(serving) == shards
    }

    /// Node and process id of whoever leads most shards.
    fn first_leader(&self) -> Option<(usize, u32, u64)> {
        let views = (0..self.nodes.len()).filter_map(|node| {
            let view = self.status(node)?;
            let pid = u32::try_from(view["ready"]["pid"].as_u64()?).ok()?;
            Some((node, pid, view["router"]["serving"].as_u64()?))
        });
        views.max_by_key(|(_, _, serving)| *serving)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The nodes follow their parent; all of this fails only if it has ended already.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        thread::sleep(Duration::from_millis(500));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs load and kills side by side; passes if the generator finds nothing wrong and every kill was recovered from.
pub(crate) fn run() -> Result<Tally> {
    let (throng, loadgen) = (THRONG.build()?, LOADGEN.build()?);
    let cluster = Cluster::start(&throng)?;
    let mut load = start_load(&loadgen, &cluster)?;
    let kills = kill_leaders(&cluster, &mut load);
    if kills.is_err() {
        // What it would report is of no use any more; fails only if it has ended.
        let _ = load.kill();
    }
    let status = load.wait().map_err(|error| format!("the load generator: {error}"))?;
    println!("chaos: {} kills, load generator {status}", kills.as_ref().copied().unwrap_or_default());
    if kills? < KILLS {
        return Err(format!("the load ended before {KILLS} kills; nothing was shown"));
    }
    Ok(Tally::one(status.success()))
}

fn start_load(loadgen: &Path, cluster: &Cluster) -> Result<Child> {
    let keys = cluster.folder.join("keys");
    let mut command = Command::new(loadgen);
    command.args(["run", "messenger", "--quiet", "--pairs", PAIRS, "--messages", MESSAGES, "--rate", RATE]);
    command.args(["--warmup", "0s", "--dup", "2", "--transport", "ws,quic"]);
    for node in &cluster.nodes {
        let client = node["client"].as_str().unwrap_or_default();
        command.args(["--target", &format!("ws://{client}"), "--target", &format!("quic://{client}")]);
    }
    command.arg("--key").arg(keys.join("token.pk8")).arg("--ca").arg(keys.join("dev-cert.pem"));
    command.spawn().map_err(|error| format!("cannot start the load generator: {error}"))
}

/// Kills until the count is reached or the load ends; how often it struck.
fn kill_leaders(cluster: &Cluster, load: &mut Child) -> Result<usize> {
    for kill in 0..KILLS {
        thread::sleep(PAUSE);
        if !matches!(load.try_wait(), Ok(None)) {
            return Ok(kill);
        }
        let (node, pid, serving) = cluster.first_leader().ok_or("no node leads anything")?;
        let begin = Instant::now();
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        killed.map_err(|error| format!("cannot run kill: {error}"))?;
        thread::sleep(Duration::from_millis(100));
        wait("the killed node and leaders of all shards", || cluster.is_whole())?;
        println!(
            "chaos: kill {} of node {} (led {serving} shards), whole again after {:?}",
            kill + 1,
            node + 1,
            begin.elapsed()
        );
    }
    Ok(KILLS)
}

fn wait(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + RECOVERY_MAX;
    while !done() {
        if Instant::now() >= deadline {
            return Err(format!("no {what} within {RECOVERY_MAX:?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The JSON at a path of the operations port.
fn get(address: &str, path: &str) -> Option<Value> {
    let timeout = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(timeout).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
