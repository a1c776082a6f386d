//! Tokens for users: JWTs (RFC 7519) signed with Ed25519 (`EdDSA`, RFC 8037).
//!
//! ```text
//!   base64url({"alg":"EdDSA","typ":"JWT"}) . base64url(claims) . base64url(signature)
//!   claims: iss "throng", aud "throng", sub user, dev device in decimal, iat, exp (Unix seconds)
//! ```
//!
//! Whoever holds the key can speak for any user, so this is for operators, tests and load generators; a server only
//! needs the public half and checks tokens offline.

use core::fmt;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::Ed25519KeyPair;

/// Issuer and audience of Throng's own tokens.
const ISSUER: &str = "throng";

/// `{"alg":"EdDSA","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9";

/// Signs tokens.
pub struct Minter {
    key: Ed25519KeyPair,
}

/// Why there is no key.
#[derive(Debug)]
pub enum MintError {
    /// The key file cannot be read.
    Read(io::Error),
    /// It is no Ed25519 key in PKCS#8.
    Key(ring::error::KeyRejected),
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => f.write_str("cannot read the signing key"),
            Self::Key(reason) => write!(f, "not an Ed25519 key in PKCS#8: {reason}"),
        }
    }
}

impl core::error::Error for MintError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Key(_) => None, // ring's reasons are no errors in the sense of std
        }
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Minter") // nothing of the key
    }
}

impl Minter {
    /// From a key file in PKCS#8, DER or PEM.
    ///
    /// # Errors
    /// [`MintError`] if it cannot be read or is no such key.
    pub fn from_file(path: &Path) -> Result<Self, MintError> {
        let content = std::fs::read(path).map_err(MintError::Read)?;
        Self::from_pkcs8(&pem_to_der(&content).unwrap_or(content))
    }

    /// From a key in PKCS#8 DER. The form without the public half is taken too, as OpenSSL writes it.
    ///
    /// # Errors
    /// [`MintError::Key`] if it is no such key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, MintError> {
        Ok(Self { key: Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(MintError::Key)? })
    }

    /// A token for `user` on `device`, valid from `now_s` (Unix seconds) for `ttl_s` seconds.
    pub fn mint(&self, user: &str, device: u64, now_s: u64, ttl_s: u64) -> String {
        // The device is a string because JSON numbers lose precision above 2⁵³ in many languages.
        let claims = serde_json::json!({
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": user,
            "dev": device.to_string(),
            "iat": now_s,
            "exp": now_s.saturating_add(ttl_s),
        });
        let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// The content of the first PEM block; `None` if there is none.
fn pem_to_der(content: &[u8]) -> Option<Vec<u8>> {
    let text = core::str::from_utf8(content).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let digits: String = body.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_verifies_and_says_who() {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
        let minter = Minter::from_pkcs8(der.as_ref()).expect("a key");
        let token = minter.mint("al\"ice", u64::MAX, 1000, 60);
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let public = UnparsedPublicKey::new(&ED25519, minter.key.public_key().as_ref().to_vec());
        public
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).expect("base64"))
            .expect("genuine");
        let (header, claims) = signed.split_once('.').expect("two parts");
        assert_eq!(URL_SAFE_NO_PAD.decode(header).expect("base64"), br#"{"alg":"EdDSA","typ":"JWT"}"#);
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
        assert_eq!((&claims["sub"], &claims["exp"]), (&"al\"ice".into(), &1060.into()));
        assert_eq!(claims["dev"], u64::MAX.to_string());
    }

    #[test]
    fn pem_and_der_are_the_same_key() {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
        let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n",
            &body[..64],
            &body[64..]
        );
        assert_eq!(pem_to_der(pem.as_bytes()).as_deref(), Some(der.as_ref()));
        assert!(Minter::from_pkcs8(b"nonsense").is_err());
    }
}
