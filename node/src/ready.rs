//! What a node says once it takes traffic.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Addresses really bound, as `--ready-file` and `/status` show them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Process id.
    pub(crate) pid: u32,
    /// Node number.
    pub(crate) node: u64,
    /// Clients over WebSocket (TCP).
    pub(crate) websocket: Option<SocketAddr>,
    /// Clients over QUIC (UDP).
    pub(crate) quic: Option<SocketAddr>,
    /// Other nodes.
    pub(crate) peer: Option<SocketAddr>,
    /// Health and status.
    pub(crate) ops: SocketAddr,
    /// WebSocket echo.
    pub(crate) ws_echo: Option<SocketAddr>,
}

impl Ready {
    /// Writes the file in one piece, so that whoever waits for it never reads half of it.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::runtime(format!("cannot write {}", path.display()), e);
        let text = serde_json::to_string_pretty(self).expect("plain fields always serialize");
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, text + "\n").map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)
    }

    /// Waits until the file is there and reads it.
    ///
    /// # Errors
    /// [`Failure::Runtime`] once `timeout` has passed or `alive` says that its writer has ended.
    pub(crate) fn wait(
        path: &Path,
        timeout: std::time::Duration,
        mut alive: impl FnMut() -> bool,
    ) -> Result<Self, Failure> {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            if let Ok(text) = std::fs::read_to_string(path) {
                return serde_json::from_str(&text)
                    .map_err(|e| Failure::runtime(format!("{} is malformed", path.display()), e));
            }
            if !alive() {
                return Err(Failure::Runtime(
                    "the node ended before it was ready; its last lines say why".into(),
                ));
            }
            if std::time::Instant::now() >= deadline {
                return Err(Failure::Runtime(format!(
                    "{} did not appear within {timeout:?}",
                    path.display()
                )));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
