//! The log's bytes: segments, commits, records, and their recovery. Pure; the driver moves the bytes.
//!
//! ```text
//!  Record (hard state + entries of one group)      many of them
//!        │ commit::encode                               │ recover::Recovery ─► contents::Contents ─► hard states, Index
//!        ▼                                              │
//!  commit: whole 4 KiB blocks, one checksum  ─►  segment files ─┘
//! ```
//!
//! One commit is one group commit: one write, one fdatasync. [`layout`] has the picture of the bytes,
//! `docs/internals/log.md` the recovery procedure. [`append::Appender`] decides where the next commit goes, so that
//! every driver (plain thread, io_uring, simulator) writes the same bytes at the same place.
//!
//! [`segments::Segments`] knows where the log begins; [`contents::Contents`] which segments are still needed and what must
//! be written again before the oldest may be recycled.
//!
//! What is absent: files, threads, fsync.

pub mod append;
pub mod commit;
pub mod contents;
mod group;
pub mod index;
pub mod layout;
pub mod limits;
pub mod record;
pub mod recover;
pub mod segments;

#[cfg(test)]
mod begin_tests;
#[cfg(test)]
mod tests;

pub use append::{Appender, Staged, TooLarge};
pub use contents::Contents;
pub use index::{Place, Places};
pub use layout::{BLOCK, CommitNo, Generation, LogId, SegmentHeader};
pub use recover::{Fault, LogEnd, LogError, Recovered, Recovery, Tail};
pub use segments::{Begin, SegmentStart, Segments};

pub use crate::entry::{Entry, EntryKind, HardState, Record};
