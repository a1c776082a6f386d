//! What a replica of a shard holds as of one entry, hashed.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use crossbeam_channel::bounded;
use serde::{Deserialize, Serialize};
use throng_router::{RouterHandle, RouterInput};
use throng_router_core::limits::{CHECKPOINT_HOLD_MAX, CHECKPOINT_WAIT_MAX, VERIFY_ROWS};
use throng_router_core::machines::verify::Check;
use throng_router_core::{Checkpoint, applied};
use throng_storage::View;
use throng_wire::ShardId;

use super::{Care, Said, bad_request, no_answer};

/// Longest wait for the router loop beyond the time that the machine allows itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the state store is looked at until the checkpoint is in it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a node says of its replica of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicaView {
    /// Whether the node has one.
    pub(crate) is_there: bool,
    /// It has too much to do at the moment.
    pub(crate) is_busy: bool,
    /// Highest entry applied: of what was checked, or at the moment if nothing was.
    pub(crate) applied: u64,
    /// Over all rows, hexadecimal; nothing was checked without it: another entry is applied than was asked for.
    pub(crate) hash: Option<String>,
    /// Channels checked.
    pub(crate) channels: u64,
    /// Events checked.
    pub(crate) events: u64,
    /// What is not as it must be: the first findings, and what could not be read.
    pub(crate) findings: Vec<String>,
    /// How many there are in all.
    pub(crate) bad: u64,
}

/// `SHARD INDEX`
pub(super) fn answer(care: &Care, body: &str) -> Said {
    let numbers = body
        .split_once(' ')
        .and_then(|(shard, index)| Some((shard.parse::<u32>().ok()?, index.parse::<u64>().ok()?)));
    let (shard, index) = numbers.ok_or_else(|| bad_request("say SHARD INDEX"))?;
    let view = check(care, ShardId(shard), index)?;
    Ok(serde_json::to_string(&view).expect("plain fields always serialize"))
}

fn check(care: &Care, shard: ShardId, index: u64) -> Result<ReplicaView, (StatusCode, String)> {
    let (reply, answer) = bounded(1);
    care.router.try_send(RouterInput::Checkpoint(shard, index, reply)).map_err(|_| no_answer())?;
    let (ask, outcome) = answer.recv_timeout(CHECKPOINT_WAIT_MAX + PATIENCE).map_err(|_| no_answer())?;
    let replica = match outcome {
        Checkpoint::Ready { replica } => replica,
        Checkpoint::Elsewhere { applied } => {
            return Ok(ReplicaView { is_there: true, applied, ..ReplicaView::default() });
        }
        Checkpoint::NoReplica => return Ok(ReplicaView::default()),
        Checkpoint::Busy => return Ok(busy()),
    };
    let mut seen = Seen { router: &care.router, ask, is_done: false };
    let until = Instant::now() + CHECKPOINT_HOLD_MAX;
    loop {
        let read = care.state.with_view(|view| {
            let row = applied(view, shard, replica).map_err(|error| error.to_string())?;
            if row.index < index && Instant::now() < until {
                return Ok(None); // the batch is not written yet
            }
            seen.done();
            if row.index != index {
                return Ok(Some(ReplicaView {
                    is_there: true,
                    applied: row.index,
                    ..ReplicaView::default()
                }));
            }
            Ok(Some(hash(view, care.shards, shard, replica)))
        });
        match read {
            Ok(Ok(Some(view))) => return Ok(view),
            Ok(Err(unreadable)) => return Ok(damaged(index, unreadable)),
            // Not there yet, or too many views are open.
            Ok(Ok(None)) | Err(_) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Ok(Ok(None)) => return Ok(busy()),
            Err(error) => return Err((StatusCode::SERVICE_UNAVAILABLE, error.0)),
        }
    }
}

fn hash(view: &View<'_>, shards: u32, shard: ShardId, replica: u32) -> ReplicaView {
    let mut check = Check::new(shard, shards, replica);
    loop {
        match check.step(view, VERIFY_ROWS) {
            Ok(false) => {}
            Ok(true) => break,
            Err(unreadable) => return damaged(check.report().applied.index, unreadable.to_string()),
        }
    }
    let report = check.report();
    ReplicaView {
        is_there: true,
        is_busy: false,
        applied: report.applied.index,
        hash: Some(throng_wire::ChannelId(report.digest).to_string()),
        channels: report.channels,
        events: report.events,
        findings: report.findings.iter().map(ToString::to_string).collect(),
        bad: report.bad,
    }
}

fn busy() -> ReplicaView {
    ReplicaView { is_there: true, is_busy: true, ..ReplicaView::default() }
}

fn damaged(applied: u64, why: String) -> ReplicaView {
    ReplicaView { is_there: true, applied, findings: vec![why], bad: 1, ..ReplicaView::default() }
}

/// Lets the router loop go on when the checkpoint was seen, whatever happens.
struct Seen<'a> {
    router: &'a RouterHandle,
    ask: u64,
    is_done: bool,
}

impl Seen<'_> {
    fn done(&mut self) {
        if !std::mem::replace(&mut self.is_done, true) {
            // A loop that takes nothing at the moment goes on by itself within a second.
            let _ = self.router.try_send(RouterInput::CheckpointDone(self.ask));
        }
    }
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.done();
    }
}
