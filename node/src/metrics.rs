//! `/metrics`: the Prometheus text format, version 0.0.4.

use std::fmt::Write;

use crate::ops::{RouterView, Status};
use crate::store_view::StoreView;

/// A page of metrics.
#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "gauge");
        self.sample(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "counter");
        self.sample(name, value);
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}

/// Everything a node can be watched by.
pub(crate) fn exposition(status: &Status) -> String {
    let mut page = Page::default();
    page.gauge("throng_resident_bytes", "Resident memory of the process.", status.resident_bytes);
    page.gauge("throng_gateway_sessions", "Sessions on the gateway loops.", status.gateway_sessions);
    if let Some(certificate) = &status.peer_certificate {
        let help = "Seconds until the certificate for peer links ends.";
        page.gauge("throng_peer_certificate_expiry_seconds", help, certificate.seconds_left);
    }
    if let Some(router) = &status.router {
        write_router(&mut page, router);
        write_store(&mut page, &router.store);
    }
    if let Some(log) = &status.log {
        page.gauge("throng_log_bytes", "Bytes of the log's segments.", log.bytes);
        let help = "Bytes of the log beyond its budget, held by entries that are still needed.";
        page.gauge("throng_log_over_budget_bytes", help, log.over_budget_bytes);
    }
    if let Some(scrub) = &status.scrub {
        let help = "When all on disk was last checked, Unix time.";
        page.gauge("throng_scrub_last_full_seconds", help, scrub.last_full);
        page.gauge("throng_scrub_last_errors", "Damages that the last full scrub found.", scrub.last_errors);
        page.gauge("throng_scrub_errors", "Damages found since the start.", scrub.errors);
        page.gauge("throng_scrub_bytes", "Bytes that scrubs have read since the start.", scrub.bytes);
    }
    page.0
}

fn write_router(page: &mut Page, router: &RouterView) {
    page.gauge("throng_shards_serving", "Shards this node leads and serves.", router.serving as u64);
    page.gauge("throng_shards_leaderless", "Shards without a known leader.", router.leaderless as u64);
    let sessions = router.registered_sessions as u64;
    page.gauge("throng_registered_sessions", "Sessions registered at users' shards.", sessions);
    let bytes = router.registry_bytes as u64;
    page.gauge("throng_registry_bytes", "Bytes the registry of sessions takes.", bytes);
    page.gauge("throng_applied_entries", "Raft entries applied here.", router.applied_entries);
    let reasons = router.busy.len() as u64;
    page.gauge("throng_busy", "Reasons why clients that write are answered BUSY.", reasons);
    page.gauge("throng_retention_commands", "Floors that retention proposed to raise.", router.retentions);
}

fn write_store(page: &mut Page, store: &StoreView) {
    let help = "Replicas here that count for nothing until a leader has cleared them.";
    page.gauge("throng_suspect_replicas", help, store.suspects.len() as u64);
    page.gauge("throng_log_tail_bytes", "Bytes of log entries in memory.", store.tail_bytes);
    let counters = [
        ("throng_replicas_suspected_total", "Replicas found suspect.", store.suspected),
        ("throng_replicas_cleared_total", "Suspect replicas that a leader cleared.", store.cleared),
        ("throng_elections_total", "Elections this node began.", store.elections),
        ("throng_leader_transfers_total", "Leaderships it began to hand over.", store.transfers),
        ("throng_leaderships_let_go_total", "Leaderships given up without a majority.", store.let_go),
        ("throng_snapshots_sent_total", "Snapshots raft sent.", store.snapshots_sent),
        ("throng_snapshots_taken_total", "Snapshots that became state here.", store.snapshots_taken),
        ("throng_log_truncations_total", "Times a group's log forgot entries.", store.truncations),
        ("throng_log_group_commits_total", "Group commits handed to the log.", store.group_commits),
        ("throng_log_reads_total", "Requests for entries that had left memory.", store.log_reads),
    ];
    counters.into_iter().for_each(|(name, help, value)| page.counter(name, help, value));
    let name = "throng_raft_messages_dropped_total";
    page.family(name, "Messages of other nodes that were dropped.", "counter");
    for (reason, count) in &store.dropped {
        page.sample(&format!("{name}{{reason=\"{reason}\"}}"), *count);
    }
}
