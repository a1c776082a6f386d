//! Settings of what is kept and how it is looked after: `[retention]` and `[scrub]`.

use std::time::Duration;

use serde::Deserialize;
use throng_router_core::machines::{Retention, RetentionRule};

use crate::error::Failure;

/// `[retention]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionSection {
    direct_age: Option<String>,
    direct_events: u64,
    group_age: Option<String>,
    group_events: u64,
    open_age: Option<String>,
    open_events: u64,
}

impl RetentionSection {
    /// What is kept, by class.
    ///
    /// # Errors
    /// [`Failure::Config`] naming an age that is none.
    pub(crate) fn resolve(&self) -> Result<Retention, Failure> {
        Ok(Retention {
            direct: rule("retention.direct_age", self.direct_age.as_deref(), self.direct_events)?,
            group: rule("retention.group_age", self.group_age.as_deref(), self.group_events)?,
            open: rule("retention.open_age", self.open_age.as_deref(), self.open_events)?,
        })
    }
}

fn rule(setting: &str, age: Option<&str>, events: u64) -> Result<RetentionRule, Failure> {
    let max_age_ms = match age.unwrap_or("0") {
        "0" => None,
        text => Some(milliseconds(text).ok_or_else(|| {
            Failure::Config(format!(
                "{setting} {text:?} is no age; say for instance \"30d\", \"12h\" or \"0\""
            ))
        })?),
    };
    Ok(RetentionRule { max_age_ms, max_events: (events > 0).then_some(events) })
}

/// A whole number of days, hours, minutes or seconds, above 0.
fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    number.checked_mul(seconds * 1_000)
}

/// `[scrub]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScrubSection {
    every_hours: Option<u64>,
    mb_per_second: Option<u64>,
}

/// When everything on disk is read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScrubPlan {
    /// From the end of one full scrub to the begin of the next; never without.
    pub(crate) every: Option<Duration>,
    /// Bytes per second that a scrub reads.
    pub(crate) bytes_per_second: u64,
}

impl ScrubSection {
    /// When to scrub.
    ///
    /// # Errors
    /// [`Failure::Config`] naming a number out of range.
    pub(crate) fn resolve(&self) -> Result<ScrubPlan, Failure> {
        let (hours, megabytes) = (self.every_hours.unwrap_or(168), self.mb_per_second.unwrap_or(20));
        if hours > 24 * 366 {
            return Err(Failure::Config("scrub.every_hours must lie between 0 (never) and 8784".into()));
        }
        if !(1..=10_000).contains(&megabytes) {
            return Err(Failure::Config("scrub.mb_per_second must lie between 1 and 10000".into()));
        }
        let every = (hours > 0).then(|| Duration::from_secs(hours * 3_600));
        Ok(ScrubPlan { every, bytes_per_second: megabytes * 1_000_000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        let day = 86_400_000;
        let good = [("30d", 30 * day), ("36h", 36 * 3_600_000), ("5m", 300_000), ("2s", 2_000)];
        for (text, expected) in good {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        for text in ["", "d", "0d", "30", "-1d", "1.5d", "30 d", "30\u{e4}", "99999999999999999d"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }
}
