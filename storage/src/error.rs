//! Why a data directory was not opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use throng_storage_core::log::LogError;

use crate::format::{FORMAT_VERSION, hex};

/// Why a data directory was not opened. Each displays as one sentence without a full stop. Nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses it.
    Locked(PathBuf),
    /// It is not empty and holds no Throng data.
    NotThrong(PathBuf),
    /// It is not there or empty, and was not to be created.
    Missing(PathBuf),
    /// Another version of Throng wrote it.
    OtherVersion {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It belongs to another cluster.
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        found: [u8; 16],
        /// The one asked for.
        wanted: [u8; 16],
    },
    /// It belongs to another node of the cluster.
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Its node.
        found: u64,
        /// The one asked for.
        wanted: u64,
    },
    /// It was formatted with another number of shards.
    OtherShards {
        /// The directory.
        dir: PathBuf,
        /// Its number.
        found: u32,
        /// The one asked for.
        wanted: u32,
    },
    /// Its FORMAT file is damaged.
    FormatDamaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The log lost synced data or is damaged. Replicas elsewhere still have it: wipe this one and let it join anew.
    LogCorrupt {
        /// The directory.
        dir: PathBuf,
        /// What and where.
        error: LogError,
    },
    /// Something that must be there is not.
    Incomplete {
        /// What is missing.
        path: PathBuf,
    },
    /// RocksDB refused.
    State(String),
    /// The options contradict themselves.
    Options(String),
    /// The operating system refused.
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(dir) => {
                write!(f, "the data directory {} is already locked by another process", dir.display())
            }
            Self::NotThrong(dir) => {
                write!(f, "{} is not empty and is not a Throng data directory", dir.display())
            }
            Self::Missing(dir) => write!(f, "there is no Throng data in {}", dir.display()),
            Self::OtherVersion { dir, found } => {
                let advice = if *found < FORMAT_VERSION {
                    "there is no conversion before 1.0: run the version that wrote it, or begin with an empty directory"
                } else {
                    "run the newer version that wrote it"
                };
                write!(
                    f,
                    "the data in {} has format version {found}, this program reads version {FORMAT_VERSION} ({advice})",
                    dir.display()
                )
            }
            Self::OtherCluster { dir, found, wanted } => write!(
                f,
                "the data in {} belongs to cluster {}, not to cluster {}",
                dir.display(),
                hex(found),
                hex(wanted)
            ),
            Self::OtherNode { dir, found, wanted } => {
                write!(f, "the data in {} belongs to node {found}, not to node {wanted}", dir.display())
            }
            Self::OtherShards { dir, found, wanted } => {
                write!(f, "the data in {} was formatted with {found} shards, not {wanted}", dir.display())
            }
            Self::FormatDamaged { dir, why } => {
                write!(f, "the FORMAT file in {} is damaged: {why}", dir.display())
            }
            Self::LogCorrupt { dir, error } => write!(
                f,
                "the log in {} is damaged and this replica must not start on it ({error})",
                dir.display()
            ),
            Self::Incomplete { path } => {
                write!(f, "the data directory is incomplete: {} is missing", path.display())
            }
            Self::State(why) => write!(f, "the state store does not open: {why}"),
            Self::Options(why) => f.write_str(why),
            Self::Io { doing, path, source } => write!(f, "cannot {doing} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::LogCorrupt { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Names what was tried when the operating system refuses.
pub(crate) trait Doing<T> {
    /// The error of a failed attempt to `doing` `path`.
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, OpenError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, OpenError> {
        self.map_err(|source| OpenError::Io { doing, path: path.to_owned(), source })
    }
}
