//! What all replicas hold at the end, row by row.

use std::collections::BTreeMap;

use throng_router_core::machines::verify::Check;
use throng_storage_core::store::limits::NO_REPLICA;
use throng_wire::ShardId;

use super::World;

/// Rows read at a time.
const ROWS: usize = 1_000;

impl World {
    /// Channels whose content hashes differ between the replicas that run, and groups whose members are not settled.
    pub(crate) fn unequal_replicas(&mut self) -> Vec<String> {
        let mut unequal = Vec::new();
        for number in 0..self.channels.len() {
            let channel = self.channels[number].0;
            let members = match self.members_of(ShardId::of_channel(&channel, self.scenario.shards)) {
                Ok(members) => members,
                Err(why) => {
                    unequal.push(why);
                    continue;
                }
            };
            let mut chains = Vec::new();
            for node in members {
                let Some(process) = &mut self.nodes[node].process else { continue };
                chains.push(process.router.machines().read_chain(&channel).expect("memory can be read"));
            }
            if chains.windows(2).any(|pair| pair[0] != pair[1]) {
                unequal.push(format!("replicas of channel {number} differ: {chains:?}"));
            }
        }
        unequal
    }

    /// Checks the copies of all nodes that run: every one is whole, and those that have applied the same hold the same.
    pub(crate) fn check_rows(&mut self) {
        let mut digests = BTreeMap::new();
        for node in 0..self.nodes.len() {
            let now = self.nodes[node].local(self.now);
            if let Some(process) = &mut self.nodes[node].process {
                process.router.flush_now(now);
            }
            self.pump_node(node);
            // The number behind the last is the metadata's.
            for shard in (0..=self.scenario.shards).map(ShardId) {
                let Some(process) = &mut self.nodes[node].process else { continue };
                let replica = process.router.machines().replica(shard);
                if replica == NO_REPLICA {
                    continue;
                }
                let mut check = Check::new(shard, self.scenario.shards, replica);
                let state = self.nodes[node].disk.state.clone();
                while !check.step(&state, ROWS).expect("memory can be read") {}
                let report = check.report();
                for finding in &report.findings {
                    self.model.violations.push(format!("node {node} shard {shard}: {finding}"));
                }
                let first = digests.entry((shard, report.applied.index)).or_insert((node, report.digest));
                if first.1 != report.digest {
                    let (other, index) = (first.0, report.applied.index);
                    let text = format!("nodes {other} and {node} differ in shard {shard} at entry {index}");
                    self.model.violations.push(text);
                }
            }
        }
    }
}
