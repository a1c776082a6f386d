//! Counting checks: every runner ends in a [`Tally`], and tallies add up.

use std::fmt;
use std::ops::AddAssign;

/// How many checks passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) const PASS: Tally = Tally { passed: 1, failed: 0 };
    pub(crate) const FAIL: Tally = Tally { passed: 0, failed: 1 };

    /// One check and its outcome.
    pub(crate) fn one(passed: bool) -> Tally {
        if passed { Tally::PASS } else { Tally::FAIL }
    }

    /// Reads the closing line of one `cargo test` binary:
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn of_cargo_line(line: &str) -> Option<Tally> {
        let counts = line.trim_start().strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut parts = counts.split("; ");
        Some(Tally { passed: count(parts.next()?, "passed")?, failed: count(parts.next()?, "failed")? })
    }

    /// Reads the closing line of our own runners: `12 passed, 0 failed`.
    pub(crate) fn of_plain_line(line: &str) -> Option<Tally> {
        let (passed, failed) = line.trim().split_once(", ")?;
        Some(Tally { passed: count(passed, "passed")?, failed: count(failed, "failed")? })
    }

    /// A runner that died without counting a failure has failed once all the same, and one that counted
    /// nothing at all has checked nothing, which is a failure too.
    pub(crate) fn or_failed(self, exited_well: bool) -> Tally {
        let silent_death = !exited_well && self.failed == 0;
        let checked_nothing = self == Tally::default();
        Tally { failed: self.failed + u64::from(silent_death || checked_nothing), ..self }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// `"12 passed"` with unit `"passed"` is 12.
fn count(text: &str, unit: &str) -> Option<u64> {
    text.strip_suffix(unit)?.strip_suffix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_line_of_cargo_test() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Tally::of_cargo_line(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(Tally::of_cargo_line("test codec::round_trip ... ok"), None);
        assert_eq!(Tally::of_cargo_line("test result: ok"), None);
    }

    #[test]
    fn reads_what_it_prints() {
        let tally = Tally { passed: 7, failed: 1 };
        assert_eq!(Tally::of_plain_line(&tally.to_string()), Some(tally));
        assert_eq!(Tally::of_plain_line("7 passed, 1 failed, and more"), None);
        assert_eq!(Tally::of_plain_line("all 7 passed, 1 failed"), None);
    }

    #[test]
    fn a_silent_death_is_a_failure() {
        assert_eq!(Tally { passed: 4, failed: 0 }.or_failed(false), Tally { passed: 4, failed: 1 });
        assert_eq!(Tally { passed: 4, failed: 2 }.or_failed(false), Tally { passed: 4, failed: 2 });
        assert_eq!(Tally { passed: 4, failed: 0 }.or_failed(true), Tally { passed: 4, failed: 0 });
    }

    #[test]
    fn checking_nothing_is_a_failure() {
        assert_eq!(Tally::default().or_failed(true), Tally::FAIL);
    }
}
