//! `./x readme`: the commands of README.md, typed as they stand, with the output that it shows.
//!
//! A fenced block opened by ` ```sh run ` is run to its end and must succeed. One opened by ` ```sh serve ` goes on in
//! the background until all blocks have run. A ` ```text output ` block after it lists lines that must appear in this
//! order; `…` stands for any text. Other blocks are for reading only.

mod blocks;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::tally::Tally;
use blocks::{Block, Expected, Kind};

/// A block may build the release programs first.
const BLOCK_MAX: Duration = Duration::from_secs(1_800);
/// A server that was interrupted has this long to leave.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// Runs all marked blocks in their order.
pub(crate) fn run() -> Result<Tally> {
    let text = fs::read_to_string("README.md").map_err(|error| format!("README.md: {error}"))?;
    let mut servers = Vec::new();
    let mut sum = Tally::default();
    for block in blocks::parse(&text) {
        println!("--- README.md:{}\n{}", block.line, block.script.trim_end());
        let outcome = carry_out(&block, &mut servers);
        if let Err(reason) = &outcome {
            println!("--- README.md:{}: {reason}", block.line);
        }
        sum += Tally::one(outcome.is_ok());
    }
    Ok(sum.or_failed(true))
}

fn carry_out(block: &Block, servers: &mut Vec<Group>) -> Result<()> {
    let (mut group, lines) = Group::start(&block.script)?;
    let mut expected = Expected::of(&block.output);
    let deadline = Instant::now() + BLOCK_MAX;
    loop {
        if block.kind == Kind::Serve && expected.is_met() {
            servers.push(group);
            // Whoever prints into a pipe that nobody reads stops at 64 KiB.
            thread::spawn(move || lines.iter().for_each(drop));
            return Ok(());
        }
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("    {line}");
                expected.see(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return Err(format!("did not end within {BLOCK_MAX:?}")),
        }
    }
    let status = group.child.wait().map_err(|error| error.to_string())?;
    if block.kind == Kind::Serve || !status.success() {
        return Err(format!("ended with {status}"));
    }
    expected.missing().map_or(Ok(()), |line| Err(format!("never printed: {line}")))
}

/// A shell and everything it started, gone with the value.
struct Group {
    child: Child,
}

impl Group {
    /// Starts `script` in a process group of its own; its lines, of both outputs, come through the receiver.
    fn start(script: &str) -> Result<(Group, Receiver<String>)> {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")]);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        command.env_remove("THRONG_TALLY_FILE");
        let mut child = command.spawn().map_err(|error| format!("cannot start bash: {error}"))?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(std::result::Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Ok((Group { child }, receiver))
    }

    /// Signals every process of the group. `kill` is a program because a system call would need `unsafe` here.
    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal("INT");
        let deadline = Instant::now() + LEAVE_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_of(kind: Kind, script: &str, output: &[&str]) -> Result<()> {
        let output = output.iter().map(|line| (*line).to_owned()).collect();
        carry_out(&Block { kind, line: 1, script: script.to_owned(), output }, &mut Vec::new())
    }

    #[test]
    fn a_run_block_succeeds_and_prints_what_it_shows() {
        assert!(outcome_of(Kind::Run, "echo one; echo two 2 >&2", &["one", "two …"]).is_ok());
        assert!(outcome_of(Kind::Run, "echo one", &["two"]).is_err());
        assert!(outcome_of(Kind::Run, "false | cat; echo one", &["one"]).is_err());
    }

    #[test]
    fn a_serve_block_goes_on_and_leaves_with_its_group() {
        assert!(outcome_of(Kind::Serve, "echo ready; sleep 600", &["ready"]).is_ok());
        assert!(outcome_of(Kind::Serve, "echo other", &["ready"]).is_err());
    }
}
