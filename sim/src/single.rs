//! One seed, looked at closely.

use std::path::Path;

use throng_sim::{Outcome, Scenario, Watch, first_difference};

use crate::args::Args;

/// Lines shown before the place where two traces part.
const CONTEXT: usize = 12;

/// Runs a seed and shows it as asked; true if nothing was wrong.
pub(crate) fn run(seed: u64, args: &Args) -> bool {
    let watch = Watch { print: args.trace, keep: keeps(args), stop_at: args.step };
    let scenario = Scenario { watch, ..Scenario::draw(seed) };
    let first = run_and_print(&scenario);
    if let Some(path) = &args.dump
        && let Err(error) = std::fs::write(path, first.lines.join("\n"))
    {
        println!("cannot write {}: {error}", path.display());
        return false;
    }
    if let Some(path) = &args.against {
        return is_same_as(path, &first.lines);
    }
    if args.step.is_some() {
        return true;
    }
    let second =
        throng_sim::run(&Scenario { watch: Watch { keep: keeps(args), ..Watch::default() }, ..scenario });
    if first.trace != second.trace {
        println!("NOT REPRODUCED: the second run has trace {:016x}", second.trace);
        show_difference(&first.lines, &second.lines);
        return false;
    }
    println!("reproduced: both runs have trace {:016x}", first.trace);
    first.violations.is_empty()
}

fn keeps(args: &Args) -> bool {
    args.dump.is_some() || args.against.is_some()
}

fn run_and_print(scenario: &Scenario) -> Outcome {
    let outcome = throng_sim::run(scenario);
    println!("{:#?}", scenario.plan);
    println!("{:#?}", Outcome { lines: Vec::new(), history: Default::default(), ..outcome.clone() });
    outcome
}

fn is_same_as(path: &Path, lines: &[String]) -> bool {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            println!("cannot read {}: {error}", path.display());
            return false;
        }
    };
    let other: Vec<String> = text.lines().map(str::to_owned).collect();
    show_difference(&other, lines)
}

/// Runs two seeds and shows where their traces part.
pub(crate) fn diff(a: u64, b: u64) -> bool {
    let lines = |seed| {
        let watch = Watch { keep: true, ..Watch::default() };
        throng_sim::run(&Scenario { watch, ..Scenario::draw(seed) }).lines
    };
    show_difference(&lines(a), &lines(b))
}

/// Prints where two traces part; true if they do not.
fn show_difference(a: &[String], b: &[String]) -> bool {
    let Some((at, one, other)) = first_difference(a, b) else {
        println!("the traces are the same: {} events", a.len());
        return true;
    };
    a[at.saturating_sub(CONTEXT)..at].iter().for_each(|line| println!("  {line}"));
    let shown = |line: Option<&String>| line.map_or("(the trace has ended)".to_owned(), Clone::clone);
    println!("- {}\n+ {}", shown(one), shown(other));
    false
}
