//! What a backup says about itself.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Its file.
pub(super) const MANIFEST: &str = "MANIFEST.json";

/// Version of the backup's layout.
const VERSION: u32 = 1;

/// A manifest is far below this: 65,536 shards at 100 bytes.
const BYTES_MAX: u64 = 16 << 20;

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of the layout.
    pub(crate) version: u32,
    /// The cluster it is of, hexadecimal.
    pub(crate) cluster: String,
    /// Its number of shards.
    pub(crate) shards: u32,
    /// The history epoch it was taken in.
    pub(crate) epoch: u64,
    /// The node that wrote it.
    pub(crate) node: u64,
    /// When, Unix milliseconds.
    pub(crate) created_ms: u64,
    /// Shards with anything in them, by number.
    pub(crate) parts: Vec<Part>,
}

/// One shard in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The shard.
    pub(crate) shard: u32,
    /// The newest entry that is in it.
    pub(crate) index: u64,
    /// That entry's term.
    pub(crate) term: u64,
    /// Size of its file.
    pub(crate) bytes: u64,
}

/// As it lies in the file: the checksum covers everything else.
#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: Manifest,
    sha256: String,
}

impl Manifest {
    pub(super) fn new(
        cluster: [u8; 16],
        shards: u32,
        epoch: u64,
        node: u64,
        created_ms: u64,
        parts: Vec<Part>,
    ) -> Self {
        let cluster = throng_wire::ChannelId(cluster).to_string();
        Self { version: VERSION, cluster, shards, epoch, node, created_ms, parts }
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let sealed = Sealed { sha256: self.checksum(), manifest: self.clone() };
        serde_json::to_string_pretty(&sealed).expect("plain fields always serialize") + "\n"
    }

    fn checksum(&self) -> String {
        let text = serde_json::to_vec(self).expect("plain fields always serialize");
        let digest = ring::digest::digest(&ring::digest::SHA256, &text);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// [`Failure::Runtime`]: there is none, it is damaged, or of another version.
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(MANIFEST);
        let refuse = |why: &str| Failure::Runtime(format!("{}: {why}", path.display()));
        let bytes = fs::metadata(&path)
            .map_err(|e| Failure::runtime(format!("{} is no backup", dir.display()), e))?
            .len();
        if bytes > BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        let text = fs::read_to_string(&path).map_err(|e| Failure::runtime(path.display(), e))?;
        let Sealed { manifest, sha256 } =
            serde_json::from_str(&text).map_err(|e| Failure::runtime(path.display(), e))?;
        if manifest.version != VERSION {
            return Err(refuse(&format!(
                "it has version {}, this program reads {VERSION}",
                manifest.version
            )));
        }
        if manifest.checksum() != sha256 {
            return Err(refuse("it is damaged: its checksum does not match"));
        }
        let in_order = manifest.parts.is_sorted_by(|a, b| a.shard < b.shard);
        if !in_order || manifest.parts.last().is_some_and(|part| part.shard > manifest.shards) {
            return Err(refuse("it names shards that its cluster does not have"));
        }
        Ok(manifest)
    }
}

/// The file of a shard.
pub(super) fn part_name(shard: u32) -> String {
    format!("shard-{shard:05}.rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let part = Part { shard: 3, index: 9, term: 2, bytes: 77 };
        Manifest::new([7; 16], 8, 4, 1, 1_700_000_000_000, vec![part])
    }

    #[test]
    fn it_comes_back_and_any_change_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(MANIFEST);
        let text = manifest().text();
        fs::write(&path, &text).expect("written");
        assert_eq!(Manifest::read(dir.path()).map_err(|e| e.to_string()), Ok(manifest()));
        for (from, to) in
            [("\"epoch\": 4", "\"epoch\": 3"), ("\"version\": 1", "\"version\": 2"), ("77", "78")]
        {
            fs::write(&path, text.replace(from, to)).expect("written");
            assert!(Manifest::read(dir.path()).is_err(), "{from} became {to}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(Manifest::read(dir.path()).is_err(), "a backup without a manifest is none");
    }
}
