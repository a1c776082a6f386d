//! What came out: per round and as a table.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::Said;
use super::windows::{Interval, Window};
use super::{Plan, RATIO_MAX, Round, fill};
use crate::bench::table::{markdown, median};

/// The figures, and whether the bar is met.
pub(super) struct Verdict {
    pub(super) joining: Value,
    pub(super) rounds: Vec<Value>,
    /// Median over the rounds of p99 during the catch-up by p99 before.
    pub(super) ratio: f64,
    pub(super) is_met: bool,
    rows: Vec<Vec<String>>,
    is_valid: bool,
}

impl Verdict {
    pub(super) fn of(joining: &Window, rounds: &[Round], said: &Said) -> Self {
        let intervals = &said.intervals;
        let mut rows = vec![row("a node joins", joining, intervals, None)];
        let mut values = Vec::new();
        for (number, round) in (1..).zip(rounds) {
            let windows = [("before", &round.before), ("catch-up", &round.during), ("after", &round.after)];
            for (name, window) in windows {
                rows.push(row(&format!("{number} {name}"), window, intervals, Some(&round.before)));
            }
            values.push(round.value(intervals));
        }
        let ratio = median(rounds.iter().map(|round| times(&round.during, &round.before, intervals)));
        let is_valid = said.is_valid();
        let is_met = is_valid && ratio <= RATIO_MAX;
        Self { joining: value(joining, intervals), rounds: values, ratio, is_met, rows, is_valid }
    }

    pub(super) fn print(&self, plan: &Plan, filled: &[fill::Size]) {
        let head = [
            "window",
            "seconds",
            "acks",
            "p50, ms",
            "p99, ms",
            "p99 by before",
            "floor, µs",
            "cores: generator, nodes",
        ];
        println!("\n{}", markdown(&head, &self.rows));
        for (number, round) in (1..).zip(&self.rounds) {
            println!(
                "round {number}: {:.0} MiB over loopback beside the load in {:.1} s",
                round["carried_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20),
                round["during"]["seconds"].as_f64().unwrap_or(0.0)
            );
        }
        let largest = filled.iter().map(|size| size.state).max().unwrap_or(0);
        println!(
            "{} MiB of bodies in {} shards, {} MiB of state on disk; {} messages a second of 128 B beside it",
            plan.mib,
            plan.shards,
            largest >> 20,
            plan.rate
        );
        println!(
            "p99 during catch-up by before, median of the rounds: {:.2} (at most {RATIO_MAX})",
            self.ratio
        );
        if !self.is_valid {
            println!("void: the generator could not keep its own schedule");
        }
    }
}

impl Round {
    fn value(&self, intervals: &[Interval]) -> Value {
        // The load alone carries as much a second as before.
        let load = self.before.loopback() / self.before.length().as_secs_f64().max(0.001);
        let carried = self.during.loopback() - load * self.during.length().as_secs_f64();
        let moves: Vec<Value> = self.moves.iter().map(|one| {
            json!({ "shard": one.shard, "from": one.from + 1, "to": one.to + 1, "seconds": one.seconds })
        }).collect();
        json!({
            "before": value(&self.before, intervals), "during": value(&self.during, intervals),
            "after": value(&self.after, intervals), "moves": moves, "carried_bytes": carried.max(0.0).round(),
            "receiver_state_bytes": self.state_bytes,
            "p99_ratio": times(&self.during, &self.before, intervals),
            "p99_ratio_after": times(&self.after, &self.before, intervals),
        })
    }
}

fn value(window: &Window, intervals: &[Interval]) -> Value {
    let latency = window.latency(intervals);
    json!({
        "seconds": window.length().as_secs_f64(), "acks": latency.len(), "p50_ms": ms(&latency, 0.5),
        "p99_ms": ms(&latency, 0.99), "p999_ms": ms(&latency, 0.999), "max_ms": ms(&latency, 1.0),
        "sync_floor_us_begin_end": window.floors_us(), "cores_generator_then_nodes": window.cores(),
    })
}

fn row(name: &str, window: &Window, intervals: &[Interval], before: Option<&Window>) -> Vec<String> {
    let latency = window.latency(intervals);
    let cores: Vec<String> = window.cores().iter().map(|cores| format!("{cores:.2}")).collect();
    vec![
        name.to_owned(),
        format!("{:.1}", window.length().as_secs_f64()),
        latency.len().to_string(),
        format!("{:.2}", ms(&latency, 0.5)),
        format!("{:.2}", ms(&latency, 0.99)),
        before.map_or(String::new(), |before| format!("{:.2}", times(window, before, intervals))),
        window.floors_us().map(|floor| format!("{floor:.0}")).join("–"),
        cores.join(" "),
    ]
}

/// How many times the p99 of another window.
fn times(window: &Window, other: &Window, intervals: &[Interval]) -> f64 {
    let p99 = |window: &Window| ms(&window.latency(intervals), 0.99);
    p99(window) / p99(other)
}

fn ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}
