//! The load beside the catch-up: a fixed rate from begin to end, with a histogram for every second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::windows::Interval;
use crate::Result;
use crate::chaos::cluster::{Cluster, NODES};

/// Bytes of a body.
pub(super) const BODY: usize = 128;

/// It is interrupted long before.
const DURATION: &str = "6h";

/// An interrupted run writes its files within this.
const STOP_MAX: Duration = Duration::from_secs(60);

/// The running generator.
pub(super) struct Load {
    child: Child,
    report: PathBuf,
    hlog: PathBuf,
}

/// What it measured.
pub(super) struct Said {
    pub(super) intervals: Vec<Interval>,
    pub(super) report: Value,
}

impl Said {
    /// Whether it kept its schedule.
    pub(super) fn is_valid(&self) -> bool {
        self.report["generator"]["saturated"] == false
    }

    /// Messages acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.report["phases"][0]["acked"].as_u64().unwrap_or(0)
    }
}

/// Where to connect and as whom: to the first three nodes, also while there are four.
pub(super) fn targets(command: &mut Command, cluster: &Cluster) {
    for node in &cluster.nodes[..NODES] {
        command.args(["--target", &format!("ws://{}", node.client)]);
    }
    command.arg("--key").arg(cluster.keys().join("token.pk8"));
}

impl Load {
    /// Starts it. Does not wait.
    pub(super) fn start(loadgen: &Path, cluster: &Cluster, rate: u64) -> Result<Self> {
        let (report, hlog) = (cluster.folder.join("load.json"), cluster.folder.join("load.hlog"));
        let mut command = Command::new(loadgen);
        command.args(["run", "publish", "--quiet", "--duration", DURATION]);
        command.args(["--rate", &rate.to_string(), "--body", &BODY.to_string()]);
        targets(&mut command, cluster);
        command.arg("--json").arg(&report).arg("--hlog").arg(&hlog).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("cannot start the load generator: {error}"))?;
        Ok(Self { child, report, hlog })
    }

    pub(super) fn pid(&self) -> u64 {
        u64::from(self.child.id())
    }

    /// Interrupts it and reads what it wrote.
    pub(super) fn stop(mut self) -> Result<Said> {
        let failed = |error: std::io::Error| format!("the load generator: {error}");
        if let Some(status) = self.child.try_wait().map_err(failed)? {
            return Err(format!("the load generator ended by itself: {status}"));
        }
        Command::new("kill").args(["-INT", &self.pid().to_string()]).status().map_err(failed)?;
        let begin = Instant::now();
        while self.child.try_wait().map_err(failed)?.is_none() {
            if begin.elapsed() > STOP_MAX {
                return Err("the load generator did not end in time".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let report = fs::read_to_string(&self.report).map_err(failed)?;
        let report = serde_json::from_str(&report).map_err(|error| format!("its report: {error}"))?;
        let hlog = fs::read(&self.hlog).map_err(failed)?;
        Ok(Said { intervals: Interval::read(&hlog)?, report })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
