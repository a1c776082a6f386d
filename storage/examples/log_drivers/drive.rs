//! Committing groups and timing them.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, unbounded};
use throng_storage::{LogDriver, LogWriter, OpenOptions, Report, fsync_floor, open};
use throng_storage_core::entry::{Conf, Entry, EntryKind, Mark, Record};
use throng_storage_core::log::{commit, limits::SEGMENT_BYTES};
use throng_storage_core::store::PersistToken;
use throng_wire::ids::{NodeId, ShardId};

use crate::pool::{Past, Pool, SEGMENTS};
use crate::{Contender, Result};

/// A group has a record of each of so many shards.
const SHARDS: u32 = 8;

/// Blocks that the floor is measured with: 5 ms of a fast disk.
const FLOOR_SAMPLES: usize = 100;

/// Groups between two truncations, and how many stay.
const TRUNCATE_EVERY: u64 = 256;
const KEPT: u64 = 16;

/// What is committed, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) time: Duration,
}

/// What came out.
pub(crate) struct Measured {
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    pub(crate) commits: u64,
    /// What one block took just before: if others kept the disk or the cores busy, it shows.
    pub(crate) floor: Duration,
}

pub(crate) fn measure(dir: &Path, contender: Contender, cell: Cell) -> Result<Measured> {
    let mut options = OpenOptions::new([1; 16], NodeId(1), SHARDS);
    let pool = match contender {
        Contender::Bare => return bare(dir, cell),
        Contender::Ahead(past) => Some(Pool::make(dir, past)?),
        Contender::Driver(driver) => {
            options.log.driver = driver;
            None
        }
        Contender::Recycling => {
            options.log.driver = LogDriver::Thread;
            None
        }
    };
    let most = if pool.is_some() { SEGMENTS as u64 * SEGMENT_BYTES } else { u64::MAX };
    let data = dir.join("data");
    let opened = open(&data, &options)?;
    let (sender, reports) = unbounded();
    let report = move |report| {
        let _ended = sender.send(report);
    };
    let writer = match pool {
        Some(pool) => opened.log.start_on(|| Ok(pool), report)?,
        None => {
            let writer = opened.log.start(report)?;
            await_spare(&data.join("log"))?;
            writer
        }
    };
    let truncates = contender == Contender::Recycling;
    let floor = floor(dir)?;
    let (latencies, commits, elapsed) =
        Drive { writer: &writer, reports: &reports, cell, truncates }.run(most)?;
    Measured { latencies, elapsed, commits, floor }.sorted()
}

impl Measured {
    fn sorted(mut self) -> Result<Self> {
        self.latencies.sort_unstable();
        match self.latencies.is_empty() {
            true => Err("nothing was committed".into()),
            false => Ok(self),
        }
    }
}

fn floor(dir: &Path) -> Result<Duration> {
    Ok(fsync_floor(dir, FLOOR_SAMPLES)?.p50)
}

/// The first segments are made at the start; a log that runs makes one per segment that fills.
fn await_spare(log: &Path) -> Result<()> {
    let begin = Instant::now();
    let is_whole = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".log"))
    };
    while std::fs::read_dir(log)?.map(is_whole).filter(|whole| *whole).count() < 2 {
        if begin.elapsed() > Duration::from_secs(60) {
            return Err("no second segment within a minute".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The same bytes without a log.
fn bare(dir: &Path, cell: Cell) -> Result<Measured> {
    let (mut pool, floor) = (Pool::make(dir, Past::Zeroed)?, floor(dir)?);
    let bytes = vec![0x5a; cell.bytes];
    let (mut latencies, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < cell.time {
        let start = Instant::now();
        if !pool.write(&bytes)? {
            break;
        }
        latencies.push(start.elapsed());
    }
    let elapsed = begin.elapsed();
    Measured { commits: latencies.len() as u64, latencies, elapsed, floor }.sorted()
}

struct Drive<'a> {
    writer: &'a LogWriter,
    reports: &'a Receiver<Report<PersistToken>>,
    cell: Cell,
    truncates: bool,
}

impl Drive<'_> {
    /// Keeps groups queued until the time is over or `most` bytes are used up. Latencies, commits, time taken.
    fn run(&self, most: u64) -> Result<(Vec<Duration>, u64, Duration)> {
        let (bytes, in_flight) = (self.cell.bytes as u64, self.cell.in_flight);
        let body = Bytes::from(vec![0x61; body_len(self.cell.bytes)]);
        // A commit that does not fit the rest of a segment leaves that empty: at most what is in flight.
        let last =
            (most / SEGMENT_BYTES).saturating_mul(SEGMENT_BYTES - bytes * (in_flight as u64 + 1)) / bytes;
        let (mut waiting, mut latencies, mut commits) = (VecDeque::new(), Vec::new(), 0);
        let (begin, mut token, mut truncated) = (Instant::now(), 0, 0);
        while begin.elapsed() < self.cell.time && token < last {
            while waiting.len() < in_flight {
                token += 1;
                let records = group(token, &body);
                waiting.push_back((token, Instant::now()));
                self.writer.submit(PersistToken(token), records)?;
            }
            let durable = match self.reports.recv()? {
                Report::Fatal(why) => return Err(why.into()),
                Report::Durable(PersistToken(durable)) => durable,
            };
            commits += 1;
            while let Some((_, start)) = waiting.pop_front_if(|(token, _)| *token <= durable) {
                latencies.push(start.elapsed());
            }
            if self.truncates && durable >= truncated + TRUNCATE_EVERY {
                truncated = durable - KEPT;
                self.writer.truncate((0..SHARDS).map(|shard| (ShardId(shard), mark(truncated))).collect())?;
            }
        }
        Ok((latencies, commits, begin.elapsed()))
    }
}

/// The longest body with which a group takes no more than `bytes`.
fn body_len(bytes: usize) -> usize {
    let fits = |len: &usize| commit::encoded_len(&group(1, &Bytes::from(vec![0; *len]))) <= bytes;
    (0..=bytes / SHARDS as usize).rev().step_by(4).find(fits).unwrap_or(0)
}

fn group(index: u64, body: &Bytes) -> Vec<Record> {
    let record = |shard| {
        let entry =
            Entry { kind: EntryKind::Normal, term: 1, index, data: body.clone(), context: Bytes::new() };
        Record { shard: ShardId(shard), entries: vec![entry], ..Record::default() }
    };
    (0..SHARDS).map(record).collect()
}

fn mark(index: u64) -> Mark {
    Mark { index, term: 1, peer: 1, replica: 1, conf: Conf::of_voters([1]), ..Mark::default() }
}
