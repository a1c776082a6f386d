//! A local Throng cluster that lasts as long as the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::server::temporary_folder;

/// Formatting, elections and the balancing of leadership take some seconds.
const WHOLE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Cluster {
    supervisor: Child,
    folder: PathBuf,
    nodes: Vec<Value>,
}

impl Cluster {
    /// Starts `nodes` nodes with `shards` shards and waits until every node has its share of them.
    pub(super) fn start(throng: &Path, nodes: usize, shards: u32) -> Result<Self> {
        let folder = temporary_folder()?;
        let mut command = Command::new(throng);
        command.args(["cluster", "start", "--port", "0", "--nodes", &nodes.to_string()]);
        command.args(["--shards", &shards.to_string()]);
        command.arg("--data-dir").arg(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        let supervisor = command.spawn().map_err(|error| format!("cannot start a cluster: {error}"))?;
        let mut cluster = Self { supervisor, folder, nodes: Vec::new() };
        let deadline = Instant::now() + WHOLE_MAX;
        while !cluster.is_whole(nodes, shards) {
            if Instant::now() >= deadline {
                return Err(format!("the cluster was not whole within {WHOLE_MAX:?}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(cluster)
    }

    /// All nodes serve, and leadership of the shards is spread evenly.
    fn is_whole(&mut self, nodes: usize, shards: u32) -> bool {
        if self.nodes.is_empty() {
            let text = fs::read_to_string(self.folder.join("cluster.json")).unwrap_or_default();
            let layout: Value = serde_json::from_str(&text).unwrap_or_default();
            self.nodes = layout["nodes"].as_array().cloned().unwrap_or_default();
        }
        let serving: Vec<u64> = (0..self.nodes.len()).filter_map(|node| self.serving(node)).collect();
        let share = u64::from(shards) / nodes as u64;
        serving.len() == nodes
            && serving.iter().sum::<u64>() == u64::from(shards)
            && serving.iter().all(|&serving| serving >= share)
    }

    fn serving(&self, node: usize) -> Option<u64> {
        self.status(node)?["router"]["serving"].as_u64()
    }

    fn status(&self, node: usize) -> Option<Value> {
        super::generator::get(self.nodes[node]["ops"].as_str()?, "/status")
    }

    /// Addresses for clients.
    pub(super) fn targets(&self) -> Vec<String> {
        self.nodes.iter().filter_map(|node| Some(format!("ws://{}", node["client"].as_str()?))).collect()
    }

    /// What tokens are signed with.
    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("keys/token.pk8")
    }

    /// Process ids of the nodes.
    pub(super) fn pids(&self) -> Vec<u64> {
        (0..self.nodes.len()).filter_map(|node| self.status(node)?["ready"]["pid"].as_u64()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The nodes end with their parent. What fails here has ended already.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        thread::sleep(Duration::from_millis(500));
        let _ = fs::remove_dir_all(&self.folder);
    }
}
