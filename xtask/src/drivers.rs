//! `./x night drivers`: the log's two drivers against each other, and segments that were zeroed against those that were
//! not, beside what the bare disk takes for the same bytes.

use serde_json::{Value, json};

use crate::bench::table::{grouped, markdown, median};
use crate::options::Options;
use crate::process::{cargo, output_of};
use crate::tally::Tally;
use crate::{Result, results};

/// What is measured with each contender, size and number in flight.
const FIGURES: [&str; 5] = ["groups_per_s", "commits_per_s", "p50_us", "p99_us", "floor_us"];

/// What the decisions ask: this one by that one.
const PAIRS: [(&str, &str); 4] = [
    ("uring", "thread"),
    ("thread-recycling", "thread"),
    ("ahead-used", "ahead-zeroed"),
    ("ahead-allocated", "ahead-zeroed"),
];

/// One contender with one size and number in flight: its figures, round by round.
struct Cell {
    contender: String,
    bytes: u64,
    in_flight: u64,
    rounds: [Vec<f64>; FIGURES.len()],
}

impl Cell {
    fn medians(&self) -> [f64; FIGURES.len()] {
        self.rounds.each_ref().map(|rounds| median(rounds.iter().copied()))
    }

    fn is(&self, line: &Value) -> bool {
        self.contender == line["contender"]
            && self.bytes == line["group_bytes"]
            && self.in_flight == line["in_flight"]
    }
}

/// `./x night drivers [--dir DIR] [--rounds N] [--seconds S]`. As many rounds as contenders: each begins once.
pub(crate) fn night(args: &[String]) -> Result<Tally> {
    let options = Options::read(args, &["--dir", "--rounds", "--seconds"])?;
    let dir: String = options.get("--dir", "target".to_owned())?;
    let rounds: usize = options.get("--rounds", 7)?;
    let seconds: f64 = options.get("--seconds", 2.0)?;
    let mut cells = Vec::new();
    for round in 0..rounds {
        let mut command = cargo();
        command.args(["run", "--release", "-q", "--locked", "-p", "throng-storage"]);
        command.args(["--example", "log_drivers", "--", &dir, &seconds.to_string(), &round.to_string()]);
        for line in output_of(&mut command)?.lines() {
            take(&mut cells, line)?;
        }
        println!("round {} of {rounds} done", round + 1);
    }
    println!("\n{}", table(&cells));
    println!("{}", ratios(&cells));
    let figures: Vec<Value> = cells.iter().map(value).collect();
    results::write(
        "drivers",
        json!({ "dir": dir, "rounds": rounds, "seconds": seconds, "medians_and_rounds": figures }),
    )?;
    let has_uring = cells.iter().any(|cell| cell.contender == "uring");
    Ok(Tally::one(has_uring))
}

/// Adds a line of a round.
fn take(cells: &mut Vec<Cell>, line: &str) -> Result<()> {
    let line: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
    let known = cells.iter().position(|cell| cell.is(&line));
    if known.is_none() {
        let number = |name: &str| line[name].as_u64().ok_or_else(|| format!("no {name}: {line}"));
        cells.push(Cell {
            contender: line["contender"].as_str().unwrap_or_default().to_owned(),
            bytes: number("group_bytes")?,
            in_flight: number("in_flight")?,
            rounds: Default::default(),
        });
    }
    let at = known.unwrap_or(cells.len() - 1);
    for (name, rounds) in FIGURES.iter().zip(&mut cells[at].rounds) {
        rounds.push(line[name].as_f64().ok_or_else(|| format!("no {name}: {line}"))?);
    }
    Ok(())
}

fn table(cells: &[Cell]) -> String {
    let head = [
        "median of the rounds",
        "group",
        "in flight",
        "groups/s",
        "commits/s",
        "p50, µs",
        "p99, µs",
        "floor, µs",
    ];
    let row = |cell: &Cell| {
        let [groups, commits, p50, p99, floor] = cell.medians();
        vec![
            cell.contender.clone(),
            format!("{} KiB", cell.bytes >> 10),
            cell.in_flight.to_string(),
            grouped(groups),
            grouped(commits),
            format!("{p50:.0}"),
            format!("{p99:.0}"),
            format!("{floor:.0}"),
        ]
    };
    markdown(&head, &cells.iter().map(row).collect::<Vec<_>>())
}

/// How the pairs compare, with every size and number in flight.
fn ratios(cells: &[Cell]) -> String {
    let mut rows = Vec::new();
    for (one, other) in PAIRS {
        for ours in cells.iter().filter(|cell| cell.contender == one) {
            let place = (ours.bytes, ours.in_flight);
            let theirs =
                cells.iter().find(|cell| cell.contender == other && (cell.bytes, cell.in_flight) == place);
            let Some(theirs) = theirs else { continue };
            let by = |figure: usize| format!("{:.2}", ours.medians()[figure] / theirs.medians()[figure]);
            let sizes = [format!("{} KiB", place.0 >> 10), place.1.to_string()];
            let name = format!("{one} by {other}");
            rows.push([name].into_iter().chain(sizes).chain([0, 2, 3].map(by)).collect());
        }
    }
    markdown(&["ratio", "group", "in flight", "groups/s", "p50", "p99"], &rows)
}

fn value(cell: &Cell) -> Value {
    let mut value =
        json!({ "contender": cell.contender, "group_bytes": cell.bytes, "in_flight": cell.in_flight });
    for ((name, rounds), middle) in FIGURES.iter().zip(&cell.rounds).zip(cell.medians()) {
        value[*name] = json!({ "median": middle, "rounds": rounds });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_gathered_by_contender_and_compared() {
        let mut cells = Vec::new();
        for (contender, groups) in [("thread", 100.0), ("uring", 80.0), ("thread", 300.0), ("uring", 120.0)] {
            let line = json!({
                "contender": contender, "group_bytes": 4096, "in_flight": 1, "groups_per_s": groups,
                "commits_per_s": groups, "p50_us": 10.0, "p99_us": 20.0, "floor_us": 5.0,
            });
            take(&mut cells, &line.to_string()).expect("complete");
        }
        assert_eq!(cells.iter().map(|cell| cell.medians()[0]).collect::<Vec<_>>(), [200.0, 100.0]);
        assert!(ratios(&cells).contains("| uring by thread | 4 KiB | 1 | 0.50 | 1.00 | 1.00 |"));
        assert!(table(&cells).contains("| thread | 4 KiB | 1 | 200 | 200 | 10 | 20 | 5 |"));
        assert_eq!(value(&cells[1])["groups_per_s"]["rounds"], json!([80.0, 120.0]));
        assert!(take(&mut cells, "{}").is_err());
    }
}
