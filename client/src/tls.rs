//! TLS: whom to trust, one provider.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::options::Roots;

/// ALPN of the QUIC transport.
pub(crate) const ALPN_QUIC: &[u8] = b"throng/1";

/// Where Linux distributions keep their bundles.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A client configuration that trusts `roots`, TLS 1.3 only, offering `alpn`.
pub(crate) fn client_config(roots: &Roots, alpn: Option<&[u8]>) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(store(roots)?).with_no_client_auth();
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    Ok(Arc::new(config))
}

fn store(roots: &Roots) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
            if let Some(bundle) = bundle {
                add(&mut store, bundle)?;
            }
        }
        Roots::Files(files) => files.iter().try_for_each(|file| add(&mut store, file))?,
    }
    Ok(store)
}

fn add(store: &mut RootCertStore, file: &Path) -> io::Result<()> {
    let named = |error: &dyn core::fmt::Display| io::Error::other(format!("{}: {error}", file.display()));
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| named(&error))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let (added, _) = store.add_parsable_certificates(certificates.map_err(|error| named(&error))?);
    if added == 0 {
        return Err(named(&"no certificate in it"));
    }
    Ok(())
}
