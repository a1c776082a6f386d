//! What `./x` runs: the one place for automation, in the language of the project.
//!
//! `./x` (bash) makes a bare machine able to build and then hands over to this crate; CI calls the same commands
//! that people type. Every command that checks something ends in a [`tally::Tally`], printed as the last line.

mod autobahn;
mod bench;
mod chaos;
mod checks;
mod ci;
mod drivers;
mod fuzz;
mod load;
mod night;
mod options;
mod peers;
mod power;
mod process;
mod programs;
mod python;
mod readme;
mod results;
mod server;
mod simulator;
mod tally;
mod tidy;
mod usage;

use std::env;
use std::fs;
use std::process::ExitCode;

use tally::Tally;

/// Errors of automation are sentences for whoever typed the command.
type Result<T> = std::result::Result<T, String>;

const HELP: &str = "\
usage: ./x COMMAND [ARGS]

Use it:
  run [ARGS]      build and serve one node in the foreground; ARGS go to `throng serve`
  run --demo      deliver one message from a WebSocket user to a QUIC user, print it and exit
  throng ARGS     the built `throng`
  loadgen ARGS    the built `throng-loadgen`

Check it:
  test [ARGS]     cargo tests of the whole workspace; ARGS go to cargo test
  ci              everything else that CI checks
  tidy            layers, purity, unsafe, supply chain, left-overs; sizes as a report
  spec            every requirement of wire/SPEC.md is cited by a test
  peers [ARGS]    Python clients that none of us wrote, against a real server
  autobahn        the Autobahn TestSuite against our WebSocket codec; keeps the verdicts under docs/
  load            a short run of the load generator against a real node
  chaos [NAME]    three real nodes while something breaks: kill, dup, partition, flip, disk, fsync;
                  --count N --seed N; without a name the short forms that CI runs
  power [ARGS]    power cuts: a node's disk, recorded in a guest, cut at --points N (needs root)
  readme          the marked commands of README.md, typed as they stand, with the output it shows
  sim [ARGS]      the whole cluster in one thread on virtual time; --seed N replays
  fuzz [T [SECS]] a fuzz target, or all of them
  bench [ARGS]    wall-clock benches
  bench commits   durable commits beside NATS JetStream, alternating; --rounds N, --seconds S
  bench cost-curve  commits per second by shards and channels, idle CPU with 1,024 groups; --seconds S
  night           the long versions: many seeds, longer fuzzing, every suite
  night NAME      one long run with a result file under docs/results/ (a wrong NAME lists them)

Prepare it:
  rocksdb         build the RocksDB library into the cache and stop
  env             print the variables that let plain cargo link the cached RocksDB
  help            this text
";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".into());
    let rest: Vec<String> = args.collect();
    let outcome = match command.as_str() {
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        "run" => programs::serve(&rest),
        "throng" => programs::THRONG.become_it(&rest),
        "loadgen" => programs::LOADGEN.become_it(&rest),
        "spec" => checks::specification(),
        "fuzz" => fuzz::run(&rest),
        "night" => night::run(&rest),
        "bench" => bench::run(&rest),
        "load" => load::run(),
        "chaos" => chaos::run(&rest),
        "power" => power::run(&rest),
        "sim" => programs::cargo_run("throng-sim", &rest),
        "autobahn" => autobahn::run(&rest),
        "peers" => peers::run(&rest),
        "readme" => readme::run(),
        "test" => checks::tests(&rest),
        "ci" => ci::run(),
        "tidy" => tidy::run(),
        unknown => Err(format!("no command '{unknown}'; ./x help lists them")),
    };
    close(outcome)
}

/// Prints the closing line, or hands the counts to the runner that called us (`.ci/run` prints one sum).
fn close(outcome: Result<Tally>) -> ExitCode {
    let tally = outcome.unwrap_or_else(|reason| {
        eprintln!("./x: {reason}");
        Tally::FAIL
    });
    match env::var_os("THRONG_TALLY_FILE") {
        Some(path) => {
            if let Err(error) = fs::write(&path, format!("{} {}\n", tally.passed, tally.failed)) {
                eprintln!("./x: cannot write {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        None => println!("{tally}"),
    }
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
