//! The text files of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// A text file and what tidy wants to know about it.
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines that are not comments, numbered from 1. A trailing comment stays: no rule minds it.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Code lines before the inline tests, which by convention close the file. Test files have none.
    pub(crate) fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = ["/tests/", "/tests.rs", "_test.rs", "_tests.rs", "/suite"]
            .iter()
            .any(|mark| self.path.contains(mark));
        self.code_lines().take_while(move |(_, line)| !is_test_file && !line.contains("#[cfg(test)]"))
    }
}

const EXTENSIONS: &[&str] = &["rs", "toml", "md", "py", "sh", "txt", "yml", "yaml", "json"];
const SCRIPTS: &[&str] = &["x", "run"];
const SKIPPED: &[&str] = &["target", ".git", "corpus", "artifacts", "vectors", "__pycache__"];
/// A file above this is data, not text somebody wrote.
const BYTES_MAX: u64 = 1 << 20;

/// Reads every text file below `root`, in a stable order.
pub(crate) fn read(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let entries = fs::read_dir(&directory).map_err(|error| cannot_read(&directory, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| cannot_read(&directory, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(|error| cannot_read(&entry.path(), &error))?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) && !name.starts_with("throng-") {
                pending.push(entry.path());
            } else if kind.is_file() && is_text(&name) {
                sources.extend(read_one(root, entry.path()));
            }
        }
    }
    sources.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(sources)
}

fn is_text(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    SCRIPTS.contains(&name) || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// None for what is too large, vanished meanwhile or is not UTF-8.
fn read_one(root: &Path, path: PathBuf) -> Option<Source> {
    if path.metadata().ok()?.len() > BYTES_MAX {
        return None;
    }
    let text = fs::read_to_string(&path).ok()?;
    let path = path.strip_prefix(root).ok()?.to_str()?.replace('\\', "/");
    Some(Source { path, text })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}
