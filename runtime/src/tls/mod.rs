//! Mutual TLS between the processes of one cluster: TLS 1.3 only, one private authority, one name per certificate.
//!
//! ```text
//!   files ──► Credentials ──► PeerTls ── dial(expected), accept() ──► Session ──► FrameLink
//!              (checked)      (current)                             (ciphertext ⇄ plaintext)
//!   CertificateWatch ── files changed ──► PeerTls: new handshakes use the new ones
//! ```
//!
//! A certificate names exactly one member: `node-3.<cluster id>.throng` or `gateway.<cluster id>.throng`
//! ([`PeerName`]). Who dials knows which node it means and takes no other; who accepts takes any member of its cluster
//! and compares the name with the hello that follows. There are no tickets and no resumption: every link proves anew
//! that its certificate is good.

#[cfg(test)]
mod cost;
mod credentials;
mod name;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod watch;

pub use credentials::{CertificateLife, CredentialsError, PeerTls, PeerTlsFiles};
pub use name::{Expected, NameError, PeerKind, PeerName};
pub use session::{Session, TlsError};
pub use watch::{CertificateWatch, Look};
