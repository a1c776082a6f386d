//! The programs of the workspace: building them, and becoming one of them.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::process::{cargo, run};
use crate::tally::Tally;

/// Crate and program name.
pub(crate) struct Program {
    pub(crate) package: &'static str,
    pub(crate) name: &'static str,
}

pub(crate) const THRONG: Program = Program { package: "throng-node", name: "throng" };
pub(crate) const LOADGEN: Program = Program { package: "throng-loadgen", name: "throng-loadgen" };

impl Program {
    /// Builds the release program, if anything changed, and says where it lies.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        run(cargo().args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "-p",
            self.package,
            "--bin",
            self.name,
        ]))?;
        let path = PathBuf::from("target/release").join(self.name);
        path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Builds and then becomes the program, so that signals and the exit code are its own.
    pub(crate) fn become_it(&self, args: &[String]) -> Result<Tally> {
        let path = self.build()?;
        let error = Command::new(&path).args(args).exec();
        Err(format!("cannot start {}: {error}", path.display()))
    }
}

/// `./x run`: a single node on embedded defaults in the foreground, or the demonstration.
pub(crate) fn serve(args: &[String]) -> Result<Tally> {
    let mut words: Vec<String> = args.iter().filter(|arg| *arg != "--demo").cloned().collect();
    let command = if words.len() < args.len() { "demo" } else { "serve" };
    words.insert(0, command.to_owned());
    eprintln!("./x: building the release program (the first time takes some minutes)");
    THRONG.become_it(&words)
}

/// Becomes `cargo run --release` of a crate that is only ever run from here.
pub(crate) fn cargo_run(package: &str, args: &[String]) -> Result<Tally> {
    let error =
        cargo().args(["run", "--release", "--quiet", "--locked", "-p", package, "--"]).args(args).exec();
    Err(format!("cannot start cargo: {error}"))
}
