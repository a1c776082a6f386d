//! The report of a run. Its JSON fields are documented in REPORT.md and only ever added to.

use serde::Serialize;

use crate::check::Checks;
use crate::exit::Exit;
use crate::latency::{Latency, Summary};

/// Raised when a field changes its meaning.
const SCHEMA: u32 = 1;

/// The whole report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) version: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) run_id: String,
    pub(crate) outcome: &'static str,
    pub(crate) exit_code: u8,
    /// Why it is not "passed".
    pub(crate) reasons: Vec<String>,
    pub(crate) targets: Vec<String>,
    pub(crate) transports: Vec<&'static str>,
    pub(crate) started_unix_ms: u64,
    pub(crate) elapsed_s: f64,
    pub(crate) sessions: usize,
    pub(crate) channels: usize,
    pub(crate) body_bytes: usize,
    pub(crate) phases: Vec<Phase>,
    pub(crate) checks: Option<Checks>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) connections: Connections,
    pub(crate) generator: Generator,
}

/// One stretch of load.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    /// "open" (fixed schedule) or "closed" (fixed number in flight).
    pub(crate) model: &'static str,
    /// Messages per second asked for; none in a closed model.
    pub(crate) target_per_s: Option<f64>,
    /// Measured part of the phase, without warm-up, seconds.
    pub(crate) measured_s: f64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    /// Acks per second in the measured part.
    pub(crate) acked_per_s: f64,
    pub(crate) ack: Pair,
    pub(crate) deliver: Option<Pair>,
}

/// Latency from the intended instant, and from the real one.
#[derive(Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) corrected: Summary,
    pub(crate) uncorrected: Summary,
}

impl Pair {
    pub(crate) fn of(latency: &Latency) -> Self {
        Self { corrected: latency.corrected(), uncorrected: latency.uncorrected() }
    }
}

/// What sessions cost a process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) process: &'static str,
    pub(crate) before_bytes: u64,
    pub(crate) after_bytes: u64,
    pub(crate) sessions: usize,
    pub(crate) bytes_per_session: f64,
}

/// How connections fared.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Connections {
    /// Sessions established, again after a loss too.
    pub(crate) established: u64,
    /// Sessions and attempts that ended unasked.
    pub(crate) lost: u64,
    /// From the first connect to the last session, seconds.
    pub(crate) connect_s: f64,
}

/// Whether the generator itself kept up.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Generator {
    /// How late sends were handed over because the generator was busy.
    pub(crate) lag_p99_ms: f64,
    pub(crate) lag_max_ms: f64,
    /// Share of one core that the generator's loop used.
    pub(crate) cpu: f64,
    pub(crate) saturated: bool,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, run_id: &str) -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            scenario,
            run_id: run_id.into(),
            outcome: Exit::Passed.as_str(),
            exit_code: 0,
            reasons: Vec::new(),
            targets: Vec::new(),
            transports: Vec::new(),
            started_unix_ms: throng_runtime::unix_millis(),
            elapsed_s: 0.0,
            sessions: 0,
            channels: 0,
            body_bytes: 0,
            phases: Vec::new(),
            checks: None,
            memory: Vec::new(),
            connections: Connections::default(),
            generator: Generator::default(),
        }
    }

    /// Sets the outcome; the gravest one stays. Wrong results weigh more than missing ones, and a saturated generator
    /// voids speed but not correctness.
    pub(crate) fn outcome(&mut self, exit: Exit, reason: impl Into<String>) {
        let weight = |code: u8| [4, 130, 5, 2, 6, 3, 0].iter().position(|known| *known == code).unwrap_or(0);
        if weight(exit.code()) < weight(self.exit_code) {
            self.exit_code = exit.code();
            self.outcome = exit.as_str();
        }
        self.reasons.push(reason.into());
    }

    pub(crate) fn exit(&self) -> Exit {
        let all = [
            Exit::Incorrect,
            Exit::Interrupted,
            Exit::TargetLost,
            Exit::Preflight,
            Exit::Saturated,
            Exit::Objective,
        ];
        all.into_iter().find(|exit| exit.code() == self.exit_code).unwrap_or(Exit::Passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_outcome_stays_and_all_reasons_are_told() {
        let mut report = Report::new("idle", "x");
        assert_eq!(report.exit(), Exit::Passed);
        report.outcome(Exit::Objective, "slow");
        report.outcome(Exit::Incorrect, "lost");
        report.outcome(Exit::Saturated, "busy");
        assert_eq!((report.exit(), report.outcome, report.reasons.len()), (Exit::Incorrect, "incorrect", 3));
    }
}
