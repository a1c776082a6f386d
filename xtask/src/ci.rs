//! `./x ci`: everything that `./x test` leaves out, step by step, cheapest first.

use std::time::Instant;

use crate::tally::Tally;
use crate::{Result, autobahn, chaos, checks, load, peers, power, readme, simulator, tidy};

/// A named check.
pub(crate) type Step = (&'static str, fn() -> Result<Tally>);

/// In order of cost, so that a slip shows early.
const STEPS: &[Step] = &[
    ("fmt", checks::formatting),
    ("tidy", tidy::run),
    ("vectors", checks::vectors),
    ("clippy", checks::clippy),
    ("same seed", simulator::same_trace),
    ("same builds", simulator::builds_agree),
    ("sim", || simulator::seeds("1000")),
    ("planted", simulator::five_planted),
    ("readme", readme::run),
    ("load", load::run),
    ("peers", || peers::run(&[])),
    ("autobahn", || autobahn::run(&[])),
    ("power", || power::run(&[])),
    ("chaos", || chaos::run(&[])),
];

/// `./x ci`.
pub(crate) fn run() -> Result<Tally> {
    run_all(STEPS)
}

/// Runs every step, also after a failure: one run shows everything that is wrong.
pub(crate) fn run_all(steps: &[Step]) -> Result<Tally> {
    let mut sum = Tally::default();
    let mut lines = Vec::new();
    for (name, step) in steps {
        println!("\n=== {name}");
        let started = Instant::now();
        let tally = step().unwrap_or_else(|reason| {
            println!("{name}: {reason}");
            Tally::FAIL
        });
        let seconds = started.elapsed().as_secs_f64();
        lines.push(format!("{name:<12} {:>6} ok {:>4} bad {seconds:>8.1} s", tally.passed, tally.failed));
        sum += tally;
    }
    println!("\n=== steps\n{}\n", lines.join("\n"));
    Ok(sum)
}
