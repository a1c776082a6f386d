//! The gateway role: one epoll loop per core for WebSocket, one loop for QUIC.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use throng_gateway::tls::Certificate;
use throng_gateway::{
    GatewayHandle, GatewayThread, LoopConfig, LoopInput, QuicOptions, RemoteRouters, Routers, TcpOptions,
    TokenVerifier, spawn_quic, spawn_tcp,
};
use throng_gateway_core::{Claims, GatewayConfig};
use throng_router::RouterInput;
use throng_runtime::tls::PeerTls;
use throng_runtime::{ListenOptions, listen};
use throng_wire::link::GatewayId;
use throng_wire::{Code, NodeId};

use super::links::{ToLocalGateway, ToLocalRouter};
use super::router::RouterRole;
use super::{ClusterFacts, random_u64};
use crate::certificate;
use crate::config::Config;
use crate::error::Failure;
use crate::identity::Verifier;

impl TokenVerifier for Verifier {
    fn verify(&self, token: &[u8], now_unix_ms: u64) -> Result<Claims, Code> {
        let claims = Verifier::verify(self, token, now_unix_ms)?;
        Ok(Claims { user: claims.user, device: claims.device, expires_ms: claims.expires_ms })
    }
}

/// How long clients have to leave after GOAWAY when the node is told to stop.
const DRAIN_AFTER: Duration = Duration::from_secs(1);

/// How much longer the last CLOSE frames may take.
const DRAIN_LINGER: Duration = Duration::from_millis(500);

/// Pause between looks at a loop that has to end.
const STOP_RETRY: Duration = Duration::from_millis(10);

/// The running loops.
pub(crate) struct GatewayRole {
    threads: Vec<GatewayThread>,
    websocket: SocketAddr,
    quic: SocketAddr,
}

/// What the role listens on: one listener per loop on one port, and the same port for QUIC.
pub(crate) struct Ports {
    listeners: Vec<TcpListener>,
    socket: UdpSocket,
    address: SocketAddr,
}

impl Ports {
    /// The client address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What all loops share.
struct Plan<'a> {
    config: &'a Config,
    machine: GatewayConfig,
    cluster: &'a ClusterFacts,
    router: Option<&'a RouterRole>,
    remote: Remote,
    verifier: Arc<dyn TokenVerifier>,
}

/// Routers of other processes, and the credentials for links to them.
pub(crate) struct Remote {
    pub(crate) nodes: Vec<(NodeId, SocketAddr)>,
    pub(crate) tls: Option<PeerTls>,
}

impl GatewayRole {
    pub(crate) fn start(
        config: &Config,
        ports: Ports,
        cluster: &ClusterFacts,
        router: Option<&RouterRole>,
        remote: Remote,
        verifier: Verifier,
    ) -> Result<Self, Failure> {
        let machine = GatewayConfig {
            server: format!("node {}", config.node),
            shards: cluster.shards,
            epoch: cluster.epoch,
            home: router.map(|_| config.node),
            body_max: config.body_max,
            heartbeat: Duration::from_millis(config.heartbeat_ms.into()),
            sessions_max: config.sessions_max,
            drain_after: DRAIN_AFTER,
            unauthenticated_max: config.sessions_max,
            unauthenticated_per_ip: config.sessions_max,
            ..GatewayConfig::default()
        };
        machine.check().map_err(|sentence| Failure::Config(sentence.into()))?;
        let (chain, key) = certificate::paths(config.tls.as_ref(), &config.keys)?;
        let bad =
            |e| Failure::runtime(format!("certificate {} with key {}", chain.display(), key.display()), e);
        let certificate = Certificate::from_pem_files(&chain, &key).map_err(bad)?;
        let Ports { listeners, socket, address } = ports;
        let plan = Plan { config, machine, cluster, router, remote, verifier: Arc::new(verifier) };
        let tls = certificate.tcp_config().map_err(bad)?;
        let mut threads = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let options = TcpOptions {
                listener,
                tls: Some(Arc::clone(&tls)),
                plaintext: config.listen.ip().is_loopback(),
            };
            let name = format!("gateway-{index}");
            threads.push(plan.spawn(name, |config| spawn_tcp(config, options))?);
        }
        let options = QuicOptions { socket, server: certificate.quic_config().map_err(bad)? };
        threads.push(plan.spawn("gateway-quic".into(), |config| spawn_quic(config, options))?);
        Ok(Self { threads, websocket: address, quic: address })
    }

    pub(crate) fn websocket(&self) -> SocketAddr {
        self.websocket
    }

    pub(crate) fn quic(&self) -> SocketAddr {
        self.quic
    }

    pub(crate) fn handles(&self) -> Vec<GatewayHandle> {
        self.threads.iter().map(|thread| thread.handle().clone()).collect()
    }

    /// Whether all loops live.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.threads.iter().position(GatewayThread::is_finished) {
            None => Ok(()),
            Some(index) => match self.threads.swap_remove(index).join() {
                Ok(()) => Err(Failure::Runtime("a gateway loop ended".into())),
                Err(error) => Err(Failure::runtime("a gateway loop failed", error)),
            },
        }
    }

    /// Sends the sessions away (GOAWAY, then CLOSE), waits a little until they are gone, and ends the loops.
    pub(crate) fn stop(self) {
        self.tell_all(&LoopInput::Drain);
        let deadline = Instant::now() + DRAIN_AFTER + DRAIN_LINGER;
        while Instant::now() < deadline
            && self.threads.iter().any(|thread| thread.handle().stats().sessions() > 0)
        {
            thread::sleep(STOP_RETRY);
        }
        self.tell_all(&LoopInput::Stop);
        for thread in self.threads {
            if let Err(error) = thread.join() {
                tracing::warn!(%error, "a gateway loop ended with an error");
            }
        }
    }

    /// Says something to every loop; one with a full queue is asked again until it has room or has ended.
    fn tell_all(&self, input: &LoopInput) {
        for thread in &self.threads {
            while !thread.is_finished() && thread.handle().send(input.clone()).is_err() {
                thread::sleep(STOP_RETRY);
            }
        }
    }
}

impl Plan<'_> {
    /// Starts a loop and makes router and loop known to each other.
    fn spawn(
        &self,
        name: String,
        spawn: impl FnOnce(LoopConfig) -> std::io::Result<GatewayThread>,
    ) -> Result<GatewayThread, Failure> {
        let id = GatewayId(random_u64()?);
        let config = LoopConfig {
            name: name.clone(),
            id,
            machine: self.machine.clone(),
            seed: random_u64()?,
            routers: self.routers(id, &name),
            verifier: Arc::clone(&self.verifier),
        };
        let thread = spawn(config).map_err(|e| Failure::runtime(format!("cannot start {name}"), e))?;
        if let Some(router) = self.router {
            let node = self.config.node;
            let sink = ToLocalGateway { node, gateway: thread.handle().clone() };
            // Up first: what the router then says must find the link known.
            let _ = thread.handle().send(LoopInput::RouterUp(node));
            router.handle().send(RouterInput::GatewayUp(id, Box::new(sink)));
        }
        Ok(thread)
    }

    fn routers(&self, gateway: GatewayId, name: &str) -> Routers {
        let remote = RemoteRouters {
            nodes: self.remote.nodes.clone(),
            cluster: self.cluster.id,
            shards: self.cluster.shards,
            epoch: self.cluster.epoch,
            name: format!("node {} {name}", self.config.node),
            tls: self.remote.tls.clone(),
        };
        match self.router {
            None => Routers::Remote(remote),
            Some(router) => Routers::Both {
                node: self.config.node,
                local: Box::new(ToLocalRouter { gateway, router: router.handle().clone() }),
                remote,
            },
        }
    }
}

/// Takes the client port. With port 0 a few ports are tried until one is free for both TCP and UDP.
///
/// # Errors
/// [`Failure::Runtime`] naming the address and which half of it is in use.
pub(crate) fn bind(config: &Config) -> Result<Ports, Failure> {
    let wanted = config.listen;
    let failed = |what: &str, e: std::io::Error| {
        Failure::runtime(format!("cannot listen on {wanted} ({what}); is another node running?"), e)
    };
    // SO_REUSEPORT would let a second process share the port without a word: this bind without it finds out.
    let probe = |address| listen(address, ListenOptions::default());
    let mut tries = 0;
    loop {
        tries += 1;
        let first = probe(wanted).map_err(|e| failed("TCP", e))?;
        let address = first.local_addr().map_err(|e| failed("TCP", e))?;
        drop(first);
        let udp = UdpSocket::bind(address);
        if let Err(error) = udp {
            if wanted.port() == 0 && tries < 16 {
                continue;
            }
            return Err(failed("UDP", error));
        }
        let udp = udp.map_err(|e| failed("UDP", e))?;
        let listeners = (0..config.loops)
            .map(|_| listen(address, ListenOptions { reuse_port: true }))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| failed("TCP", e))?;
        return Ok(Ports { listeners, socket: udp, address });
    }
}

/// Starts the echo listener of conformance suites on a thread of its own.
pub(crate) fn start_echo(address: SocketAddr) -> Result<SocketAddr, Failure> {
    let failed = |e| Failure::runtime(format!("cannot listen on {address} (echo)"), e);
    let listener = listen(address, ListenOptions::default()).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    thread::Builder::new()
        .name("ws-echo".into())
        .spawn(move || {
            if let Err(error) = throng_gateway::echo::serve(listener) {
                tracing::error!(%error, "echo listener");
            }
        })
        .map_err(failed)?;
    Ok(bound)
}
