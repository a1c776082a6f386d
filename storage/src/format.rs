//! The FORMAT file: whose data a directory holds. Written once, last of all, when the directory is formatted.
//!
//! ```text
//! throng data 3
//! cluster 00112233445566778899aabbccddeeff
//! node 1
//! founders 1,2,3
//! shards 64
//! epoch 1
//! log 0123456789abcdef
//! created_ms 1766500000000
//! crc32c 89abcdef
//! ```
//!
//! The first line is read first, whatever follows it, so that an older program names the newer version. The last line
//! is the checksum of all bytes before it.

use std::fs;
use std::io;
use std::path::Path;

use throng_storage_core::log::LogId;
use throng_wire::ids::{Epoch, NodeId};

use crate::error::{Doing, OpenError};

/// Version of the data directory's layout.
pub const FORMAT_VERSION: u32 = 3;

/// Name of the format file.
pub(crate) const FORMAT: &str = "FORMAT";
/// Its name until the directory is complete.
pub(crate) const FORMATTING: &str = "FORMAT.tmp";

const TITLE: &str = "throng data ";
/// The file has some 170 bytes.
const BYTES_MAX: u64 = 4096;

/// What a data directory says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The node in it.
    pub node: NodeId,
    /// The nodes that the cluster was formatted with: the first voters of every group. This node is not among them if it
    /// joined later.
    pub founders: Vec<NodeId>,
    /// The cluster's number of shards.
    pub shards: u32,
    /// The history epoch: 1, and one more than that of the backup it was restored from.
    pub epoch: Epoch,
    /// Seeds the log's checksums; drawn when the directory was formatted.
    pub log: LogId,
    /// When it was formatted, in Unix milliseconds; for people.
    pub created_ms: u64,
}

/// Reads the format of a data directory without locking it; `None` if there is none. A node without a configured
/// cluster id learns it here.
///
/// # Errors
/// [`OpenError`] if the file is of another version, damaged or unreadable.
pub fn read_format(dir: &Path) -> Result<Option<Format>, OpenError> {
    let path = dir.join(FORMAT);
    let text = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { doing: "read", path, source }),
        Ok(meta) if meta.len() > BYTES_MAX => return Err(damaged(dir, "it is too long")),
        Ok(_) => fs::read(&path).doing("read", &path)?,
    };
    let text = String::from_utf8(text).map_err(|_| damaged(dir, "it is no text"))?;
    Format::parse(dir, &text).map(Some)
}

impl Format {
    /// Raft groups: one for every shard, and that of the metadata behind them.
    pub fn groups(&self) -> u32 {
        self.shards + 1
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        let body = format!(
            "{TITLE}{FORMAT_VERSION}\ncluster {}\nnode {}\nfounders {}\nshards {}\nepoch {}\nlog {:016x}\ncreated_ms {}\n",
            hex(&self.cluster),
            self.node,
            self.founders.iter().map(NodeId::to_string).collect::<Vec<_>>().join(","),
            self.shards,
            self.epoch,
            self.log.0,
            self.created_ms
        );
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{body}crc32c {crc:08x}\n")
    }

    fn parse(dir: &Path, text: &str) -> Result<Self, OpenError> {
        let version = text.lines().next().and_then(|line| line.strip_prefix(TITLE)?.parse::<u32>().ok());
        match version {
            None => return Err(damaged(dir, "it does not begin with its version")),
            Some(FORMAT_VERSION) => {}
            Some(found) => return Err(OpenError::OtherVersion { dir: dir.to_owned(), found }),
        }
        let body_end = text.find("crc32c ").ok_or_else(|| damaged(dir, "it has no checksum"))?;
        let crc = format!("crc32c {:08x}\n", crc32c::crc32c(&text.as_bytes()[..body_end]));
        if text[body_end..] != crc {
            return Err(damaged(dir, "its checksum does not match"));
        }
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or_else(|| damaged(dir, &format!("it has no {name}")))
        };
        let bad = |name: &str| damaged(dir, &format!("its {name} is no number"));
        Ok(Self {
            cluster: unhex(field("cluster")?).ok_or_else(|| bad("cluster"))?,
            node: NodeId(field("node")?.parse().map_err(|_| bad("node"))?),
            founders: field("founders")?
                .split(',')
                .map(|number| number.parse().map(NodeId).map_err(|_| bad("founders")))
                .collect::<Result<_, _>>()?,
            shards: field("shards")?.parse().map_err(|_| bad("shards"))?,
            epoch: Epoch(field("epoch")?.parse().map_err(|_| bad("epoch"))?),
            log: LogId(u64::from_str_radix(field("log")?, 16).map_err(|_| bad("log"))?),
            created_ms: field("created_ms")?.parse().map_err(|_| bad("created_ms"))?,
        })
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}

fn damaged(dir: &Path, why: &str) -> OpenError {
    OpenError::FormatDamaged { dir: dir.to_owned(), why: why.to_owned() }
}
