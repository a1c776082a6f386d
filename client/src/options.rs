//! How to connect.

use std::path::PathBuf;
use std::time::Duration;

use throng_client_core::{Config, SavedState};

/// Which servers are trusted on `wss` and `quic`.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The operating system's certificates, from the places where Linux distributions keep them.
    #[default]
    System,
    /// The certificates in these PEM files, and no others.
    Files(Vec<PathBuf>),
}

/// Where to connect, as whom, and how to behave.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `ws://`, `wss://` or `quic://`, host and perhaps a port; tried in turn.
    pub endpoints: Vec<String>,
    /// The token.
    pub token: String,
    /// Whom to trust.
    pub roots: Roots,
    /// What an earlier run of this device saved. `None` = nothing; send ids then start at the wall clock in
    /// microseconds, so that they rise over restarts as long as the clock does.
    pub saved: Option<SavedState>,
    /// [`crate::Client::connect`] gives up after this long.
    pub connect_timeout: Duration,
    /// Events a subscription holds for a reader that is behind.
    pub subscription_capacity: usize,
    /// Behaviour of the machine.
    pub config: Config,
}

impl ClientOptions {
    /// Defaults for these endpoints and this token.
    pub fn new<U: Into<String>>(endpoints: impl IntoIterator<Item = U>, token: impl Into<String>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            token: token.into(),
            roots: Roots::default(),
            saved: None,
            connect_timeout: Duration::from_secs(15),
            subscription_capacity: 256,
            config: Config::default(),
        }
    }
}
