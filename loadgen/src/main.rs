//! `throng-loadgen`: what a cluster holds, how fast it commits, and whether it keeps its promises.
//!
//! ```text
//!   scenario (idle │ messenger │ publish): what is sent when, what must come back
//!       │ publish, subscribe, request                ▲ events
//!   fleet: thousands of client machines on one epoll loop; QUIC and TLS bytes come from a tokio thread
//! ```
//!
//! Honest by construction: sends follow a schedule fixed beforehand (open model), latency counts from the intended
//! instant, the uncorrected figure stands beside it, and a generator that could not keep its own schedule says so and
//! voids the result.

mod acks;
mod check;
mod cli;
mod exit;
mod fleet;
mod hlog;
mod identity;
mod lane;
mod latency;
mod limits;
mod memory;
mod pace;
mod report;
mod scenario;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match cli::Cli::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // clap's own code for usage errors is 2, which here means "preflight".
            return if error.use_stderr() { exit::Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let cli::Command::Run { scenario } = args.command;
    match scenario::run(scenario) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("throng-loadgen: {}", failure.text);
            failure.exit.into()
        }
    }
}
