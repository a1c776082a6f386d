//! The cached RocksDB library is built by `x` before cargo reads anything, so `x` repeats version and features.

use std::fs;
use std::path::Path;

use super::Breaches;
use crate::Result;

/// `x` and `Cargo.toml` must name the same crate, or the linked library would not fit its bindings.
pub(crate) fn check(root: &Path) -> Result<Breaches> {
    let read = |name: &str| fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"));
    Ok(compare(&read("x")?, &read("Cargo.toml")?))
}

fn compare(script: &str, manifest: &str) -> Breaches {
    let in_script = |name: &str| {
        let line = script.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    let (version, features) = (in_script("rocksdb_version"), in_script("rocksdb_features"));
    let quoted: Vec<String> = features.split(',').map(|feature| format!("\"{feature}\"")).collect();
    let wanted = format!(
        "rocksdb = {{ version = \"={version}\", default-features = false, features = [{}] }}",
        quoted.join(", ")
    );
    if manifest.lines().any(|line| line.starts_with(&wanted)) {
        return Breaches::new();
    }
    vec![format!("Cargo.toml and x disagree about RocksDB; x asks for: {wanted}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "rocksdb_version=1.2.3\nrocksdb_features=a,b\n";

    #[test]
    fn equal_is_fine_and_different_is_a_breach() {
        let manifest = |version: &str| {
            format!(
                "rocksdb = {{ version = \"={version}\", default-features = false, features = [\"a\", \"b\"] }}"
            )
        };
        assert!(compare(SCRIPT, &manifest("1.2.3")).is_empty());
        assert_eq!(compare(SCRIPT, &manifest("1.2.4")).len(), 1);
        assert_eq!(compare("", &manifest("1.2.3")).len(), 1);
    }
}
