//! Loops, certificates and tokens for tests.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use throng_gateway::tls::Certificate;
use throng_gateway::{
    GatewayHandle, GatewayThread, LoopConfig, LoopInput, QuicOptions, Routers, TcpOptions, TokenVerifier,
    spawn_quic, spawn_tcp,
};
use throng_gateway_core::{Claims, GatewayConfig};
use throng_runtime::{ListenOptions, listen};
use throng_wire::link::GatewayId;
use throng_wire::{Code, DeviceId, UserId};

use crate::router::{InProcess, SHARDS};

/// Tests wait no longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Tokens are `user:device`, or `expired`.
struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, token: &[u8], now_unix_ms: u64) -> Result<Claims, Code> {
        let text = std::str::from_utf8(token).map_err(|_| Code::TOKEN_INVALID)?;
        if text == "expired" {
            return Err(Code::TOKEN_EXPIRED);
        }
        let (user, device) = text.split_once(':').ok_or(Code::TOKEN_INVALID)?;
        let device = DeviceId(device.parse().map_err(|_| Code::TOKEN_INVALID)?);
        Ok(Claims { user: UserId::of("test", user), device, expires_ms: now_unix_ms + 3_600_000 })
    }
}

pub(crate) fn machine() -> GatewayConfig {
    GatewayConfig { shards: SHARDS, server: "test".to_owned(), ..GatewayConfig::default() }
}

pub(crate) fn config(machine: GatewayConfig, routers: Routers) -> LoopConfig {
    let (name, id, seed) = ("gateway-test".to_owned(), GatewayId(7), 1);
    LoopConfig { name, id, machine, seed, routers, verifier: Arc::new(Tokens) }
}

/// A self-signed certificate for localhost.
pub(crate) struct Identity {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) certificate: Certificate,
}

pub(crate) fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let root = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    Identity { certificate: Certificate::new(vec![root.clone()], key), root }
}

/// A client configuration that trusts the identity.
pub(crate) fn client_tls(identity: &Identity, alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.root.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// A running loop that ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    thread: Option<GatewayThread>,
}

impl Running {
    pub(crate) fn new(address: SocketAddr, thread: GatewayThread) -> Self {
        Self { address, thread: Some(thread) }
    }

    pub(crate) fn handle(&self) -> GatewayHandle {
        self.thread.as_ref().expect("it runs").handle().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let thread = self.thread.take().expect("it runs");
        let stopped = thread.handle().send(LoopInput::Stop).is_ok();
        let outcome = thread.join();
        if !std::thread::panicking() {
            assert!(stopped && outcome.is_ok(), "{outcome:?}");
        }
    }
}

pub(crate) fn tcp_with(machine: GatewayConfig, identity: Option<&Identity>, plaintext: bool) -> Running {
    let (sink, start) = InProcess::new();
    let running = tcp_over(config(machine, Routers::InProcess(Box::new(sink))), identity, plaintext);
    start(running.handle());
    running
}

pub(crate) fn tcp_over(config: LoopConfig, identity: Option<&Identity>, plaintext: bool) -> Running {
    let listener =
        listen("127.0.0.1:0".parse().expect("an address"), ListenOptions::default()).expect("listening");
    let address = listener.local_addr().expect("bound");
    let tls = identity.map(|identity| identity.certificate.tcp_config().expect("they fit"));
    Running::new(address, spawn_tcp(config, TcpOptions { listener, tls, plaintext }).expect("started"))
}

pub(crate) fn tcp() -> Running {
    tcp_with(machine(), None, true)
}

pub(crate) fn quic_with(machine: GatewayConfig, identity: &Identity) -> Running {
    let (sink, start) = InProcess::new();
    let running = quic_over(config(machine, Routers::InProcess(Box::new(sink))), identity);
    start(running.handle());
    running
}

pub(crate) fn quic_over(config: LoopConfig, identity: &Identity) -> Running {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("bound");
    let server = identity.certificate.quic_config().expect("they fit");
    Running::new(address, spawn_quic(config, QuicOptions { socket, server }).expect("started"))
}

/// Runs a test on a small runtime, not longer than patience allows.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test takes too long") });
}
