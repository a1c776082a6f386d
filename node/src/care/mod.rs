//! Looking after what a node keeps: checks of its replicas, scrubs of its disk, holds, and moves of leaderships.
//!
//! ```text
//!   throng verify ──► POST /verify SHARD INDEX   what a replica holds as of one entry, hashed     (replica.rs)
//!                 └─► POST /scrub MB/S           every checksum of log and state                  (scrub.rs)
//!   throng acquit ──► POST /acquit SHARD …       suspects that forgot nothing, people say        (operate.rs)
//!   throng hold ────► POST /hold CHANNEL on|off  on the node that leads                           (operate.rs)
//!   the scheduler ──► the same scrub once a week
//! ```

mod operate;
mod replica;
mod scrub;
mod verify;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use throng_router::RouterHandle;
use throng_storage::{LogReader, RocksState};

pub(crate) use operate::{acquit, hold};
pub(crate) use scrub::{Schedule, ScrubView, Scrubber};
pub(crate) use verify::run as verify;

use crate::error::Failure;
use crate::ops::Sources;

/// What a node is looked after by.
#[derive(Clone)]
pub(crate) struct Care {
    /// The router loop.
    pub(crate) router: RouterHandle,
    /// The state store.
    pub(crate) state: RocksState,
    /// The log.
    pub(crate) log: LogReader,
    /// Raft groups of the node.
    pub(crate) shards: u32,
    /// Runs scrubs, one at a time.
    pub(crate) scrubber: Arc<Scrubber>,
}

/// An answer of the operations port: why not, with the status that says whose fault it is.
type Said = Result<String, (StatusCode, String)>;

/// The routes, below those of [`crate::ops::routes`].
pub(crate) fn routes() -> Router<Arc<Sources>> {
    Router::new()
        .route("/verify", post(|sources, body| on_thread(sources, body, replica::answer)))
        .route("/scrub", post(|sources, body| on_thread(sources, body, scrub::answer)))
        .route("/hold", post(|sources, body| on_thread(sources, body, operate::answer_hold)))
        .route("/acquit", post(|sources, body| on_thread(sources, body, operate::answer_acquit)))
        .route("/transfer", post(|sources, body| on_thread(sources, body, operate::answer_transfer)))
}

/// What follows waits for other threads and for the disk, so it is taken off the async one.
async fn on_thread(
    State(sources): State<Arc<Sources>>,
    body: String,
    answer: fn(&Care, &str) -> Said,
) -> impl IntoResponse {
    let said = tokio::task::spawn_blocking(move || match &sources.care {
        Some(care) => answer(care, body.trim()),
        None => Err((StatusCode::CONFLICT, "this node stores nothing; ask one with the role storage".into())),
    });
    match said.await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err((status, text))) => (status, text + "\n"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "it broke off\n".into()),
    }
}

fn bad_request(text: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, text.to_owned())
}

fn no_answer() -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "the router loop does not answer".to_owned())
}

/// The operations addresses that a command asks: those that are named, or those of a local cluster.
fn addresses(args: &crate::cli::NodesArgs) -> Result<Vec<std::net::SocketAddr>, Failure> {
    match &args.cluster {
        Some(dir) => crate::cluster::ops_addresses(dir),
        None => Ok(args.ops.clone()),
    }
}
