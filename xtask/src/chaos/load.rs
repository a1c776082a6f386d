//! The load generator beside a campaign: it judges whether anything was lost, doubled or skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Cluster, SHARDS};
use super::timeline::Timeline;
use crate::Result;
use crate::load::is_correct;
use crate::process::{cannot_start, describe};

/// After its schedule a run drains, and reads every history twice.
pub(super) const END_MAX: Duration = Duration::from_secs(240);

/// What is sent.
pub(super) struct Plan {
    pub(super) pairs: usize,
    pub(super) messages: u64,
    /// Messages per second.
    pub(super) rate: u64,
    /// Least and most sendings of a message.
    pub(super) copies: (u32, u32),
}

/// A running load generator.
pub(super) struct Load {
    child: Child,
    pub(super) timeline: Timeline,
    report: PathBuf,
    schedule: Duration,
}

/// What it said in the end.
pub(super) struct Verdict {
    /// Nothing lost, doubled, skipped, and everything answered.
    pub(super) is_good: bool,
    pub(super) report: Value,
}

impl Load {
    /// Starts it against all nodes; returns once every shard (or, with few messages, any) has acknowledged one.
    pub(super) fn start(loadgen: &Path, cluster: &Cluster, plan: &Plan) -> Result<Self> {
        Self::start_with(loadgen, cluster, plan, &[])
    }

    /// The same with more words for the generator.
    pub(super) fn start_with(loadgen: &Path, cluster: &Cluster, plan: &Plan, words: &[&str]) -> Result<Self> {
        let (pipe, report) = (cluster.folder.join("acks"), cluster.folder.join("load.json"));
        for old in [&pipe, &report] {
            if old.exists() {
                fs::remove_file(old).map_err(|error| format!("{}: {error}", old.display()))?;
            }
        }
        let timeline = Timeline::open(&pipe, SHARDS)?;
        let mut command = Command::new(loadgen);
        command.args(["run", "messenger", "--quiet", "--warmup", "0s"]).args(words);
        command.args(["--pairs", &plan.pairs.to_string(), "--messages", &plan.messages.to_string()]);
        command.args(["--rate", &plan.rate.to_string()]);
        command.args(["--dup-min", &plan.copies.0.to_string(), "--dup", &plan.copies.1.to_string()]);
        for node in cluster.running().map(|node| &cluster.nodes[node]) {
            command.args(["--target", &format!("ws://{}", node.client)]);
            if node.has_quic {
                command.args(["--target", &format!("quic://{}", node.client)]);
            }
        }
        command.arg("--key").arg(cluster.keys().join("token.pk8"));
        command.arg("--ca").arg(cluster.keys().join("dev-cert.pem"));
        command.arg("--acks").arg(&pipe).arg("--json").arg(&report);
        let child = command.spawn().map_err(|error| format!("cannot start the load generator: {error}"))?;
        let schedule = Duration::from_secs(plan.messages / plan.rate.max(1));
        let mut load = Self { child, timeline, report, schedule };
        // A thousand channels reach every shard; few messages do not.
        load.wait_first_acks(plan.messages >= 4 * plan.pairs as u64)?;
        Ok(load)
    }

    fn wait_first_acks(&mut self, of_all: bool) -> Result<()> {
        let begin = Instant::now();
        while self.timeline.acks() == 0 || (of_all && self.timeline.back_ms().is_none()) {
            if !self.is_running() || begin.elapsed() > Duration::from_secs(90) {
                return Err(format!(
                    "no ack from the shards {:?} after {:?}",
                    self.timeline.silent(),
                    begin.elapsed()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether it has not ended.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How long its schedule is.
    pub(super) fn schedule(&self) -> Duration {
        self.schedule
    }

    /// Waits for its end and reads what it found.
    pub(super) fn finish(mut self) -> Result<Verdict> {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if begin.elapsed() < self.schedule + END_MAX => {
                    thread::sleep(Duration::from_millis(50))
                }
                _ => return Err("the load generator did not end in time".into()),
            }
        };
        let text = fs::read_to_string(&self.report).unwrap_or_default();
        let report: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let is_good = is_correct(status);
        if !is_good {
            println!("chaos: load generator {status}: {}", report["reasons"]);
        }
        Ok(Verdict { is_good, report })
    }
}

/// Writes a history through the first node, for reading it back under the same number of pairs and run id.
pub(super) fn write_history(
    loadgen: &Path,
    cluster: &Cluster,
    pairs: &str,
    run_id: &str,
    words: &[&str],
) -> Result<()> {
    let mut command = Command::new(loadgen);
    command.args(["run", "messenger", "--quiet", "--warmup", "0s", "--pairs", pairs, "--run-id", run_id]);
    command.args(words).args(["--target", &format!("ws://{}", cluster.nodes[0].client)]);
    command.arg("--key").arg(cluster.keys().join("token.pk8"));
    let status = command.status().map_err(|error| cannot_start(&command, &error))?;
    match is_correct(status) {
        true => Ok(()),
        false => Err(format!("the history was not written ({status}): {}", describe(&command))),
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
