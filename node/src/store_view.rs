//! What `/status` and `/metrics` show of the replicated store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use throng_storage_core::store::StoreStats;

/// The store's part of `/status`. Everything but the first and the last field counts from the start of the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoreView {
    /// Shards whose replica here may have forgotten what it said, and counts for nothing until a leader has cleared it. The
    /// number behind the last shard is the metadata group's.
    pub(crate) suspects: Vec<u32>,
    /// Times a replica here was found to be that,
    pub(crate) suspected: u64,
    /// and times a leader cleared one.
    pub(crate) cleared: u64,
    /// Elections that this node began.
    pub(crate) elections: u64,
    /// Leaderships that it began to hand over.
    pub(crate) transfers: u64,
    /// Leaderships that it let go because it could talk to no majority.
    pub(crate) let_go: u64,
    /// Snapshots that raft sent,
    pub(crate) snapshots_sent: u64,
    /// and those that became a replica's state here.
    pub(crate) snapshots_taken: u64,
    /// Times a group's log forgot entries.
    pub(crate) truncations: u64,
    /// Group commits handed to the log.
    pub(crate) group_commits: u64,
    /// Requests for entries that had left memory.
    pub(crate) log_reads: u64,
    /// Messages of other nodes that were dropped, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Bytes of log entries in memory.
    pub(crate) tail_bytes: u64,
}

impl StoreView {
    pub(crate) fn of(stats: &StoreStats, suspects: Vec<u32>) -> Self {
        let dropped = [
            ("stranger", stats.dropped_stranger),
            ("shard", stats.dropped_shard),
            ("kind", stats.dropped_kind),
            ("malformed", stats.dropped_malformed),
            ("stale", stats.dropped_stale),
            ("beyond_log", stats.dropped_beyond_log),
            ("apply_lag", stats.dropped_apply_lag),
        ];
        Self {
            suspects,
            suspected: stats.suspects,
            cleared: stats.released,
            elections: stats.campaigns,
            transfers: stats.transfers,
            let_go: stats.let_go,
            snapshots_sent: stats.snapshots_sent,
            snapshots_taken: stats.snapshots_taken,
            truncations: stats.truncations,
            group_commits: stats.persists,
            log_reads: stats.log_reads,
            dropped: dropped.map(|(reason, count)| (reason.to_owned(), count)).into(),
            tail_bytes: stats.tail_bytes,
        }
    }
}
