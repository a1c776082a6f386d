//! `./x bench`: wall-clock benches of crates, and the measurements whose tables stand in docs/benchmarks.md.

mod cluster;
mod commits;
mod cost_curve;
pub(crate) mod generator;
mod peer;
pub(crate) mod table;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::process::{cargo, output_of};
use crate::tally::Tally;

/// `./x bench [commits|cost-curve] [ARGS]`: one of the measurements, or `cargo bench`.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    match args.split_first() {
        Some((name, rest)) if name == "commits" => commits::run(rest),
        Some((name, rest)) if name == "cost-curve" => cost_curve::run(rest),
        _ => {
            let error = cargo().args(["bench", "--locked", "-p", "throng-benches", "--"]).args(args).exec();
            Err(format!("cannot start cargo: {error}"))
        }
    }
}

/// What one fdatasync of a block costs, as `throng doctor` tells it: stands beside every figure that rests on it.
pub(crate) fn floor(throng: &Path) -> Result<String> {
    let text = output_of(Command::new(throng).arg("doctor").arg("--dir").arg(std::env::temp_dir()))?;
    let line = text.lines().find(|line| line.starts_with("fdatasync")).unwrap_or_default();
    let floor = line.split_once(": ").map_or(line, |(_, floor)| floor).to_owned();
    println!("fdatasync floor: {floor}");
    Ok(floor)
}
