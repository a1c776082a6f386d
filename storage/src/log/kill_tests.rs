//! The log killed between any two of its file operations: the real driver code over a disk in memory that stops at one
//! of them, loses what was not synced as a disk may, and is opened again. Every acknowledged record must be there, and
//! nothing else than a prefix of what was being written.
//!
//! `THRONG_LOG_KILLS` and `THRONG_LOG_SEED` set how many times and from which seed (`./x night log-kill`).

mod disk;
mod model;

use std::sync::Arc;

use throng_base::Rng;
use throng_storage_core::log::{Appender, BLOCK, Generation, LogId, SegmentHeader, Tail};

use self::disk::{Crash, InlineDisk, SimFs};
use self::model::Model;
use super::committer::Committer;
use super::files;
use super::fs::LogFs;
use super::reader::LogReader;
use super::recover::{Found, maker, read};

const LOG: LogId = LogId(0x6b11);
const SHARDS: u32 = 3;
const SEGMENT: u64 = 8 * BLOCK as u64;
/// Operations between two crashes, at most.
const OPERATIONS: u64 = 160;
/// Crashes of one log before the next one begins from nothing.
const LIVES: u64 = 20;

/// What happened, so that a run that never reached what it is for does not pass for one that did.
#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    acknowledged: u64,
    /// Entries, hard states and marks that were acknowledged and are gone.
    lost: u64,
    torn_tails: u64,
    recycled: u64,
    in_recovery: u64,
    unacknowledged_kept: u64,
}

/// Writes until the disk stops. `Err` says where the log noticed.
fn live(fs: &Arc<SimFs>, model: &mut Model, rng: &mut Rng, seen: &mut Seen) -> Result<(), String> {
    let shared: Arc<dyn LogFs> = Arc::clone(fs) as Arc<dyn LogFs>;
    seen.in_recovery += 1;
    let found = read(&*shared, LOG, SHARDS).map_err(|error| format!("{error:?}"))?;
    files::remove_unfinished(&*shared).map_err(|error| error.to_string())?;
    let Found { recovered, contents, on_disk } = found;
    let reader = LogReader::new(Arc::clone(&shared), LOG, contents, &recovered, u64::MAX);
    let maker = maker(Arc::clone(&shared), LOG, SEGMENT, &recovered, &on_disk);
    let disk = InlineDisk::new(Arc::clone(&shared), recovered.end.generation, maker, rng.next_u64())
        .map_err(|error| error.to_string())?;
    let appender = Appender::new(LOG, recovered.end, recovered.segments);
    model.adopt(&reader).expect("it was checked after the crash");
    let mut committer = Committer::new(appender, disk, reader, SEGMENT);
    seen.in_recovery -= 1;
    loop {
        let records = model.propose(rng);
        model.attempt(&records, SEGMENT as usize - BLOCK);
        committer.commit(&records.iter().collect::<Vec<_>>())?;
        model.acknowledge();
        seen.acknowledged += records.len() as u64;
        let truncations = if rng.chance(400_000) { model.truncate(rng) } else { Vec::new() };
        committer.truncate(truncations)?;
    }
}

/// Opens what the crash left, without touching it, and compares. False if something is lost: counted, told, and the end
/// of this log.
fn verify(fs: &SimFs, model: &Model, seen: &mut Seen, what: &str) -> bool {
    let copy: Arc<dyn LogFs> = Arc::new(fs.copy());
    let found = match read(&*copy, LOG, SHARDS) {
        Ok(found) => found,
        Err(error) => {
            println!("{what}: the log is refused: {error:?}");
            seen.lost += model.held();
            return false;
        }
    };
    seen.torn_tails += u64::from(found.recovered.tail != Tail::Clean);
    let begin = found.recovered.segments.begin().generation;
    seen.recycled = seen.recycled.max(begin.0);
    let reader = LogReader::new(copy, LOG, found.contents, &found.recovered, u64::MAX);
    match model.check(&reader) {
        Ok(kept) => seen.unacknowledged_kept += u64::from(kept),
        Err(why) => {
            println!("{what}: {why}");
            seen.lost += model.lost(&reader);
            return false;
        }
    }
    true
}

fn formatted(seed: u64) -> Arc<SimFs> {
    let fs = Arc::new(SimFs::new(seed));
    let (generation, begin) = (Generation::FIRST, Generation::FIRST);
    let header = SegmentHeader { log: LOG, generation, capacity: SEGMENT, begin };
    files::make(&*fs, None, header, &|_| false).expect("nothing stops the format");
    fs
}

/// Kills logs `count` times, each log [`LIVES`] times in a row.
fn kill(count: u64, seed: u64) -> Seen {
    let (mut seen, mut rng) = (Seen::default(), Rng::new(seed));
    while seen.crashes < count {
        let life_seed = rng.next_u64();
        let (fs, mut model) = (formatted(life_seed), Model::new(SHARDS));
        let mut rng = Rng::new(life_seed);
        for life in 0..LIVES.min(count - seen.crashes) {
            let crash = Crash::draw(&mut rng);
            fs.stop_after(rng.below(OPERATIONS));
            live(&fs, &mut model, &mut rng, &mut seen).expect_err("the disk stops");
            fs.crash(crash);
            seen.crashes += 1;
            if !verify(&fs, &model, &mut seen, &format!("seed {life_seed:#x}, life {life}, {crash:?}")) {
                break;
            }
        }
    }
    seen
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn killed_anywhere_the_log_keeps_what_it_acknowledged() {
    let (count, seed) = (number("THRONG_LOG_KILLS", 1000), number("THRONG_LOG_SEED", 3));
    let seen = kill(count, seed);
    println!(
        "LOG-KILL {{\"seed\": {seed}, \"crashes\": {}, \"records_acknowledged\": {}, \"records_lost\": {}, \
         \"torn_tails\": {}, \"crashes_in_recovery\": {}, \"unacknowledged_kept\": {}, \"begin_reached\": {}}}",
        seen.crashes,
        seen.acknowledged,
        seen.lost,
        seen.torn_tails,
        seen.in_recovery,
        seen.unacknowledged_kept,
        seen.recycled
    );
    assert_eq!((seen.crashes, seen.lost), (count, 0), "the lines above say what is lost");
    let reached = [seen.acknowledged, seen.torn_tails, seen.in_recovery, seen.unacknowledged_kept];
    assert!(reached.iter().all(|kind| *kind > 0) && seen.recycled > 5, "{seen:?}");
}

/// One log, stopped at its first operation, its second, its third …
#[test]
fn killed_at_every_operation_of_one_life() {
    let mut seen = Seen::default();
    for crash in Crash::ALL {
        for stop in 0..400 {
            let (fs, mut model, mut rng) = (formatted(7), Model::new(SHARDS), Rng::new(11));
            fs.stop_after(stop);
            live(&fs, &mut model, &mut rng, &mut seen).expect_err("the disk stops");
            fs.crash(crash);
            assert!(verify(&fs, &model, &mut seen, &format!("operation {stop}, {crash:?}")));
        }
    }
    assert!(seen.recycled > 3 && seen.torn_tails > 0, "{seen:?}");
}

/// The checker bites: a disk that forgets what it synced is found out.
#[test]
fn a_disk_that_lies_about_a_sync_is_found_out() {
    let mut seen = Seen::default();
    for seed in 0..200 {
        let (fs, mut model) = (formatted(seed), Model::new(SHARDS));
        fs.lie();
        fs.stop_after(100);
        let mut rng = Rng::new(seed);
        live(&fs, &mut model, &mut rng, &mut seen).expect_err("the disk stops");
        fs.crash(Crash::PowerCut { unit: 4096 });
        if !verify(&fs, &model, &mut seen, &format!("a lie, seed {seed}")) && seen.lost > 10 {
            return;
        }
    }
    panic!("a sync that does nothing goes unnoticed: {seen:?}");
}
