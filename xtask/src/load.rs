//! A small run of the load generator against a real node: every sequence is checked for loss, duplicates and gaps.

use std::process::{Command, ExitStatus};

use crate::Result;
use crate::process::cannot_start;
use crate::programs::{LOADGEN, THRONG};
use crate::server::Server;
use crate::tally::Tally;

/// Enough to cross every layer many times, little enough to be no benchmark.
const PAIRS: &str = "100";
const MESSAGES: &str = "10000";
const RATE: &str = "2000";

/// Pairs of users over WebSocket and QUIC; passes if the generator finds nothing wrong.
pub(crate) fn run() -> Result<Tally> {
    let loadgen = LOADGEN.build()?;
    let server = Server::start(&THRONG.build()?, &[])?;
    let mut command = Command::new(loadgen);
    command.args(["run", "messenger", "--quiet", "--pairs", PAIRS, "--messages", MESSAGES, "--rate", RATE]);
    command.args(["--warmup", "0s", "--dup", "2", "--transport", "ws,quic"]);
    command.args(["--target", &format!("ws://{}", server.address("websocket")?)]);
    command.args(["--target", &format!("quic://{}", server.address("quic")?)]);
    command.arg("--key").arg(server.keys().join("token.pk8"));
    command.arg("--ca").arg(server.keys().join("dev-cert.pem"));
    let status = command.status().map_err(|error| cannot_start(&command, &error))?;
    Ok(Tally::one(is_correct(status)))
}

/// Whether a run of the load generator found nothing wrong.
///
/// 6 says that it was late against its own schedule, on a machine that did other things. That voids its speed, which
/// is asked for by benchmarks alone; what it checked it has checked.
pub(crate) fn is_correct(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 6))
}
