//! What a gateway loop is made from.

use std::net::SocketAddr;
use std::sync::Arc;

use throng_base::Full;
use throng_gateway_core::{Claims, GatewayConfig};
use throng_runtime::tls::PeerTls;
use throng_wire::link::{GatewayId, ToRouter};
use throng_wire::{Code, Epoch, NodeId};

/// Checks tokens, offline. Called on the loop's thread: a signature check, never a request to somebody else.
pub trait TokenVerifier: Send + Sync {
    /// The claims of a good token.
    ///
    /// # Errors
    /// The code to close the session with: `TOKEN_INVALID`, `TOKEN_EXPIRED`.
    fn verify(&self, token: &[u8], now_unix_ms: u64) -> Result<Claims, Code>;
}

/// The way to routers in the same process. They answer through the loop's [`crate::GatewayHandle`].
pub trait RouterSink: Send {
    /// Passes messages on to a node, in order, and never waits.
    ///
    /// # Errors
    /// [`Full`] with the messages if the router's queue is full; they are offered again soon.
    fn send(&mut self, node: NodeId, messages: Vec<ToRouter>) -> Result<(), Full<Vec<ToRouter>>>;
}

/// Routers in other processes, reached over their peer ports.
#[derive(Clone, Debug)]
pub struct RemoteRouters {
    /// The nodes and their peer addresses.
    pub nodes: Vec<(NodeId, SocketAddr)>,
    /// Drawn when the cluster was formatted; a node of another cluster is refused.
    pub cluster: [u8; 16],
    /// Fixed when the cluster was formatted.
    pub shards: u32,
    /// History epoch of the cluster; a node that was restored into another one is refused.
    pub epoch: Epoch,
    /// Our name, for the logs of the other side.
    pub name: String,
    /// Credentials for the links; without, they are in the clear (loopback only).
    pub tls: Option<PeerTls>,
}

/// Where the routers are.
pub enum Routers {
    /// In this process. The caller tells which are up with [`crate::LoopInput::RouterUp`].
    InProcess(Box<dyn RouterSink>),
    /// Elsewhere. The loop makes the links and knows itself which are up.
    Remote(RemoteRouters),
    /// One in this process, the others elsewhere.
    Both {
        /// The node of the router in this process.
        node: NodeId,
        /// The way to it. The caller tells when it is up with [`crate::LoopInput::RouterUp`].
        local: Box<dyn RouterSink>,
        /// The others.
        remote: RemoteRouters,
    },
}

/// What every loop needs, whatever its transport.
pub struct LoopConfig {
    /// Thread name, for logs and profilers.
    pub name: String,
    /// Drawn at random for this run of this loop.
    pub id: GatewayId,
    /// The machine's configuration.
    pub machine: GatewayConfig,
    /// Seeds the machine and the jitter of reconnects.
    pub seed: u64,
    /// Where the routers are.
    pub routers: Routers,
    /// Checks tokens.
    pub verifier: Arc<dyn TokenVerifier>,
}
