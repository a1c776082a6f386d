//! How long it took until service was back: an HdrHistogram, and the bar it is held against.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Extent;
use crate::tally::Tally;

/// Service back, median and 99th percentile, milliseconds.
const P50_MAX_MS: u64 = 1_000;
const P99_MAX_MS: u64 = 2_000;

/// Recovery times in milliseconds.
pub(super) struct Recovery {
    name: &'static str,
    times: Histogram<u64>,
}

impl Recovery {
    pub(super) fn new(name: &'static str) -> Self {
        let times = Histogram::new_with_max(600_000, 3).expect("the bounds are constants that fit");
        Self { name, times }
    }

    pub(super) fn record(&mut self, ms: u64) {
        self.times.saturating_record(ms);
    }

    /// Prints the percentiles.
    pub(super) fn print(&self) {
        let at = |q| self.times.value_at_quantile(q);
        println!(
            "chaos: {}: {} times, p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
            self.name,
            self.times.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            self.times.max()
        );
    }

    /// Whether there was anything, and in the long form whether it is within the bar: a short run beside whatever else a
    /// machine does is no measurement, and only says that service came back.
    pub(super) fn check(&self, options: &Extent) -> Tally {
        if options.keeps { self.within_bar() } else { Tally::one(!self.times.is_empty()) }
    }

    fn within_bar(&self) -> Tally {
        let (p50, p99) = (self.times.value_at_quantile(0.5), self.times.value_at_quantile(0.99));
        Tally::one(!self.times.is_empty() && p50 <= P50_MAX_MS && p99 <= P99_MAX_MS)
    }

    /// Percentiles and every recorded value with its count.
    pub(super) fn json(&self) -> Value {
        let at = |q| self.times.value_at_quantile(q);
        let values: Vec<_> =
            self.times.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
        json!({
            "count": self.times.len(), "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99),
            "max_ms": self.times.max(), "ms_and_count": values,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_held_against_median_and_tail() {
        let of = |times: &[u64]| {
            let mut recovery = Recovery::new("test");
            times.iter().for_each(|ms| recovery.record(*ms));
            recovery.within_bar()
        };
        assert_eq!(of(&[]), Tally::FAIL);
        assert_eq!(of(&[900, 1000, 1999]), Tally::PASS);
        assert_eq!(of(&[900, 1000, 2100]), Tally::FAIL);
        assert_eq!(of(&[900, 1100, 1200]), Tally::FAIL);
    }
}
