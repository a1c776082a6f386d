//! `./x bench commits`: durable commits of three nodes on this machine, beside NATS JetStream with three replicas that
//! syncs always, in alternating rounds from one generator.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::floor;
use super::generator::{self, Measured};
use super::peer::{self, Nats};
use super::table::{grouped, markdown, median};
use crate::Result;
use crate::options::Options;
use crate::programs::THRONG;
use crate::results;
use crate::tally::Tally;

/// Sends per second of the unloaded measurement.
const UNLOADED_PER_S: &str = "200";

/// Throng's sessions, and the channels that they share; the protocol has at most 16 messages of a channel and 64 of a
/// session unacknowledged. Fewer sessions could not keep three nodes busy, more cost the generator and the gateways a
/// system call each.
const SESSIONS: usize = 16;
const CHANNELS: usize = 64;

/// Subjects of JetStream.
const SUBJECTS: usize = 256;

/// Shapes of JetStream that are tried first: streams (each is a Raft group), connections, and messages that are
/// unacknowledged over all. The one that commits most is compared.
const SHAPES: &[Shape] =
    &[Shape(1, 3, 4_096), Shape(8, 3, 4_096), Shape(64, 3, 4_096), Shape(8, 12, 4_096), Shape(1, 3, 1_024)];

#[derive(Clone, Copy, Debug)]
struct Shape(usize, usize, usize);

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(streams, connections, window) = self;
        write!(f, "{streams} streams, {connections} connections, {window} unacknowledged")
    }
}

const NODES: usize = 3;
const SHARDS: u32 = 64;

/// What one round measured of one system.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    max: Measured,
    half: Measured,
    unloaded: Measured,
}

struct Programs {
    throng: PathBuf,
    loadgen: PathBuf,
    nats: PathBuf,
    seconds: u32,
}

/// Runs the comparison; passes if the bars are met.
pub(super) fn run(args: &[String]) -> Result<Tally> {
    let options = Options::read(args, &["--rounds", "--seconds"])?;
    let (rounds, seconds) = (options.get("--rounds", 3_usize)?, options.get("--seconds", 10)?);
    let programs =
        Programs { throng: THRONG.build()?, loadgen: generator::build()?, nats: peer::binary()?, seconds };
    let mut floors = vec![floor(&programs.throng)?];
    let shape = programs.best_shape()?;
    let (mut throng, mut nats) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whoever begins has the colder machine, so they take turns.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                throng.push(say("Throng", programs.throng()?));
            } else {
                nats.push(say("NATS", programs.nats(shape)?));
            }
        }
        floors.push(floor(&programs.throng)?);
    }
    report(&throng, &nats, &shape.to_string(), &floors)
}

impl Programs {
    fn load(&self) -> Vec<String> {
        let seconds = format!("{}s", self.seconds);
        ["--find-max", "--unloaded", UNLOADED_PER_S, "--duration", &seconds].map(str::to_owned).to_vec()
    }

    fn throng(&self) -> Result<Round> {
        let cluster = Cluster::start(&self.throng, NODES, SHARDS)?;
        let mut args = vec!["publish".to_owned(), "--quiet".to_owned()];
        args.extend(self.load());
        let (sessions, channels) = (SESSIONS.to_string(), CHANNELS.to_string());
        args.extend(["--sessions", &sessions, "--channels", &channels, "--key"].map(str::to_owned));
        args.push(cluster.key().display().to_string());
        Round::of(&generator::report(&self.loadgen, &args, &cluster.targets())?)
    }

    fn nats(&self, shape: Shape) -> Result<Round> {
        let servers = Nats::start(&self.nats)?;
        let mut args = nats_args(shape);
        args.extend(self.load());
        Round::of(&generator::report(&self.loadgen, &args, &servers.targets())?)
    }

    /// The shape in which NATS commits most.
    fn best_shape(&self) -> Result<Shape> {
        let mut best = (0.0, SHAPES[0]);
        for &shape in SHAPES {
            let servers = Nats::start(&self.nats)?;
            let mut args = nats_args(shape);
            args.extend(["--duration", "6s"].map(str::to_owned));
            let report = generator::report(&self.loadgen, &args, &servers.targets())?;
            let measured = generator::phase(&report, "max")?;
            println!("NATS with {shape}: {}/s", grouped(measured.per_s));
            if measured.per_s > best.0 {
                best = (measured.per_s, shape);
            }
        }
        Ok(best.1)
    }
}

fn nats_args(Shape(streams, connections, window): Shape) -> Vec<String> {
    let numbers = [
        ("--streams", streams),
        ("--subjects", SUBJECTS.max(streams)),
        ("--connections", connections),
        ("--window", window),
    ];
    let options = numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]);
    std::iter::once("nats".to_owned()).chain(options).collect()
}

impl Round {
    fn of(report: &Value) -> Result<Self> {
        Ok(Self {
            max: generator::phase(report, "max")?,
            half: generator::phase(report, "rate")?,
            unloaded: generator::phase(report, "unloaded")?,
        })
    }

    fn figures(&self) -> [f64; FIGURES.len()] {
        let Self { max, half, unloaded } = self;
        [max.per_s, half.p50_ms, half.p99_ms, unloaded.p50_ms, unloaded.p99_ms]
    }
}

/// Name, and whether more is better.
const FIGURES: [(&str, bool); 5] = [
    ("commits per second", true),
    ("ack p50 at half of its own maximum, ms", false),
    ("ack p99 at half of its own maximum, ms", false),
    ("ack p50 unloaded, ms", false),
    ("ack p99 unloaded, ms", false),
];

/// At least this many times the rate.
const RATE_RATIO: f64 = 1.5;

fn say(name: &str, round: Round) -> Round {
    let [rate, half50, half99, idle50, idle99] = round.figures();
    println!(
        "{name}: {}/s, at half p50 {half50:.2} p99 {half99:.2} ms, unloaded p50 {idle50:.3} p99 {idle99:.3} ms",
        grouped(rate)
    );
    round
}

fn report(throng: &[Round], nats: &[Round], shape: &str, floors: &[String]) -> Result<Tally> {
    let all = |rounds: &[Round], figure: usize| -> Vec<f64> {
        rounds.iter().map(|round| round.figures()[figure]).collect()
    };
    let mut tally = Tally::default();
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (figure, (name, more)) in FIGURES.into_iter().enumerate() {
        let (ours, theirs) = (all(throng, figure), all(nats, figure));
        let (our, their) = (median(ours.clone()), median(theirs.clone()));
        let is_met = if more { our >= RATE_RATIO * their } else { our <= their };
        let counted = !name.contains("p50 at half");
        if counted {
            tally += Tally::one(is_met);
        }
        let write = |value: f64| if more { grouped(value) } else { format!("{value:.3}") };
        rows.push(vec![name.to_owned(), write(our), write(their), format!("{:.2}", our / their)]);
        figures.push(json!({ "figure": name, "throng": ours, "nats": theirs, "met": is_met }));
    }
    println!("\n{}", markdown(&["median of the rounds", "Throng", "NATS JetStream", "ratio"], &rows));
    println!("NATS JetStream: {shape}, R3, sync_interval always");
    let result = json!({ "nats_shape": shape, "fdatasync_floor": floors, "figures": figures });
    results::write("commits", result)?;
    Ok(tally)
}
