//! Power cuts: a node's store under load on a disk that is recorded, and the check of every state that the disk may be
//! left in. `./x power` runs it; `docs/internals/power-cut.md` says what is shown and what not.
//!
//! ```text
//!  in the guest                                          on the host
//!  write: real store, router, log ─► ext4 ─► dm-log-writes ─► recording ─► replay: cut at a point ─► ext4 ─► check
//!             └── a mark after each acknowledgement ──────────────┘             └── the marks before it ──────┘
//! ```

mod acks;
mod check;
mod cut;
mod history;
mod image;
mod kernel;
mod marks;
mod node;
mod plan;
mod recording;
mod replay;
mod write;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Errors are sentences for whoever started the program.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "\
usage: throng-power write DIR MARKS SEED RUNS MILLISECONDS close|abort keep|early
       throng-power check DIR ACKS SEED
       throng-power replay BASE RECORDING SEED POINTS RESULT

write   runs a node on DIR, RUNS times for so long, and marks what it acknowledged: MARKS is dm:NAME or a file.
        abort ends the last run as a kill does; early acknowledges before the sync, which the replay must notice
check   opens DIR and compares it with the acknowledged sends in the file ACKS
replay  cuts the recording of BASE's disk at so many points and checks each; writes RESULT, a JSON file. Needs root
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["write", dir, marks, seed, runs, millis, end, sync] => {
            write(dir, marks, [seed, runs, millis], end, sync)
        }
        ["check", dir, acks, seed] => check(dir, acks, seed),
        ["replay", base, recording, seed, points, result] => replay(base, recording, [seed, points], result),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("throng-power: {why}");
            ExitCode::FAILURE
        }
    }
}

fn write(dir: &str, marks: &str, numbers: [&str; 3], end: &str, sync: &str) -> Result<()> {
    let [seed, runs, millis] = [number(numbers[0])?, number(numbers[1])?, number(numbers[2])?];
    let options = node::Options { acks_early: sync == "early", ..node::Options::default() };
    let mut marks = marks::Marks::open(marks)?;
    for run in 0..runs {
        let aborts = end == "abort" && run + 1 == runs;
        write::run(Path::new(dir), &options, &mut marks, seed, Duration::from_millis(millis), aborts)?;
    }
    Ok(())
}

fn check(dir: &str, acks: &str, seed: &str) -> Result<()> {
    let text = std::fs::read_to_string(acks).map_err(|error| format!("{acks}: {error}"))?;
    let acks = acks::Acks::parse(&text)?;
    let found = check::check(Path::new(dir), &acks, number(seed)?)?;
    println!("{found}");
    Ok(())
}

fn replay(base: &str, recording: &str, numbers: [&str; 2], result: &str) -> Result<()> {
    let [seed, points] = [number(numbers[0])?, number(numbers[1])?];
    let report = replay::run_all(Path::new(base), Path::new(recording), seed, points as usize)?;
    println!("{report}");
    std::fs::write(result, format!("{}\n", report.json())).map_err(|error| format!("{result}: {error}"))
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
