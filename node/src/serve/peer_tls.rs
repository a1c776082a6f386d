//! The credentials of this process for peer links: loaded at start, taken over when they are renewed.

use std::time::{Duration, Instant};

use throng_runtime::tls::{CertificateWatch, Look, PeerKind, PeerTls};
use throng_runtime::unix_millis;

use crate::config::Config;
use crate::error::Failure;

/// How often the files are looked at; SIGHUP makes it at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often an ending certificate is complained about.
const WARN_EVERY: Duration = Duration::from_secs(3600);

/// The files and when they are looked at next; nothing to do for a process without any.
pub(crate) struct Certificates {
    watch: Option<CertificateWatch>,
    look_at: Instant,
    warn_at: Instant,
}

impl Certificates {
    /// Loads what the configuration names.
    ///
    /// # Errors
    /// [`Failure::Config`]: a file cannot be used, or the certificate is of somebody else.
    pub(crate) fn load(config: &Config) -> Result<Self, Failure> {
        let files = config.peer_tls.clone();
        let unusable = |error| Failure::Config(format!("peer TLS: {error}"));
        let watch = files.map(CertificateWatch::new).transpose().map_err(unusable)?;
        if let Some(name) = watch.as_ref().map(|watch| watch.tls().name()) {
            let fits = match name.kind {
                PeerKind::Node(node) => config.router && (node == config.node || !config.is_numbered),
                PeerKind::Gateway => !config.router,
            };
            if !fits {
                let role = if config.router { format!("node {}", config.node) } else { "a gateway".into() };
                return Err(Failure::Config(format!("peer_cert is of {name}, this process is {role}")));
            }
        }
        let now = Instant::now();
        let mut certificates = Self { watch, look_at: now + LOOK_EVERY, warn_at: now };
        certificates.warn(now);
        Ok(certificates)
    }

    pub(crate) fn tls(&self) -> Option<PeerTls> {
        self.watch.as_ref().map(|watch| watch.tls().clone())
    }

    /// Looks at the files when it is time, and complains when renewal is due.
    pub(crate) fn handle_timeout(&mut self) {
        let now = Instant::now();
        if now >= self.look_at {
            self.look();
        }
        if now >= self.warn_at {
            self.warn(now);
        }
    }

    /// Looks at the files.
    pub(crate) fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        let Some(watch) = &mut self.watch else { return };
        match watch.look() {
            Look::Unchanged => {}
            Look::Reloaded => {
                let life = watch.tls().life();
                tracing::info!(not_after_unix = life.not_after, "peer certificate renewed");
            }
            Look::Refused(error) => {
                tracing::warn!(%error, "peer certificate changed and cannot be used, keeping the old one");
            }
        }
    }

    fn warn(&mut self, now: Instant) {
        self.warn_at = now + WARN_EVERY;
        let Some(life) = self.watch.as_ref().map(|watch| watch.tls().life()) else { return };
        let now_unix = unix_millis() / 1000;
        if life.is_ending(now_unix) {
            let seconds_left = life.left(now_unix);
            tracing::warn!(seconds_left, "the peer certificate ends soon: renew it (throng cluster certs)");
        }
    }
}
