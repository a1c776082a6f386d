//! `throng`: one binary for all roles and all commands.

mod backup;
mod care;
mod certificate;
mod cli;
mod cluster;
mod config;
mod connect;
mod demo;
mod doctor;
mod error;
mod identity;
mod keep;
mod members;
mod metrics;
mod ops;
mod peer_certificates;
mod ready;
mod serve;
mod status;
mod store_view;
mod talk;
mod token;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, ClusterCommand, Command};
use crate::error::Failure;

/// mimalloc: sessions come and go in bursts and must not leave holes (docs/decisions/0010).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// No program that serves anybody holds the simulator's planted bugs.
const _: () = assert!(!throng_base::planted::CAN_PLANT);

fn main() -> ExitCode {
    // The allocator asks for huge pages, and one that a few sessions touch counts whole: 1,580 bytes a session became
    // 400. A kernel without the switch is no reason to stop.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("throng: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Cluster { command: ClusterCommand::Start(args) } => cluster::start(&args),
        Command::Cluster { command: ClusterCommand::Certs(args) } => cluster::certs(&args),
        Command::Cluster { command: ClusterCommand::Join(args) } => cluster::join(&args),
        Command::Cluster { command: ClusterCommand::Nodes(args) } => members::nodes(&args),
        Command::Cluster { command: ClusterCommand::Leave(args) } => members::leave(&args),
        Command::Cluster { command: ClusterCommand::Stay(args) } => members::stay(&args),
        Command::Cluster { command: ClusterCommand::Move(args) } => members::move_replica(&args),
        Command::Cluster { command: ClusterCommand::Balance(args) } => members::balance(&args),
        Command::Token(args) => token::run(&args),
        Command::Chat(args) => talk::chat(&args),
        Command::Send(args) => talk::send(&args),
        Command::Tail(args) => talk::tail(&args),
        Command::History(args) => talk::history(&args),
        Command::Status(args) => status::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Verify(args) => care::verify(&args),
        Command::Hold(args) => care::hold(&args),
        Command::Acquit(args) => care::acquit(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo => demo::run(),
        Command::Config => {
            print!("{}", config::DEFAULT_FILE);
            Ok(())
        }
    }
}
