//! What the suite says about each case, and how it is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::tally::Tally;

pub(super) const AGENT: &str = "throng";

/// Cases without compression, and how many of them only inform (7.1.6, 7.13.1, 7.13.2: the suite judges nothing).
const CASES: usize = 301;
const INFORMATIONAL: usize = 3;

/// Verdict on the messages and on the closing handshake, by case.
pub(super) struct Verdicts {
    by_case: BTreeMap<CaseId, [String; 2]>,
}

/// `7.13.2` as numbers, so that 2 comes before 10.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct CaseId(Vec<u32>);

impl Verdicts {
    pub(super) fn read(index: &Path) -> Result<Verdicts> {
        let text = fs::read_to_string(index).map_err(|error| format!("{}: {error}", index.display()))?;
        let json = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", index.display()))?;
        Verdicts::of(&json)
    }

    fn of(json: &Value) -> Result<Verdicts> {
        let cases = json[AGENT].as_object().ok_or("the suite's index has no verdicts about us")?;
        let word = |case: &Value, name: &str| case[name].as_str().unwrap_or("missing").to_owned();
        let by_case = cases
            .iter()
            .map(|(id, case)| (CaseId::of(id), [word(case, "behavior"), word(case, "behaviorClose")]))
            .collect();
        Ok(Verdicts { by_case })
    }

    /// A case passes if messages and closing are each right or only informational. A `complete` run must also have
    /// all cases with the known number of informational ones: a suite that judged less has not passed us.
    pub(super) fn tally(&self, complete: bool) -> Tally {
        let (good, bad): (Vec<_>, Vec<_>) = self.by_case.values().partition(|verdict| is_good(verdict));
        let all = self.by_case.len() == CASES && self.count("INFORMATIONAL") == INFORMATIONAL;
        let failed = bad.len() as u64 + u64::from(complete && bad.is_empty() && !all);
        Tally { passed: good.len() as u64, failed }
    }

    fn count(&self, behaviour: &str) -> usize {
        self.by_case.values().filter(|[messages, _]| messages == behaviour).count()
    }

    /// One line with the counts, and one for each case that is not right.
    pub(super) fn summary(&self) -> String {
        let mut text = format!("{} cases:", self.by_case.len());
        for (behaviour, count) in self.counts() {
            write!(text, " {count} {behaviour}").expect("writing to a String cannot fail");
        }
        for (case, verdict) in self.by_case.iter().filter(|(_, verdict)| !is_good(verdict)) {
            write!(text, "\n  {case}: {}, closing {}", verdict[0], verdict[1]).expect("as above");
        }
        text
    }

    fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::from([("OK", 0), ("INFORMATIONAL", 0), ("NON-STRICT", 0), ("FAILED", 0)]);
        for [messages, _] in self.by_case.values() {
            *counts.entry(messages.as_str()).or_default() += 1;
        }
        counts
    }

    /// Writes `autobahn.md` and `autobahn.json` without times or dates, so that they change only with a verdict.
    pub(super) fn keep(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        write("autobahn.json", self.index())?;
        write("autobahn.md", self.page())
    }

    fn index(&self) -> String {
        let lines: Vec<String> = self
            .by_case
            .iter()
            .map(|(case, [messages, closing])| format!("  \"{case}\": [\"{messages}\", \"{closing}\"]"))
            .collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }

    fn page(&self) -> String {
        let mut text = format!(
            "# Autobahn TestSuite\n\n\
             Written by `./x autobahn`: autobahntestsuite 25.10.1, mode `fuzzingclient`, against the echo listener of\n\
             `throng serve --ws-echo`, which uses the gateway's own codec. All {} cases without compression; groups 12\n\
             and 13 (`permessage-deflate`) are left out because Throng does not negotiate it. Every verdict, on the\n\
             messages and on the closing handshake, is in [autobahn.json](autobahn.json).\n\n\
             | Verdict | Cases |\n|---|--:|\n",
            self.by_case.len()
        );
        for (behaviour, count) in self.counts() {
            writeln!(text, "| {behaviour} | {count} |").expect("writing to a String cannot fail");
        }
        let informational: Vec<String> = self
            .by_case
            .iter()
            .filter(|(_, [messages, _])| messages == "INFORMATIONAL")
            .map(|(case, _)| case.to_string())
            .collect();
        write!(text, "\nInformational, not judged by the suite: {}.\n", informational.join(", "))
            .expect("writing to a String cannot fail");
        text
    }
}

fn is_good(verdict: &[String; 2]) -> bool {
    verdict.iter().all(|word| word == "OK" || word == "INFORMATIONAL")
}

impl CaseId {
    fn of(text: &str) -> CaseId {
        CaseId(text.split('.').map(|part| part.parse().unwrap_or(0)).collect())
    }
}

impl std::fmt::Display for CaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` cases that are right, of which three only inform.
    fn verdicts(count: u32) -> Verdicts {
        let behaviour = |case: u32| if case < 3 { "INFORMATIONAL" } else { "OK" };
        let row = |case| (CaseId(vec![1, case]), [behaviour(case).to_owned(), "OK".to_owned()]);
        Verdicts { by_case: (0..count).map(row).collect() }
    }

    #[test]
    fn a_complete_run_has_every_case() {
        assert_eq!(verdicts(301).tally(true), Tally { passed: 301, failed: 0 });
        assert_eq!(verdicts(300).tally(true), Tally { passed: 300, failed: 1 });
        assert_eq!(verdicts(5).tally(false), Tally { passed: 5, failed: 0 });
    }

    #[test]
    fn nothing_but_right_and_informational_passes() {
        for word in ["NON-STRICT", "FAILED", "UNIMPLEMENTED", "missing"] {
            let mut all = verdicts(301);
            all.by_case.insert(CaseId(vec![1, 7]), [word.to_owned(), "OK".to_owned()]);
            assert_eq!(all.tally(true), Tally { passed: 300, failed: 1 }, "{word}");
        }
        let mut all = verdicts(301);
        all.by_case.insert(CaseId(vec![1, 7]), ["OK".to_owned(), "UNCLEAN".to_owned()]);
        assert_eq!(all.tally(true).failed, 1);
    }

    #[test]
    fn cases_are_in_numeric_order() {
        let json = serde_json::json!({AGENT: {"1.10": {"behavior": "OK", "behaviorClose": "OK"}, "1.2": {}}});
        let verdicts = Verdicts::of(&json).expect("has our agent");
        assert!(verdicts.index().find("1.2").expect("there") < verdicts.index().find("1.10").expect("there"));
        assert_eq!(verdicts.tally(false), Tally { passed: 1, failed: 1 });
    }
}
