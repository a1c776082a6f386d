//! How a run ends.

use std::process::ExitCode;

/// Exit codes; documented, so they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: every check held and every objective was met.
    Passed,
    /// 1: the command line or a file it names is wrong.
    Usage,
    /// 2: the run could not begin.
    Preflight,
    /// 3: correct, but an objective was missed.
    Objective,
    /// 4: a promise of the contract was broken.
    Incorrect,
    /// 5: the target went away and stayed away.
    TargetLost,
    /// 6: the generator could not keep its schedule; the result is void.
    Saturated,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Usage => 1,
            Self::Preflight => 2,
            Self::Objective => 3,
            Self::Incorrect => 4,
            Self::TargetLost => 5,
            Self::Saturated => 6,
            Self::Interrupted => 130,
        }
    }

    /// The word in the report.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Usage => "usage",
            Self::Preflight => "preflight",
            Self::Objective => "objective_missed",
            Self::Incorrect => "incorrect",
            Self::TargetLost => "target_lost",
            Self::Saturated => "generator_saturated",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a run ended before it had a result.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    pub(crate) fn preflight(text: impl Into<String>) -> Self {
        Self { exit: Exit::Preflight, text: text.into() }
    }
}
