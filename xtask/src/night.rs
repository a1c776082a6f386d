//! `./x night`: what takes hours, for a machine that is idle anyway. `./x night NAME` runs one long measurement and
//! writes its result file.

use serde_json::json;

use crate::ci::{Step, run_all};
use crate::process::{cargo, output_of};
use crate::tally::Tally;
use crate::{Result, autobahn, chaos, drivers, fuzz, load, peers, power, results, simulator};

/// Seeds of one night; CI runs a few hundred.
const SEEDS: &str = "20000";
/// Seconds for each fuzz target.
const FUZZ_SECONDS: u64 = 1_800;

const STEPS: &[Step] = &[
    ("autobahn", || autobahn::run(&[])),
    ("peers", || peers::run(&[])),
    ("load", load::run),
    ("same seed", simulator::same_trace),
    ("sim", || simulator::seeds(SEEDS)),
    ("fuzz", fuzz_all),
];

/// A long run that is asked for by its name; ARGS are its own.
type Long = (&'static str, fn(&[String]) -> Result<Tally>);

/// Each writes `docs/results/NAME.json`.
const LONG: &[Long] = &[
    ("commit-rate", commit_rate),
    ("log-kill", log_kill),
    ("kill", |args| chaos::night("kill", args)),
    ("dup", |args| chaos::night("dup", args)),
    ("partition", |args| chaos::night("partition", args)),
    ("flip", |args| chaos::night("flip", args)),
    ("disk", |args| chaos::night("disk", args)),
    ("fsync", |args| chaos::night("fsync", args)),
    ("drivers", drivers::night),
    ("learner", chaos::learner::run),
    ("tls", chaos::tls::run),
    ("power", power::night),
    ("sim", simulator::night),
    ("planted", simulator::night_planted),
];

/// Runs the long versions one after the other, or the one that is named.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let Some((name, rest)) = args.split_first() else { return run_all(STEPS) };
    let Some((_, long)) = LONG.iter().find(|(known, _)| known == name) else {
        let known: Vec<_> = LONG.iter().map(|(name, _)| *name).collect();
        return Err(format!("no long run '{name}'; there are: {}", known.join(", ")));
    };
    long(rest)
}

/// Group commits per second of the log beside the disk's floor, in the present directory or the one that is named.
fn commit_rate(args: &[String]) -> Result<Tally> {
    let mut command = cargo();
    command.args(["run", "--release", "-q", "-p", "throng-storage", "--example", "commit_rate", "--"]);
    let printed = output_of(command.args(args))?;
    print!("{printed}");
    results::write("commit-rate", json!({ "lines": printed.lines().collect::<Vec<_>>() }))?;
    Ok(Tally { passed: 1, failed: 0 })
}

/// The log killed between two of its file operations, 10,000 times or as often as the first argument says, from the seed
/// that the second one says.
fn log_kill(args: &[String]) -> Result<Tally> {
    let kills = args.first().map_or("10000", String::as_str);
    let seed = args.get(1).map_or("3", String::as_str);
    let mut command = cargo();
    command.args(["test", "-q", "-p", "throng-storage", "--lib", "log::kill_tests", "--", "--nocapture"]);
    command.env("THRONG_LOG_KILLS", kills).env("THRONG_LOG_SEED", seed);
    let printed = output_of(&mut command)?;
    let line = printed.lines().find_map(|line| line.split_once("LOG-KILL ")).map(|(_, json)| json);
    let figures: serde_json::Value = serde_json::from_str(line.ok_or("the test did not say what it did")?)
        .map_err(|error| error.to_string())?;
    println!("{figures}");
    results::write("log-kill", figures)?;
    Ok(Tally { passed: 1, failed: 0 })
}

fn fuzz_all() -> Result<Tally> {
    let mut sum = Tally::default();
    for target in fuzz::targets()? {
        sum += fuzz::fuzz(&target, FUZZ_SECONDS)?;
    }
    Ok(sum)
}
