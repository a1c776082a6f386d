//! Hunting planted bugs: how long until a seed shows one.

use throng_base::planted::{Bug, plant};
use throng_sim::Scenario;

use crate::args::Args;

/// CPU time after which a hunt gives up, unless told otherwise.
const LIMIT_SECONDS: u64 = 600;

/// The bug of this name, as `Bug` spells it.
pub(crate) fn bug(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
}

/// `all`, one by its name, or `five:N`: five that change with N.
fn bugs(name: &str) -> Vec<Bug> {
    let turn = name.strip_prefix("five:").and_then(|turn| turn.parse::<usize>().ok());
    match (name, turn) {
        ("all", _) => Bug::ALL.to_vec(),
        (_, Some(turn)) => Bug::ALL.into_iter().cycle().skip(turn % Bug::ALL.len() * 5).take(5).collect(),
        _ => bug(name).into_iter().collect(),
    }
}

/// Hunts one bug or all, one JSON line each; true if every one was found.
pub(crate) fn run(name: &str, args: &Args) -> bool {
    let bugs = bugs(name);
    let mut found = 0;
    let mut lines = String::new();
    for &one in &bugs {
        let line = hunt(one, args);
        found += usize::from(line.contains("\"found\": true"));
        println!("{line}");
        lines.push_str(&line);
        lines.push('\n');
    }
    if let Some(path) = &args.json
        && let Err(error) = std::fs::write(path, lines)
    {
        println!("cannot write {}: {error}", path.display());
        return false;
    }
    println!("{found} passed, {} failed", bugs.len() - found);
    found == bugs.len() && !bugs.is_empty()
}

fn hunt(bug: Bug, args: &Args) -> String {
    let limit = args.seconds.unwrap_or(LIMIT_SECONDS) as f64;
    let cpu = cpu_seconds();
    plant(Some(bug));
    let mut seeds = 0;
    let mut answer = None;
    for seed in args.from.. {
        if cpu_seconds() - cpu >= limit {
            break;
        }
        seeds += 1;
        let outcome = throng_sim::run(&Scenario::draw(seed));
        if let Some(violation) = outcome.violations.first() {
            answer = Some((seed, violation.clone()));
            break;
        }
    }
    plant(None);
    let (seed, violation) = answer.clone().unwrap_or_default();
    let violation: String = violation.replace(['"', '\\', '\n'], "'").chars().take(200).collect();
    format!(
        "{{\"bug\": \"{bug:?}\", \"found\": {}, \"seed\": {seed}, \"seeds\": {seeds}, \"cpu_seconds\": {:.2}, \"violation\": \"{violation}\"}}",
        answer.is_some(),
        cpu_seconds() - cpu,
    )
}

/// CPU time of this process, from the kernel's counters in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
