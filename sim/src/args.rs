//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "usage: sim [--seeds N] [--from N] [--seconds N] [--twice] [--json FILE]
       sim --seed N [--trace] [--step EVENT] [--dump FILE] [--against FILE]
       sim --diff SEED SEED
       sim --hashes [--seeds N] [--from N]
       sim --hunt BUG|all|five:N [--seconds N] [--json FILE]      (build with --features planted)

  --seeds N       how many seeds (default 300), --from the first (default 1), --seconds at most so long
  --twice         run every seed twice and compare the traces
  --json FILE     write the counts there
  --seed N        run one seed (twice, comparing traces) and print what happened
  --trace         print every event
  --step EVENT    stop after so many events and print where all nodes stand
  --dump FILE     write the trace; --against FILE compares with one that another build or switch has written
  --diff A B      the first event in which the traces of two seeds differ
  --hashes        one line a seed with the hash of its trace: builds must agree
  --plant BUG     with any of the above: plant a known bug
  --hunt BUG      how long it takes to find a planted bug";

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Many,
    One(u64),
    Diff(u64, u64),
    Hashes,
    Hunt(String),
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) job: Job,
    pub(crate) trace: bool,
    pub(crate) twice: bool,
    pub(crate) step: Option<u64>,
    pub(crate) seeds: u64,
    pub(crate) from: u64,
    pub(crate) seconds: Option<u64>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) dump: Option<PathBuf>,
    pub(crate) against: Option<PathBuf>,
    pub(crate) plant: Option<String>,
}

impl Args {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut args = Self {
            job: Job::Many,
            trace: false,
            twice: false,
            step: None,
            seeds: 300,
            from: 1,
            seconds: None,
            json: None,
            dump: None,
            against: None,
            plant: None,
        };
        while let Some(word) = words.next() {
            let mut text = || words.next();
            let number = |text: Option<String>| text?.parse::<u64>().ok();
            match word.as_str() {
                "--trace" => args.trace = true,
                "--twice" => args.twice = true,
                "--hashes" => args.job = Job::Hashes,
                "--seed" => args.job = Job::One(number(text())?),
                "--diff" => args.job = Job::Diff(number(text())?, number(text())?),
                "--hunt" => args.job = Job::Hunt(text()?),
                "--step" => args.step = Some(number(text())?),
                "--seeds" => args.seeds = number(text())?,
                "--from" => args.from = number(text())?,
                "--seconds" => args.seconds = Some(number(text())?),
                "--json" => args.json = Some(text()?.into()),
                "--dump" => args.dump = Some(text()?.into()),
                "--against" => args.against = Some(text()?.into()),
                "--plant" => args.plant = Some(text()?),
                _ => return None,
            }
        }
        Some(args)
    }
}
