//! All points of a recording: cut, mount, check.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::acks::Acks;
use crate::check::Found;
use crate::cut::{self, Point};
use crate::image::Image;
use crate::marks::Mark;
use crate::recording::{Entry, Recording};

/// Where in the file system the workload keeps its data.
const DATA: &str = "data";
/// Seconds for one check; it takes a fraction of one.
const CHECK_SECONDS: &str = "60";
/// Failures that are reported in full.
const FAILURES_TOLD: usize = 20;

/// What came of a replay.
#[derive(Debug, Default)]
pub(crate) struct Report {
    seed: u64,
    points: usize,
    entries: usize,
    bases: usize,
    untold: usize,
    acknowledged: usize,
    /// Points that kept something of what was under way, and those after whose cut the log had a torn tail.
    partial: usize,
    torn: usize,
    /// The most acknowledged sends that a point was checked for.
    checked_max: usize,
    lost: usize,
    refused: usize,
    other: usize,
    failures: Vec<String>,
    seconds: f64,
}

impl Report {
    /// For the result file.
    pub(crate) fn json(&self) -> Value {
        json!({
            "seed": self.seed, "points": self.points, "entries": self.entries, "legal_bases": self.bases, "misplaced_commits": self.untold,
            "acknowledged": self.acknowledged, "acknowledged_checked_max": self.checked_max,
            "points_with_partial_writes": self.partial, "points_with_torn_log": self.torn,
            "lost": self.lost, "refused": self.refused, "other_failures": self.other,
            "failures": self.failures, "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }

    fn note(&mut self, point: Point, outcome: Result<Found>) {
        self.points += 1;
        let why = match outcome {
            Ok(found) => {
                self.torn += usize::from(found.is_torn);
                self.checked_max = self.checked_max.max(found.acknowledged);
                return;
            }
            Err(why) => why,
        };
        let kind = match () {
            () if why.contains("lost: ") => &mut self.lost,
            () if why.contains("refused to ") => &mut self.refused,
            () => &mut self.other,
        };
        *kind += 1;
        if self.failures.len() < FAILURES_TOLD {
            let told = format!("entry {}, kept {:?}: {}", point.base, point.kept, why.trim());
            println!("power: {told}");
            self.failures.push(told);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            points, partial, torn, entries, bases, acknowledged, lost, refused, other, seconds, ..
        } = self;
        write!(
            f,
            "power: {points} points of {bases} ({partial} with writes kept in part, {torn} with a torn log) in {entries} \
             entries with {acknowledged} acknowledgements: {lost} lost, {refused} refused, {other} otherwise wrong, \
             {seconds:.0} s"
        )
    }
}

/// Where cuts are made and mounted; gone with the value. It lies in memory: checks sync much.
struct Workshop {
    dir: PathBuf,
}

impl Workshop {
    fn open(bytes: u64) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("throng-power-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let size = format!("size={}", 2 * bytes + (64 << 20));
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "throng-power"]).arg(&dir))?;
        let workshop = Self { dir };
        std::fs::create_dir(workshop.path("mounted")).map_err(|error| error.to_string())?;
        Ok(workshop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Mounts the cut, whose journal the kernel recovers, and checks what is in it.
    fn check(&self, acks: &Acks, seed: u64) -> Result<Found> {
        let (cut, mounted, file) = (self.path("cut"), self.path("mounted"), self.path("acks"));
        std::fs::write(&file, acks.text()).map_err(|error| error.to_string())?;
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,noatime"]).arg(&cut).arg(&mounted))?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut check = Command::new("timeout");
        check.args(["-s", "KILL", CHECK_SECONDS]).arg(program).arg("check").arg(mounted.join(DATA));
        let outcome = run(check.arg(&file).arg(seed.to_string()));
        run(Command::new("umount").arg(&mounted))?;
        let said = outcome?.stdout;
        let said = String::from_utf8_lossy(&said);
        Found::parse(&said).ok_or_else(|| format!("the check said: {said}"))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Mounted only if a check was broken off; each fails if there is nothing to do.
        let _ = Command::new("umount").arg("-q").arg(self.path("mounted")).status();
        let _ = Command::new("umount").arg("-q").arg(&self.dir).status();
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// Cuts at so many points, in the order of the recording.
///
/// # Errors
/// The recording cannot be used, or nothing can be mounted; what a check finds is in the report.
pub(crate) fn run_all(base: &Path, recording: &Path, seed: u64, points: usize) -> Result<Report> {
    let begin = Instant::now();
    let mut image = Image::open(base)?;
    let recording = Recording::open(recording, image.len())?;
    let workshop = Workshop::open(image.len())?;
    let entries = &recording.entries;
    let (untold, bases) = (&recording.untold, cut::bases(entries, &recording.untold).len());
    let mut report =
        Report { seed, entries: entries.len(), bases, untold: untold.len(), ..Report::default() };
    let (mut acks, mut read) = (Acks::default(), 0);
    for point in cut::choose(entries, untold, seed, points) {
        take_acks(&entries[read..point.base], &mut acks);
        read = point.base;
        image.advance(&recording, point.base)?;
        let kept = image.write_cut(&recording, point, &workshop.path("cut"))?;
        report.partial += usize::from(kept > 0);
        report.note(point, workshop.check(&acks, seed));
    }
    take_acks(&entries[read..], &mut acks);
    report.acknowledged = acks.by_channel.values().map(|messages| messages.len()).sum();
    report.seconds = begin.elapsed().as_secs_f64();
    Ok(report)
}

fn take_acks(entries: &[Entry], acks: &mut Acks) {
    for entry in entries {
        if let Entry::Mark(Some(Mark::Acks(new))) = entry {
            new.iter().for_each(|ack| acks.add(*ack));
        }
    }
}

/// Runs to the end; what it says on its error output is the error.
fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}
