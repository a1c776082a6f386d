//! Where objects rest: keys, rows, the cache of decoded objects with write-behind.
//!
//! ```text
//!   apply ─► object in memory (dirty) ─► cut: rows of all dirty objects + applied index of every shard ─► one batch
//!                 ▲                                                                                        │
//!                 └── StateRead, when it is not in memory ◄── state store ◄── written and flushed ◄────────┘
//! ```
//!
//! An object is encoded when a batch is cut, not when it changes: a channel with a thousand sends between two batches
//! costs one head row.

pub(crate) mod batch;
pub(crate) mod cache;
pub(crate) mod keys;
pub(crate) mod recent;
pub mod snapshot;

pub use keys::PREFIX_LEN;
