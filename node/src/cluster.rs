//! `throng cluster`: a local cluster of real processes in one command, and the certificates of its links.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use throng_runtime::tls::PeerKind;
use throng_wire::NodeId;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ClusterCertsArgs, ClusterJoinArgs, ClusterStartArgs};
use crate::config::cores;
use crate::error::Failure;
use crate::ready::Ready;
use crate::{identity, peer_certificates};

/// How long a node may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause before a dead node is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// How often certificates are looked at; they are renewed in the last third of their life.
const RENEWAL_EVERY: Duration = Duration::from_secs(3600);

/// How long the nodes get to stop in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a local cluster is; kept in `cluster.json` so that a second start finds the same nodes on the same ports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LocalCluster {
    /// Cluster id, hexadecimal.
    pub(crate) cluster_id: String,
    /// Shards, if not the default.
    pub(crate) shards: Option<u32>,
    /// The nodes.
    pub(crate) nodes: Vec<LocalNode>,
}

/// One node of a local cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LocalNode {
    /// Node number.
    pub(crate) id: u64,
    /// Clients.
    pub(crate) client: SocketAddr,
    /// Other nodes.
    pub(crate) peer: SocketAddr,
    /// Operations.
    pub(crate) ops: SocketAddr,
    /// It joined the running cluster.
    #[serde(default)]
    pub(crate) joined: bool,
    /// What it shares a fate with.
    #[serde(default)]
    pub(crate) zone: String,
}

impl LocalCluster {
    fn id(&self) -> Result<[u8; 16], Failure> {
        crate::config::cluster_id(&self.cluster_id)
    }

    /// The nodes that the cluster began with.
    fn founders(&self) -> impl Iterator<Item = &LocalNode> {
        self.nodes.iter().filter(|node| !node.joined)
    }

    fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| NodeId(node.id)).collect()
    }

    /// Makes the certificates of the peer links, and renews those that end within the next ten days.
    fn refresh_certificates(&self, dir: &Path) -> Result<(), Failure> {
        peer_certificates::refresh(&dir.join("keys"), self.id()?, &self.node_ids())
    }
}

/// Issues new certificates for the peer links of a cluster below `dir`, or of one that is laid out elsewhere.
///
/// # Errors
/// [`Failure`] if it is not known which nodes there are, or a file cannot be written.
pub(crate) fn certs(args: &ClusterCertsArgs) -> Result<(), Failure> {
    let path = args.data_dir.join(CLUSTER_FILE);
    let (id, nodes) = match (&args.cluster_id, args.nodes) {
        (Some(id), Some(count)) => (crate::config::cluster_id(id)?, (1..=count).map(NodeId).collect()),
        _ => {
            let cluster = load(&path)?.ok_or_else(|| {
                Failure::Config(format!(
                    "{} is not there; name the cluster's --data-dir, or --cluster-id and --nodes",
                    path.display()
                ))
            })?;
            (cluster.id()?, cluster.node_ids())
        }
    };
    let keys = args.data_dir.join("keys");
    peer_certificates::issue(&keys, id, &nodes, args.days)?;
    println!("{} certificates good for {} days in {}", nodes.len() + 1, args.days, keys.display());
    Ok(())
}

fn load(path: &Path) -> Result<Option<LocalCluster>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let unreadable =
        |e: &dyn std::fmt::Display| Failure::runtime(format!("cannot use {}", path.display()), e);
    let text = fs::read_to_string(path).map_err(|e| unreadable(&e))?;
    serde_json::from_str(&text).map(Some).map_err(|e| unreadable(&e))
}

/// Operations addresses of the nodes of a cluster that `throng cluster start` laid out.
///
/// # Errors
/// [`Failure`] if there is none in that directory.
pub(crate) fn ops_addresses(dir: &Path) -> Result<Vec<SocketAddr>, Failure> {
    let path = dir.join(CLUSTER_FILE);
    let cluster = load(&path)?.ok_or_else(|| Failure::Config(format!("{} is not there", path.display())))?;
    Ok(cluster.nodes.iter().map(|node| node.ops).collect())
}

/// File that describes the cluster, below its data directory.
pub(crate) const CLUSTER_FILE: &str = "cluster.json";

struct Running {
    node: LocalNode,
    child: Child,
}

/// Starts the cluster and stays until interrupted.
///
/// # Errors
/// [`Failure`] if a node cannot be started or ends while it is being started.
pub(crate) fn start(args: &ClusterStartArgs) -> Result<(), Failure> {
    if !matches!(args.nodes, 1 | 3 | 5) {
        return Err(Failure::Config(format!(
            "--nodes {} is not 1, 3 or 5: a majority needs an odd number",
            args.nodes
        )));
    }
    let cluster = load_or_lay_out(args)?;
    identity::load_or_make_key(&args.data_dir.join("keys"))?;
    crate::certificate::paths(None, &args.data_dir.join("keys"))?;
    cluster.refresh_certificates(&args.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::runtime("cannot start the async runtime", e))?;
    runtime.block_on(supervise(args, &cluster))
}

fn load_or_lay_out(args: &ClusterStartArgs) -> Result<LocalCluster, Failure> {
    let dir = &args.data_dir;
    let path = dir.join(CLUSTER_FILE);
    if let Some(cluster) = load(&path)? {
        let founders = cluster.founders().count();
        if founders as u64 != args.nodes {
            return Err(Failure::Config(format!(
                "{} holds a cluster of {founders} nodes; start it with --nodes {founders} or choose another \
                 --data-dir",
                dir.display(),
            )));
        }
        return Ok(cluster);
    }
    fs::create_dir_all(dir).map_err(|e| Failure::runtime(format!("cannot make {}", dir.display()), e))?;
    let unreadable = |e| Failure::runtime(format!("cannot list {}", dir.display()), e);
    let half_written = path.with_extension("tmp");
    let mut entries = fs::read_dir(dir).map_err(unreadable)?;
    if entries.any(|entry| entry.is_ok_and(|entry| entry.path() != half_written)) {
        return Err(Failure::Runtime(format!(
            "{} is not empty and holds no Throng cluster; choose another --data-dir",
            dir.display()
        )));
    }
    let cluster = lay_out(args)?;
    save(&path, &cluster)?;
    Ok(cluster)
}

fn save(path: &Path, cluster: &LocalCluster) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(cluster).expect("plain fields always serialize");
    // In one piece, so that whoever waits for the file never reads half of it.
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text + "\n")
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| Failure::runtime(format!("cannot write {}", path.display()), e))
}

/// Adds a node to a local cluster and becomes it.
///
/// # Errors
/// [`Failure`] if there is no such cluster; otherwise this process is the node, and ends as it does.
pub(crate) fn join(args: &ClusterJoinArgs) -> Result<(), Failure> {
    let path = args.data_dir.join(CLUSTER_FILE);
    let mut cluster = load(&path)?.ok_or_else(|| {
        Failure::Config(format!("{} is not there; name the cluster's --data-dir", path.display()))
    })?;
    let node = match args.node {
        Some(id) => {
            let known = cluster.nodes.iter().find(|node| node.id == id).cloned();
            known.ok_or_else(|| Failure::Config(format!("{} knows no node {id}", path.display())))?
        }
        None => {
            let id = cluster.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
            let zone = args.zone.clone().unwrap_or_default();
            let [client, peer, ops] = ports(args.port, &mut FreePorts::default())?;
            let node = LocalNode { id, client, peer, ops, joined: true, zone };
            cluster.nodes.push(node.clone());
            save(&path, &cluster)?;
            node
        }
    };
    cluster.refresh_certificates(&args.data_dir)?;
    let failed = |e| Failure::runtime(format!("node {}: cannot start", node.id), e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = std::process::Command::new(program);
    command.args(serve_args(&args.data_dir, &cluster, &node));
    Err(failed(std::os::unix::process::CommandExt::exec(&mut command)))
}

/// Three addresses: for clients, other nodes and operations.
fn ports(first: u16, free: &mut FreePorts) -> Result<[SocketAddr; 3], Failure> {
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if first == 0 {
        return Ok([loopback(free.take()?), loopback(free.take()?), loopback(free.take()?)]);
    }
    match first.checked_add(2) {
        Some(_) => Ok([first, first + 1, first + 2].map(loopback)),
        None => Err(Failure::Config(format!("--port {first} leaves no room for three ports"))),
    }
}

fn lay_out(args: &ClusterStartArgs) -> Result<LocalCluster, Failure> {
    let mut free = FreePorts::default();
    let mut nodes = Vec::new();
    for id in 1..=args.nodes {
        let base = if args.port == 0 { 0 } else { u64::from(args.port) + 10 * (id - 1) };
        let base = u16::try_from(base)
            .map_err(|_| Failure::Config(format!("--port {} leaves no room for the nodes", args.port)))?;
        let [client, peer, ops] = ports(base, &mut free)?;
        nodes.push(LocalNode { id, client, peer, ops, joined: false, zone: String::new() });
    }
    let id = crate::serve::random_id()?;
    Ok(LocalCluster { cluster_id: throng_wire::ChannelId(id).to_string(), shards: args.shards, nodes })
}

/// Ports that were free for TCP and UDP a moment ago. All are held until the last is taken, so none is named twice.
#[derive(Default)]
struct FreePorts {
    held: Vec<(TcpListener, UdpSocket)>,
}

impl FreePorts {
    fn take(&mut self) -> Result<u16, Failure> {
        for _ in 0..64 {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .map_err(|e| Failure::runtime("no free port", e))?;
            let port = tcp.local_addr().map_err(|e| Failure::runtime("no free port", e))?.port();
            if let Ok(udp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
                self.held.push((tcp, udp));
                return Ok(port);
            }
        }
        Err(Failure::Runtime("no port is free for both TCP and UDP".into()))
    }
}

fn ready_file(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node-{id}.ready.json"))
}

/// The arguments under which a node of a local cluster serves.
fn serve_args(dir: &Path, cluster: &LocalCluster, node: &LocalNode) -> Vec<OsString> {
    let tls = peer_certificates::files(&dir.join("keys"), PeerKind::Node(NodeId(node.id)));
    let addresses =
        |with: fn(&LocalNode) -> String| cluster.founders().map(with).collect::<Vec<_>>().join(",");
    let mut args: Vec<OsString> = vec!["serve".into()];
    let mut flag = |name: &str, value: OsString| args.extend([name.into(), value]);
    flag("--node-id", node.id.to_string().into());
    flag("--cluster-id", cluster.cluster_id.clone().into());
    if node.joined {
        flag("--join", addresses(|node| node.peer.to_string()).into());
    } else {
        flag("--peers", addresses(|node| format!("{}={}", node.id, node.peer)).into());
    }
    if !node.zone.is_empty() {
        flag("--zone", node.zone.clone().into());
    }
    flag("--listen", node.client.to_string().into());
    flag("--peer-listen", node.peer.to_string().into());
    flag("--ops-listen", node.ops.to_string().into());
    flag("--data-dir", dir.join(format!("node-{}", node.id)).into());
    flag("--keys", dir.join("keys").into());
    flag("--peer-cert", tls.certificate.into());
    flag("--peer-key", tls.key.into());
    flag("--peer-ca", tls.authorities.into());
    // The nodes share the cores of this machine: a loop per core in each would only wait for the others'.
    flag("--loops", (cores() / cluster.nodes.len()).max(1).to_string().into());
    if let Some(shards) = cluster.shards {
        flag("--shards", shards.to_string().into());
    }
    args
}

fn spawn(args: &ClusterStartArgs, cluster: &LocalCluster, node: &LocalNode) -> Result<Running, Failure> {
    let dir = &args.data_dir;
    let failed = |what: &str, e: std::io::Error| Failure::runtime(format!("node {}: {what}", node.id), e);
    let program = std::env::current_exe().map_err(|e| failed("cannot find this program", e))?;
    let log_path = dir.join(format!("node-{}.log", node.id));
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|e| failed("cannot open its log", e))?;
    let errors = log.try_clone().map_err(|e| failed("cannot open its log", e))?;
    let ready = ready_file(dir, node.id);
    if ready.exists() {
        fs::remove_file(&ready).map_err(|e| failed("cannot remove its old ready file", e))?;
    }
    let mut command = Command::new(program);
    command
        .args(serve_args(dir, cluster, node))
        .arg("--ready-file")
        .arg(&ready)
        .arg("--exit-with-parent")
        .stdin(std::process::Stdio::null())
        .stdout(log)
        .stderr(errors);
    let child = command.spawn().map_err(|e| failed("cannot start", e))?;
    Ok(Running { node: node.clone(), child })
}

async fn supervise(args: &ClusterStartArgs, cluster: &LocalCluster) -> Result<(), Failure> {
    let no_signals = |e| Failure::runtime("cannot watch for signals", e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut running = Vec::new();
    for node in &cluster.nodes {
        running.push(spawn(args, cluster, node)?);
    }
    wait_ready(args, &mut running).await?;
    println!("throng cluster of {} nodes serves; data in {}", running.len(), args.data_dir.display());
    for Running { node, child } in &running {
        let pid = child.id().unwrap_or_default();
        println!("  node {} (pid {pid}): clients {}, operations {}", node.id, node.client, node.ops);
    }
    println!("try: throng status --ops {}", running[0].node.ops);
    let mut renewal = tokio::time::interval(RENEWAL_EVERY);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = tokio::time::sleep(Duration::from_millis(100)) => reap(args, cluster, &mut running).await?,
            _ = renewal.tick() => {
                if let Err(failure) = cluster.refresh_certificates(&args.data_dir) {
                    eprintln!("throng: certificates are not renewed: {failure}");
                }
            }
        }
    }
    stop(&mut running).await;
    Ok(())
}

async fn wait_ready(args: &ClusterStartArgs, running: &mut [Running]) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
    for Running { node, child } in running {
        let ready = ready_file(&args.data_dir, node.id);
        while !ready.exists() {
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || tokio::time::Instant::now() >= deadline {
                let log = args.data_dir.join(format!("node-{}.log", node.id));
                return Err(Failure::Runtime(format!(
                    "node {} {}; see {}",
                    node.id,
                    if ended.is_some() { "ended" } else { "is not ready yet" },
                    log.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ready::wait(&ready, Duration::from_secs(1), || true)?;
    }
    Ok(())
}

/// Reports nodes that ended and, if asked to, starts them again.
async fn reap(
    args: &ClusterStartArgs,
    cluster: &LocalCluster,
    running: &mut Vec<Running>,
) -> Result<(), Failure> {
    let mut index = 0;
    while index < running.len() {
        let Ok(Some(status)) = running[index].child.try_wait() else {
            index += 1;
            continue;
        };
        let Running { node, .. } = running.remove(index);
        println!("node {} ended ({status})", node.id);
        if args.restart {
            tokio::time::sleep(RESTART_PAUSE).await;
            let again = spawn(args, cluster, &node)?;
            println!("node {} started again (pid {})", node.id, again.child.id().unwrap_or_default());
            running.insert(index, again);
            index += 1;
        } else if running.is_empty() {
            return Err(Failure::Runtime("all nodes have ended".into()));
        }
    }
    Ok(())
}

async fn stop(running: &mut [Running]) {
    for Running { child, .. } in running.iter() {
        if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            // A child that has ended meanwhile is what we want.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    for Running { node, child } in running.iter_mut() {
        if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
            eprintln!("node {} did not stop within {STOP_TIMEOUT:?}, killing it", node.id);
            let _ = child.kill().await;
        }
    }
}
