//! A real `throng serve` for a check: every port 0, its own data directory, gone with the value.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;

/// Formatting a store and the first elections take a moment on a busy machine.
const READY_MAX: Duration = Duration::from_secs(60);

/// A running node.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    /// What it wrote once it took traffic.
    ready: Value,
}

impl Server {
    /// Starts `throng serve` with `args` besides what isolates it, and waits until it takes traffic.
    pub(crate) fn start(throng: &Path, args: &[&str]) -> Result<Server> {
        let folder = temporary_folder()?;
        let ready_file = folder.join("ready.json");
        let any = "127.0.0.1:0";
        let mut command = Command::new(throng);
        command.args(["serve", "--listen", any, "--peer-listen", any, "--ops-listen", any]);
        command.arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready_file).args(args);
        // What it has to complain about goes to its error output.
        let child = command
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", throng.display()))?;
        let mut server = Server { child, folder, ready: Value::Null };
        server.ready = server.wait_for(&ready_file)?;
        Ok(server)
    }

    /// An address it really bound, by its name in the ready file.
    pub(crate) fn address(&self, name: &str) -> Result<String> {
        let address = self.ready[name].as_str();
        address.map(str::to_owned).ok_or_else(|| format!("throng serve bound no '{name}': {}", self.ready))
    }

    /// Where its token key and its development certificate lie.
    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.join("data/keys")
    }

    /// Is it still running?
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn wait_for(&mut self, ready_file: &Path) -> Result<Value> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if let Ok(text) = fs::read_to_string(ready_file) {
                return serde_json::from_str(&text).map_err(|error| format!("ready file: {error}"));
            }
            if !self.is_alive() {
                return Err("throng serve ended before it was ready; its last lines say why".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("throng serve was not ready within {READY_MAX:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder of this process; the process id and a counter make it unique.
pub(crate) fn temporary_folder() -> Result<PathBuf> {
    static COUNTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("throng-xtask-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}
