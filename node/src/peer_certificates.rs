//! Certificates for the links between processes of a local cluster, signed by an authority of its own.
//!
//! ```text
//!   keys/peer-ca.pem, peer-ca-key.pem     the authority; the key is needed to issue, not to run
//!   keys/node-1.pem, node-1-key.pem  …    one per node
//!   keys/gateway.pem, gateway-key.pem     for gateways of other processes
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use throng_runtime::tls::{PeerKind, PeerName, PeerTlsFiles};
use throng_runtime::unix_millis;
use throng_wire::{ChannelId, NodeId};

use crate::error::Failure;
use crate::identity::write_private;

const CA_FILE: &str = "peer-ca.pem";
const CA_KEY_FILE: &str = "peer-ca-key.pem";

/// The life of a certificate unless told otherwise, days.
pub(crate) const DAYS_DEFAULT: u64 = 30;

/// How long the authority is good, days: its key never leaves the directory, and changing it means two authorities at a
/// time (docs/security.md).
const CA_DAYS: u64 = 3650;

/// Certificates are good from a little earlier on, for clocks that are behind.
const SKEW: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(86_400);

/// The files of one member below the keys directory.
pub(crate) fn files(keys: &Path, member: PeerKind) -> PeerTlsFiles {
    let stem = match member {
        PeerKind::Node(node) => format!("node-{node}"),
        PeerKind::Gateway => "gateway".to_owned(),
    };
    PeerTlsFiles {
        certificate: keys.join(format!("{stem}.pem")),
        key: keys.join(format!("{stem}-key.pem")),
        authorities: keys.join(CA_FILE),
    }
}

/// Issues certificates for all nodes and for gateways, making the authority at first use.
///
/// # Errors
/// [`Failure::Runtime`] naming the file that cannot be read or written.
pub(crate) fn issue(keys: &Path, cluster: [u8; 16], nodes: &[NodeId], days: u64) -> Result<(), Failure> {
    fs::create_dir_all(keys).map_err(|e| Failure::runtime(format!("cannot make {}", keys.display()), e))?;
    let authority = authority(keys, cluster)?;
    let members = nodes.iter().map(|node| PeerKind::Node(*node)).chain([PeerKind::Gateway]);
    for kind in members {
        issue_one(&authority, &files(keys, kind), PeerName { cluster, kind }, days)?;
    }
    Ok(())
}

/// Issues what is missing, cannot be used, or is in the last third of its life.
///
/// # Errors
/// As [`issue`].
pub(crate) fn refresh(keys: &Path, cluster: [u8; 16], nodes: &[NodeId]) -> Result<(), Failure> {
    let now = unix_millis() / 1000;
    let is_good = |kind: PeerKind| {
        throng_runtime::tls::PeerTls::load(&files(keys, kind)).is_ok_and(|tls| {
            let life = tls.life();
            tls.name() == PeerName { cluster, kind }
                && life.left(now) > (life.not_after - life.not_before) / 3
        })
    };
    let mut members = nodes.iter().map(|node| PeerKind::Node(*node)).chain([PeerKind::Gateway]);
    if members.all(is_good) { Ok(()) } else { issue(keys, cluster, nodes, DAYS_DEFAULT) }
}

/// The name of the authority. It is the same whenever it is made from the key, so the key file is all that is kept.
fn authority_params(cluster: [u8; 16]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Throng peers of {}", ChannelId(cluster)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live(&mut params, CA_DAYS);
    params
}

fn authority(keys: &Path, cluster: [u8; 16]) -> Result<Issuer<'static, KeyPair>, Failure> {
    let (path, key_path) = (keys.join(CA_FILE), keys.join(CA_KEY_FILE));
    let params = authority_params(cluster);
    if path.exists() && key_path.exists() {
        let unusable =
            |e: &dyn std::fmt::Display| Failure::runtime(format!("cannot use {}", key_path.display()), e);
        let pem = fs::read_to_string(&key_path).map_err(|e| unusable(&e))?;
        return Ok(Issuer::new(params, KeyPair::from_pem(&pem).map_err(|e| unusable(&e))?));
    }
    if path.exists() {
        return Err(Failure::Runtime(format!(
            "{} is there without {}: certificates are issued where the authority's key is",
            path.display(),
            key_path.display()
        )));
    }
    let made = |e: rcgen::Error| Failure::runtime("cannot make an authority", e);
    let key = KeyPair::generate().map_err(made)?;
    let certificate = params.self_signed(&key).map_err(made)?;
    replace(&key_path, &key.serialize_pem())?;
    replace(&path, &certificate.pem())?;
    Ok(Issuer::new(params, key))
}

fn issue_one(
    authority: &Issuer<'_, KeyPair>,
    files: &PeerTlsFiles,
    name: PeerName,
    days: u64,
) -> Result<(), Failure> {
    let failed = |e: rcgen::Error| Failure::runtime(format!("cannot make a certificate for {name}"), e);
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Throng");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, days);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, authority).map_err(failed)?;
    // Whoever looks between the two finds a key that does not fit, keeps what it has and looks again.
    replace(&files.key, &key.serialize_pem())?;
    replace(&files.certificate, &certificate.pem())
}

fn live(params: &mut CertificateParams, days: u64) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_millis(unix_millis());
    params.not_before = now - SKEW;
    params.not_after = now + DAY * u32::try_from(days).expect("a few thousand at most");
}

/// Writes a file readable by its owner only, in one piece, in the place of an older one.
fn replace(path: &PathBuf, text: &str) -> Result<(), Failure> {
    let temporary = path.with_extension("tmp");
    if temporary.exists() {
        fs::remove_file(&temporary)
            .map_err(|e| Failure::runtime(format!("cannot remove {}", temporary.display()), e))?;
    }
    write_private(&temporary, text.as_bytes())?;
    fs::rename(&temporary, path).map_err(|e| Failure::runtime(format!("cannot write {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use throng_runtime::tls::PeerTls;

    use super::*;

    #[test]
    fn every_member_gets_a_certificate_that_fits_and_renewal_keeps_the_authority() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cluster, nodes) = ([7; 16], [NodeId(1), NodeId(2)]);
        issue(dir.path(), cluster, &nodes, 2).expect("issued");
        let authority = fs::read(dir.path().join(CA_FILE)).expect("made");
        let load = |kind| PeerTls::load(&files(dir.path(), kind)).expect("sound");
        for kind in [PeerKind::Node(NodeId(1)), PeerKind::Node(NodeId(2)), PeerKind::Gateway] {
            let tls = load(kind);
            assert_eq!(tls.name(), PeerName { cluster, kind });
            let life = tls.life();
            assert_eq!(life.not_after - life.not_before, 2 * 86_400 + 3600);
        }
        let before = load(PeerKind::Gateway).life();
        issue(dir.path(), cluster, &nodes, DAYS_DEFAULT).expect("issued again");
        assert!(load(PeerKind::Gateway).life().not_after > before.not_after);
        assert_eq!(fs::read(dir.path().join(CA_FILE)).expect("kept"), authority);
        for entry in fs::read_dir(dir.path()).expect("there") {
            use std::os::unix::fs::PermissionsExt;
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }

    #[test]
    fn refreshing_issues_only_what_is_due() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cluster, nodes) = ([7; 16], [NodeId(1)]);
        let certificate = || fs::read(dir.path().join("node-1.pem")).expect("there");
        refresh(dir.path(), cluster, &nodes).expect("issued");
        let first = certificate();
        refresh(dir.path(), cluster, &nodes).expect("nothing to do");
        assert_eq!(certificate(), first);
        fs::remove_file(dir.path().join("gateway.pem")).expect("removed");
        refresh(dir.path(), cluster, &nodes).expect("issued");
        assert_ne!(certificate(), first);

        fs::remove_file(dir.path().join(CA_KEY_FILE)).expect("removed");
        refresh(dir.path(), cluster, &nodes).expect("what is good needs no authority");
        let said = issue(dir.path(), cluster, &nodes, 1).expect_err("no key").to_string();
        assert!(said.contains("peer-ca-key.pem"), "{said}");
    }
}
