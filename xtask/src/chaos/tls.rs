//! `./x night tls`: what mutual TLS between nodes costs, against links in the clear, which loopback allows.
//!
//! Both kinds of cluster are made anew for each round and take turns in beginning. The generator's own sessions are in the
//! clear with both.

use serde_json::{Value, json};

use super::cluster::{Cluster, NODES, SHARDS, Shape, WHOLE_MAX};
use super::{Programs, wait};
use crate::bench::floor;
use crate::bench::generator::{self, Measured};
use crate::bench::table::{grouped, markdown, median};
use crate::options::Options;
use crate::tally::Tally;
use crate::usage::cpu_seconds;
use crate::{Result, results};

/// Channels with at most 16 messages unacknowledged each.
const CHANNELS: &str = "256";

/// Measurements that may be void: the generator shares the cores and may miss its own schedule.
const VOID_MAX: usize = 4;

/// Name, and digits behind the point.
const FIGURES: [(&str, usize); 6] = [
    ("commits per second", 0),
    ("ack p50 at half of its own maximum, ms", 3),
    ("ack p99 at half of its own maximum, ms", 3),
    ("ack p50 at the same rate, ms", 3),
    ("ack p99 at the same rate, ms", 3),
    ("CPU time of all nodes per commit, µs", 2),
];

/// One round of one kind.
type Round = [f64; FIGURES.len()];

struct Plan {
    rounds: usize,
    seconds: u32,
    /// Messages a second that both kinds take in the third measurement.
    rate: u32,
}

/// `./x night tls [--rounds N] [--seconds S] [--rate N]`. There is no bar: it says what TLS costs.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let options = Options::read(args, &["--rounds", "--seconds", "--rate"])?;
    let plan = Plan {
        rounds: options.get("--rounds", 5)?,
        seconds: options.get("--seconds", 10)?,
        rate: options.get("--rate", 20_000)?,
    };
    let programs = Programs::build()?;
    let mut floors = vec![floor(&programs.throng)?];
    let (mut tls, mut clear, mut voids) = (Vec::new(), Vec::new(), 0);
    for round in 0..plan.rounds {
        for turn in 0..2 {
            let has_tls = (round + turn) % 2 == 0;
            let figures = patiently(&programs, &plan, has_tls, &mut voids)?;
            println!("{}: {}", if has_tls { "TLS" } else { "in the clear" }, words(&figures).join(", "));
            if has_tls { &mut tls } else { &mut clear }.push(figures);
        }
        floors.push(floor(&programs.throng)?);
    }
    report(&programs, &plan, [&tls, &clear], voids, &floors)
}

/// A measurement that counts.
fn patiently(programs: &Programs, plan: &Plan, has_tls: bool, voids: &mut usize) -> Result<Round> {
    loop {
        match measure(programs, plan, has_tls) {
            Err(reason) if *voids < VOID_MAX => {
                println!("void: {reason}");
                *voids += 1;
            }
            other => return other,
        }
    }
}

fn measure(programs: &Programs, plan: &Plan, has_tls: bool) -> Result<Round> {
    let cluster = Cluster::start_with(&programs.throng, Shape { has_tls, ..Shape::default() })?;
    let share = (SHARDS / NODES) as u64;
    wait("each node leads its share", WHOLE_MAX, || cluster.serving().iter().all(|leads| *leads >= share))?;
    check(&cluster, has_tls)?;
    let (seconds, rate) = (format!("{}s", plan.seconds), plan.rate.to_string());
    let mut args: Vec<String> =
        ["publish", "--quiet", "--find-max", "--unloaded", &rate, "--duration", &seconds]
            .map(str::to_owned)
            .to_vec();
    args.extend(["--channels", CHANNELS, "--key"].map(str::to_owned));
    args.push(cluster.keys().join("token.pk8").display().to_string());
    let targets: Vec<String> = cluster.nodes.iter().map(|node| format!("ws://{}", node.client)).collect();
    let before = cpu(&cluster)?;
    let said = generator::report(&programs.loadgen, &args, &targets)?;
    let cpu = cpu(&cluster)? - before;
    let acked: u64 =
        said["phases"].as_array().into_iter().flatten().filter_map(|phase| phase["acked"].as_u64()).sum();
    let [max, half, same] = ["max", "rate", "unloaded"].map(|name| generator::phase(&said, name));
    let (max, half, same): (Measured, Measured, Measured) = (max?, half?, same?);
    Ok([max.per_s, half.p50_ms, half.p99_ms, same.p50_ms, same.p99_ms, cpu * 1e6 / acked.max(1) as f64])
}

/// That links are as they were asked for, by the nodes' own word.
fn check(cluster: &Cluster, has_tls: bool) -> Result<()> {
    let view = cluster.status(0).ok_or("node 1 does not answer")?;
    match view["peer_certificate"].is_null() == has_tls {
        true => Err(format!("the links are not as they should be: {}", view["peer_certificate"])),
        false => Ok(()),
    }
}

fn cpu(cluster: &Cluster) -> Result<f64> {
    cluster.running().filter_map(|node| cluster.pid(node)).map(|pid| cpu_seconds(u64::from(pid))).sum()
}

fn words(figures: &Round) -> Vec<String> {
    FIGURES.iter().zip(figures).map(|((name, digits), value)| format!("{name} {value:.digits$}")).collect()
}

fn report(
    programs: &Programs,
    plan: &Plan,
    [tls, clear]: [&[Round]; 2],
    voids: usize,
    floors: &[String],
) -> Result<Tally> {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (figure, (name, digits)) in FIGURES.into_iter().enumerate() {
        let all = |rounds: &[Round]| rounds.iter().map(|round| round[figure]).collect::<Vec<_>>();
        let (ours, theirs) = (all(tls), all(clear));
        let (our, their) = (median(ours.iter().copied()), median(theirs.iter().copied()));
        let write = |value: f64| if digits == 0 { grouped(value) } else { format!("{value:.digits$}") };
        rows.push(vec![name.to_owned(), write(our), write(their), format!("{:.2}", our / their)]);
        values.push(json!({ "figure": name, "tls": ours, "clear": theirs, "ratio_of_medians": our / their }));
    }
    println!("\n{}", markdown(&["median of the rounds", "TLS", "in the clear", "ratio"], &rows));
    let figures: Value = values.into();
    results::write(
        "tls",
        json!({
            "built_from": programs.commit, "rounds": plan.rounds, "seconds": plan.seconds,
            "same_rate_per_s": plan.rate, "void": voids, "fdatasync_floor": floors, "figures": figures,
        }),
    )?;
    Ok(Tally::one(true))
}
