//! The QUIC back end: quinn on a thread of its own, one UDP socket and one machine for all its sessions.
//!
//! ```text
//!   endpoint ─► handshake (≤ 1024 at a time, Retry above 64) ─► one bidirectional stream ─► session task ─┐
//!                                                                                                        ▼
//!   inputs, routers, timers ─► main task: Engine turn ─► wakes the sessions that have something to send ─┘
//! ```
//!
//! quinn costs about 33 KB per connection with these settings; driving its sans-IO half in our own loop is the way to
//! less. Everything else (machine, routers, tokens) is the same as on TCP.

mod session;
mod shared;
mod transport;

use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use quinn::{Connecting, ConnectionError, Endpoint, EndpointConfig, Incoming, TokioRuntime, VarInt};
use throng_gateway_core::Transport;
use throng_wire::Code;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::config::LoopConfig;
use crate::engine::{Control, Engine};
use crate::handle::{GatewayHandle, GatewayThread, Wake};
use crate::limits::{QUIC_HANDSHAKE_TIMEOUT, QUIC_HANDSHAKES_MAX, QUIC_RETRY_ABOVE, QUIC_SOCKET_BYTES};
use session::Session;
use shared::Shared;

pub(crate) use transport::server_config;

/// How long a stopped loop waits for its CONNECTION_CLOSE packets to leave.
const STOP_LINGER: Duration = Duration::from_millis(200);

/// What a QUIC loop listens to.
#[derive(Debug)]
pub struct QuicOptions {
    /// Bound.
    pub socket: UdpSocket,
    /// From [`crate::tls::Certificate::quic_config`].
    pub server: quinn::ServerConfig,
}

/// Starts a loop on a thread of its own.
///
/// # Errors
/// Out of descriptors or threads, or the socket cannot be used.
pub fn spawn_quic(config: LoopConfig, options: QuicOptions) -> io::Result<GatewayThread> {
    let notify = Arc::new(Notify::new());
    let (handle, inbox) = GatewayHandle::new(config.id, Wake::Tokio(notify.clone()));
    let name = config.name.clone();
    // The engine is made here so that its errors reach the caller, the endpoint there because it belongs to the
    // runtime of its thread.
    let engine = Engine::new(config, inbox)?;
    let (ready, is_ready) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async move {
            let endpoint = match bind(options) {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Ok(());
                }
            };
            let _ = ready.send(Ok(()));
            serve(endpoint, Rc::new(Shared::new(engine, notify))).await
        })
    })?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(GatewayThread::new(handle, thread)),
        Ok(Err(error)) => Err(error),
        Err(_) => thread
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            .and(Err(io::ErrorKind::Other.into())),
    }
}

fn bind(options: QuicOptions) -> io::Result<Endpoint> {
    options.socket.set_nonblocking(true)?;
    // All sessions share the socket's buffers; the kernel caps them at its own limit.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&options.socket, QUIC_SOCKET_BYTES);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&options.socket, QUIC_SOCKET_BYTES);
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(EndpointConfig::default(), Some(options.server), options.socket, runtime)
}

/// The main task.
async fn serve(endpoint: Endpoint, shared: Rc<Shared>) -> io::Result<()> {
    tokio::task::spawn_local(accept(endpoint.clone(), shared.clone()));
    let routers = watch_routers(&shared)?;
    let mut routers_ready: Option<AsyncFdReadyGuard<'_, OwnedFd>> = None;
    loop {
        if shared.turn() == Control::Stop {
            break;
        }
        let (wait, drained) = {
            let engine = shared.engine.borrow();
            let now = engine.clock.now();
            (engine.poll_timeout(now).since(now), engine.routers.is_drained())
        };
        if let Some(mut guard) = routers_ready.take()
            && drained
        {
            guard.clear_ready();
        }
        let readable = async {
            match &routers {
                Some(routers) => routers.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.notify.notified() => {}
            () = tokio::time::sleep(wait) => {}
            guard = readable => routers_ready = Some(guard?),
        }
    }
    endpoint.close(VarInt::from_u32(u32::from(Code::GOING_AWAY.0)), b"");
    let _ = tokio::time::timeout(STOP_LINGER, endpoint.wait_idle()).await;
    Ok(())
}

/// The descriptor of the router links, watched by tokio (edge-triggered).
fn watch_routers(shared: &Shared) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let engine = shared.engine.borrow();
    let Some(routers) = engine.routers.as_fd() else { return Ok(None) };
    // Deprecated because a type may lie about its descriptor; an `OwnedFd` cannot, and the successor is `unsafe`.
    #[expect(deprecated, reason = "the safe form is sound for OwnedFd")]
    AsyncFd::with_interest(routers.try_clone_to_owned()?, Interest::READABLE).map(Some)
}

async fn accept(endpoint: Endpoint, shared: Rc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let handshakes = shared.handshakes.get();
        if shared.engine.borrow().machine.is_draining() || handshakes >= QUIC_HANDSHAKES_MAX {
            incoming.refuse();
        } else if handshakes > QUIC_RETRY_ABOVE && !incoming.remote_address_validated() {
            // An unvalidated address may retry, always; what cannot be sent is lost like any packet.
            let _ = incoming.retry();
        } else {
            begin(incoming, &shared);
        }
    }
}

/// Starts the handshake of a connection.
fn begin(incoming: Incoming, shared: &Rc<Shared>) {
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => {
            tracing::debug!(%error, "a QUIC connection could not be accepted");
            return;
        }
    };
    shared.handshakes.set(shared.handshakes.get() + 1);
    let shared = shared.clone();
    tokio::task::spawn_local(async move {
        let outcome = open(connecting, tokio::time::Instant::now() + QUIC_HANDSHAKE_TIMEOUT).await;
        shared.handshakes.set(shared.handshakes.get() - 1);
        match outcome {
            Ok((connection, streams)) => {
                if let Some(session) = admit(&shared, connection, streams) {
                    // Spawned anew: this task's future has room for the handshake, the session's has not.
                    tokio::task::spawn_local(session);
                }
            }
            Err(error) => tracing::debug!(?error, "a QUIC handshake came to nothing"),
        }
    });
}

/// The handshake, and the stream on which everything travels.
/// Why there is no session.
#[derive(Debug)]
enum NotOpened {
    #[expect(dead_code, reason = "for the log")]
    Failed(ConnectionError),
    Late,
}

/// Waits for the handshake and the client's stream. A client that completes the handshake and then says nothing is told
/// why it is closed (SPEC W-QUIC-4); one that does not get that far is dropped.
async fn open(connecting: Connecting, deadline: tokio::time::Instant) -> Result<Opened, NotOpened> {
    let connected = tokio::time::timeout_at(deadline, connecting).await;
    let connection = connected.map_err(|_| NotOpened::Late)?.map_err(NotOpened::Failed)?;
    match tokio::time::timeout_at(deadline, connection.accept_bi()).await {
        Ok(streams) => Ok((connection, streams.map_err(NotOpened::Failed)?)),
        Err(_) => {
            connection.close(VarInt::from_u32(u32::from(Code::HANDSHAKE_TIMEOUT.0)), b"");
            Err(NotOpened::Late)
        }
    }
}

type Opened = (quinn::Connection, (quinn::SendStream, quinn::RecvStream));

/// Asks the machine for a place.
fn admit(
    shared: &Rc<Shared>,
    connection: quinn::Connection,
    streams: (quinn::SendStream, quinn::RecvStream),
) -> Option<Session> {
    let mut engine = shared.engine.borrow_mut();
    let now = engine.clock.now();
    match engine.machine.handle_connect(now, Transport::Stream, connection.remote_address().ip()) {
        Ok(key) => {
            drop(engine);
            shared.enter(key);
            Some(Session::new(shared.clone(), key, connection, streams))
        }
        Err(code) => {
            connection.close(VarInt::from_u32(u32::from(code.0)), b"");
            None
        }
    }
}
