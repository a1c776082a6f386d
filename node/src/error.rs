//! Failures of the command line: one clear sentence and an exit code.

use std::fmt;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A setting or argument is wrong (exit 2).
    Config(String),
    /// Something the command needed is not as it should be: a port in use, a data directory of another cluster, a
    /// server that does not answer (exit 1).
    Runtime(String),
}

impl Failure {
    /// A runtime failure: what happened to what.
    pub(crate) fn runtime(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Runtime(format!("{what}: {error}"))
    }

    /// Exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Runtime(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) => write!(f, "configuration: {text}"),
            Self::Runtime(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}
