//! Who a token speaks for: the signing key in the data directory and the offline check of tokens (JWT, RFC 7519, signed
//! with EdDSA, RFC 8037).
//!
//! The check is written here rather than taken from a JWT library: the maintained ones bring a second cryptographic
//! provider beside ring, and one fixed algorithm needs neither their negotiation nor its pitfalls.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::Deserialize;
use throng_wire::{Code, DeviceId, UserId, limits};

use crate::error::Failure;

/// Issuer and audience of Throng's own tokens.
pub(crate) const ISSUER: &str = "throng";

/// Tolerated difference between the issuer's wall clock and ours, milliseconds.
const SKEW_MS: u64 = 30_000;

/// File of the signing key below the keys directory (PKCS#8, DER).
pub(crate) const KEY_FILE: &str = "token.pk8";

/// What a valid token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenClaims {
    /// The user.
    pub(crate) user: UserId,
    /// The device.
    pub(crate) device: DeviceId,
    /// When the session ends, Unix milliseconds: the token's end and the tolerated skew.
    pub(crate) expires_ms: u64,
}

/// Reads the signing key, making it at first use; the file is readable by its owner only.
///
/// # Errors
/// [`Failure::Runtime`] if the file cannot be read, made or understood.
pub(crate) fn load_or_make_key(keys: &Path) -> Result<PathBuf, Failure> {
    let path = keys.join(KEY_FILE);
    if !path.exists() {
        fs::create_dir_all(keys)
            .map_err(|e| Failure::runtime(format!("cannot make {}", keys.display()), e))?;
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| Failure::Runtime("the system gave no randomness for a signing key".into()))?;
        write_private(&path, der.as_ref())?;
    }
    Ok(path)
}

/// The signing key's path, if the file is there. A gateway of its own must not make one: it would refuse every token that
/// its cluster issues.
///
/// # Errors
/// [`Failure::Config`] if it is not.
pub(crate) fn existing_key(keys: &Path) -> Result<PathBuf, Failure> {
    let path = keys.join(KEY_FILE);
    if path.exists() {
        return Ok(path);
    }
    let missing = path.display();
    Err(Failure::Config(format!(
        "{missing} is not there; name the directory of the cluster's token key with --keys"
    )))
}

/// Creates a file readable by its owner only; a file that another process made meanwhile is left as it is.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::runtime(format!("cannot write {}", path.display()), e);
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(failed)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Checks tokens against one public key.
pub(crate) struct Verifier {
    key: UnparsedPublicKey<Vec<u8>>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515 §4.1.11); we understand none.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    dev: Device,
    /// NumericDate (RFC 7519 §2): seconds, possibly with a fraction.
    exp: f64,
    nbf: Option<f64>,
}

/// JSON numbers lose precision above 2⁵³ in many languages, so a device may also be a decimal string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Device {
    Number(u64),
    Text(String),
}

impl Verifier {
    /// A verifier for the key pair in a file that [`load_or_make_key`] made.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if the file cannot be read or is not an Ed25519 key in PKCS#8.
    pub(crate) fn from_key_file(path: &Path) -> Result<Self, Failure> {
        let der =
            fs::read(path).map_err(|e| Failure::runtime(format!("cannot read {}", path.display()), e))?;
        let pair = Ed25519KeyPair::from_pkcs8(&der)
            .map_err(|e| Failure::runtime(format!("{} is no Ed25519 key in PKCS#8", path.display()), e))?;
        Ok(Self::new(pair.public_key().as_ref().to_vec()))
    }

    /// A verifier for a raw 32-byte Ed25519 public key.
    pub(crate) fn new(public_key: Vec<u8>) -> Self {
        Self { key: UnparsedPublicKey::new(&ED25519, public_key) }
    }

    /// Checks a token at a wall-clock time.
    ///
    /// # Errors
    /// [`Code::TOKEN_INVALID`] for anything but a well-formed token of ours, [`Code::TOKEN_EXPIRED`] for a genuine
    /// one whose time is over.
    pub(crate) fn verify(&self, token: &[u8], now_unix_ms: u64) -> Result<TokenClaims, Code> {
        let claims = self.genuine(token).ok_or(Code::TOKEN_INVALID)?;
        if claims.iss != ISSUER || claims.aud != ISSUER || claims.sub.is_empty() {
            return Err(Code::TOKEN_INVALID);
        }
        let device = match claims.dev {
            Device::Number(number) => number,
            Device::Text(text) => text.parse().map_err(|_| Code::TOKEN_INVALID)?,
        };
        if claims.nbf.is_some_and(|nbf| millis(nbf) > now_unix_ms.saturating_add(SKEW_MS)) {
            return Err(Code::TOKEN_INVALID);
        }
        let expires_ms = millis(claims.exp).saturating_add(SKEW_MS);
        if expires_ms <= now_unix_ms {
            return Err(Code::TOKEN_EXPIRED);
        }
        Ok(TokenClaims { user: UserId::of(&claims.iss, &claims.sub), device: DeviceId(device), expires_ms })
    }

    /// The claims of a token whose signature holds. The signature is checked before the claims are parsed.
    fn genuine(&self, token: &[u8]) -> Option<Claims> {
        if token.len() > limits::TOKEN_MAX {
            return None;
        }
        let token = std::str::from_utf8(token).ok()?;
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.alg != "EdDSA" || header.crit.is_some() {
            return None;
        }
        self.key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

/// Milliseconds of a NumericDate; negative and absurd ones saturate.
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(pair: &Ed25519KeyPair, header: &str, claims: &str) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    fn pair() -> Ed25519KeyPair {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
        Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("just made")
    }

    const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;
    const CLAIMS: &str =
        r#"{"iss":"throng","aud":"throng","sub":"alice","dev":"18446744073709551615","exp":1000}"#;

    #[test]
    fn a_genuine_token_names_user_and_device_until_it_expires() {
        let pair = pair();
        let verifier = Verifier::new(pair.public_key().as_ref().to_vec());
        let token = signed(&pair, HEADER, CLAIMS);
        let claims = verifier.verify(token.as_bytes(), 999_000).expect("genuine");
        assert_eq!((claims.user, claims.device), (UserId::of("throng", "alice"), DeviceId(u64::MAX)));
        assert!(verifier.verify(token.as_bytes(), 1_029_999).is_ok(), "within the tolerated skew");
        assert_eq!(verifier.verify(token.as_bytes(), 1_030_000), Err(Code::TOKEN_EXPIRED));
    }

    #[test]
    fn everything_else_is_invalid() {
        let (pair, other) = (pair(), pair());
        let verifier = Verifier::new(pair.public_key().as_ref().to_vec());
        let good = signed(&pair, HEADER, CLAIMS);
        let cases = [
            signed(&other, HEADER, CLAIMS),
            signed(&pair, r#"{"alg":"none"}"#, CLAIMS),
            signed(&pair, r#"{"alg":"HS256"}"#, CLAIMS),
            signed(&pair, r#"{"alg":"EdDSA","crit":["x"]}"#, CLAIMS),
            signed(&pair, HEADER, &CLAIMS.replace("\"exp\":1000", "\"exp\":1000,\"nbf\":999")),
            signed(&pair, HEADER, &CLAIMS.replace("\"iss\":\"throng\"", "\"iss\":\"other\"")),
            signed(&pair, HEADER, &CLAIMS.replace("\"aud\":\"throng\"", "\"aud\":\"other\"")),
            signed(&pair, HEADER, &CLAIMS.replace("alice", "")),
            signed(&pair, HEADER, &CLAIMS.replace("\"18446744073709551615\"", "\"x\"")),
            signed(&pair, HEADER, "{}"),
            good.replace('.', ""),
            format!("{good}="),
            "a.".repeat(2000),
            String::new(),
        ];
        for token in cases {
            assert_eq!(verifier.verify(token.as_bytes(), 0), Err(Code::TOKEN_INVALID), "{token}");
        }
        let mut flipped = good.into_bytes();
        for i in 0..flipped.len() {
            flipped[i] ^= 1;
            assert_eq!(verifier.verify(&flipped, 0), Err(Code::TOKEN_INVALID), "byte {i}");
            flipped[i] ^= 1;
        }
    }
}
