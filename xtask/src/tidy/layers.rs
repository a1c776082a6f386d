//! Who may import whom. The tables are the architecture; `docs/ARCHITECTURE.md` explains them.

use std::collections::{BTreeMap, BTreeSet};

use super::Breaches;
use super::metadata::{Metadata, Package};

/// Crates of the workspace and the workspace crates each may depend on (dev-dependencies are free).
const LAYERS: &[(&str, &[&str])] = &[
    // The floor, and the pure cores in their order.
    ("throng-base", &[]),
    ("throng-wire", &["throng-base"]),
    ("throng-ws", &["throng-base"]),
    ("throng-storage-core", &["throng-base", "throng-wire", "throng-ws"]),
    ("throng-router-core", &["throng-base", "throng-wire", "throng-ws", "throng-storage-core"]),
    ("throng-gateway-core", &["throng-base", "throng-wire", "throng-ws"]),
    ("throng-client-core", &["throng-base", "throng-wire", "throng-ws"]),
    // Drivers: their own core and the floor.
    ("throng-runtime", &["throng-base", "throng-wire"]),
    ("throng-storage", &["throng-base", "throng-wire", "throng-ws", "throng-runtime", "throng-storage-core"]),
    (
        "throng-router",
        &[
            "throng-base",
            "throng-wire",
            "throng-ws",
            "throng-runtime",
            "throng-storage-core",
            "throng-storage",
            "throng-router-core",
        ],
    ),
    ("throng-gateway", &["throng-base", "throng-wire", "throng-ws", "throng-runtime", "throng-gateway-core"]),
    ("throng-client", &["throng-base", "throng-wire", "throng-ws", "throng-runtime", "throng-client-core"]),
    // Programs.
    (
        "throng-node",
        &[
            "throng-base",
            "throng-wire",
            "throng-ws",
            "throng-runtime",
            "throng-storage-core",
            "throng-storage",
            "throng-router-core",
            "throng-router",
            "throng-gateway-core",
            "throng-gateway",
            "throng-client-core",
            "throng-client",
        ],
    ),
    (
        "throng-loadgen",
        &["throng-base", "throng-wire", "throng-ws", "throng-runtime", "throng-client-core", "throng-client"],
    ),
    // The simulator composes cores and never touches a driver.
    (
        "throng-sim",
        &[
            "throng-base",
            "throng-wire",
            "throng-ws",
            "throng-storage-core",
            "throng-router-core",
            "throng-gateway-core",
            "throng-client-core",
        ],
    ),
    (
        "throng-benches",
        &[
            "throng-base",
            "throng-wire",
            "throng-ws",
            "throng-runtime",
            "throng-storage-core",
            "throng-router-core",
            "throng-gateway-core",
            "throng-client-core",
        ],
    ),
    // A node without sockets, for the recorded disk.
    (
        "throng-power",
        &[
            "throng-base",
            "throng-wire",
            "throng-runtime",
            "throng-storage-core",
            "throng-storage",
            "throng-router-core",
        ],
    ),
    ("xtask", &[]),
];

/// Outside crates that a pure crate may use: codecs and hashes, nothing that knows a clock, socket or thread.
const PURE: &[(&str, &[&str])] = &[
    ("throng-base", &[]),
    ("throng-ws", &["bytes", "ring", "sha1"]),
    ("throng-wire", &["bytes", "prost", "sha2"]),
    ("throng-storage-core", &["bytes", "prost", "raft", "protobuf", "slog", "crc32c"]),
    ("throng-router-core", &["bytes", "sha2"]),
    ("throng-gateway-core", &["bytes"]),
    ("throng-client-core", &["bytes"]),
];

/// Programs that must start without RocksDB: its threads are not deterministic, and it takes minutes to build.
const WITHOUT_ROCKSDB: &[&str] = &["throng-sim", "throng-benches", "throng-loadgen", "xtask"];
const ROCKSDB: &str = "librocksdb-sys";

/// Checks the tables above against what cargo says about the workspace.
pub(crate) fn check(metadata: &Metadata) -> Breaches {
    let members = metadata.packages.iter().filter(|package| package.member);
    let workspace = members.map(|package| (package.name.clone(), names_used(package))).collect();
    let mut breaches = breaches_of(&workspace);
    for name in WITHOUT_ROCKSDB.iter().filter(|name| metadata.reaches(name, ROCKSDB)) {
        breaches.push(format!("{name} links {ROCKSDB}; depend on cores, not on the storage driver"));
    }
    breaches
}

/// Dev-dependencies are free: a test may use what it likes.
fn names_used(package: &Package) -> BTreeSet<String> {
    let used = package.dependencies.iter().filter(|dependency| !dependency.for_tests);
    used.map(|dependency| dependency.name.clone()).collect()
}

fn breaches_of(workspace: &BTreeMap<String, BTreeSet<String>>) -> Breaches {
    let mut breaches = Breaches::new();
    for (name, used) in workspace {
        let Some((_, allowed)) = LAYERS.iter().find(|(member, _)| member == name) else {
            breaches.push(format!("{name} has no row in xtask/src/tidy/layers.rs; give it its place"));
            continue;
        };
        let inside = used.iter().filter(|other| workspace.contains_key(*other));
        for other in inside.filter(|other| !allowed.contains(&other.as_str())) {
            breaches.push(format!("{name} may not depend on {other}; move what it needs to a lower layer"));
        }
        let Some((_, allowed)) = PURE.iter().find(|(member, _)| member == name) else { continue };
        let outside = used.iter().filter(|other| !workspace.contains_key(*other));
        for other in outside.filter(|other| !allowed.contains(&other.as_str())) {
            breaches.push(format!("{name} is pure and may not use {other}; leave that to its driver"));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(rows: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let owned = |used: &&[&str]| used.iter().map(|name| (*name).to_owned()).collect();
        rows.iter().map(|(name, used)| ((*name).to_owned(), owned(used))).collect()
    }

    #[test]
    fn every_row_names_crates_that_have_a_row() {
        for (name, allowed) in LAYERS {
            for other in *allowed {
                assert!(LAYERS.iter().any(|(member, _)| member == other), "{name} allows unknown {other}");
                assert_ne!(name, other);
            }
        }
    }

    #[test]
    fn a_core_may_not_import_a_driver_or_a_clock() {
        let found = breaches_of(&workspace(&[
            ("throng-router-core", &["throng-runtime", "throng-wire", "tokio", "bytes"]),
            ("throng-runtime", &[]),
            ("throng-wire", &[]),
        ]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("throng-runtime"));
        assert!(found[1].contains("tokio"));
    }

    #[test]
    fn a_crate_without_a_row_is_a_breach() {
        assert_eq!(breaches_of(&workspace(&[("throng-new", &[])])).len(), 1);
    }
}
