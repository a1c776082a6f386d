//! The operations port: health, status and metrics.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use throng_router::{RouterHandle, RouterInput, RouterStatus};
use throng_router_core::Pressure;
use throng_runtime::tls::PeerTls;
use throng_runtime::unix_millis;

use crate::care::{self, Care, ScrubView};
use crate::error::Failure;
use crate::members::{Change, ClusterView};
use crate::metrics::exposition;
use crate::ready::Ready;
use crate::store_view::StoreView;

/// How long the status of the router loop is waited for.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what is applied may take to become durable in the state store.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the operations port can see.
pub(crate) struct Sources {
    /// Addresses.
    pub(crate) ready: Ready,
    /// The router loop, if this process has one.
    pub(crate) router: Option<RouterHandle>,
    /// Sessions on the gateway loops of this process, by transport.
    pub(crate) sessions: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Cluster id, hexadecimal.
    pub(crate) cluster: String,
    /// Credentials for peer links.
    pub(crate) peer_tls: Option<PeerTls>,
    /// What a backup is written from.
    pub(crate) backup: Option<crate::backup::Source>,
    /// What the node is looked after by.
    pub(crate) care: Option<Care>,
}

/// What `/status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Addresses.
    pub(crate) ready: Ready,
    /// Cluster id.
    pub(crate) cluster: String,
    /// Resident memory of the process, bytes.
    pub(crate) resident_bytes: u64,
    /// Sessions on the gateway loops.
    pub(crate) gateway_sessions: u64,
    /// Most replicas that a shard has, as far as this node has some.
    pub(crate) voters: usize,
    /// The certificate for peer links; without one they are in the clear.
    pub(crate) peer_certificate: Option<CertificateView>,
    /// Router and storage.
    pub(crate) router: Option<RouterView>,
    /// Scrubs of what is on disk.
    pub(crate) scrub: Option<ScrubView>,
    /// The log on disk.
    pub(crate) log: Option<LogView>,
}

/// The log's part of `/status`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LogView {
    /// Bytes from its begin to the end of the segment that is written.
    pub(crate) bytes: u64,
    /// Of these: beyond its budget, held by entries that are still needed.
    pub(crate) over_budget_bytes: u64,
}

/// The peer certificate's part of `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateView {
    /// Whom it names.
    pub(crate) name: String,
    /// Seconds until it ends.
    pub(crate) seconds_left: u64,
    /// Less than a fifth of its life is left.
    pub(crate) is_ending: bool,
}

impl CertificateView {
    fn of(tls: &PeerTls) -> Self {
        let (life, now) = (tls.life(), unix_millis() / 1000);
        Self { name: tls.name().to_string(), seconds_left: life.left(now), is_ending: life.is_ending(now) }
    }
}

/// The router's part of `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RouterView {
    /// Shards.
    pub(crate) shards: usize,
    /// Shards this node leads and serves.
    pub(crate) serving: usize,
    /// Shards with a replica here and without a leader that this node knows of.
    pub(crate) leaderless: usize,
    /// Shards with a replica here.
    pub(crate) replicas: usize,
    /// By shard: the nodes that have a replica, if this one has.
    pub(crate) shard_members: Vec<Vec<u64>>,
    /// Of these: the nodes whose replica has a vote.
    pub(crate) shard_voters: Vec<Vec<u64>>,
    /// Leader of the metadata group; 0 = unknown.
    pub(crate) metadata_leader: u64,
    /// Highest entry of the metadata group that is applied here.
    pub(crate) metadata_applied: u64,
    /// By shard: leader (0 = unknown), term, highest entry applied here.
    pub(crate) shard_leader_term_applied: Vec<(u64, u64, u64)>,
    /// Nodes with a working link.
    pub(crate) links_up: Vec<u64>,
    /// Gateway loops connected.
    pub(crate) gateways: usize,
    /// Sessions registered here.
    pub(crate) registered_sessions: usize,
    /// Bytes that the registry of sessions takes.
    pub(crate) registry_bytes: usize,
    /// Entries applied here, over all shards.
    pub(crate) applied_entries: u64,
    /// Commands that retention has proposed here since the start.
    pub(crate) retentions: u64,
    /// Why clients that write are answered BUSY, if they are: the disk is nearly full, the state store does not keep up.
    pub(crate) busy: Vec<String>,
    /// The replicated store.
    pub(crate) store: StoreView,
}

impl From<RouterStatus> for RouterView {
    fn from(status: RouterStatus) -> Self {
        let here = || status.shards.iter().filter(|shard| !shard.members.is_empty());
        let suspects = status.shards.iter().chain(&status.metadata).filter(|shard| shard.is_suspect);
        Self {
            shards: status.shards.len(),
            serving: status.shards.iter().filter(|shard| shard.serving).count(),
            leaderless: here().filter(|shard| shard.leader.is_none()).count(),
            replicas: here().count(),
            shard_members: status
                .shards
                .iter()
                .map(|shard| shard.members.iter().map(|node| node.0).collect())
                .collect(),
            shard_voters: status
                .shards
                .iter()
                .map(|shard| shard.voters.iter().map(|node| node.0).collect())
                .collect(),
            metadata_leader: status
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.leader)
                .map_or(0, |node| node.0),
            metadata_applied: status.metadata.as_ref().map_or(0, |metadata| metadata.applied),
            shard_leader_term_applied: status
                .shards
                .iter()
                .map(|shard| (shard.leader.map_or(0, |node| node.0), shard.term, shard.applied))
                .collect(),
            links_up: status.links_up.iter().map(|node| node.0).collect(),
            gateways: status.gateways,
            registered_sessions: status.sessions,
            registry_bytes: status.registry_bytes,
            retentions: status.retentions,
            busy: status.pressures.iter().map(|pressure| reason(*pressure).to_owned()).collect(),
            applied_entries: status.shards.iter().map(|shard| shard.applied).sum(),
            store: StoreView::of(&status.store, suspects.map(|shard| shard.shard.0).collect()),
        }
    }
}

fn reason(pressure: Pressure) -> &'static str {
    match pressure {
        Pressure::Disk => "disk",
        Pressure::State => "state",
    }
}

impl Status {
    /// Ready for traffic: every shard has a leader that this node knows of.
    pub(crate) fn is_ready(&self) -> bool {
        self.router.as_ref().is_none_or(|router| router.leaderless == 0)
    }
}

/// Asks the router loop how it is doing. Blocks for up to two seconds.
pub(crate) fn router_status(router: &RouterHandle) -> Option<RouterStatus> {
    let (reply, answer) = crossbeam_channel::bounded(1);
    router.try_send(RouterInput::Status(reply)).ok()?;
    answer.recv_timeout(STATUS_TIMEOUT).ok()
}

impl Sources {
    /// Writes a backup of everything that is applied here.
    fn backup(&self, dir: &Path) -> Result<String, Failure> {
        let (Some(source), Some(router)) = (&self.backup, &self.router) else {
            return Err(Failure::Runtime(
                "this node stores nothing; ask a node with the role storage".into(),
            ));
        };
        let (reply, settled) = crossbeam_channel::bounded(1);
        router.send(RouterInput::Settle(reply));
        let replicas = settled
            .recv_timeout(SETTLE_TIMEOUT)
            .map_err(|_| Failure::Runtime("the state store does not keep up; try again later".into()))?;
        let manifest = crate::backup::write(source, &replicas, dir)?;
        let bytes: u64 = manifest.parts.iter().map(|part| part.bytes).sum();
        let (shards, dir) = (manifest.parts.len(), dir.display());
        Ok(format!("{shards} shards, {bytes} bytes, history epoch {}: {dir}\n", manifest.epoch))
    }

    /// A snapshot; `None` if the router loop does not answer.
    pub(crate) fn status(&self) -> Option<Status> {
        let router = match &self.router {
            Some(handle) => Some(router_status(handle)?),
            None => None,
        };
        let members = router.iter().flat_map(|router| &router.shards).map(|shard| shard.members.len());
        let voters = members.max().unwrap_or(0);
        let router = router.map(RouterView::from);
        Some(Status {
            ready: self.ready.clone(),
            cluster: self.cluster.clone(),
            resident_bytes: throng_runtime::resident_bytes(),
            gateway_sessions: (self.sessions)(),
            voters,
            peer_certificate: self.peer_tls.as_ref().map(CertificateView::of),
            router,
            scrub: self.care.as_ref().map(|care| care.scrubber.view()),
            log: self.care.as_ref().map(|care| LogView {
                bytes: care.log.live_bytes(),
                over_budget_bytes: care.log.bytes_over_budget(),
            }),
        })
    }
}

/// The routes.
pub(crate) fn routes(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/backup", post(backup))
        .route("/cluster", get(cluster).post(change))
        .merge(care::routes())
        .with_state(sources)
}

/// The snapshot waits for another thread, so it is taken off the async one.
async fn snapshot(sources: Arc<Sources>) -> Option<Status> {
    tokio::task::spawn_blocking(move || sources.status()).await.ok().flatten()
}

async fn readyz(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    match snapshot(sources).await {
        Some(status) if status.is_ready() => (StatusCode::OK, "ready\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready: some shards have no leader\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not ready: the router loop does not answer\n"),
    }
}

async fn status(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    match snapshot(sources).await {
        Some(status) => {
            let body = serde_json::to_string_pretty(&status).expect("plain fields always serialize");
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body + "\n")
        }
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "application/json")],
            "{\"error\":\"the router loop does not answer\"}\n".into(),
        ),
    }
}

/// Writes a backup into the directory that the body names, on this machine.
async fn backup(State(sources): State<Arc<Sources>>, dir: String) -> impl IntoResponse {
    let written = tokio::task::spawn_blocking(move || sources.backup(Path::new(dir.trim()))).await;
    match written {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(failure)) => (StatusCode::CONFLICT, format!("{failure}\n")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the backup broke off\n".into()),
    }
}

/// The nodes and where their shards should be, as the metadata here has it.
async fn cluster(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    let view = tokio::task::spawn_blocking(move || ClusterView::ask(sources.router.as_ref()?)).await;
    match view.ok().flatten() {
        Some(view) => {
            let body = serde_json::to_string_pretty(&view).expect("plain fields always serialize");
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body + "\n")
        }
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "application/json")],
            "{\"error\":\"this node has no router, or it does not answer\"}\n".into(),
        ),
    }
}

/// A change of the cluster: who belongs to it, and where shards should be.
async fn change(State(sources): State<Arc<Sources>>, body: String) -> impl IntoResponse {
    let done = tokio::task::spawn_blocking(move || {
        let router = sources.router.as_ref().ok_or("this node has no router; ask another one")?;
        let change: Change = serde_json::from_str(&body).map_err(|e| format!("not a change: {e}"))?;
        change.carry_out(router)
    });
    match done.await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(reason)) => (StatusCode::CONFLICT, format!("{reason}\n")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the change broke off\n".into()),
    }
}

async fn metrics(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    let text = snapshot(sources).await.map(|status| exposition(&status)).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
