//! `throng serve`: composes the drivers into a process.
//!
//! ```text
//!  main thread: tokio (operations port, signals)
//!  router thread ─ log thread, flush thread          (roles router,storage)
//!  gateway threads: one epoll loop per core, one QUIC loop   (role gateway)
//! ```

mod gateways;
mod join;
mod links;
mod peer_tls;
mod router;
mod views;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use throng_router::ShardStatus;
use throng_runtime::tls::PeerTls;
use throng_runtime::{ListenOptions, listen};
use throng_wire::Epoch;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::error::Failure;
use crate::identity::{self, Verifier};
use crate::ops::{self, Sources};
use crate::ready::Ready;

use self::gateways::{GatewayRole, Remote};
use self::router::RouterRole;

/// How often the main thread looks whether all others are alive.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// A single node has elected all its leaders within this time, or something is wrong.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// 128 random bits from the system.
///
/// # Errors
/// [`Failure::Runtime`] if the system has none.
pub(crate) fn random_id() -> Result<[u8; 16], Failure> {
    let mut id = [0u8; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id)
        .map_err(|_| Failure::Runtime("the system gave no randomness".into()))?;
    Ok(id)
}

/// 64 random bits from the system.
pub(crate) fn random_u64() -> Result<u64, Failure> {
    Ok(u64::from_be_bytes(random_id()?[..8].try_into().expect("eight of sixteen bytes")))
}

/// What a process knows of its cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterFacts {
    pub(crate) id: [u8; 16],
    pub(crate) shards: u32,
    pub(crate) epoch: Epoch,
}

/// A running node.
pub(crate) struct Node {
    ready: Ready,
    router: Option<RouterRole>,
    gateways: Option<GatewayRole>,
    cluster: ClusterFacts,
    tls: Option<PeerTls>,
}

/// Serves until a signal arrives or something fails.
///
/// # Errors
/// [`Failure`]: one sentence why the node cannot start or go on.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    if args.exit_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .map_err(|e| Failure::runtime("cannot follow the parent process", e))?;
    }
    init_logging();
    let mut config = Config::resolve(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::runtime("cannot start the async runtime", e))?;
    runtime.block_on(serve(&mut config))
}

async fn serve(config: &mut Config) -> Result<(), Failure> {
    let no_signals = |e| Failure::runtime("cannot watch for signals", e);
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(no_signals)?;
    let mut certificates = peer_tls::Certificates::load(config)?;
    let ops = listen(config.ops_listen, ListenOptions::default())
        .map_err(|e| Failure::runtime(format!("cannot listen on {} for operations", config.ops_listen), e))?;
    let ops = tokio::net::TcpListener::from_std(ops).map_err(|e| Failure::runtime("operations port", e))?;
    let ops_address = ops.local_addr().map_err(|e| Failure::runtime("operations port", e))?;
    let mut node = Node::start(config, certificates.tls(), ops_address)?;
    let config = &*config;
    let sources = Arc::new(node.sources());
    tokio::spawn(async move { axum::serve(ops, ops::routes(sources)).await });
    node.wait_leaders().await;
    if let Some(path) = &config.ready_file {
        node.ready.write(path)?;
    }
    node.announce(config);
    let outcome = watch(&mut node, &mut certificates, &mut signals).await;
    node.stop();
    outcome
}

/// Waits for a signal, or for a thread that ends on its own; meanwhile takes renewed certificates over.
async fn watch(
    node: &mut Node,
    certificates: &mut peer_tls::Certificates,
    signals: &mut [Signal],
) -> Result<(), Failure> {
    let [interrupt, terminate, hangup] = signals else { unreachable!("three are registered") };
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => certificates.look(),
            () = tokio::time::sleep(WATCH_EVERY) => {
                node.check()?;
                certificates.handle_timeout();
            }
        }
    }
}

impl Node {
    /// Starts all roles of the configuration.
    ///
    /// # Errors
    /// [`Failure`] with the first thing that does not work; what was started before ends with the process.
    pub(crate) fn start(config: &mut Config, tls: Option<PeerTls>, ops: SocketAddr) -> Result<Self, Failure> {
        // Ports first, then the data directory, then keys: what fails early leaves everything as it was.
        let ports = if config.gateway { Some(gateways::bind(config)?) } else { None };
        let router = match config.router {
            true => {
                let client = ports.as_ref().map(gateways::Ports::address);
                Some(RouterRole::start(config, tls.clone(), client, ops)?)
            }
            false => None,
        };
        let config = &*config;
        let (cluster, remote) = match &router {
            Some(router) => (router.facts().clone(), links::other_nodes(config)),
            None => join::discover(&config.join, tls.as_ref())?,
        };
        let key = match config.router {
            true => identity::load_or_make_key(&config.keys)?,
            false => identity::existing_key(&config.keys)?,
        };
        let verifier = Verifier::from_key_file(&key)?;
        let gateways = match ports {
            Some(ports) => {
                let remote = Remote { nodes: remote, tls: tls.clone() };
                Some(GatewayRole::start(config, ports, &cluster, router.as_ref(), remote, verifier)?)
            }
            None => None,
        };
        let ws_echo = config.ws_echo.map(gateways::start_echo).transpose()?;
        let ready = Ready {
            pid: std::process::id(),
            node: config.node.0,
            websocket: gateways.as_ref().map(GatewayRole::websocket),
            quic: gateways.as_ref().map(GatewayRole::quic),
            peer: router.as_ref().map(RouterRole::peer_address),
            ops,
            ws_echo,
        };
        Ok(Self { ready, router, gateways, cluster, tls })
    }

    /// What the operations port sees.
    pub(crate) fn sources(&self) -> Sources {
        let stats: Vec<_> = self.gateways.iter().flat_map(GatewayRole::handles).collect();
        Sources {
            ready: self.ready.clone(),
            router: self.router.as_ref().map(|router| router.handle().clone()),
            sessions: Box::new(move || stats.iter().map(|handle| handle.stats().sessions()).sum()),
            cluster: throng_wire::ChannelId(self.cluster.id).to_string(),
            peer_tls: self.tls.clone(),
            backup: self.router.as_ref().map(RouterRole::backup_source),
            care: self.router.as_ref().map(RouterRole::care),
        }
    }

    /// A node takes traffic once it leads all shards that it alone has; it does not wait for others.
    async fn wait_leaders(&self) {
        let Some(router) = &self.router else { return };
        let handle = router.handle().clone();
        let serving = tokio::task::spawn_blocking(move || {
            let deadline = std::time::Instant::now() + LEADERS_TIMEOUT;
            while std::time::Instant::now() < deadline {
                let status = ops::router_status(&handle);
                let waits = |shard: &ShardStatus| !shard.serving && shard.members.len() == 1;
                if status.is_some_and(|status| !status.shards.iter().any(waits)) {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            false
        });
        if !serving.await.unwrap_or(false) {
            tracing::warn!("not all shards have a leader yet");
        }
    }

    fn announce(&self, config: &Config) {
        let Ready { node, websocket, quic, peer, ops, ws_echo, .. } = &self.ready;
        println!("throng {} node {node}", env!("CARGO_PKG_VERSION"));
        if let (Some(websocket), Some(quic)) = (websocket, quic) {
            println!("  clients     ws://{websocket}/v1/ws (also wss), quic://{quic}");
            println!("  back end    epoll, {} loops; QUIC by quinn", config.loops);
        }
        if let Some(peer) = peer {
            let shards = self.cluster.shards;
            let tls = if self.tls.is_some() { "mutual TLS" } else { "in the clear" };
            println!("  nodes       {peer} ({tls}), {shards} shards");
        }
        println!("  operations  http://{ops}/status");
        if let Some(echo) = ws_echo {
            println!("  echo        ws://{echo}");
        }
        println!("  data        {}", config.data_dir.display());
        if let Some(websocket) = websocket {
            let dir = config.data_dir.display();
            let place = if self.is_default_place(config) {
                String::new()
            } else {
                format!(" --server {websocket} --data-dir {dir}")
            };
            println!("try, in two terminals:");
            println!("  ./x throng chat --as alice --with bob{place}");
            println!("  ./x throng chat --as bob --with alice --transport quic{place}");
        }
    }

    fn is_default_place(&self, config: &Config) -> bool {
        self.ready.websocket == Some(SocketAddr::from(([127, 0, 0, 1], 4400)))
            && config.data_dir == std::path::Path::new("throng-data")
    }

    /// Whether all threads live.
    fn check(&mut self) -> Result<(), Failure> {
        if let Some(router) = &mut self.router {
            router.check()?;
        }
        if let Some(gateways) = &mut self.gateways {
            gateways.check()?;
        }
        Ok(())
    }

    /// Ends all roles, gateways first.
    pub(crate) fn stop(self) {
        if let Some(gateways) = self.gateways {
            gateways.stop();
        }
        if let Some(router) = self.router {
            router.stop();
        }
    }
}

/// Logs go to standard error; `THRONG_LOG` filters them (default: info).
fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("THRONG_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,quinn=warn,rustls=warn"));
    // A second call (tests in one process) keeps the first subscriber.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
