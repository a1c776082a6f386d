//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Load generator for Throng: open model, exact sequence checks, honest latency.
///
/// Exit codes: 0 passed, 1 usage, 2 preflight, 3 objective missed, 4 correctness violated, 5 target lost, 6 generator
/// saturated (result void), 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "throng-loadgen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario against a cluster.
    Run {
        #[command(subcommand)]
        scenario: Scenario,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Hold idle sessions and measure what each costs the server.
    Idle(IdleArgs),
    /// Pairs of users write to each other; every sequence is checked at both ends and against the history.
    Messenger(MessengerArgs),
    /// Commit as many messages as the cluster takes, or at a fixed rate; ack latency.
    Publish(PublishArgs),
    /// Read the histories of an earlier messenger run (--run-id) and print one digest over all of them.
    Readback(ReadbackArgs),
    /// The same as `publish` against NATS JetStream, to compare (feature `nats`).
    #[cfg(feature = "nats")]
    Nats(NatsArgs),
}

/// What all scenarios take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Endpoint: ws://, wss:// or quic://, host and perhaps a port. May be repeated; sessions spread over them.
    #[arg(long = "target", required = true, value_name = "URL")]
    pub(crate) targets: Vec<String>,
    /// Transports to use in turn, of those the targets offer; a missing target is derived from the first one's host
    /// and port. Default: as the targets say.
    #[arg(long, value_delimiter = ',', value_name = "ws|wss|quic")]
    pub(crate) transport: Vec<String>,
    /// Signing key for tokens: the server's DATA_DIR/keys/token.pk8.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Certificates to trust on wss and quic (PEM); the system's otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Vec<PathBuf>,
    /// New sessions per second while connecting.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub(crate) ramp: u32,
    /// Give up if the sessions are not all there after this long.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(crate) connect_timeout: Duration,
    /// Names the users of this run; a name used before means old history. Default: drawn at random.
    #[arg(long, value_name = "NAME")]
    pub(crate) run_id: Option<String>,
    /// Write the report as JSON (fields: loadgen/REPORT.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write one histogram per second and kind (HdrHistogram interval log).
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// No progress lines.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// `run idle`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Sessions to hold.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) sessions: usize,
    /// How long to hold them all before measuring.
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "TIME")]
    pub(crate) hold: Duration,
    /// Process that holds the sessions.
    #[arg(long, value_name = "PID")]
    pub(crate) gateway_pid: Option<u32>,
    /// Process that holds their registry.
    #[arg(long, value_name = "PID")]
    pub(crate) router_pid: Option<u32>,
    /// Status page of the gateway, if its process is not on this machine: http://host:4402/status
    #[arg(long, value_name = "URL")]
    pub(crate) gateway_status: Option<String>,
    /// Status page of the router: tells what the registry of sessions takes
    #[arg(long, value_name = "URL")]
    pub(crate) router_status: Option<String>,
    /// Objective: most bytes per session at the gateway.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_gateway_bytes: Option<f64>,
    /// Objective: most bytes per session in the router's registry.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_router_bytes: Option<f64>,
    /// Do not ask for the inbox after connecting.
    #[arg(long)]
    pub(crate) no_sync: bool,
}

/// When and what to send.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Messages per second over all sessions (open model).
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// How long to send.
    #[arg(long, default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Duration,
    /// Stop after this many messages, whatever the duration says.
    #[arg(long, value_name = "N")]
    pub(crate) messages: Option<u64>,
    /// Bytes of a message body.
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    pub(crate) body: usize,
    /// Send every message up to this many times under one id.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) dup: u32,
    /// Send every message at least this many times; `--dup` is the most.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) dup_min: u32,
    /// Write a line for each first ack: hash slot of the channel, then the intended instant and that of the ack in
    /// milliseconds since 1970. May be a named pipe.
    #[arg(long, value_name = "FILE")]
    pub(crate) acks: Option<PathBuf>,
    /// What is sent in the first seconds is checked but not measured.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "TIME")]
    pub(crate) warmup: Duration,
    /// How long to wait for what is still missing at the end.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(crate) drain: Duration,
    /// Objective: highest p99 of the corrected ack latency, milliseconds.
    #[arg(long, value_name = "MS")]
    pub(crate) max_p99_ms: Option<f64>,
}

/// `run messenger`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MessengerArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Pairs of users; each pair has one channel and two sessions.
    #[arg(long, value_name = "N")]
    pub(crate) pairs: Option<usize>,
    /// The same as half as many pairs.
    #[arg(long, conflicts_with = "pairs", value_name = "N")]
    pub(crate) sessions: Option<usize>,
}

/// `run readback`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReadbackArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Pairs of the earlier run.
    #[arg(long, value_name = "N")]
    pub(crate) pairs: usize,
    /// Read what the replica at the target has, however old, instead of asking the leader.
    #[arg(long)]
    pub(crate) stale: bool,
    /// Give up after this long.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub(crate) within: Duration,
}

/// `run publish`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Channels to write to.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) channels: usize,
    /// Sessions that share them. A gateway takes at least 64 open requests of a session (SPEC W-LIM-3): four channels
    /// with full windows; beyond that sends are refused and backed off.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) sessions: usize,
    /// Without a rate: unacknowledged messages kept per channel (closed model), 1 to 16.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=16), value_name = "N")]
    pub(crate) window: u16,
    /// First find the highest commit rate (closed model), then measure latency at half of it (open model).
    #[arg(long, conflicts_with = "rate")]
    pub(crate) find_max: bool,
    /// Then measure latency at this rate too (open model), with hardly anything else going on.
    #[arg(long, value_name = "N")]
    pub(crate) unloaded: Option<f64>,
}

/// `run nats`.
#[cfg(feature = "nats")]
#[derive(Clone, Debug, Args)]
pub(crate) struct NatsArgs {
    /// Server: nats://host:port. May be repeated; connections spread over them.
    #[arg(long = "target", required = true, value_name = "URL")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Streams of three replicas in files; each is one Raft group.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) streams: usize,
    /// Subjects to write to; they spread over the streams.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) subjects: usize,
    /// Connections; they spread over the servers.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) connections: usize,
    /// Unacknowledged messages over all subjects.
    #[arg(long, default_value_t = 4096, value_name = "N")]
    pub(crate) window: usize,
    /// First find the highest commit rate (closed model), then measure latency at half of it (open model).
    #[arg(long, conflicts_with = "rate")]
    pub(crate) find_max: bool,
    /// Then measure latency at this rate too (open model), with hardly anything else going on.
    #[arg(long, value_name = "N")]
    pub(crate) unloaded: Option<f64>,
    /// Write the report as JSON (fields: loadgen/REPORT.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// `500ms`, `20s`, `5m` or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("not a time: {text}"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("unknown unit in {text}: ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("x").is_err() && duration("3 weeks").is_err() && duration("").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
