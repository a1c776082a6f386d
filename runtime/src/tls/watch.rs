//! Looks whether credentials were renewed, so that a process need not be restarted for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{CredentialsError, PeerTls, PeerTlsFiles};

/// What a look came to.
#[derive(Debug)]
pub enum Look {
    /// The files are those that are in use, or those that were refused already.
    Unchanged,
    /// Handshakes from here on use the new ones.
    Reloaded,
    /// The files changed and cannot be used; the old credentials stay. Said once per change, tried at every look.
    Refused(CredentialsError),
}

/// When a file was written, and which file it is: renewal by renaming keeps neither.
type Stamp = Option<(u64, i64, i64, u64)>;

/// Watches the files of a [`PeerTls`].
#[derive(Debug)]
pub struct CertificateWatch {
    tls: PeerTls,
    files: PeerTlsFiles,
    used: [Stamp; 3],
    refused: Option<[Stamp; 3]>,
}

impl CertificateWatch {
    /// Loads the files and watches them from then on.
    ///
    /// # Errors
    /// [`CredentialsError`]: they cannot be used.
    pub fn new(files: PeerTlsFiles) -> Result<Self, CredentialsError> {
        let used = stamps(&files); // before the read: a change in between is seen as one
        let tls = PeerTls::load(&files)?;
        Ok(Self { tls, files, used, refused: None })
    }

    /// The credentials; clones follow every reload.
    pub fn tls(&self) -> &PeerTls {
        &self.tls
    }

    /// Looks at the files and takes over what changed. Reads small files, which is nothing for a loop of sessions.
    pub fn look(&mut self) -> Look {
        let found = stamps(&self.files);
        if found == self.used {
            return Look::Unchanged;
        }
        match self.tls.reload(&self.files) {
            Ok(()) => {
                (self.used, self.refused) = (found, None);
                Look::Reloaded
            }
            Err(_) if self.refused == Some(found) => Look::Unchanged,
            Err(error) => {
                self.refused = Some(found);
                Look::Refused(error)
            }
        }
    }
}

fn stamps(files: &PeerTlsFiles) -> [Stamp; 3] {
    [&files.certificate, &files.key, &files.authorities].map(|path| stamp(path))
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}
