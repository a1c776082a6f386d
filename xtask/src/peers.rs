//! `./x peers`: clients that none of us wrote, in Python, against a real `throng serve`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process::{counted, read_plain_line};
use crate::programs::THRONG;
use crate::python;
use crate::tally::Tally;

/// Exact versions, so that a failure is ours.
const PACKAGES: &[&str] = &["websockets==17.4", "aioquic==1.7.2"];
const FOLDER: &str = "tests/peers";

/// Runs every `*_peer.py`; each starts the server it needs and prints one closing line.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let python = python::environment(PACKAGES)?;
    let throng = THRONG.build()?;
    let mut sum = Tally::default();
    for script in scripts(Path::new(FOLDER))? {
        println!("--- {}", script.display());
        let mut command = Command::new(&python);
        command.arg(&script).args(args).env("THRONG_BIN", &throng).env("PYTHONDONTWRITEBYTECODE", "1");
        let tally = counted(&mut command, read_plain_line)?;
        println!("--- {}: {} ok, {} bad", script.display(), tally.passed, tally.failed);
        sum += tally;
    }
    Ok(sum.or_failed(true))
}

fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut scripts: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("_peer.py"))
        .collect();
    scripts.sort();
    Ok(scripts)
}
