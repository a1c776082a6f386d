//! Authorities and certificates for tests.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::PeerTlsFiles;

pub(crate) const CLUSTER: [u8; 16] = [0xab; 16];

/// `node-N` or `gateway` of [`CLUSTER`].
pub(crate) fn name(member: &str) -> String {
    format!("{member}.{}.throng", throng_wire::ChannelId(CLUSTER))
}

/// A private authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pem: String,
    key: String,
}

/// How a certificate differs from a good one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Odd {
    /// Good from so many seconds from now on.
    pub(crate) begins: i64,
    /// Good for so many seconds; 0 = a day.
    pub(crate) lasts: u64,
    pub(crate) for_clients_only: bool,
    pub(crate) for_servers_only: bool,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("randomness");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_odd(names, Odd::default())
    }

    pub(crate) fn issue_odd(&self, names: &[&str], odd: Odd) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("DNS names");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let begins = now.saturating_add_signed(odd.begins - 60);
        let lasts = if odd.lasts == 0 { 86_400 } else { odd.lasts };
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(begins);
        params.not_after = params.not_before + Duration::from_secs(lasts);
        if !odd.for_clients_only {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if !odd.for_servers_only {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Issued { certificate: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes a certificate, its key and this authority's certificate below `dir`.
    pub(crate) fn write(&self, dir: &Path, issued: &Issued) -> PeerTlsFiles {
        fs::create_dir_all(dir).expect("a directory");
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("written");
            path
        };
        PeerTlsFiles {
            certificate: put("peer.pem", &issued.pem),
            key: put("peer-key.pem", &issued.key),
            authorities: put("peer-ca.pem", &self.pem),
        }
    }
}
