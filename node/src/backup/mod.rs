//! `throng backup` and `throng restore`.
//!
//! ```text
//!   BACKUP/shard-00000.rows …   rows of one shard: snapshot chunks as nodes send them, one behind the other
//!   BACKUP/MANIFEST.json        what the backup is; written last, so that a backup without it is none
//! ```
//!
//! A backup is one view of a node's applied state, so every shard in it is as of one entry of its log: whatever was
//! acknowledged before it began and applied on that node is in it. A restore makes a new data directory whose shards
//! begin behind those entries, in a history epoch above the old one, so that no client goes on with a cursor from a
//! future that is gone.

mod manifest;
mod restore;
mod write;

pub(crate) use restore::run as restore;
pub(crate) use write::{Source, write};

use crate::cli::BackupArgs;
use crate::error::Failure;
use crate::status;

/// Asks a node for a backup; it writes into a directory on its own machine.
///
/// # Errors
/// [`Failure::Runtime`] if the node does not answer, or says why it could not.
pub(crate) fn run(args: &BackupArgs) -> Result<(), Failure> {
    let out = std::path::absolute(&args.out)
        .map_err(|e| Failure::runtime(format!("no such path: {}", args.out.display()), e))?;
    let body = status::post(args.ops, "/backup", &out.display().to_string(), args.timeout())?;
    print!("{body}");
    Ok(())
}
