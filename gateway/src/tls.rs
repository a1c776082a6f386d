//! TLS set-up shared by TCP and QUIC: TLS 1.3 only, one provider (ring), no early data, no client certificates.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, version};

/// ALPN of frames on a QUIC stream.
pub const ALPN_QUIC: &[u8] = b"throng/1";

/// ALPN offered over TCP: WebSocket begins as HTTP/1.1.
pub const ALPN_TCP: &[u8] = b"http/1.1";

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug)]
pub enum CertificateError {
    /// A file cannot be read or is no PEM.
    Pem(pem::Error),
    /// The chain is empty.
    NoCertificate,
    /// Chain and key do not fit, or the key is of an unknown kind.
    Rustls(rustls::Error),
}

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pem(_) => "the PEM file cannot be read",
            Self::NoCertificate => "the certificate file holds no certificate",
            Self::Rustls(_) => "certificate and key cannot be used",
        })
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pem(error) => Some(error),
            Self::NoCertificate => None,
            Self::Rustls(error) => Some(error),
        }
    }
}

impl From<rustls::Error> for CertificateError {
    fn from(error: rustls::Error) -> Self {
        Self::Rustls(error)
    }
}

impl Certificate {
    /// From its parts.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// From PEM files.
    ///
    /// # Errors
    /// [`CertificateError`]; whether chain and key fit shows when a configuration is made.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let certificates = CertificateDer::pem_file_iter(chain).map_err(CertificateError::Pem)?;
        let chain: Vec<_> = certificates.collect::<Result<_, _>>().map_err(CertificateError::Pem)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        Ok(Self { chain, key: PrivateKeyDer::from_pem_file(key).map_err(CertificateError::Pem)? })
    }

    /// The configuration for WebSocket over TLS.
    ///
    /// # Errors
    /// Chain and key do not fit.
    pub fn tcp_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        Ok(Arc::new(self.server_config(ALPN_TCP)?))
    }

    /// The configuration for QUIC, with Throng's transport settings.
    ///
    /// # Errors
    /// Chain and key do not fit.
    pub fn quic_config(&self) -> Result<quinn::ServerConfig, CertificateError> {
        crate::quic::server_config(self.server_config(ALPN_QUIC)?)
    }

    fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        // SPEC W-QUIC-5: 0-RTT can be replayed (RFC 8446 §8), and our first frame is an AUTH.
        assert_eq!(config.max_early_data_size, 0, "rustls accepts no early data by default");
        Ok(config)
    }
}
