//! Power cuts (`docs/internals/power-cut.md`): a node's disk is recorded in a guest under load, and every state that a
//! cut may leave it in is mounted and checked on the host.

mod guest;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::Result;
use crate::process::succeeds;
use crate::programs::Program;
use crate::results;
use crate::tally::Tally;

use guest::{Guest, Load};

const POWER: Program = Program { package: "throng-power", name: "throng-power" };

/// Where images and recordings are kept, for whoever looks into a failure.
const FOLDER: &str = "target/power";

/// A run for CI: one recording of some 20 s of load.
const POINTS: usize = 80;
const LOAD: Load = Load { millis: 2_500, syncs: true };

/// A night: so many recordings, each with its own seed, and 1,000 points in all.
const NIGHT_RECORDINGS: u64 = 5;
const NIGHT_POINTS: usize = 200;
const NIGHT_LOAD: Load = Load { millis: 5_000, syncs: true };
/// What acknowledges before the sync must be found out.
const PLANTED: Load = Load { millis: 2_500, syncs: false };
const PLANTED_POINTS: usize = 100;

/// `./x power [--points N] [--seed S] [--planted]`.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let (mut points, mut seed) = (POINTS, 1);
    let is_planted = args.iter().any(|word| word == "--planted");
    let mut words = args.iter().filter(|word| *word != "--planted");
    while let Some(word) = words.next() {
        let number = words.next().and_then(|text| text.parse::<u64>().ok());
        match (word.as_str(), number) {
            ("--points", Some(number)) => points = number as usize,
            ("--seed", Some(number)) => seed = number,
            _ => return Err("usage: ./x power [--points N] [--seed S] [--planted]".into()),
        }
    }
    if is_planted {
        let found = record_and_replay("planted", &PLANTED, seed, points)?;
        return Ok(Tally::one(is_found_out(&found)));
    }
    let found = record_and_replay("short", &LOAD, seed, points)?;
    Ok(tally(&found))
}

/// Whether the replay noticed losses.
fn is_found_out(planted: &Value) -> bool {
    planted["lost"].as_u64() > Some(0)
}

/// `./x night power`: 1,000 points, and the planted bug; writes `docs/results/power.json`.
pub(crate) fn night(_: &[String]) -> Result<Tally> {
    let (mut runs, mut sum) = (Vec::new(), Tally::default());
    for seed in 1..=NIGHT_RECORDINGS {
        let found = record_and_replay("night", &NIGHT_LOAD, seed, NIGHT_POINTS)?;
        sum += tally(&found);
        runs.push(found);
    }
    let planted = record_and_replay("planted", &PLANTED, 1, PLANTED_POINTS)?;
    sum += Tally::one(is_found_out(&planted));
    let total = |name: &str| runs.iter().filter_map(|run| run[name].as_u64()).sum::<u64>();
    let totals = json!({
        "points": total("points"), "acknowledged": total("acknowledged"),
        "points_with_partial_writes": total("points_with_partial_writes"),
        "points_with_torn_log": total("points_with_torn_log"),
        "lost": total("lost"), "refused": total("refused"), "other_failures": total("other_failures"),
    });
    results::write(
        "power",
        json!({ "total": totals, "recordings": runs, "planted_ack_before_sync": planted }),
    )?;
    Ok(sum)
}

/// Points that held and points that did not.
fn tally(found: &Value) -> Tally {
    let count = |name: &str| found[name].as_u64().unwrap_or(0);
    let failed = count("lost") + count("refused") + count("other_failures");
    Tally { passed: count("points") - failed, failed }.or_failed(true)
}

/// Records once and replays at so many points; what the replay counted.
fn record_and_replay(name: &str, load: &Load, seed: u64, points: usize) -> Result<Value> {
    let program = POWER.build()?;
    let folder = folder(&format!("{name}-{seed}"))?;
    let guest = Guest::new(&folder, &program)?;
    guest.record(load, seed)?;
    let result = folder.join("result.json");
    // In a mount namespace of its own: whatever happens to the replay, its mounts are gone with it.
    let mut replay = Command::new("unshare");
    replay.args(["--mount", "--propagation", "private"]).arg(&program).arg("replay");
    replay.arg(guest.base()).arg(guest.recording()).args([seed.to_string(), points.to_string()]).arg(&result);
    if !succeeds(&mut replay)? {
        return Err("the replay broke off (it needs root, for mounts); its last lines say why".into());
    }
    let text = fs::read_to_string(&result).map_err(|error| format!("{}: {error}", result.display()))?;
    let found: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if tally(&found).failed == 0 || !load.syncs {
        guest.remove_images()?;
    }
    Ok(found)
}

fn folder(name: &str) -> Result<PathBuf> {
    let folder = Path::new(FOLDER).join(name);
    let made = fs::create_dir_all(&folder).and_then(|()| folder.canonicalize());
    made.map_err(|error| format!("{}: {error}", folder.display()))
}

/// What `./x` prepared for the guest.
fn kernel_root() -> Result<PathBuf> {
    env::var_os("THRONG_GUEST")
        .map(PathBuf::from)
        .ok_or_else(|| "no guest kernel; start this through ./x".into())
}
