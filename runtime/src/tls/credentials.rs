//! Certificate, key and authority, read from files and checked before anybody relies on them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig, version};

use super::session::reason;
use super::verify::{AnswerVerifier, CallerVerifier};
use super::{Expected, NameError, PeerName, Session};

/// Where the credentials of a process are (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTlsFiles {
    /// This process's certificate, then its intermediates.
    pub certificate: PathBuf,
    /// Its private key; may be the same file.
    pub key: PathBuf,
    /// The authorities whose certificates are believed; two while the authority is being changed.
    pub authorities: PathBuf,
}

/// From when until when a certificate is good, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateLife {
    /// First second.
    pub not_before: u64,
    /// Last second.
    pub not_after: u64,
}

/// Why credentials are not used.
#[derive(Debug)]
pub enum CredentialsError {
    /// A file cannot be read or is no PEM of the kind.
    Unreadable(PathBuf, String),
    /// The certificate names no member.
    Name(PathBuf, NameError),
    /// Certificate and key do not fit, or the authority did not sign, or not for both directions.
    Unusable(PathBuf, Error),
    /// The certificate's time is over or has not come.
    OutOfDate(PathBuf, CertificateLife),
    /// New files name another member than the process runs as.
    Renamed(PathBuf, PeerName),
}

/// The credentials of a process for its peer links; a handle to what is current, shared by all its loops. The lock
/// around it is held for the copy of one pointer, once per handshake.
#[derive(Clone, Debug)]
pub struct PeerTls(Arc<Mutex<Arc<Credentials>>>);

/// One state of the files, ready for handshakes.
#[derive(Debug)]
pub(super) struct Credentials {
    name: PeerName,
    life: CertificateLife,
    dial: Arc<ClientConfig>,
    accept: Arc<ServerConfig>,
}

impl PeerTls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`CredentialsError`] naming the file.
    pub fn load(files: &PeerTlsFiles) -> Result<Self, CredentialsError> {
        Ok(Self(Arc::new(Mutex::new(Arc::new(Credentials::load(files)?)))))
    }

    fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Later handshakes use what the files say.
    pub(super) fn reload(&self, files: &PeerTlsFiles) -> Result<(), CredentialsError> {
        let fresh = Credentials::load(files)?;
        if fresh.name != self.name() {
            return Err(CredentialsError::Renamed(files.certificate.clone(), fresh.name));
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// Who we are.
    pub fn name(&self) -> PeerName {
        self.current().name
    }

    /// How long the current certificate is good.
    pub fn life(&self) -> CertificateLife {
        self.current().life
    }

    /// The session of a link that we dial.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn dial(&self, expected: Expected) -> Result<Session, Error> {
        let current = self.current();
        Session::dial(Arc::clone(&current.dial), &expected.dns_name(current.name.cluster))
    }

    /// The session of a link that we accepted.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn accept(&self) -> Result<Session, Error> {
        Session::accept(Arc::clone(&self.current().accept))
    }
}

impl CertificateLife {
    /// Seconds until it ends; 0 if it has.
    pub fn left(&self, now_unix: u64) -> u64 {
        self.not_after.saturating_sub(now_unix)
    }

    /// Whether less than a fifth of its life is left: time to renew.
    pub fn is_ending(&self, now_unix: u64) -> bool {
        self.left(now_unix) < self.not_after.saturating_sub(self.not_before) / 5
    }
}

impl Credentials {
    fn load(files: &PeerTlsFiles) -> Result<Self, CredentialsError> {
        let at = &files.certificate;
        let unusable = |error| CredentialsError::Unusable(at.clone(), error);
        let chain = certificates(at)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|e| CredentialsError::Unreadable(files.key.clone(), e.to_string()))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.authorities)? {
            let bad = |error| CredentialsError::Unusable(files.authorities.clone(), error);
            roots.add(authority).map_err(bad)?;
        }
        let own = chain.first().expect("a file without a certificate was refused");
        let name = PeerName::of_certificate(own).map_err(|e| CredentialsError::Name(at.clone(), e))?;
        let parts = Parts { provider: Arc::new(ring::default_provider()), roots: Arc::new(roots), name };
        let life = parts.life(&chain).map_err(unusable)?;
        if !(life.not_before..=life.not_after).contains(&UnixTime::now().as_secs()) {
            return Err(CredentialsError::OutOfDate(at.clone(), life));
        }
        parts
            .callers()
            .and_then(|v| v.verify_client_cert(own, &chain[1..], UnixTime::now()))
            .map_err(unusable)?;
        let dial = parts.dial(chain.clone(), key.clone_key()).map_err(unusable)?;
        let accept = parts.accept(chain, key).map_err(unusable)?;
        Ok(Self { name, life, dial: Arc::new(dial), accept: Arc::new(accept) })
    }
}

/// What configurations are made from.
pub(super) struct Parts {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) name: PeerName,
}

impl Parts {
    /// The life of the first certificate, from the verifier itself: it is asked at a time when the certificate cannot
    /// be good yet and at one when it cannot be any more, and says why it is not.
    fn life(&self, chain: &[CertificateDer<'_>]) -> Result<CertificateLife, Error> {
        let own = ParsedCertificate::try_from(&chain[0])?;
        let at = |seconds| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&own, &self.roots, &chain[1..], now, algorithms)
        };
        let not_before = match at(0) {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                not_before
            }
            Err(error) => return Err(error),
            Ok(()) => UnixTime::since_unix_epoch(Duration::ZERO),
        };
        match at(UnixTime::now().as_secs()) {
            Err(Error::InvalidCertificate(
                CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. },
            ))
            | Ok(()) => {}
            Err(error) => return Err(error), // another authority's, or not for servers
        }
        match at(u64::MAX) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Ok(CertificateLife { not_before: not_before.as_secs(), not_after: not_after.as_secs() })
            }
            Err(error) => Err(error),
            Ok(()) => Ok(CertificateLife { not_before: not_before.as_secs(), not_after: u64::MAX }),
        }
    }

    fn callers(&self) -> Result<CallerVerifier, Error> {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(&self.provider));
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(CallerVerifier { cluster: self.name.cluster, chain })
    }

    pub(super) fn dial(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ClientConfig, Error> {
        let verifier = AnswerVerifier {
            cluster: self.name.cluster,
            roots: Arc::clone(&self.roots),
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous() // rustls's word for a verifier of one's own; ours checks more than the stock one
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)?;
        config.resumption = Resumption::disabled();
        config.enable_sni = false; // the name is for our own check; the other side has one certificate
        Ok(config)
    }

    pub(super) fn accept(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(self.callers()?))
            .with_single_cert(chain, key)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        assert_eq!(config.max_early_data_size, 0, "rustls accepts no early data by default");
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let unreadable = |what: String| CredentialsError::Unreadable(path.to_owned(), what);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(error.to_string()))?;
    if found.is_empty() { Err(unreadable("it holds no certificate".to_owned())) } else { Ok(found) }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, what) => write!(f, "cannot use {}: {what}", path.display()),
            Self::Name(path, error) => write!(f, "cannot use {}: {error}", path.display()),
            Self::Unusable(path, error) => write!(f, "cannot use {}: {}", path.display(), reason(error)),
            Self::OutOfDate(path, CertificateLife { not_before, not_after }) => write!(
                f,
                "cannot use {}: it is good from {not_before} to {not_after} (Unix seconds); renew it",
                path.display()
            ),
            Self::Renamed(path, name) => {
                write!(
                    f,
                    "cannot use {}: it is of {name}, and a running process keeps its name",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for CredentialsError {}
