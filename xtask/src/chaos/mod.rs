//! `./x chaos`: real clusters of real processes under load while something breaks.
//!
//! ```text
//!   cluster: processes, their ports and folders     load: throng-loadgen, the judge of lost, doubled, skipped
//!        ▲ kill, pause, stop, start                      │ a line per first ack
//!        └──────────── campaign ◄── timeline: since when does every shard take writes again? ◄┘
//! ```
//!
//! A campaign draws what it does from `--seed`, does it `--count` times, is bounded in time, and cleans up after itself.

mod cluster;
mod disk;
mod disks;
mod dup;
mod end;
mod flip;
mod fsync;
mod grow;
mod kill;
pub(crate) mod learner;
mod load;
mod partition;
mod recovery;
mod space;
mod timeline;
pub(crate) mod tls;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::options::Options;
use crate::programs::{LOADGEN, THRONG};
use crate::server::temporary_folder;
use crate::tally::Tally;
use crate::{Result, results};

/// How far a campaign goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How often something is broken.
    count: usize,
    /// All choices follow from it.
    seed: u64,
    /// Write a result file at the end.
    keeps: bool,
}

/// A campaign: its name, how often CI and a night break something, and what runs it.
struct Campaign {
    name: &'static str,
    short: usize,
    long: usize,
    /// CI runs the short form.
    in_ci: bool,
    run: fn(&Extent) -> Result<Tally>,
}

const CAMPAIGNS: &[Campaign] = &[
    Campaign { name: "kill", short: 60, long: 1_000, in_ci: true, run: kill::run },
    Campaign { name: "dup", short: 12, long: 500, in_ci: true, run: dup::run },
    Campaign { name: "grow", short: 3, long: 40, in_ci: true, run: grow::run },
    Campaign { name: "partition", short: 16, long: 64, in_ci: true, run: partition::run },
    Campaign { name: "flip", short: 50, long: 1_000, in_ci: true, run: flip::run },
    Campaign { name: "disk", short: 3, long: 50, in_ci: true, run: disk::run },
    Campaign { name: "fsync", short: 6, long: 200, in_ci: true, run: fsync::run },
];

/// Seed unless told otherwise; a failure is repeated with the seed it printed.
const SEED: u64 = 1;

/// `./x chaos NAME [--count N] [--seed N]`; without a name the short forms that CI runs.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let Some(name) = args.first().filter(|name| !name.starts_with("--")) else {
        let mut sum = Tally::default();
        for campaign in CAMPAIGNS.iter().filter(|campaign| campaign.in_ci) {
            println!("--- chaos {}", campaign.name);
            sum += (campaign.run)(&options(campaign.short, false, args)?)?;
        }
        return Ok(sum);
    };
    let campaign = find(name)?;
    (campaign.run)(&options(campaign.short, false, &args[1..])?)
}

/// `./x night NAME [--count N] [--seed N]`: the long form, with a result file.
pub(crate) fn night(name: &str, args: &[String]) -> Result<Tally> {
    let campaign = find(name)?;
    (campaign.run)(&options(campaign.long, true, args)?)
}

fn find(name: &str) -> Result<&'static Campaign> {
    let names: Vec<_> = CAMPAIGNS.iter().map(|campaign| campaign.name).collect();
    let known = CAMPAIGNS.iter().find(|campaign| campaign.name == name);
    known.ok_or_else(|| format!("no campaign '{name}'; known are {}", names.join(", ")))
}

fn options(count: usize, keeps: bool, args: &[String]) -> Result<Extent> {
    let given = Options::read(args, &["--count", "--seed"])?;
    let count = given.get("--count", count)?.max(1);
    Ok(Extent { count, seed: given.get("--seed", SEED)?, keeps })
}

/// The programs of a campaign, copied: a build meanwhile does not change what is started again.
struct Programs {
    folder: PathBuf,
    throng: PathBuf,
    loadgen: PathBuf,
    /// The commit that they were built from.
    commit: String,
}

impl Programs {
    fn build() -> Result<Self> {
        let commit = results::commit()?;
        let built = [THRONG.build()?, LOADGEN.build()?];
        let folder = temporary_folder()?;
        let [throng, loadgen] = ["throng", "throng-loadgen"].map(|name| folder.join(name));
        for (from, to) in built.iter().zip([&throng, &loadgen]) {
            fs::copy(from, to).map_err(|error| format!("{}: {error}", to.display()))?;
        }
        Ok(Self { folder, throng, loadgen, commit })
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // What is left of them is under the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// SplitMix64: enough for choices, and the same on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Between two times in whole milliseconds.
    fn pause(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.below(most_ms - least_ms + 1))
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Asks again and again until it is so.
fn wait(what: &str, most: Duration, mut done: impl FnMut() -> bool) -> Result<Duration> {
    let begin = Instant::now();
    while !done() {
        if begin.elapsed() >= most {
            return Err(format!("not within {most:?}: {what}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let read = options(5, false, &words("--seed 9 --count 3")).expect("sound");
        assert_eq!((read.count, read.seed), (3, 9));
        assert!(
            options(5, false, &words("--seed")).is_err() && options(5, false, &words("--sed 1")).is_err()
        );
        assert!(find("kill").is_ok() && find("kil").is_err() && find("dup").is_ok());
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let draw = |seed| (0..5).map(|_| Rng(seed).below(1000)).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(Rng(7).next(), Rng(8).next());
        assert!((0..99).all(|n| (2..=4).contains(&Rng(n).pause(2, 4).as_millis())));
    }
}
