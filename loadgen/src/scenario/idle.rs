//! `idle`: sessions that only live, and what they cost.

use std::time::Duration;

use throng_base::Instant;
use throng_client_core::{ClientEvent, Config};

use super::stage::{Act, End, Stage};
use crate::cli::IdleArgs;
use crate::exit::{Exit, Failure};
use crate::fleet::SessionNo;
use crate::latency::Latency;
use crate::memory::Process;
use crate::report::{Memory, Report};

/// A process to be measured.
struct Measured {
    name: &'static str,
    process: Process,
    before: u64,
    most: Option<f64>,
}

pub(super) fn run(args: &IdleArgs) -> Result<Exit, Failure> {
    let config = Config { inbox: !args.no_sync, ..Config::default() };
    let mut stage = Stage::new(&args.common, args.sessions, config)?;
    let mut report = Report::new("idle", stage.identities.run_id());
    let measured = measured(args)?;
    let connected =
        stage.connect(args.sessions, args.common.connect_timeout, |user| user, &mut Hold { until: None })?;
    if connected.note(&mut report, "connecting") {
        hold(&mut stage, args, &measured, &mut report)?;
    }
    super::conclude(stage, report, &args.common)
}

fn measured(args: &IdleArgs) -> Result<Vec<Measured>, Failure> {
    let gateway = Process::of(args.gateway_pid, args.gateway_status.as_deref());
    let router = args.router_pid.map(Process::Pid);
    let registry = args.router_status.clone().map(Process::Registry);
    let named = [
        ("gateway", gateway, args.max_gateway_bytes),
        ("router process", router, None),
        ("router registry", registry, args.max_router_bytes),
    ];
    let measured = named.into_iter().filter_map(|(name, process, most)| Some((name, process?, most)));
    measured
        .map(|(name, process, most)| {
            let before =
                process.resident().map_err(|error| Failure::preflight(format!("{name}: {error}")))?;
            Ok(Measured { name, process, before, most })
        })
        .collect()
}

/// Holds all sessions, then measures.
fn hold(
    stage: &mut Stage,
    args: &IdleArgs,
    measured: &[Measured],
    report: &mut Report,
) -> Result<(), Failure> {
    let lost_before = stage.lost();
    let until = stage.fleet.now() + args.hold;
    let end = stage.drive(&mut Hold { until: Some(until) }, args.hold + Duration::from_secs(60))?;
    end.note(report, "holding");
    let (open, lost) = (stage.fleet.open(), stage.lost() - lost_before);
    println!("sessions: {open} of {} open, {lost} lost while held for {:?}", args.sessions, args.hold);
    if end == End::Over && (open < args.sessions || lost > 0) {
        report.outcome(
            Exit::Objective,
            format!("{lost} sessions were lost, {open} of {} are open", args.sessions),
        );
    }
    for one in measured {
        let after =
            one.process.resident().map_err(|error| Failure::preflight(format!("{}: {error}", one.name)))?;
        let per_session = (after as f64 - one.before as f64) / args.sessions as f64;
        println!(
            "{}: {:.0} bytes per session (resident {} before, {after} after, {} sessions)",
            one.name, per_session, one.before, args.sessions
        );
        report.memory.push(Memory {
            process: one.name,
            before_bytes: one.before,
            after_bytes: after,
            sessions: args.sessions,
            bytes_per_session: per_session,
        });
        if one.most.is_some_and(|most| per_session > most) {
            report.outcome(Exit::Objective, format!("{}: {per_session:.0} bytes per session", one.name));
        }
    }
    Ok(())
}

/// Does nothing, until an instant.
struct Hold {
    until: Option<Instant>,
}

impl Act for Hold {
    fn event(&mut self, _: &mut Stage, _: SessionNo, _: ClientEvent) {}

    fn due(&mut self, _: &mut Stage, _: Instant) -> Option<Instant> {
        self.until
    }

    fn is_over(&mut self, _: &Stage, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn line(&mut self) -> String {
        "holding".into()
    }

    fn take_interval(&mut self, _: &mut dyn FnMut(&'static str, &mut Latency)) {}
}
