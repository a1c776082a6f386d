//! The storage core: many Raft groups, the log's layout on disk and the contract of the state store. No I/O.
//!
//! ```text
//!  propose ─► Store (all Raft groups of a node) ─► Persist ─► driver writes + fsyncs ─► handle_persisted
//!                       │        ▲                                         │
//!                  Send │        │ handle_peer                             ▼
//!                       ▼        │                        Committed entries ─► the router's machines
//! ```
//!
//! What is absent: files, sockets, clocks, threads, RocksDB. See [`store`], [`log`] and [`state`].

pub mod entry;
pub mod log;
pub mod state;
pub mod store;
