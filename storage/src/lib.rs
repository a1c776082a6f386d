//! Drivers of the store: log files, RocksDB, their worker threads, and the data directory that holds both.
//!
//! ```text
//!  router loop ── Persist{token, records} ─► LogWriter ── one padded write + fdatasync ─► Report::Durable(token)
//!       │                                        └─► LogReader: older entries, for followers that are behind
//!       └──────── Flush{token, batch} ─────► Flusher ─── write, later one atomic flush ─► Report::Durable(token)
//!                                                └─► RocksState: reads of the router loop
//!
//!  DIR/LOCK      held while a process uses DIR          DIR/log/0000000001.log …   segments
//!  DIR/FORMAT    cluster, node, shards, version         DIR/state/                 RocksDB
//!  DIR/RESERVE   room that is given up when the disk is full
//! ```
//!
//! [`open`] locks, checks and recovers a data directory; nothing in it is changed if anything is wrong. The layout of
//! the log is `throng_storage_core::log`; here are only files and threads. After a failed write or sync a thread
//! reports [`Report::Fatal`] and does nothing more: whether a failed fsync lost data cannot be found out by asking
//! again.
//!
//! Shut down in this order: stop whoever submits, drop [`LogWriter`] and [`Flusher`] (they finish what is queued), then
//! [`RocksState`] clones; the last one closes RocksDB, and the last of all of them gives up the directory's lock.

mod background;
mod durable;
mod error;
mod floor;
mod flush;
mod format;
mod import;
pub mod limits;
mod lock;
pub mod log;
mod open;
mod report;
mod reserve;
mod space;
mod state;

pub use error::OpenError;
pub use floor::{Floor, fsync_floor};
pub use flush::{FlushPolicy, Flusher};
pub use format::{FORMAT_VERSION, Format, read_format};
pub use import::Importer;
pub use lock::DataLock;
pub use log::{Log, LogConfig, LogDriver, LogReader, LogScrub, LogWriter};
pub use open::{OpenOptions, Opened, open};
pub use report::{Report, SubmitError};
pub use space::{Space, SpaceWatch};
pub use state::{Pressure, RocksState, Scrub, StateConfig, View};
