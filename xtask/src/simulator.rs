//! The simulator as CI and nights run it: many seeds, the same trace from every build, planted bugs.

use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::Result;
use crate::process::{cargo, counted, output_of, read_plain_line, run, succeeds};
use crate::results;
use crate::tally::Tally;

/// Processes of a night run: one a core of the reference machine.
const PROCESSES: u64 = 2;
/// Seeds that a night run runs twice, over all processes.
const TWICE: u64 = 1_000;
/// Length of a night run, seconds of wall time.
const SECONDS: u64 = 600;
/// What a night run must reach.
const BAR: [(&str, u64); 3] = [("seeds", 2_000), ("faults_total", 100_000), ("acked", 1_000_000)];
/// Seeds that debug and release builds are compared by.
const COMPARED: &str = "12";
/// CPU seconds for each planted bug, in CI and at night.
const HUNT: &str = "600";

/// Runs `seeds` simulated clusters; the simulator prints a failing seed and closes with a count.
pub(crate) fn seeds(count: &str) -> Result<Tally> {
    counted(release(&[]).args(["--seeds", count]), read_plain_line)
}

/// Seeds that once showed a bug pass, and one seed gives one trace: the simulator runs it twice and compares.
pub(crate) fn same_trace() -> Result<Tally> {
    Ok(Tally::one(succeeds(release(&[]).args(["--seed", "7"]))?))
}

/// Debug and release builds agree about every trace.
pub(crate) fn builds_agree() -> Result<Tally> {
    let hashes = ["--hashes", "--seeds", COMPARED];
    let optimised = output_of(release(&[]).args(hashes))?;
    let mut debug = cargo();
    debug.args(["run", "--quiet", "--locked", "-p", "throng-sim", "--"]).args(hashes);
    let plain = output_of(&mut debug)?;
    let same = optimised == plain && !plain.is_empty();
    println!(
        "{COMPARED} seeds, debug and release: {}",
        if same { "the same traces" } else { "DIFFERENT TRACES" }
    );
    Ok(Tally::one(same))
}

/// Five of the planted bugs, others every day, must be found quickly.
pub(crate) fn five_planted() -> Result<Tally> {
    let day = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let hunt = format!("five:{day}");
    counted(release(&["--features", "planted"]).args(["--hunt", &hunt, "--seconds", HUNT]), read_plain_line)
}

/// All planted bugs; keeps the table of how long each took.
pub(crate) fn night_planted(_: &[String]) -> Result<Tally> {
    let printed = release(&["--features", "planted"])
        .args(["--hunt", "all", "--seconds", HUNT])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    print!("{printed}");
    let rows: Vec<Value> = printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let found = rows.iter().filter(|row| row["found"] == json!(true)).count() as u64;
    let tally = Tally { passed: found, failed: rows.len() as u64 - found };
    results::write("planted", json!({ "limit_cpu_seconds": HUNT, "found": found, "bugs": rows }))?;
    Ok(tally)
}

/// Ten minutes of both cores, or as many seconds as are named: the first seeds twice, to see that they reproduce their
/// traces, then new ones.
pub(crate) fn night(args: &[String]) -> Result<Tally> {
    let length = match args.first() {
        Some(text) => text.parse::<u64>().map_err(|_| format!("'{text}' is no number of seconds"))?,
        None => SECONDS,
    };
    run(cargo().args(["build", "--release", "--quiet", "--locked", "-p", "throng-sim"]))?;
    let folder = std::env::temp_dir().join(format!("throng-sim-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let begin = std::time::Instant::now();
    let each = TWICE / PROCESSES;
    let mut parts = Vec::new();
    for (phase, seeds) in [("twice", each), ("new", u64::MAX / 4)] {
        let left = length.saturating_sub(begin.elapsed().as_secs()).max(1).to_string();
        let mut children: Vec<(Child, std::path::PathBuf)> = Vec::new();
        for process in 0..PROCESSES {
            let path = folder.join(format!("{phase}-{process}.json"));
            let from = if phase == "twice" { 1 + process * each } else { 1_000_000 * (process + 1) };
            let mut command = Command::new("target/release/throng-sim");
            command.args(["--from", &from.to_string(), "--seeds", &seeds.to_string()]);
            command.args(["--seconds", &left, "--json"]).arg(&path);
            if phase == "twice" {
                command.arg("--twice");
            }
            children.push((command.spawn().map_err(|error| error.to_string())?, path));
        }
        for (mut child, path) in children {
            child.wait().map_err(|error| error.to_string())?;
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            parts.push(serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())?);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    judge(&parts, seconds)
}

/// Adds the parts up, writes the result and compares it with the bar.
fn judge(parts: &[Value], seconds: f64) -> Result<Tally> {
    let sum = |name: &str| parts.iter().filter_map(|part| part[name].as_u64()).sum::<u64>();
    let failed: Vec<&Value> = parts.iter().filter_map(|part| part["failed"].as_array()).flatten().collect();
    let mut faults = Map::new();
    for (name, count) in parts.iter().filter_map(|part| part["faults"].as_object()).flatten() {
        let before = faults.get(name).and_then(Value::as_u64).unwrap_or(0);
        faults.insert(name.clone(), json!(before + count.as_u64().unwrap_or(0)));
    }
    let idle = faults.values().filter(|count| **count == json!(0)).count();
    let mut tally = Tally::default();
    for (name, bar) in BAR {
        println!("{name}: {} (bar {bar})", sum(name));
        tally += Tally::one(sum(name) >= bar);
    }
    println!("reproduced: {} of {} (bar {TWICE} of {TWICE})", sum("reproduced"), sum("run_twice"));
    println!("seeds with violations: {}; fault kinds that never struck: {idle}", failed.len());
    tally += Tally::one(sum("reproduced") == TWICE && sum("run_twice") == TWICE);
    tally += Tally::one(failed.is_empty());
    tally += Tally::one(idle == 0);
    results::write(
        "sim",
        json!({
            "seconds": seconds.round(),
            "processes": PROCESSES,
            "seeds": sum("seeds"),
            "seeds_with_violations": failed,
            "acked": sum("acked"),
            "deliveries": sum("deliveries"),
            "events": sum("events"),
            "simulated_hours": sum("virtual_seconds") as f64 / 3600.0,
            "run_twice": sum("run_twice"),
            "reproduced": sum("reproduced"),
            "faults_total": sum("faults_total"),
            "faults_beside_messages": sum("faults_beside_messages"),
            "faults": faults,
        }),
    )?;
    Ok(tally)
}

fn release(features: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--locked", "-p", "throng-sim"]).args(features).arg("--");
    command
}
