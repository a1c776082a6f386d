//! Latency: corrected beside uncorrected.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Highest value told apart: an hour. Three significant digits, so 1 µs at 1 ms.
const MAX_NANOS: u64 = 3_600_000_000_000;

/// Percentiles in tables and reports.
const PERCENTILES: [(f64, &str); 8] = [
    (50.0, "p50"),
    (75.0, "p75"),
    (90.0, "p90"),
    (99.0, "p99"),
    (99.9, "p99.9"),
    (99.99, "p99.99"),
    (99.999, "p99.999"),
    (100.0, "max"),
];

/// One kind of latency.
pub(crate) struct Latency {
    /// From the instant the schedule intended.
    corrected: Histogram<u64>,
    /// From the instant it was really sent.
    uncorrected: Histogram<u64>,
    /// Corrected, since the last interval was taken.
    interval: Histogram<u64>,
}

/// Milliseconds at each percentile; fields of the JSON report.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Values measured.
    pub(crate) count: u64,
    /// Mean, milliseconds.
    pub(crate) mean_ms: f64,
    /// Percentiles, milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) p9999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_max(MAX_NANOS, 3).expect("the bounds are constants that fit");
        Self { corrected: histogram(), uncorrected: histogram(), interval: histogram() }
    }

    pub(crate) fn record(&mut self, corrected: Duration, uncorrected: Duration) {
        self.corrected.saturating_record(nanos(corrected));
        self.interval.saturating_record(nanos(corrected));
        self.uncorrected.saturating_record(nanos(uncorrected));
    }

    pub(crate) fn corrected(&self) -> Summary {
        summary(&self.corrected)
    }

    pub(crate) fn uncorrected(&self) -> Summary {
        summary(&self.uncorrected)
    }

    /// What came since the last call.
    pub(crate) fn take_interval(&mut self, take: impl FnOnce(&Histogram<u64>)) {
        take(&self.interval);
        self.interval.reset();
    }

    /// `p50 0.8 ms p99 2.1 ms` of the running interval.
    pub(crate) fn interval_line(&self) -> String {
        if self.interval.is_empty() {
            return "-".into();
        }
        let at = |percentile| ms(self.interval.value_at_percentile(percentile));
        format!("p50 {:.2} ms p99 {:.2} ms", at(50.0), at(99.0))
    }

    /// The percentile table.
    pub(crate) fn table(&self, title: &str) -> String {
        let mut text = format!("{title} ({} measured)\n", self.corrected.len());
        let _ = writeln!(text, "  {:<8} {:>14} {:>14}", "", "corrected ms", "uncorrected ms");
        for (percentile, name) in PERCENTILES {
            let (c, u) = (
                self.corrected.value_at_percentile(percentile),
                self.uncorrected.value_at_percentile(percentile),
            );
            let _ = writeln!(text, "  {name:<8} {:>14.3} {:>14.3}", ms(c), ms(u));
        }
        text
    }
}

fn summary(histogram: &Histogram<u64>) -> Summary {
    let at = |percentile| ms(histogram.value_at_percentile(percentile));
    Summary {
        count: histogram.len(),
        mean_ms: histogram.mean() / 1e6,
        p50_ms: at(50.0),
        p90_ms: at(90.0),
        p99_ms: at(99.0),
        p999_ms: at(99.9),
        p9999_ms: at(99.99),
        max_ms: at(100.0),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(MAX_NANOS).min(MAX_NANOS)
}

fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_shows_in_the_corrected_figures_only() {
        let mut latency = Latency::new();
        for _ in 0..90 {
            latency.record(Duration::from_millis(1), Duration::from_millis(1));
        }
        for late_ms in 0..10 {
            latency.record(Duration::from_millis(100 * late_ms), Duration::from_millis(1));
        }
        assert!(latency.corrected().p99_ms > 700.0 && latency.uncorrected().p99_ms < 1.1);
        assert!(latency.table("ack").contains("p99.9"));
    }
}
