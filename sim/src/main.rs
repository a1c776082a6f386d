//! `throng-sim`: runs seeds, replays one, compares traces, hunts planted bugs.

mod args;
mod batch;
#[cfg(feature = "planted")]
mod hunt;
mod single;

use std::process::ExitCode;

use args::{Args, Job};

fn main() -> ExitCode {
    let Some(args) = Args::parse(std::env::args().skip(1)) else {
        eprintln!("{}", args::USAGE);
        return ExitCode::from(2);
    };
    if let Err(reason) = plant(&args) {
        eprintln!("{reason}");
        return ExitCode::from(2);
    }
    let passed = match &args.job {
        Job::Many => batch::run(&args),
        Job::One(seed) => single::run(*seed, &args),
        Job::Diff(a, b) => single::diff(*a, *b),
        Job::Hashes => batch::hashes(&args),
        Job::Hunt(name) => hunt(name, &args),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "planted")]
fn plant(args: &Args) -> Result<(), String> {
    let bug =
        args.plant.as_deref().map(|name| hunt::bug(name).ok_or(format!("no bug {name}"))).transpose()?;
    throng_base::planted::plant(bug);
    Ok(())
}

#[cfg(not(feature = "planted"))]
fn plant(args: &Args) -> Result<(), String> {
    match args.plant {
        Some(_) => Err("this build holds no bugs; build it with --features planted".to_owned()),
        None => Ok(()),
    }
}

#[cfg(feature = "planted")]
fn hunt(name: &str, args: &Args) -> bool {
    hunt::run(name, args)
}

#[cfg(not(feature = "planted"))]
fn hunt(_: &str, _: &Args) -> bool {
    eprintln!("this build holds no bugs; build it with --features planted");
    false
}
