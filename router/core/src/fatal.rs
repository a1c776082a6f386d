//! Why a replica stops.

use throng_storage_core::state::StateError;
use throng_storage_core::store::{ApplyConfError, LogReadError};

use crate::entry::EntryError;
use crate::meta::Versions;

/// The replica must stop: going on would make it differ from the others, or serve what it cannot vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// An entry cannot be applied.
    Entry(EntryError),
    /// The state store failed; never retried.
    State(StateError),
    /// An entry cannot be read back from the log; never retried.
    Log(LogReadError),
    /// A change of members cannot be applied.
    Members(ApplyConfError),
    /// The cluster uses a version of the machines that this program does not speak.
    Version {
        /// What the cluster uses.
        open: u8,
        /// What this program speaks.
        speaks: Versions,
    },
    /// A row or a range of rows is not what was written.
    CorruptRow(&'static str),
}

impl Fatal {
    pub(crate) fn corrupt_row(field: &'static str) -> Self {
        Self::CorruptRow(field)
    }
}

impl core::fmt::Display for Fatal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Entry(error) => error.fmt(f),
            Self::State(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Members(error) => error.fmt(f),
            Self::Version { open, speaks: Versions { oldest, newest } } => write!(
                f,
                "the cluster uses version {open} of the machines and this program knows {oldest} to {newest}: it was upgraded, \
                 so install the newer program here too"
            ),
            Self::CorruptRow(field) => write!(f, "state row does not parse at {field}"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<EntryError> for Fatal {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<StateError> for Fatal {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<LogReadError> for Fatal {
    fn from(error: LogReadError) -> Self {
        Self::Log(error)
    }
}

impl From<ApplyConfError> for Fatal {
    fn from(error: ApplyConfError) -> Self {
        Self::Members(error)
    }
}
