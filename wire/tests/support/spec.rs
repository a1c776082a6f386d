//! SPEC.md as data: requirements, generated blocks, examples, and who cites what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crate's folder.
pub(crate) fn wire() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of this crate.
pub(crate) fn read(name: &str) -> String {
    let path = wire().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A requirement: its id and its text.
pub(crate) struct Requirement {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// Requirements are list items that begin with a bold id.
pub(crate) fn requirements(spec: &str) -> Vec<Requirement> {
    let mut found: Vec<Requirement> = Vec::new();
    let mut is_open = false;
    for line in spec.lines() {
        if let Some(rest) = line.strip_prefix("- **W-") {
            let (id, text) = rest.split_once("** ").unwrap_or_else(|| panic!("no id: {line}"));
            found.push(Requirement { id: format!("W-{id}"), text: text.to_owned() });
            is_open = true;
        } else if is_open && line.starts_with("  ") {
            let last = found.last_mut().expect("an item is open");
            last.text.push(' ');
            last.text.push_str(line.trim());
        } else {
            is_open = false;
        }
    }
    found
}

/// What stands outside requirements, line by line.
pub(crate) fn prose(spec: &str) -> Vec<&str> {
    let mut is_open = false;
    let is_prose = |line: &&str| {
        is_open = line.starts_with("- **W-") || (is_open && line.starts_with("  "));
        !is_open
    };
    spec.lines().filter(is_prose).collect()
}

/// `text` with what stands between the markers of `name` replaced.
pub(crate) fn with_block(text: &str, name: &str, content: &str) -> String {
    let begin = text.find(&format!("<!-- {name}:begin")).unwrap_or_else(|| panic!("no block {name}"));
    let start = begin + text[begin..].find("-->\n").expect("the marker ends") + 4;
    let end = text.find(&format!("<!-- {name}:end -->")).unwrap_or_else(|| panic!("{name} does not end"));
    format!("{}{content}{}", &text[..start], &text[end..])
}

/// Ids in a text: `W-`, capitals, `-`, digits, not within a longer word.
pub(crate) fn ids(text: &str) -> BTreeSet<String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("W-") {
        if at > 0 && is_word(text.as_bytes()[at - 1]) {
            continue;
        }
        let rest = &text[at + 2..];
        let letters = rest.bytes().take_while(u8::is_ascii_uppercase).count();
        let Some(number) = rest[letters..].strip_prefix('-') else { continue };
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        if letters > 0 && digits > 0 {
            found.insert(text[at..at + 2 + letters + 1 + digits].to_owned());
        }
    }
    found
}

/// Ids cited anywhere in the workspace, and those cited in its tests.
pub(crate) struct Citations {
    pub(crate) anywhere: BTreeMap<String, PathBuf>,
    pub(crate) tests: BTreeSet<String>,
}

/// Reads the workspace's Rust, Python and vector files.
pub(crate) fn citations() -> Citations {
    let mut citations = Citations { anywhere: BTreeMap::new(), tests: BTreeSet::new() };
    let root = wire().parent().expect("the workspace");
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if path.is_dir() {
                // xtask has a reader of ids of its own, whose tests make some up.
                if !name.starts_with('.') && name != "target" && name != "xtask" {
                    folders.push(path);
                }
            } else if [".rs", ".py", ".json"].iter().any(|ending| name.ends_with(ending)) {
                // Others may be writing in the folder: a file that vanished is no failure.
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let local = path.strip_prefix(root).expect("below the root").to_owned();
                let cited = ids(test_part(&local, &text));
                let is_vector = local.starts_with("wire/tests/vectors");
                citations.tests.extend(cited.into_iter().filter(|id| !is_vector || is_about_bytes(id)));
                for id in ids(&text) {
                    citations.anywhere.entry(id).or_insert_with(|| local.clone());
                }
            }
        }
    }
    citations
}

/// A vector proves what it says about bytes. What a trace says about a server's behaviour, a server's test must show.
fn is_about_bytes(id: &str) -> bool {
    let group = id.trim_start_matches("W-").split('-').next();
    ["VAR", "FRAME", "FIELD", "TYPE", "EV", "ID"].iter().any(|about| group == Some(*about))
}

/// What of a file is test: all of it below a `tests` folder, in the simulator and in Python; in other Rust sources
/// what follows `#[cfg(test)]`.
fn test_part<'a>(local: &Path, text: &'a str) -> &'a str {
    let below = |name: &str| local.components().any(|part| part.as_os_str() == name);
    let is_test = local.ends_with("tests.rs") || local.extension().is_some_and(|ending| ending == "py");
    if is_test || below("tests") || below("sim") {
        return text;
    }
    text.find("#[cfg(test)]").map_or("", |at| &text[at..])
}

/// The exceptions: id and reason.
pub(crate) fn exceptions() -> BTreeMap<String, String> {
    let text = read("tests/spec_exceptions.txt");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (id, reason) =
            line.split_once(char::is_whitespace).unwrap_or_else(|| panic!("no reason: {line}"));
        (id.to_owned(), reason.trim().to_owned())
    };
    lines.map(pair).collect()
}
