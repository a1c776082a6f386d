//! Starting other programs: cargo with a clean environment, and runners whose output is passed through while
//! their results are counted.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};

use crate::Result;
use crate::tally::Tally;

/// Cargo, without the variables that `cargo run` set for xtask itself.
///
/// Build scripts (ring's for one) are rerun when `CARGO_PKG_*` or `CARGO_MANIFEST_*` change, so a build below
/// xtask and one typed by hand would for ever rebuild each other's work.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if ours.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end with everything passed through; fails unless it exits well.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    match succeeds(command)? {
        true => Ok(()),
        false => Err(format!("failed: {}", describe(command))),
    }
}

/// Runs to the end with everything passed through; says whether it exited well.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    Ok(status.success())
}

/// Runs to the end and returns what it printed; its error output is passed through.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        return Err(format!("failed: {}", describe(command)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What to do with one line that a runner printed.
pub(crate) enum Line {
    /// Print it.
    Pass,
    /// Print it and add its counts.
    PassAndCount(Tally),
    /// Add its counts; the sum is printed elsewhere.
    Count(Tally),
}

/// `cargo test` prints one closing line per test binary.
pub(crate) fn read_cargo_line(line: &str) -> Line {
    Tally::of_cargo_line(line).map_or(Line::Pass, Line::PassAndCount)
}

/// Our own runners print one closing line, which is kept back: only the outermost runner prints one.
pub(crate) fn read_plain_line(line: &str) -> Line {
    Tally::of_plain_line(line).map_or(Line::Pass, Line::Count)
}

/// Runs to the end, passes the output through line by line and adds up what `read` finds in it.
pub(crate) fn counted(command: &mut Command, read: fn(&str) -> Line) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(command, &error))?;
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let tally = pass_through(BufReader::new(stdout), read).map_err(|error| error.to_string())?;
    let status: ExitStatus = child.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        eprintln!("./x: {status}: {}", describe(command));
    }
    Ok(tally.or_failed(status.success()))
}

fn pass_through(mut input: impl BufRead, read: fn(&str) -> Line) -> io::Result<Tally> {
    let mut sum = Tally::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let action = read(&String::from_utf8_lossy(&line));
        if let Line::PassAndCount(tally) | Line::Count(tally) = action {
            sum += tally;
        }
        if !matches!(action, Line::Count(_)) {
            io::stdout().write_all(&line)?;
        }
        line.clear();
    }
    Ok(sum)
}

/// A command as one would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn cannot_start(command: &Command, error: &io::Error) -> String {
    format!("cannot start {}: {error}", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_runner_prints_and_how_it_ends() {
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            counted(&mut command, read_plain_line).expect("sh starts")
        };
        assert_eq!(sh("echo 3 passed, 1 failed"), Tally { passed: 3, failed: 1 });
        assert_eq!(sh("echo 3 passed, 0 failed; exit 9"), Tally { passed: 3, failed: 1 });
        assert_eq!(sh("true"), Tally::FAIL);
    }
}
