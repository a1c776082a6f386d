//! What a run consists of: connect, set up, load, drain, verify, report.

mod idle;
mod messenger;
#[cfg(feature = "nats")]
mod nats;
mod publish;
mod readback;
mod sender;
mod stage;

use std::io::Write;
use std::path::Path;

use crate::cli::{Common, Scenario};
use crate::exit::{Exit, Failure};
use crate::report::Report;

use stage::Stage;

/// Runs a scenario, prints its report and says how it ended.
pub(crate) fn run(scenario: Scenario) -> Result<Exit, Failure> {
    match scenario {
        Scenario::Idle(args) => idle::run(&args),
        Scenario::Messenger(args) => messenger::run(&args),
        Scenario::Publish(args) => publish::run(&args),
        Scenario::Readback(args) => readback::run(&args),
        #[cfg(feature = "nats")]
        Scenario::Nats(args) => nats::run(&args),
    }
}

/// Completes the report, writes the files, says the verdict.
fn conclude(mut stage: Stage, mut report: Report, common: &Common) -> Result<Exit, Failure> {
    stage.fill(&mut report);
    verdict(&mut report);
    if let Some(path) = &common.hlog {
        stage
            .hlog
            .write(path)
            .map_err(|error| Failure::usage(format!("--hlog {}: {error}", path.display())))?;
    }
    if let Some(path) = &common.json {
        write_json(path, &report)?;
    }
    say(&report);
    Ok(report.exit())
}

/// What generator and checks make of the outcome.
fn verdict(report: &mut Report) {
    if report.generator.saturated {
        report.outcome(Exit::Saturated, "the generator could not keep its own schedule; the speed is void");
    }
    if let Some(violations) = report.checks.as_ref().map(crate::check::Checks::violations)
        && violations > 0
    {
        report.outcome(Exit::Incorrect, format!("{violations} violations of the contract"));
    }
}

fn say(report: &Report) {
    println!("outcome: {}", report.outcome);
    for reason in &report.reasons {
        println!("  {reason}");
    }
    let _ = std::io::stdout().flush();
}

/// CPU time of the main thread so far.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn write_json(path: &Path, report: &Report) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report).expect("plain fields always serialize");
    std::fs::write(path, text + "\n")
        .map_err(|error| Failure::usage(format!("--json {}: {error}", path.display())))
}
