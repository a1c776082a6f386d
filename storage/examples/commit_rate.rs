//! Group commits per second, beside the disk's own floor.
//!
//! ```text
//! cargo run --release -p throng-storage --example commit_rate [DIR] [SECONDS]
//! ```
//!
//! Each row submits groups of so many records of 256 bytes and keeps so many groups in flight (queued
//! groups share a commit), for SECONDS (3) in a fresh data directory below DIR (the present one). Latency is from submit
//! to report, threads included.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, unbounded};
use throng_storage::{LogWriter, OpenOptions, Report, fsync_floor, open};
use throng_storage_core::entry::{Entry, EntryKind, Record};
use throng_storage_core::store::PersistToken;
use throng_wire::ids::{NodeId, ShardId};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let time = Duration::from_secs(args.next().map_or(Ok(3), |seconds| seconds.parse())?);
    let floor = || fsync_floor(&dir, 2000).map(|floor| println!("floor: one 4 KiB block, {floor:?}"));
    floor()?;
    println!("records  in flight   groups/s  records/s  latency p50      p99      max");
    for (records, in_flight) in [(1, 1), (16, 1), (1, 8), (16, 8), (256, 8)] {
        measure(&dir, records, in_flight, time)?;
    }
    floor()?;
    Ok(())
}

fn measure(
    dir: &Path,
    records: u64,
    in_flight: usize,
    time: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let dir = dir.join(format!("commit-rate.{}", std::process::id()));
    let opened = open(&dir, &OpenOptions::new([1; 16], NodeId(1), 64))?;
    let (sender, reports) = unbounded();
    let writer = opened.log.start(move |report| {
        let _ended = sender.send(report);
    })?;
    let (mut latencies, elapsed) = drive(&writer, &reports, records, in_flight, time)?;
    drop((writer, opened.state, opened.lock));
    std::fs::remove_dir_all(&dir)?;
    latencies.sort_unstable();
    let (count, per_second) = (latencies.len(), |n: usize| n as f64 / elapsed.as_secs_f64());
    println!(
        "{records:7}  {in_flight:9}  {:9.0}  {:9.0}  {:>11.1?} {:>8.1?} {:>8.1?}",
        per_second(count),
        per_second(count * records as usize),
        latencies[count / 2],
        latencies[count * 99 / 100],
        latencies[count - 1],
    );
    Ok(())
}

/// Keeps `in_flight` commits queued; returns each one's latency.
fn drive(
    writer: &LogWriter,
    reports: &Receiver<Report<PersistToken>>,
    records: u64,
    in_flight: usize,
    time: Duration,
) -> Result<(Vec<Duration>, Duration), Box<dyn std::error::Error>> {
    let (mut waiting, mut latencies) = (VecDeque::new(), Vec::new());
    let (begin, mut token) = (Instant::now(), 0u64);
    while begin.elapsed() < time {
        while waiting.len() < in_flight {
            token += 1;
            waiting.push_back((token, Instant::now()));
            writer.submit(PersistToken(token), (0..records).map(|n| record(token, n, records)).collect())?;
        }
        match reports.recv()? {
            Report::Fatal(why) => return Err(why.into()),
            Report::Durable(PersistToken(durable)) => {
                while let Some((_, start)) = waiting.pop_front_if(|(token, _)| *token <= durable) {
                    latencies.push(start.elapsed());
                }
            }
        }
    }
    Ok((latencies, begin.elapsed()))
}

/// One entry of 256 bytes, spread over 64 shards as one commit of a busy node is.
fn record(token: u64, n: u64, records: u64) -> Record {
    static BODY: [u8; 256] = [0x61; 256];
    // Each shard's indices are contiguous: a record's shard is its place in the commit, or one shard takes several.
    let (shard, round) = ((n % 64) as u32, n / 64);
    let index = (token - 1) * records.div_ceil(64) + round + 1;
    let entry = Entry {
        kind: EntryKind::Normal,
        term: 1,
        index,
        data: Bytes::from_static(&BODY),
        context: Bytes::new(),
    };
    Record { shard: ShardId(shard), hard_state: None, mark: None, entries: vec![entry] }
}
