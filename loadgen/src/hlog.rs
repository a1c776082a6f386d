//! Interval logs: one histogram per second and kind, in the format of HdrHistogram's own tools.

use std::fs::File;
use std::io::{self, BufWriter, Cursor};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Histograms hold nanoseconds; the log's summary column shows milliseconds.
const MAX_VALUE_DIVISOR: f64 = 1e6;

/// One interval, encoded: a histogram in memory takes hundreds of kilobytes, encoded about one.
struct Interval {
    tag: &'static str,
    from: Duration,
    length: Duration,
    encoded: Vec<u8>,
}

/// Collects intervals and writes them at the end.
pub(crate) struct Hlog {
    started: SystemTime,
    intervals: Vec<Interval>,
}

impl Hlog {
    pub(crate) fn new() -> Self {
        Self { started: SystemTime::now(), intervals: Vec::new() }
    }

    /// Adds what was measured between two instants of the run.
    pub(crate) fn add(
        &mut self,
        tag: &'static str,
        from: Duration,
        to: Duration,
        histogram: &Histogram<u64>,
    ) {
        let mut encoded = Vec::new();
        if histogram.is_empty() || V2DeflateSerializer::new().serialize(histogram, &mut encoded).is_err() {
            return; // writing into memory does not fail
        }
        self.intervals.push(Interval { tag, from, length: to.saturating_sub(from), encoded });
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .add_comment("throng-loadgen; corrected latency in nanoseconds")
            .with_start_time(self.started)
            .with_base_time(self.started)
            .with_max_value_divisor(MAX_VALUE_DIVISOR)
            .begin_log_with(&mut file, &mut serializer)?;
        let mut deserializer = Deserializer::new();
        for interval in &self.intervals {
            let histogram: Histogram<u64> = deserializer
                .deserialize(&mut Cursor::new(&interval.encoded))
                .map_err(|error| io::Error::other(error.to_string()))?;
            writer
                .write_histogram(&histogram, interval.from, interval.length, Tag::new(interval.tag))
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        drop(writer);
        io::Write::flush(&mut file)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut histogram = Histogram::<u64>::new(3).expect("valid");
        histogram.record(1_500_000).expect("in range");
        let mut log = Hlog::new();
        log.add("ack", Duration::from_secs(0), Duration::from_secs(1), &histogram);
        let path = std::env::temp_dir().join(format!("throng-hlog-{}", std::process::id()));
        log.write(&path).expect("written");
        let content = std::fs::read(&path).expect("readable");
        let _ = std::fs::remove_file(&path);
        let entries: Result<Vec<_>, _> = IntervalLogIterator::new(&content).collect();
        let is_ours = |entry: &LogEntry<'_>| match entry {
            LogEntry::Interval(interval) => interval.tag().is_some_and(|tag| tag.as_str() == "ack"),
            _ => false,
        };
        assert!(entries.expect("a log").iter().any(is_ours));
    }
}
