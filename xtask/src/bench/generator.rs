//! Running the load generator and reading its report.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::process::{cargo, run};
use crate::server::temporary_folder;

/// Builds the generator with what it needs to drive peers. It lies in a target directory of its own, so that the
/// generator that is run otherwise is not built anew each time.
pub(super) fn build() -> Result<PathBuf> {
    let folder = "target/peers";
    run(cargo().args(["build", "--release", "--quiet", "--locked", "-p", "throng-loadgen"]).args([
        "--features",
        "nats",
        "--target-dir",
        folder,
    ]))?;
    let path = PathBuf::from(folder).join("release/throng-loadgen");
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs a scenario to its end and returns its report.
pub(crate) fn report(loadgen: &Path, args: &[String], targets: &[String]) -> Result<Value> {
    let folder = temporary_folder()?;
    let json = folder.join("report.json");
    let mut command = Command::new(loadgen);
    command.arg("run").args(args).arg("--json").arg(&json).stdout(Stdio::null()).stderr(Stdio::null());
    targets.iter().for_each(|target| {
        command.args(["--target", target]);
    });
    let status = command.status().map_err(|error| format!("cannot start the generator: {error}"))?;
    let text = std::fs::read_to_string(&json)
        .map_err(|_| format!("the generator ended without a report ({status}): {}", args.join(" ")));
    let _ = std::fs::remove_dir_all(&folder);
    let report: Value = serde_json::from_str(&text?).map_err(|error| format!("report: {error}"))?;
    match report["outcome"].as_str() {
        Some("passed") => Ok(report),
        outcome => Err(format!("the generator said {outcome:?}: {}", report["reasons"])),
    }
}

/// What a phase of a report measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// The phase with this name.
pub(crate) fn phase(report: &Value, name: &str) -> Result<Measured> {
    let phases = report["phases"].as_array().ok_or("a report without phases")?;
    let phase =
        phases.iter().find(|phase| phase["name"] == name).ok_or_else(|| format!("no phase {name}"))?;
    let ack = &phase["ack"]["corrected"];
    let number = |value: &Value| value.as_f64().ok_or_else(|| format!("phase {name}: {value} is no number"));
    Ok(Measured {
        per_s: number(&phase["acked_per_s"])?,
        p50_ms: number(&ack["p50_ms"])?,
        p99_ms: number(&ack["p99_ms"])?,
    })
}

/// The JSON at a path of an operations port.
pub(super) fn get(address: &str, path: &str) -> Option<Value> {
    let timeout = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(timeout).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
