//! How a campaign ends: what broke it off, its result file, its tally.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Extent, Programs};
use crate::tally::Tally;
use crate::{Result, results};

/// Counts what ended a campaign early as a failure, and in the long form writes `docs/results/NAME.json`: `figures`, an
/// object, with seed, commit, duration and tally.
pub(super) fn end(
    name: &str,
    options: &Extent,
    programs: &Programs,
    begin: Instant,
    outcome: Result<()>,
    mut tally: Tally,
    figures: Value,
) -> Result<Tally> {
    if let Err(reason) = &outcome {
        println!("chaos: {reason}");
        tally += Tally::FAIL;
    }
    if options.keeps {
        let mut results = json!({
            "seed": options.seed, "built_from": programs.commit, "seconds": begin.elapsed().as_secs(),
            "passed": tally.passed, "failed": tally.failed, "ended_early": outcome.err(),
        });
        if let (Some(all), Value::Object(figures)) = (results.as_object_mut(), figures) {
            all.extend(figures);
        }
        results::write(name, results)?;
    }
    Ok(tally)
}
