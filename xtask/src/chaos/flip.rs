//! Bit flips and truncations over every kind of file of one node of three (a minority). The node is down while a file is
//! damaged; then it starts. It may refuse, or end when it meets the damage; or it serves, and then everything it serves
//! must be right: all histories are read from its own replica (freshness `stale`) and compared with what the leaders
//! said before.
//!
//! The data directory is put back from a copy after each damage. A copy of the log is as good as the log only if nothing
//! is appended while the damaged node runs. So the cluster is quiet, the copy is taken when the node has everything, and
//! the node never lives longer than [`LIFE`]: leadership moves to a node only after two stable seconds. A verdict that
//! takes longer is sought again. At the end the node serves from the copy, another one is killed, and everything must be
//! readable still.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, NODES, SHARDS, WHOLE_MAX};
use super::load::write_history;
use super::{Extent, Programs, Rng, wait};
use crate::Result;
use crate::process;
use crate::results;
use crate::tally::Tally;

const VICTIM: usize = NODES - 1;
const PAIRS: &str = "40";
const RUN_ID: &str = "flip";

/// A damaged node is killed after this, verdict or not.
const LIFE: Duration = Duration::from_millis(1_800);

/// How often a verdict is sought.
const TRIES: usize = 8;

/// A sound replica has caught up within this.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(20);

/// What came of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// The node did not start.
    Refused,
    /// The node started and ended by itself, or refused to answer, when it met the damage.
    Left,
    /// The node serves exactly what it should.
    Harmless,
    /// The node serves something else.
    Wrong,
}

/// What was damaged.
struct Damage {
    kind: &'static str,
    /// Below the data directory.
    file: PathBuf,
    at: u64,
    /// The bit that is flipped; `None`: the file is cut off.
    bit: Option<u64>,
    used: u64,
}

impl Damage {
    fn op(&self) -> &'static str {
        if self.bit.is_some() { "bit flip" } else { "truncation" }
    }
}

struct Bench {
    cluster: Cluster,
    loadgen: PathBuf,
    golden: PathBuf,
    /// What every sound replica reads.
    truth: String,
}

/// `./x chaos flip`.
pub(super) fn run(options: &Extent) -> Result<Tally> {
    let programs = Programs::build()?;
    println!("chaos: {} damages, seed {}", options.count, options.seed);
    let mut bench = Bench::prepare(&programs.throng, &programs.loadgen)?;
    let (mut rng, begin) = (Rng(options.seed), Instant::now());
    let mut fates: BTreeMap<(&'static str, &'static str), [usize; 4]> = BTreeMap::new();
    let (mut wrong, mut deleted) = (Vec::new(), Vec::new());
    for number in 1..=options.count {
        let damage = bench.draw(&mut rng)?;
        let (fate, words) = bench.verdict(&damage)?;
        let (file, op) = (damage.file.display(), damage.op());
        let told = format!("{file}, {op} at {} of {}: {fate:?}: {words}", damage.at, damage.used);
        println!("chaos: damage {number:>4}: {told}");
        fates.entry((damage.kind, op)).or_default()[fate as usize] += 1;
        if fate == Fate::Wrong {
            wrong.push(told.clone());
        }
        if fate == Fate::Refused {
            deleted.extend(bench.missing()?.into_iter().map(|file| format!("{told}: {file} is gone")));
        }
    }
    let is_whole = bench.survives();
    let rows: Vec<_> = fates
        .iter()
        .map(|((kind, op), [refused, left, harmless, wrong])| {
            println!("chaos: {kind:<10} {op:<10} {refused:>4} refused {left:>4} left {harmless:>4} harmless {wrong:>4} WRONG");
            json!({ "file": kind, "damage": op, "refused": refused, "left": left, "harmless": harmless, "wrong": wrong })
        })
        .collect();
    deleted.iter().for_each(|gone| println!("chaos: {gone}"));
    if let Err(reason) = &is_whole {
        println!("chaos: {reason}");
    }
    if options.keeps {
        results::write(
            "flip",
            json!({
                "seed": options.seed, "built_from": programs.commit, "damages": options.count, "seconds": begin.elapsed().as_secs(), "fates": rows,
                "wrong": wrong, "deleted": deleted, "cluster": is_whole.as_ref().err(),
            }),
        )?;
    }
    let mut tally = Tally::one(wrong.is_empty());
    tally += Tally::one(deleted.is_empty());
    tally += Tally::one(is_whole.is_ok());
    Ok(tally)
}

impl Bench {
    /// A cluster with some history in all kinds of files; the victim is stopped hard and its directory copied.
    fn prepare(throng: &Path, loadgen: &Path) -> Result<Self> {
        let cluster = Cluster::start(throng)?;
        let words = ["--messages", "12000", "--rate", "3000", "--body", "1024", "--dup", "2"];
        write_history(loadgen, &cluster, PAIRS, RUN_ID, &words)?;
        let golden = cluster.folder.join("golden");
        let mut bench = Self { cluster, loadgen: loadgen.to_owned(), golden, truth: String::new() };
        bench.truth = bench.read(0, false).ok_or("the histories cannot be read")?;
        println!("chaos: {}", bench.truth);
        for _ in 0..TRIES {
            // A clean end flushes the state and hands leaderships over; then the node fetches what that appended.
            bench.cluster.stop(VICTIM)?;
            wait("leaders of all shards", WHOLE_MAX, || {
                bench.cluster.serving().iter().sum::<u64>() == SHARDS as u64
            })?;
            let born = Instant::now();
            bench.cluster.spawn(VICTIM)?;
            let caught_up = wait("the node has everything", LIFE, || bench.has_everything()).is_ok();
            if caught_up && born.elapsed() < LIFE {
                bench.cluster.kill(&[VICTIM])?;
                copy(&bench.cluster.nodes[VICTIM].data, &bench.golden)?;
                return Ok(bench);
            }
        }
        Err("the machine is too slow: a node takes longer to catch up than leadership rests".into())
    }

    /// Whether the victim has applied what the others have.
    fn has_everything(&self) -> bool {
        let applied = |node| -> Option<Vec<u64>> {
            let view = self.cluster.status(node)?;
            let rows = view["router"]["shard_leader_term_applied"].as_array()?;
            Some(rows.iter().map(|row| row[2].as_u64().unwrap_or(0)).collect())
        };
        let (Some(own), Some(a), Some(b)) = (applied(VICTIM), applied(0), applied(1)) else { return false };
        own.len() == SHARDS && (0..SHARDS).all(|shard| own[shard] >= a[shard].max(b[shard]))
    }

    /// The line that says what a node reads; `None` if it does not read everything.
    fn read(&self, node: usize, stale: bool) -> Option<String> {
        let mut command = Command::new(&self.loadgen);
        command.args(["run", "readback", "--quiet", "--pairs", PAIRS, "--run-id", RUN_ID, "--within", "1s"]);
        command.args(["--connect-timeout", "1s"]);
        command.args(["--target", &format!("ws://{}", self.cluster.nodes[node].client)]);
        command.arg("--key").arg(self.cluster.keys().join("token.pk8"));
        if stale {
            command.arg("--stale");
        }
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.starts_with("readback: ")).map(str::to_owned)
    }

    /// Chooses a damage.
    fn draw(&self, rng: &mut Rng) -> Result<Damage> {
        let files = files(&self.golden)?;
        let mut kinds: Vec<&'static str> = files.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        // Log and tables hold what must not be lost; the small files are damaged often enough all the same.
        let kind = match rng.below(10) {
            0..3 => "log",
            3..6 => "table",
            _ => kinds[rng.below(kinds.len() as u64) as usize],
        };
        let of_kind: Vec<&PathBuf> =
            files.iter().filter(|(known, _)| *known == kind).map(|(_, file)| file).collect();
        let file = of_kind[rng.below(of_kind.len() as u64) as usize].clone();
        let used = used_bytes(&file)?.max(1);
        let (at, bit) = (rng.below(used), rng.below(8));
        let bit = (rng.below(4) != 0).then_some(bit);
        let file = file.strip_prefix(&self.golden).map_err(|error| error.to_string())?.to_owned();
        Ok(Damage { kind, file, at, bit, used })
    }

    /// Puts the victim's directory back and damages it.
    fn apply(&self, damage: &Damage) -> Result<()> {
        let data = &self.cluster.nodes[VICTIM].data;
        copy(&self.golden, data)?;
        let target = data.join(&damage.file);
        let failed = |error: std::io::Error| format!("{}: {error}", target.display());
        let open = File::options().read(true).write(true).open(&target).map_err(failed)?;
        let Some(bit) = damage.bit else { return open.set_len(damage.at).map_err(failed) };
        let mut byte = [0u8];
        open.read_exact_at(&mut byte, damage.at).map_err(failed)?;
        open.write_all_at(&[byte[0] ^ (1 << bit)], damage.at).map_err(failed)
    }

    fn verdict(&mut self, damage: &Damage) -> Result<(Fate, String)> {
        for _ in 0..TRIES {
            self.apply(damage)?;
            if let Some(verdict) = self.judge()? {
                return Ok(verdict);
            }
        }
        Err(format!("no verdict within {LIFE:?} in {TRIES} tries: {}", damage.file.display()))
    }

    /// Starts the damaged node and looks what becomes of it; `None` if that takes too long. It does not run any more
    /// afterwards.
    fn judge(&mut self) -> Result<Option<(Fate, String)>> {
        // Only its own last words count. Fails only if it said nothing yet.
        let _ = fs::remove_file(self.cluster.log_path(VICTIM));
        let born = Instant::now();
        self.cluster.spawn(VICTIM)?;
        let mut verdict = None;
        while verdict.is_none() && born.elapsed() < LIFE {
            let is_up = self.cluster.status(VICTIM).is_some();
            // A replica that lost the end of its log lags until the leaders have sent it again.
            let read = if is_up { self.read(VICTIM, true) } else { None };
            if let Some(status) = self.cluster.ended(VICTIM) {
                let words = format!("{status}: {}", self.cluster.last_words(VICTIM));
                return Ok(Some((if is_up { Fate::Left } else { Fate::Refused }, words)));
            }
            verdict = match read {
                Some(line) if line == self.truth => Some((Fate::Harmless, "serves the same".to_owned())),
                // Everything was read, and it is something else: other events, not fewer.
                Some(line) if events(&line) >= events(&self.truth) => Some((Fate::Wrong, line)),
                _ => None,
            };
            thread::sleep(Duration::from_millis(10));
        }
        self.cluster.kill(&[VICTIM])?;
        Ok(verdict)
    }

    /// Files of the victim that were there before and are gone: nothing may be deleted because of damage.
    fn missing(&self) -> Result<Vec<String>> {
        let data = &self.cluster.nodes[VICTIM].data;
        let kept = |kind: &str| matches!(kind, "log" | "table" | "format");
        let gone = files(&self.golden)?.into_iter().filter(|(kind, _)| kept(kind)).filter_map(|(_, file)| {
            let relative = file.strip_prefix(&self.golden).ok()?.to_owned();
            (!data.join(&relative).exists()).then(|| relative.display().to_string())
        });
        Ok(gone.collect())
    }

    /// The undamaged victim serves again; then another node is killed, and everything must be readable.
    fn survives(&mut self) -> Result<()> {
        copy(&self.golden, &self.cluster.nodes[VICTIM].data)?;
        self.cluster.spawn(VICTIM)?;
        self.cluster.wait_whole()?;
        thread::sleep(Duration::from_secs(1));
        self.cluster.kill(&[0])?;
        for reader in [1, VICTIM] {
            let begin = Instant::now();
            while self.read(reader, false).as_ref() != Some(&self.truth) {
                if begin.elapsed() > CAUGHT_UP_MAX {
                    return Err(format!("node {} does not read what was there before", reader + 1));
                }
                thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }
}

/// How many events a readback saw.
fn events(line: &str) -> u64 {
    let before = line.split(" events").next().and_then(|text| text.rsplit(' ').next());
    before.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Replaces a directory by a copy of another one; holes stay holes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    process::run(Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to))
}

/// Every file with something in it, and its kind; the reserve is nothing but room.
fn files(root: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("RESERVE") && path.metadata().is_ok_and(|data| data.len() > 0) {
                found.push((kind(&path, root), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn kind(path: &Path, root: &Path) -> &'static str {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_state = path.strip_prefix(root).is_ok_and(|path| path.starts_with("state"));
    match name.as_str() {
        "FORMAT" => "format",
        "CURRENT" => "current",
        "IDENTITY" => "identity",
        name if name.starts_with("MANIFEST") => "manifest",
        name if name.starts_with("OPTIONS") => "options",
        name if name.ends_with(".sst") => "table",
        name if name.starts_with("LOG") => "diary",
        name if name.ends_with(".log") && !is_state => "log",
        name if name.ends_with(".log") => "wal",
        _ => "other",
    }
}

/// Bytes up to the last one that is not 0: preallocated space behind it holds nothing yet.
fn used_bytes(file: &Path) -> Result<u64> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readback_says_how_many_events_there_are() {
        assert_eq!(events("readback: 40 of 40 channels, 12080 events, digest bc440d7ba83ad3ab"), 12_080);
        assert_eq!(events("nothing"), 0);
    }

    #[test]
    fn every_file_has_its_kind() {
        let root = Path::new("/data");
        let of = |path: &str| kind(&root.join(path), root);
        assert_eq!(
            (of("log/0000000001.log"), of("state/000008.log"), of("state/LOG.old.1")),
            ("log", "wal", "diary")
        );
        assert_eq!(
            (of("state/000022.sst"), of("state/MANIFEST-000009"), of("FORMAT")),
            ("table", "manifest", "format")
        );
        assert_eq!(
            (of("state/OPTIONS-000011"), of("state/CURRENT"), of("cluster.id")),
            ("options", "current", "other")
        );
    }
}
