//! Stretches of a run: latency, CPU time and bytes over loopback between two moments.

use std::io::Cursor;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::load::Load;
use crate::Result;
use crate::chaos::cluster::Cluster;
use crate::chaos::unix_ms;
use crate::usage::{cpu_seconds, loopback_bytes, sync_floor_us};

/// Counters at one moment.
pub(super) struct Moment {
    unix_ms: u64,
    /// CPU seconds of the generator, then of each node that runs.
    cpu: Vec<f64>,
    loopback: u64,
    /// What a synced block took just before, microseconds.
    floor_us: f64,
}

impl Moment {
    pub(super) fn now(cluster: &Cluster, load: &Load) -> Result<Self> {
        let floor_us = sync_floor_us(&cluster.folder)?;
        let nodes = cluster.running().filter_map(|node| cluster.pid(node)).map(u64::from);
        let cpu = std::iter::once(load.pid()).chain(nodes).map(cpu_seconds).collect::<Result<_>>()?;
        Ok(Self { unix_ms: unix_ms(), cpu, loopback: loopback_bytes(), floor_us })
    }
}

/// What lies between two moments.
pub(super) struct Window {
    pub(super) from: Moment,
    pub(super) until: Moment,
}

impl Window {
    pub(super) fn length(&self) -> Duration {
        Duration::from_millis(self.until.unix_ms - self.from.unix_ms)
    }

    /// Cores taken by the generator and by each node; one that started meanwhile counts from its start.
    pub(super) fn cores(&self) -> Vec<f64> {
        let before = self.from.cpu.iter().copied().chain(std::iter::repeat(0.0));
        let seconds = self.length().as_secs_f64().max(0.001);
        self.until.cpu.iter().zip(before).map(|(until, from)| (until - from) / seconds).collect()
    }

    /// The disk's floor at begin and end, microseconds.
    pub(super) fn floors_us(&self) -> [f64; 2] {
        [self.from.floor_us, self.until.floor_us]
    }

    /// Bytes that loopback carried.
    pub(super) fn loopback(&self) -> f64 {
        self.until.loopback.saturating_sub(self.from.loopback) as f64
    }

    /// Latency of the seconds that the window touches: a stall that its end cuts off still counts.
    pub(super) fn latency(&self, intervals: &[Interval]) -> Histogram<u64> {
        let touched = |interval: &&Interval| {
            interval.from_ms < self.until.unix_ms && interval.until_ms > self.from.unix_ms
        };
        let mut sum = empty();
        for interval in intervals.iter().filter(touched) {
            sum.add(&interval.latency).expect("the bounds are the same, or the sum grows");
        }
        sum
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// One second of the generator's interval log.
pub(super) struct Interval {
    from_ms: u64,
    until_ms: u64,
    /// Acks of that second, nanoseconds from the intended instant.
    latency: Histogram<u64>,
}

impl Interval {
    /// Reads a log.
    pub(super) fn read(log: &[u8]) -> Result<Vec<Self>> {
        let (mut base, mut intervals, mut deserializer) = (Duration::ZERO, Vec::new(), Deserializer::new());
        for entry in IntervalLogIterator::new(log) {
            match entry.map_err(|error| format!("interval log: {error:?}"))? {
                LogEntry::BaseTime(time) => base = time,
                LogEntry::StartTime(_) => {}
                LogEntry::Interval(interval) => {
                    let from = base + interval.start_timestamp();
                    let bytes = STANDARD.decode(interval.encoded_histogram());
                    let bytes = bytes.map_err(|error| format!("interval log: {error}"))?;
                    let latency = deserializer.deserialize(&mut Cursor::new(bytes));
                    intervals.push(Self {
                        from_ms: from.as_millis() as u64,
                        until_ms: (from + interval.duration()).as_millis() as u64,
                        latency: latency.map_err(|error| format!("interval log: {error}"))?,
                    });
                }
            }
        }
        Ok(intervals)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

    use super::*;

    /// Second by second from 100 s after 1970 on, one value each, in milliseconds.
    fn log(values_ms: &[u64]) -> Vec<u8> {
        let (mut file, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut writer = IntervalLogWriterBuilder::new()
            .with_base_time(UNIX_EPOCH + Duration::from_secs(100))
            .begin_log_with(&mut file, &mut serializer)
            .expect("memory takes it");
        for (second, value) in (0..).zip(values_ms) {
            let mut histogram = empty();
            histogram.record(value * 1_000_000).expect("it grows");
            let from = Duration::from_secs(second);
            writer.write_histogram(&histogram, from, Duration::from_secs(1), None).expect("memory takes it");
        }
        drop(writer);
        file
    }

    fn moment(unix_ms: u64, cpu: &[f64]) -> Moment {
        Moment { unix_ms, cpu: cpu.to_vec(), loopback: unix_ms, floor_us: 1.0 }
    }

    #[test]
    fn a_window_has_the_seconds_that_it_touches() {
        let intervals = Interval::read(&log(&[1, 2, 50, 4])).expect("sound");
        let window = Window { from: moment(101_200, &[1.0, 2.0]), until: moment(102_200, &[1.5, 2.0, 0.25]) };
        let latency = window.latency(&intervals);
        assert_eq!((latency.len(), latency.max() / 1_000_000, latency.min() / 1_000_000), (2, 50, 1));
        assert_eq!((window.cores(), window.loopback()), (vec![0.5, 0.0, 0.25], 1000.0));
        assert!(Interval::read(b"nonsense").is_err());
    }
}
