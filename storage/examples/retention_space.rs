//! How retention gives space back: events removed one by one, or by range, in one flush or in many.
//!
//! ```text
//! cargo run --release -p throng-storage --example retention_space [DIR] [CHANNELS] [EVENTS]
//! ```
//!
//! Fills CHANNELS (500) with EVENTS (2,000) each of 200 bytes in the order in which they would arrive, then drops
//! the oldest nine tenths of each in steps of 512 as RETAIN does, then goes on writing as much as a tenth. After each
//! phase: what the files take, how long the phase took, and how long reading 100 pages of what is left takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use throng_storage::{OpenOptions, RocksState, open};
use throng_storage_core::state::{Change, StateRead, Table, WriteBatch};
use throng_wire::ids::NodeId;

type Failure = Box<dyn std::error::Error>;

/// How events are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    OneByOne,
    ByRange,
    /// With a flush after every hundred, as a leader proposes them over many turns.
    ByRangeInTurns,
}

const STEP: u64 = 512;
const FLUSH_BYTES: usize = 8 << 20;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let channels = args.next().map_or(Ok(500), |n| n.parse())?;
    let events = args.next().map_or(Ok(2_000), |n| n.parse())?;
    println!("{channels} channels of {events} events");
    for how in [How::OneByOne, How::ByRange, How::ByRangeInTurns] {
        let dir = dir.join(format!("retention-space.{}", std::process::id()));
        let done = measure(&dir, channels, events, how);
        std::fs::remove_dir_all(&dir)?;
        done?;
    }
    Ok(())
}

fn measure(dir: &Path, channels: u64, events: u64, how: How) -> Result<(), Failure> {
    println!("{how:?}");
    let opened = open(dir, &OpenOptions::new([1; 16], NodeId(1), 64))?;
    let mut store =
        Store { state: opened.state, dir: dir.join("state"), open: Vec::new(), bytes: 0, channels };
    store.phase("filled", 1, |store| store.fill(0, events))?;
    let floor = events / 10 * 9;
    store.phase("dropped nine tenths", floor, |store| store.drop_below(floor, how))?;
    store.phase("idle for 5 s", floor, |_| {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    store.phase("a tenth more", floor, |store| store.fill(events, events + events / 10))?;
    store.phase("idle for 5 s", floor, |_| {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    Ok(())
}

struct Store {
    state: RocksState,
    dir: PathBuf,
    open: WriteBatch,
    bytes: usize,
    channels: u64,
}

impl Store {
    fn phase(
        &mut self,
        name: &str,
        floor: u64,
        work: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        work(self)?;
        self.write()?;
        self.state.flush_all()?;
        let took = begin.elapsed();
        let begin = Instant::now();
        for n in 0..100 {
            let channel = n * self.channels / 100;
            let (from, to) = (key(channel, floor), key(channel, u64::MAX));
            let rows = self.state.scan(Table::Events, &from, &to, 32)?;
            assert_eq!(rows.len(), 32, "what is above the floor is there");
        }
        let reading = begin.elapsed() / 100;
        let mut files = 0;
        for entry in std::fs::read_dir(&self.dir)? {
            files += entry?.metadata().map_or(0, |file| file.len());
        }
        println!("  {name:20} {:7.1} MB  {took:9.1?}  page {reading:8.1?}", files as f64 / 1e6);
        Ok(())
    }

    /// Appends events `from..to` to every channel, in turn.
    fn fill(&mut self, from: u64, to: u64) -> Result<(), Failure> {
        for seq in from..to {
            for channel in 0..self.channels {
                let body = vec![(seq ^ channel) as u8; 200];
                self.add(Change::Put(Table::Events, key(channel, seq), body.into()))?;
            }
        }
        Ok(())
    }

    fn drop_below(&mut self, floor: u64, how: How) -> Result<(), Failure> {
        for step in (0..floor).step_by(STEP as usize) {
            let end = floor.min(step + STEP);
            for channel in 0..self.channels {
                if how != How::OneByOne {
                    self.add(Change::DeleteRange(Table::Events, key(channel, step), key(channel, end)))?;
                    if how == How::ByRangeInTurns && channel % 100 == 99 {
                        self.write()?;
                        self.state.flush_all()?;
                    }
                    continue;
                }
                for seq in step..end {
                    self.add(Change::Delete(Table::Events, key(channel, seq)))?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, change: Change) -> Result<(), Failure> {
        self.bytes += 240;
        self.open.push(change);
        if self.open.len() >= 10_000 {
            self.write()?;
        }
        if self.bytes >= FLUSH_BYTES {
            self.bytes = 0;
            self.write()?;
            self.state.flush_all()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.state.write_batch(&std::mem::take(&mut self.open))?;
        Ok(())
    }
}

/// `replica, slot, id, seq`, the ids spread as hashes are.
fn key(channel: u64, seq: u64) -> Bytes {
    let id = channel.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    [&[0; 4][..], &id[..2], &id, &id, &seq.to_be_bytes()].concat().into()
}
