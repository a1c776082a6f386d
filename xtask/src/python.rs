//! Python environments for foreign clients and conformance suites, cached beside the RocksDB library.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process::run;

/// Where things live that every clone may share: `x` uses the same rule.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    if let Some(path) = env::var_os("THRONG_CACHE") {
        return Ok(PathBuf::from(path).join("throng"));
    }
    if let Some(path) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(path).join("throng"));
    }
    let home = env::var_os("HOME").ok_or("HOME is not set, so there is no place for a cache")?;
    Ok(PathBuf::from(home).join(".cache/throng"))
}

/// The interpreter of an environment of Python 3 that holds exactly `packages`, made if it is missing.
pub(crate) fn environment(packages: &[&str]) -> Result<PathBuf> {
    made_once(&format!("python3-{}", packages.join("-")), |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(packages))
    })
    .map(|folder| folder.join("bin/python"))
}

/// A folder of the cache that `make` fills. A marker written last tells a finished one from a torn one.
pub(crate) fn made_once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache_dir()?.join(name);
    let marker = folder.join("complete");
    if !marker.exists() {
        eprintln!("./x: making {} (once)", folder.display());
        // A torn one cannot be trusted, and an environment cannot be moved after it was made.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        make(&folder)?;
        fs::write(&marker, "").map_err(|error| format!("{}: {error}", marker.display()))?;
    }
    Ok(folder)
}
