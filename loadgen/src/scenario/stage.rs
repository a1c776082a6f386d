//! What all scenarios share: the fleet, the clock of the run, progress, and how a stretch of it is driven.

use std::time::Duration;

use hdrhistogram::Histogram;
use throng_base::Instant;
use throng_client::{Dialer, Roots};
use throng_client_core::{ClientEvent, Config};

use crate::cli::Common;
use crate::exit::{Exit, Failure};
use crate::fleet::{Fleet, SessionNo};
use crate::hlog::Hlog;
use crate::identity::Identities;
use crate::latency::Latency;
use crate::limits::DESCRIPTORS_SPARE;
use crate::report::{Connections, Generator, Report};

/// Nobody connected for this long after there were sessions: the target is lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Sends handed over later than this after their instant, at p99: the generator is saturated.
const LAG_P99_MAX_MS: f64 = 20.0;

/// A part of a run: what it does when something happens and when time passes.
pub(super) trait Act {
    /// Something happened to a session.
    fn event(&mut self, stage: &mut Stage, session: SessionNo, event: ClientEvent);

    /// Does what is due; returns when to call again at the latest, `None` = at the next event.
    fn due(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant>;

    /// Whether this part is over.
    fn is_over(&mut self, stage: &Stage, now: Instant) -> bool;

    /// The middle of a progress line.
    fn line(&mut self) -> String;

    /// Latencies measured since the last call go into the interval log.
    fn take_interval(&mut self, take: &mut dyn FnMut(&'static str, &mut Latency));
}

/// How a part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Over,
    TimeUp,
    Interrupted,
    TargetLost,
}

impl End {
    /// Notes an end that is not in order; false if nothing more should be tried.
    pub(super) fn note(self, report: &mut Report, part: &str) -> bool {
        match self {
            Self::Over => return true,
            Self::TimeUp => report.outcome(Exit::Objective, format!("{part}: not finished in time")),
            Self::Interrupted => report.outcome(Exit::Interrupted, format!("{part}: interrupted")),
            Self::TargetLost => {
                report.outcome(Exit::TargetLost, format!("{part}: no session for {LOST_AFTER:?}"))
            }
        }
        self == Self::TimeUp
    }
}

/// The run's common state.
pub(super) struct Stage {
    pub(super) fleet: Fleet,
    pub(super) identities: Identities,
    pub(super) hlog: Hlog,
    /// How late the generator handed sends over.
    pub(super) lag: Histogram<u64>,
    connections: Connections,
    started: Instant,
    ramp: u32,
    is_quiet: bool,
    next_progress: Instant,
    last_interval: Duration,
    last_open: Instant,
    targets: Vec<String>,
}

impl Stage {
    /// Checks what can be checked before, and sets up an empty fleet.
    pub(super) fn new(common: &Common, sessions: usize, config: Config) -> Result<Self, Failure> {
        let needed = sessions as u64 + DESCRIPTORS_SPARE;
        let allowed = throng_runtime::raise_nofile_limit();
        if allowed < needed {
            return Err(Failure::preflight(format!(
                "{sessions} sessions need {needed} file descriptors, the limit is {allowed} (ulimit -n)"
            )));
        }
        let identities = Identities::new(common)?;
        let roots = if common.ca.is_empty() { Roots::System } else { Roots::Files(common.ca.clone()) };
        let dialer = Dialer::new(&roots).map_err(|error| Failure::usage(format!("--ca: {error}")))?;
        let fleet = Fleet::new(config, dialer).map_err(|error| Failure::preflight(error.to_string()))?;
        let now = fleet.now();
        Ok(Self {
            fleet,
            identities,
            hlog: Hlog::new(),
            lag: Histogram::new_with_max(3_600_000_000_000, 3).expect("the bounds are constants that fit"),
            connections: Connections::default(),
            started: now,
            ramp: common.ramp.max(1),
            is_quiet: common.quiet,
            next_progress: now + Duration::from_secs(1),
            last_interval: Duration::ZERO,
            last_open: now,
            targets: common.targets.clone(),
        })
    }

    /// Connects `sessions` sessions at the ramp's pace. `transport` picks one for each user.
    pub(super) fn connect(
        &mut self,
        sessions: usize,
        timeout: Duration,
        transport: fn(SessionNo) -> usize,
        act: &mut dyn Act,
    ) -> Result<End, Failure> {
        let start = self.fleet.now();
        let mut ramp = Ramp { act, sessions, start, transport, last_reason: None, is_hopeless: false };
        let end = self.drive(&mut ramp, timeout)?;
        let (last_reason, is_hopeless) = (ramp.last_reason, ramp.is_hopeless);
        self.connections.connect_s = self.fleet.now().since(start).as_secs_f64();
        if is_hopeless || end == End::TimeUp || (end == End::TargetLost && self.connections.established == 0)
        {
            let why = last_reason.map(|reason| format!("; last: {reason}")).unwrap_or_default();
            return Err(Failure::preflight(format!(
                "{} of {sessions} sessions connected within {timeout:?}{why}",
                self.fleet.open()
            )));
        }
        Ok(end)
    }

    /// Runs one part until it is over.
    pub(super) fn drive(&mut self, act: &mut dyn Act, limit: Duration) -> Result<End, Failure> {
        let end = self.fleet.now() + limit;
        self.last_open = self.fleet.now();
        loop {
            let now = self.fleet.now();
            let wake = act.due(self, now);
            while let Some((session, event)) = self.fleet.next_event() {
                self.count(&event);
                act.event(self, session, event);
            }
            self.progress(act, now);
            if act.is_over(self, now) {
                return Ok(End::Over);
            }
            if self.fleet.is_interrupted() {
                return Ok(End::Interrupted);
            }
            if self.is_target_lost(now) {
                return Ok(End::TargetLost);
            }
            if now >= end {
                return Ok(End::TimeUp);
            }
            let wake = wake.map_or(end, |at| at.min(end));
            self.fleet.turn(Some(wake)).map_err(|error| Failure::preflight(format!("epoll: {error}")))?;
        }
    }

    fn count(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Connected(_) => self.connections.established += 1,
            ClientEvent::Disconnected { .. }
            | ClientEvent::Closed { .. }
            | ClientEvent::TokenRefused { .. } => {
                self.connections.lost += 1;
            }
            _ => {}
        }
    }

    /// Connections lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.connections.lost
    }

    fn is_target_lost(&mut self, now: Instant) -> bool {
        if self.fleet.open() > 0 || self.fleet.len() == 0 {
            self.last_open = now;
        }
        now.since(self.last_open) > LOST_AFTER
    }

    /// Time since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.fleet.now().since(self.started)
    }

    fn progress(&mut self, act: &mut dyn Act, now: Instant) {
        if now < self.next_progress {
            return;
        }
        self.next_progress = now + Duration::from_secs(1);
        let elapsed = now.since(self.started);
        if !self.is_quiet {
            let (open, all) = (self.fleet.open(), self.fleet.len());
            eprintln!("{:>5.0}s  sessions {open}/{all}  {}", elapsed.as_secs_f64(), act.line());
        }
        let (hlog, from) = (&mut self.hlog, self.last_interval);
        act.take_interval(&mut |tag, latency| {
            latency.take_interval(|histogram| hlog.add(tag, from, elapsed, histogram))
        });
        self.last_interval = elapsed;
    }

    /// Closes all sessions and completes the report.
    pub(super) fn fill(&mut self, report: &mut Report) {
        report.elapsed_s = self.elapsed().as_secs_f64();
        report.sessions = self.fleet.len();
        report.targets = self.targets.clone();
        report.transports = self.identities.transports();
        report.connections = self.connections.clone();
        let (p99, max) = (self.lag.value_at_quantile(0.99) as f64 / 1e6, self.lag.max() as f64 / 1e6);
        report.generator = Generator {
            lag_p99_ms: p99,
            lag_max_ms: max,
            cpu: super::cpu_seconds() / report.elapsed_s.max(0.001),
            saturated: p99 > LAG_P99_MAX_MS,
        };
        self.fleet.close();
    }
}

/// Adds sessions at an even pace and passes everything on to the scenario.
struct Ramp<'a> {
    act: &'a mut dyn Act,
    sessions: usize,
    start: Instant,
    transport: fn(SessionNo) -> usize,
    last_reason: Option<String>,
    /// A session was refused for good.
    is_hopeless: bool,
}

impl Act for Ramp<'_> {
    fn event(&mut self, stage: &mut Stage, session: SessionNo, event: ClientEvent) {
        match &event {
            ClientEvent::Disconnected { reason, .. } => self.last_reason = Some(reason.to_string()),
            ClientEvent::TokenRefused { code } => {
                self.last_reason = Some(format!("token refused: {code}"));
                self.is_hopeless = true;
            }
            ClientEvent::Closed { reason } => {
                self.last_reason = Some(reason.to_string());
                self.is_hopeless = true;
            }
            _ => {}
        }
        self.act.event(stage, session, event);
    }

    fn due(&mut self, stage: &mut Stage, now: Instant) -> Option<Instant> {
        let due = (now.since(self.start).as_secs_f64() * f64::from(stage.ramp)) as usize + 1;
        // A burst of connects would fill the listener's queue: at most 64 a turn.
        for user in stage.fleet.len()..due.min(self.sessions).min(stage.fleet.len() + 64) {
            let login = stage.identities.login(user, (self.transport)(user));
            let number = stage.fleet.add(login);
            assert_eq!(number, user, "sessions are numbered like users");
        }
        let more = stage.fleet.len() < self.sessions;
        more.then(|| now + Duration::from_secs_f64(1.0 / f64::from(stage.ramp)).max(Duration::from_millis(1)))
    }

    fn is_over(&mut self, stage: &Stage, _: Instant) -> bool {
        self.is_hopeless || (stage.fleet.len() == self.sessions && stage.fleet.open() == self.sessions)
    }

    fn line(&mut self) -> String {
        match &self.last_reason {
            Some(reason) => format!("connecting (last trouble: {reason})"),
            None => "connecting".into(),
        }
    }

    fn take_interval(&mut self, _: &mut dyn FnMut(&'static str, &mut Latency)) {}
}
