//! Scrubs: reading everything that rests on disk, so that damage is found while other replicas are whole.
//!
//! A scrub changes nothing and stops nothing. What is damaged is named in the log, in the metrics and in the answer;
//! whoever operates the node replaces it. (A node whose own reads meet the damage stops by itself.)

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use throng_runtime::unix_millis;

use super::{Care, Said, bad_request};
use crate::error::Failure;
use crate::keep::ScrubPlan;

/// Bytes read before the pace is looked at.
const STEP_BYTES: u64 = 256 << 10;

/// Damage that is named; beyond it, it is only counted.
const ERRORS_NAMED: usize = 16;

/// How often the scheduler looks whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What retention dropped is given back when nothing was dropped for so long.
const QUIET: Duration = Duration::from_secs(15);

/// How long a node that stops waits for its scrub.
const STOP_MAX: Duration = Duration::from_secs(3);

/// File in the data directory that holds when the last full scrub ended, seconds since 1970.
const SCRUBBED: &str = "SCRUBBED";

/// What a scrub has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScrubReport {
    /// Bytes of rows and entries read.
    pub(crate) bytes: u64,
    /// The first damages, each with its file.
    pub(crate) errors: Vec<String>,
    /// How many there are in all. After the first one in the state its other tables are not read.
    pub(crate) bad: u64,
}

impl ScrubReport {
    fn found(&mut self, error: String) {
        tracing::error!(%error, "scrub: damaged");
        self.bad += 1;
        if self.errors.len() < ERRORS_NAMED {
            self.errors.push(error);
        }
    }
}

/// What the metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScrubView {
    /// When the last full scrub ended, seconds since 1970; 0 if never.
    pub(crate) last_full: u64,
    /// What it found.
    pub(crate) last_errors: u64,
    /// Damages found since the start.
    pub(crate) errors: u64,
    /// Bytes read since the start.
    pub(crate) bytes: u64,
}

/// Runs scrubs, one at a time.
pub(crate) struct Scrubber {
    file: PathBuf,
    plan: ScrubPlan,
    one: Mutex<()>,
    last_full: AtomicU64,
    last_errors: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
}

impl Scrubber {
    /// The scrubber of a data directory. A directory that was never scrubbed counts as fresh.
    pub(crate) fn new(data: &Path, plan: ScrubPlan) -> Self {
        let file = data.join(SCRUBBED);
        let last = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let scrubber = Self {
            file,
            plan,
            one: Mutex::new(()),
            last_full: AtomicU64::new(last.unwrap_or_else(now)),
            last_errors: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        if last.is_none() {
            scrubber.note();
        }
        scrubber
    }

    /// For metrics.
    pub(crate) fn view(&self) -> ScrubView {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        ScrubView {
            last_full: of(&self.last_full),
            last_errors: of(&self.last_errors),
            errors: of(&self.errors),
            bytes: of(&self.bytes),
        }
    }

    fn is_due(&self) -> bool {
        let last = self.last_full.load(Ordering::Relaxed);
        self.plan.every.is_some_and(|every| now().saturating_sub(last) >= every.as_secs())
    }

    /// A node that cannot write this down scrubs again sooner than it must.
    fn note(&self) {
        let text = format!("{}\n", self.last_full.load(Ordering::Relaxed));
        if let Err(error) = fs::write(&self.file, text) {
            tracing::warn!(%error, "cannot note the time of the last scrub");
        }
    }

    /// Reads everything, at most so many bytes a second; `None` if a scrub is under way. Ends early when `stop` says so.
    fn scrub(&self, care: &Care, bytes_per_second: u64, stop: &dyn Fn() -> bool) -> Option<ScrubReport> {
        let _one = match self.one.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(broken)) => broken.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let mut report = ScrubReport::default();
        let mut pace = Pace { begin: Instant::now(), bytes_per_second };
        if self.state(care, &mut report, &mut pace, stop) && self.log(care, &mut report, &mut pace, stop) {
            self.last_full.store(now(), Ordering::Relaxed);
            self.last_errors.store(report.bad, Ordering::Relaxed);
            self.note();
            tracing::info!(bytes = report.bytes, damages = report.bad, "scrub: everything was read");
        }
        Some(report)
    }

    /// Reads the state; false if it was stopped.
    fn state(&self, care: &Care, report: &mut ScrubReport, pace: &mut Pace, stop: &dyn Fn() -> bool) -> bool {
        let mut scrub = match care.state.scrub() {
            Ok(scrub) => scrub,
            Err(error) => {
                self.damaged(report, error.to_string());
                return true;
            }
        };
        loop {
            let before = scrub.bytes();
            let step = scrub.step(STEP_BYTES);
            self.read(report, scrub.bytes() - before);
            match step {
                Ok(true) => return true,
                Ok(false) if stop() => return false,
                Ok(false) => pace.keep(report.bytes),
                Err(error) => {
                    self.damaged(report, error.to_string());
                    return true;
                }
            }
        }
    }

    /// Reads the log; false if it was stopped.
    fn log(&self, care: &Care, report: &mut ScrubReport, pace: &mut Pace, stop: &dyn Fn() -> bool) -> bool {
        // The metadata's group stands behind those of the shards.
        let mut scrub = care.log.scrub(care.shards + 1);
        loop {
            let before = scrub.bytes();
            let step = scrub.step(STEP_BYTES);
            self.read(report, scrub.bytes() - before);
            match step {
                Ok(true) => return true,
                _ if stop() => return false,
                Ok(false) => pace.keep(report.bytes),
                Err(error) => self.damaged(report, error.to_string()),
            }
        }
    }

    fn read(&self, report: &mut ScrubReport, bytes: u64) {
        report.bytes += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn damaged(&self, report: &mut ScrubReport, error: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        report.found(error);
    }
}

/// Waits so that no more is read a second than is allowed.
struct Pace {
    begin: Instant,
    bytes_per_second: u64,
}

impl Pace {
    fn keep(&mut self, bytes: u64) {
        let due = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        std::thread::sleep(due.saturating_sub(self.begin.elapsed()).min(Duration::from_secs(1)));
    }
}

/// The thread that scrubs on schedule, and lets the state give space back after a drop. It ends when this is dropped.
pub(crate) struct Schedule {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Schedule {
    /// Starts it.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if no thread can be had.
    pub(crate) fn start(care: Care) -> Result<Self, Failure> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("throng-scrub".to_owned())
            .spawn(move || run(&care, &stopped))
            .map_err(|error| Failure::runtime("cannot start the scrub thread", error))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It looks whether it shall stop after every step. One that hangs in a dead disk is left behind.
            let deadline = Instant::now() + STOP_MAX;
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn run(care: &Care, stopped: &Receiver<()>) {
    let is_stopped = || stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty);
    while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        match care.state.reclaim(QUIET, &is_stopped) {
            Ok(true) => tracing::info!("space of dropped events is given back"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "space of dropped events stays taken"),
        }
        if care.scrubber.is_due() {
            care.scrubber.scrub(care, care.scrubber.plan.bytes_per_second, &is_stopped);
        }
    }
}

/// `MEGABYTES_PER_SECOND`, or nothing for the configured pace.
pub(super) fn answer(care: &Care, body: &str) -> Said {
    let bytes_per_second = match body {
        "" => care.scrubber.plan.bytes_per_second,
        number => number
            .parse::<u64>()
            .ok()
            .filter(|number| (1..=100_000).contains(number))
            .map(|number| number * 1_000_000)
            .ok_or_else(|| bad_request("say how many megabytes a second, 1 to 100000"))?,
    };
    let scrubber: &Arc<Scrubber> = &care.scrubber;
    match scrubber.scrub(care, bytes_per_second, &|| false) {
        Some(report) => Ok(serde_json::to_string(&report).expect("plain fields always serialize")),
        None => Err((StatusCode::CONFLICT, "a scrub is under way".into())),
    }
}

fn now() -> u64 {
    unix_millis() / 1_000
}
