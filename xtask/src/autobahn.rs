//! `./x autobahn`: the Autobahn TestSuite against our WebSocket codec, through the echo listener of `throng serve`.
//!
//! The suite runs on CPython 2.7 only. Its 216 compression cases (groups 12 and 13) are left out: Throng does not
//! negotiate `permessage-deflate`, whose window would cost every session its memory.

mod verdicts;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::{output_of, run as must_run};
use crate::programs::THRONG;
use crate::python::made_once;
use crate::server::Server;
use crate::tally::Tally;
use verdicts::Verdicts;

const SUITE: &str = "autobahntestsuite==25.10.1";
const PYTHON: &str = "2.7.18";
/// The suite takes about 20 s; a case that hangs has its own limit of some seconds inside it.
const RUN_MAX: Duration = Duration::from_secs(300);

/// The suite's own pages, one for each case, for whoever wants to look at a failure.
const REPORT: &str = "target/autobahn";

/// Runs the suite, keeps its verdicts under `docs/conformance` and counts them.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let wstest = install()?;
    let throng = THRONG.build()?;
    let mut server = Server::start(&throng, &["--ws-echo", "127.0.0.1:0"])?;
    let report = fresh_folder(REPORT)?;
    let cases = if args.is_empty() { vec!["*".to_owned()] } else { args.to_vec() };
    let index = examine(&wstest, &format!("ws://{}", server.address("ws_echo")?), &cases, &report)?;
    let verdicts = Verdicts::read(&index)?;
    println!("report of every case: {}", report.join("index.html").display());
    if !server.is_alive() {
        return Err("throng serve did not survive the suite".into());
    }
    if args.is_empty() {
        verdicts.keep(Path::new("docs/conformance"))?;
    }
    println!("{}", verdicts.summary());
    Ok(verdicts.tally(args.is_empty()))
}

fn fresh_folder(path: &str) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(path); // there may be none
    fs::create_dir_all(path).map_err(|error| format!("{path}: {error}"))?;
    fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))
}

/// Makes the Python 2.7 environment once and returns its `wstest`.
fn install() -> Result<PathBuf> {
    let folder = made_once(&format!("python2-{SUITE}"), |folder| {
        let python = python2()?;
        let bootstrap = folder.join("bootstrap");
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&bootstrap).arg("virtualenv<20.22");
        must_run(&mut pip)?;
        let mut virtualenv = Command::new(&python);
        must_run(
            virtualenv
                .env("PYTHONPATH", &bootstrap)
                .args(["-m", "virtualenv", "-q"])
                .arg(folder.join("venv")),
        )?;
        must_run(Command::new(folder.join("venv/bin/pip")).args(["install", "--quiet", SUITE]))
    })?;
    Ok(folder.join("venv/bin/wstest"))
}

/// Debian packages no Python 2.7 any more, so it comes from pyenv or from the path.
fn python2() -> Result<String> {
    let mut pyenv = Command::new("pyenv");
    let found = output_of(pyenv.env("PYENV_VERSION", PYTHON).args(["which", "python2.7"]));
    let path = found.map(|path| path.trim().to_owned()).unwrap_or_else(|_| "python2.7".to_owned());
    let works = Command::new(&path).arg("--version").stderr(Stdio::null()).stdout(Stdio::null()).status();
    if works.is_ok_and(|status| status.success()) {
        return Ok(path);
    }
    Err(format!("the Autobahn TestSuite needs CPython 2.7, and there is none; run: pyenv install {PYTHON}"))
}

/// Lets the suite's client examine the server at `url`; returns the index of its report.
fn examine(wstest: &Path, url: &str, cases: &[String], report: &Path) -> Result<PathBuf> {
    let spec = serde_json::json!({
        "outdir": report,
        "servers": [{"agent": verdicts::AGENT, "url": url}],
        "cases": cases,
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let spec_file = report.join("spec.json");
    fs::write(&spec_file, spec.to_string()).map_err(|error| format!("{}: {error}", spec_file.display()))?;
    let log_path = report.join("wstest.log");
    let log = fs::File::create(&log_path).map_err(|error| format!("{}: {error}", log_path.display()))?;
    let mut command = Command::new(wstest);
    command
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&spec_file)
        .env_remove("PYTHONPATH")
        .current_dir(env::temp_dir());
    let both = log.try_clone().map_err(|error| error.to_string())?;
    let child = command.stdout(log).stderr(both).spawn().map_err(|error| format!("wstest: {error}"))?;
    wait(child).map_err(|reason| format!("{reason}; see {}", log_path.display()))?;
    Ok(report.join("index.json"))
}

fn wait(mut child: Child) -> Result<()> {
    let deadline = Instant::now() + RUN_MAX;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("wstest ended with {status}")),
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("wstest did not end within {RUN_MAX:?}"));
            }
            None => thread::sleep(Duration::from_millis(100)),
        }
    }
}
