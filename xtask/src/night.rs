//! `./x night`: what takes hours, for a machine that is idle anyway.

use crate::ci::{Step, run_all};
use crate::tally::Tally;
use crate::{Result, autobahn, checks, fuzz, load, peers};

/// Seeds of one night; CI runs a few hundred.
const SEEDS: &str = "20000";
/// Seconds for each fuzz target.
const FUZZ_SECONDS: u64 = 1_800;

const STEPS: &[Step] = &[
    ("autobahn", || autobahn::run(&[])),
    ("peers", || peers::run(&[])),
    ("load", load::run),
    ("same seed", checks::same_seed_same_trace),
    ("sim", || checks::simulation(SEEDS)),
    ("fuzz", fuzz_all),
];

/// Runs the long versions one after the other.
pub(crate) fn run() -> Result<Tally> {
    run_all(STEPS)
}

fn fuzz_all() -> Result<Tally> {
    let mut sum = Tally::default();
    for target in fuzz::targets()? {
        sum += fuzz::fuzz(&target, FUZZ_SECONDS)?;
    }
    Ok(sum)
}
