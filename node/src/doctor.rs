//! `throng doctor`: what this machine allows, to be read beside every figure that was measured on it.

use std::path::PathBuf;

use crate::cli::DoctorArgs;
use crate::error::Failure;

/// Syncs that are timed.
const SAMPLES: usize = 2_000;

/// Measures and prints.
///
/// # Errors
/// [`Failure::Runtime`] if the directory cannot be written to.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let dir: PathBuf = args.dir.clone();
    let floor = throng_storage::fsync_floor(&dir, SAMPLES)
        .map_err(|e| Failure::runtime(format!("cannot write to {}", dir.display()), e))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("cores        {cores}");
    println!("descriptors  {} per process (each TCP session takes one)", throng_runtime::nofile_limit());
    println!(
        "fdatasync    of one 4 KiB block in {}: p50 {:?}, p99 {:?}, max {:?} ({} samples)",
        dir.display(),
        floor.p50,
        floor.p99,
        floor.max,
        floor.samples
    );
    Ok(())
}
