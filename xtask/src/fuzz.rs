//! `./x fuzz`: one fuzz target for a while, on the pinned stable compiler.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::process::{cargo, run as must_run, succeeds};
use crate::python::made_once;
use crate::tally::Tally;

const CARGO_FUZZ: &str = "0.13.2";
const SECONDS_DEFAULT: u64 = 60;

/// `./x fuzz TARGET [SECONDS]`; without a target, all of them.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let seconds = match args.get(1) {
        Some(text) => text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?,
        None => SECONDS_DEFAULT,
    };
    let targets = match args.first() {
        Some(target) => vec![target.clone()],
        None => targets()?,
    };
    let mut sum = Tally::default();
    for target in targets {
        sum += fuzz(&target, seconds)?;
    }
    Ok(sum.or_failed(true))
}

/// Fuzzes one target; a finding stays below `fuzz/artifacts`.
pub(crate) fn fuzz(target: &str, seconds: u64) -> Result<Tally> {
    println!("--- fuzz {target}, {seconds} s");
    let folder = made_once(&format!("cargo-fuzz-{CARGO_FUZZ}"), |folder| {
        must_run(
            cargo()
                .args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"])
                .arg(folder),
        )
    })?;
    let mut command = Command::new(folder.join("bin/cargo-fuzz"));
    // The sanitizers are in the stable toolchain; this variable only lets it take the flags that switch them on.
    command.env("RUSTC_BOOTSTRAP", "1").args(["run", target, "--"]);
    command.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-timeout=5"]);
    Ok(Tally::one(succeeds(&mut command)?))
}

/// Names of the fuzz targets: one file each.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = "fuzz/fuzz_targets";
    let entries = fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}
