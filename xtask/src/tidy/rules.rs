//! Rules over the text of the checkout.

use std::path::{Component, Path, PathBuf};

use super::Breaches;
use super::sources::Source;

/// Crates without clock, randomness, socket, file, thread or global: time and seeds come in as arguments.
const PURE: &[&str] = &[
    "base/src/",
    "wire/src/",
    "ws/src/",
    "storage/core/src/",
    "router/core/src/",
    "gateway/core/src/",
    "client/core/src/",
];

/// What a pure crate must not say, and what to use instead.
const IMPURE: &[(&str, &str)] = &[
    ("SystemTime", "take wall time as an argument"),
    ("std::time::Instant", "take throng_base::Instant as an argument"),
    ("Instant::now(", "take `now` as an argument"),
    ("thread_rng", "seed a throng_base random source"),
    ("std::fs", "emit an output that the driver carries out"),
    ("std::env", "take configuration as an argument"),
    ("std::thread", "emit an output that the driver carries out"),
    ("TcpStream", "emit an output that the driver carries out"),
    ("UdpSocket", "emit an output that the driver carries out"),
    ("println!", "return an output; the driver prints"),
];

/// The only crate that may hold `unsafe`.
const UNSAFE_HOME: &str = "runtime/";

/// Tests that may as well: implementing an allocator is unsafe, and counting allocations needs one; so is the ioctl that
/// marks a recorded disk, which nothing but a test wants.
const UNSAFE_TESTS: &[&str] = &["gateway/core/tests/heap.rs", "tests/power/src/kernel.rs"];

/// `unsafe` lives in one crate, where each block has its proof.
pub(crate) fn unsafe_code(sources: &[Source]) -> Breaches {
    let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe(", "allow(unsafe_code)"];
    let mut breaches = Breaches::new();
    for source in sources.iter().filter(|source| source.is_rust() && !is_here(source)) {
        if source.path.starts_with(UNSAFE_HOME) || UNSAFE_TESTS.contains(&source.path.as_str()) {
            continue;
        }
        for (number, line) in source.code_lines() {
            if marks.iter().any(|mark| line.contains(mark)) {
                breaches
                    .push(format!("{}:{number}: unsafe outside {UNSAFE_HOME}; wrap it there", source.path));
            }
        }
    }
    breaches
}

/// Cores stay deterministic.
pub(crate) fn purity(sources: &[Source]) -> Breaches {
    let mut breaches = Breaches::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        if !PURE.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (number, line) in source.production_lines() {
            for (word, instead) in IMPURE.iter().filter(|(word, _)| line.contains(word)) {
                breaches.push(format!("{}:{number}: {word} in a pure crate; {instead}", source.path));
            }
        }
    }
    breaches
}

/// The parser of protobuf 2 has a known stack overflow; it must never see a byte (`deny.toml`, RUSTSEC-2024-0437).
pub(crate) fn protobuf_parser(sources: &[Source]) -> Breaches {
    let marks = ["parse_from_bytes", "parse_from_reader", "merge_from_bytes", "CodedInputStream"];
    let mut breaches = Breaches::new();
    for source in sources.iter().filter(|source| source.is_rust() && !is_here(source)) {
        for (number, line) in source.code_lines() {
            if marks.iter().any(|mark| line.contains(mark)) {
                breaches.push(format!(
                    "{}:{number}: protobuf 2 parses; decode a prost type instead",
                    source.path
                ));
            }
        }
    }
    breaches
}

/// A stub called done is a defect, and a test left out needs its reason.
pub(crate) fn left_overs(sources: &[Source]) -> Breaches {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX"];
    let mut breaches = Breaches::new();
    for source in sources.iter().filter(|source| source.is_rust() && !is_here(source)) {
        for (index, line) in source.text.lines().enumerate() {
            let number = index + 1;
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                breaches.push(format!("{}:{number}: {mark} left in; finish it", source.path));
            }
            if line.contains("#[ignore") && !line.contains('=') {
                breaches
                    .push(format!("{}:{number}: ignored without a reason; write #[ignore = …]", source.path));
            }
        }
    }
    breaches
}

/// Paths of somebody's machine mean nothing in a clone.
pub(crate) fn machine_paths(sources: &[Source]) -> Breaches {
    const TOPS: &[&str] = &["home", "root", "work", "Users", "mnt", "srv"];
    let mut breaches = Breaches::new();
    for source in sources.iter().filter(|source| !is_here(source)) {
        for (index, line) in source.text.lines().enumerate() {
            for top in TOPS.iter().filter(|top| names_path(line, top)) {
                let number = index + 1;
                breaches.push(format!("{}:{number}: a path below /{top}; make it relative", source.path));
            }
        }
    }
    breaches
}

/// Does `line` hold an absolute path that begins `/top/`?
fn names_path(line: &str, top: &str) -> bool {
    let needle = format!("/{top}/");
    line.match_indices(&needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/~}*".contains(c))
    })
}

/// Links in Markdown lead to files of this repository.
pub(crate) fn relative_links(root: &Path, sources: &[Source]) -> Breaches {
    let mut breaches = Breaches::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        for (index, line) in source.text.lines().enumerate() {
            for target in link_targets(line) {
                let inside = normalise(&folder.join(target));
                if inside.is_none_or(|path| !root.join(path).exists()) {
                    breaches.push(format!("{}:{}: dead link {target}", source.path, index + 1));
                }
            }
        }
    }
    breaches
}

/// Targets of `[text](target)` that are files, without their anchors.
fn link_targets(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets
        .filter(|target| {
            !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:")
        })
        .filter_map(|target| target.split('#').next())
        .collect()
}

/// Resolves `..`; None if it leaves the repository.
fn normalise(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if !clean.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Some(clean)
}

/// The rules name what they forbid.
fn is_here(source: &Source) -> bool {
    source.path.starts_with("xtask/src/tidy/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Vec<Source> {
        vec![Source { path: path.into(), text: text.into() }]
    }

    #[test]
    fn unsafe_is_at_home_in_runtime_only() {
        let block = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(unsafe_code(&source("ws/src/mask.rs", block)).len(), 1);
        assert!(unsafe_code(&source("runtime/src/fd.rs", block)).is_empty());
        assert!(unsafe_code(&source("ws/src/mask.rs", "// no unsafe { here\n")).is_empty());
    }

    #[test]
    fn cores_read_no_clock_but_their_tests_may() {
        let text = "fn f() { Instant::now() }\n#[cfg(test)]\nmod tests { fn g() { Instant::now() } }\n";
        assert_eq!(purity(&source("router/core/src/a.rs", text)).len(), 1);
        assert!(purity(&source("router/src/a.rs", text)).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found_and_others_are_not() {
        let found = |text: &str| machine_paths(&source("docs/a.md", text)).len();
        assert_eq!(found(concat!("see /ho", "me/me/notes and `/ro", "ot/x`")), 2);
        assert_eq!(found(concat!("GET /v1/ho", "me/x and ~/ro", "ot/y and a/wo", "rk/b")), 0);
    }

    #[test]
    fn links_may_not_leave_the_repository() {
        let here = Path::new(".");
        let dead = |text: &str| relative_links(here, &source("docs/a.md", text)).len();
        assert_eq!(dead("[a](../../elsewhere.md) [b](no-such-file.md)"), 2);
        assert_eq!(dead("[a](https://example.org/x.md) [b](#part)"), 0);
    }

    #[test]
    fn nobody_calls_the_parser_of_protobuf_2() {
        let text = "let entry = ConfChange::parse_from_bytes(&data)?;\n";
        assert_eq!(protobuf_parser(&source("storage/core/src/a.rs", text)).len(), 1);
    }

    #[test]
    fn an_ignored_test_says_why() {
        assert_eq!(left_overs(&source("a/b.rs", "#[ignore]\n")).len(), 1);
        assert!(left_overs(&source("a/b.rs", "#[ignore = \"./x night runs it\"]\n")).is_empty());
    }
}
