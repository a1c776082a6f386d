//! The certificate for wss and QUIC: given by path, or a development certificate made once below the keys directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::identity::write_private;

/// File of the development certificate below the keys directory; clients of this machine trust it by this path.
pub(crate) const DEV_CERT_FILE: &str = "dev-cert.pem";
const DEV_KEY_FILE: &str = "dev-key.pem";

/// Paths of certificate chain and key: the configured ones, or the development ones (valid for `localhost`, 127.0.0.1
/// and ::1 only), which are made at first use.
///
/// # Errors
/// [`Failure::Runtime`] if the development certificate cannot be made.
pub(crate) fn paths(
    configured: Option<&(PathBuf, PathBuf)>,
    keys: &Path,
) -> Result<(PathBuf, PathBuf), Failure> {
    if let Some(configured) = configured {
        return Ok(configured.clone());
    }
    let (chain, key) = (keys.join(DEV_CERT_FILE), keys.join(DEV_KEY_FILE));
    if !chain.exists() || !key.exists() {
        make(&chain, &key, keys)?;
    }
    Ok((chain, key))
}

fn make(chain: &Path, key: &Path, keys: &Path) -> Result<(), Failure> {
    fs::create_dir_all(keys).map_err(|e| Failure::runtime(format!("cannot make {}", keys.display()), e))?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|e| Failure::runtime("cannot make a development certificate", e))?;
    write_private(key, made.signing_key.serialize_pem().as_bytes())?;
    write_private(chain, made.cert.pem().as_bytes())
}
