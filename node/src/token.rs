//! `throng token`: a signed token for a user.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use throng_client::mint::Minter;

use crate::cli::TokenArgs;
use crate::error::Failure;
use crate::identity::KEY_FILE;

/// Prints a token, and nothing else, on standard output.
///
/// # Errors
/// [`Failure::Runtime`] if there is no key in the data directory.
pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let device = match args.device {
        Some(device) => device,
        None => random_device()?,
    };
    println!("{}", mint(&args.data_dir.join("keys"), &args.user, device, args.ttl)?);
    Ok(())
}

/// A token for `user` on `device` that ends `ttl_s` seconds from here on, or has ended so long ago.
///
/// # Errors
/// [`Failure::Runtime`] if the key is missing or malformed.
pub(crate) fn mint(keys: &Path, user: &str, device: u64, ttl_s: i64) -> Result<String, Failure> {
    let path = keys.join(KEY_FILE);
    if !path.exists() {
        return Err(Failure::Runtime(format!(
            "no key at {}; start a node first (throng serve), or name its directory with --data-dir",
            path.display()
        )));
    }
    let minter = Minter::from_file(&path).map_err(|e| Failure::runtime(path.display(), e))?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // One that has ended was valid for a second.
    let (issued_s, valid_s) = match u64::try_from(ttl_s) {
        Ok(ttl_s) => (now_s, ttl_s),
        Err(_) => (now_s.saturating_sub(ttl_s.unsigned_abs()).saturating_sub(1), 1),
    };
    Ok(minter.mint(user, device, issued_s, valid_s))
}

/// 64 random bits: a device draws its number once and keeps it.
pub(crate) fn random_device() -> Result<u64, Failure> {
    let id = crate::serve::random_id()?;
    Ok(u64::from_be_bytes(id[..8].try_into().expect("eight of sixteen bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{self, Verifier};

    #[test]
    fn a_minted_token_passes_the_nodes_own_check() {
        let keys = tempfile::tempdir().expect("a directory");
        let path = identity::load_or_make_key(keys.path()).expect("made");
        let token = mint(keys.path(), "alice", u64::MAX, 60).expect("minted");
        let claims =
            Verifier::from_key_file(&path).expect("readable").verify(token.as_bytes(), 0).expect("genuine");
        assert_eq!(claims.user, throng_wire::UserId::of(identity::ISSUER, "alice"));
        assert_eq!(claims.device.0, u64::MAX);
    }
}
