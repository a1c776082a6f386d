//! `throng-sim`: runs seeds, or one seed verbosely.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use throng_sim::{FaultCounts, Scenario, run};

const USAGE: &str = "usage: sim [--seed N [--trace]] [--seeds N] [--from N] [--seconds N]
  --seed N     run one seed (twice, comparing traces) and print what happened
  --trace      with --seed: print every event
  --seeds N    run N seeds (default 300)
  --from N     first of them (default 1)
  --seconds N  stop after this much wall time";

#[derive(Default)]
struct Args {
    seed: Option<u64>,
    trace: bool,
    seeds: Option<u64>,
    from: Option<u64>,
    seconds: Option<u64>,
}

fn parse() -> Option<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse().ok();
        match word.as_str() {
            "--seed" => args.seed = Some(number()?),
            "--seeds" => args.seeds = Some(number()?),
            "--from" => args.from = Some(number()?),
            "--seconds" => args.seconds = Some(number()?),
            "--trace" => args.trace = true,
            _ => return None,
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match args.seed {
        Some(seed) => one(seed, args.trace),
        None => many(&args),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let scenario = Scenario { print_trace: trace, ..Scenario::draw(seed) };
    let first = run(&scenario);
    println!("{first:#?}");
    let second = run(&Scenario { print_trace: false, ..scenario });
    if first.trace != second.trace {
        println!("NOT REPRODUCED: the second run has trace {:016x}", second.trace);
        return ExitCode::FAILURE;
    }
    println!("reproduced: both runs have trace {:016x}", first.trace);
    if first.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(args: &Args) -> ExitCode {
    let (from, seeds) = (args.from.unwrap_or(1), args.seeds.unwrap_or(300));
    let begin = Instant::now();
    let (mut passed, mut failed, mut acked, mut virtual_time) = (0u64, 0u64, 0u64, Duration::ZERO);
    let mut counts = FaultCounts::default();
    for seed in from..from.saturating_add(seeds) {
        if args.seconds.is_some_and(|limit| begin.elapsed().as_secs() >= limit) {
            break;
        }
        let outcome = run(&Scenario::draw(seed));
        counts.add(&outcome.faults);
        acked += outcome.acked as u64;
        virtual_time += outcome.virtual_time;
        if outcome.violations.is_empty() {
            passed += 1;
        } else {
            failed += 1;
            println!("seed {seed} FAILED; replay it with: ./x sim --seed {seed}");
            outcome.violations.iter().take(5).for_each(|violation| println!("  {violation}"));
        }
    }
    let ran = passed + failed;
    println!(
        "{ran} seeds, {acked} sends acknowledged, {:.1} virtual hours in {:.1} s",
        virtual_time.as_secs_f64() / 3600.0,
        begin.elapsed().as_secs_f64()
    );
    let named = counts.named();
    println!("faults: {}", named.map(|(name, count)| format!("{name} {count}")).join(", "));
    // A kind of fault that never struck tests nothing. With few seeds it may be chance.
    let idle: Vec<_> = named.iter().filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect();
    if ran >= 100 && !idle.is_empty() {
        println!("FAILED: these faults never struck: {}", idle.join(", "));
        failed += 1;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && ran > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
