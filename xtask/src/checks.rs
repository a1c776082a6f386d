//! The checks that cargo itself carries out.

use std::process::Command;

use crate::Result;
use crate::process::{cargo, counted, read_cargo_line, succeeds};
use crate::tally::Tally;

/// Every cargo test, as the user who typed it; `args` narrow it down as they do for `cargo test`.
pub(crate) fn tests(args: &[String]) -> Result<Tally> {
    let mut command = cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    if !args.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
        command.arg("--workspace");
    }
    counted(command.args(args), read_cargo_line)
}

/// Every requirement of `wire/SPEC.md` has its test: a cargo test like all others, here by itself.
pub(crate) fn specification() -> Result<Tally> {
    tests(&["-p", "throng-wire", "--test", "spec_coverage"].map(str::to_owned))
}

/// The golden vectors are what their generator, a codec of its own, makes of the specification.
pub(crate) fn vectors() -> Result<Tally> {
    let mut command = Command::new("python3");
    command.args(["wire/tests/vectors/make.py", "--check"]).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(Tally::one(succeeds(&mut command)?))
}

/// rustfmt would change nothing.
pub(crate) fn formatting() -> Result<Tally> {
    Ok(Tally::one(succeeds(cargo().args(["fmt", "--all", "--check"]))?))
}

/// clippy and the compiler have no complaint about any target.
pub(crate) fn clippy() -> Result<Tally> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    Ok(Tally::one(succeeds(&mut command)?))
}
