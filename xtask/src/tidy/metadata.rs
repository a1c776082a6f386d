//! What cargo says about the workspace and everything it builds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Result;
use crate::process::{cargo, output_of};

/// The workspace and its dependencies on this platform.
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    name_by_id: BTreeMap<String, String>,
    used_by_id: BTreeMap<String, Vec<String>>,
}

/// One package, ours or not.
pub(crate) struct Package {
    pub(crate) name: String,
    /// SPDX expression; empty if it states none.
    pub(crate) licence: String,
    /// Is it a member of the workspace?
    pub(crate) member: bool,
    pub(crate) dependencies: Vec<Dependency>,
    /// What its own features turn on.
    pub(crate) turns_on: Vec<String>,
}

/// A dependency as the manifest states it.
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// A dev-dependency.
    pub(crate) for_tests: bool,
    /// Features that it asks for.
    pub(crate) features: Vec<String>,
}

impl Metadata {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Metadata> {
        // Only what this machine would build: other platforms would only be downloaded.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut command = cargo();
        command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &platform]);
        let text = output_of(&mut command)?;
        let json =
            serde_json::from_str(&text).map_err(|error| format!("cargo metadata is no JSON: {error}"))?;
        Ok(Metadata::of(&json))
    }

    pub(crate) fn of(json: &Value) -> Metadata {
        let members: BTreeSet<&str> =
            array(&json["workspace_members"]).iter().filter_map(Value::as_str).collect();
        let packages = array(&json["packages"]);
        let nodes = array(&json["resolve"]["nodes"]).iter();
        Metadata {
            packages: packages.iter().map(|package| package_of(package, &members)).collect(),
            name_by_id: packages
                .iter()
                .map(|package| (string(&package["id"]), string(&package["name"])))
                .collect(),
            used_by_id: nodes
                .map(|node| {
                    (string(&node["id"]), array(&node["deps"]).iter().filter_map(normal_id).collect())
                })
                .collect(),
        }
    }

    /// Does a normal build of package `from` compile package `to`?
    pub(crate) fn reaches(&self, from: &str, to: &str) -> bool {
        let start = self.name_by_id.iter().filter(|(_, name)| *name == from);
        let mut pending: Vec<&str> = start.map(|(id, _)| id.as_str()).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if self.name_by_id.get(id).is_some_and(|name| name == to) {
                return true;
            }
            if seen.insert(id) {
                pending.extend(self.used_by_id.get(id).into_iter().flatten().map(String::as_str));
            }
        }
        false
    }
}

fn package_of(json: &Value, members: &BTreeSet<&str>) -> Package {
    let dependency = |json: &Value| Dependency {
        name: string(&json["name"]),
        for_tests: json["kind"].as_str() == Some("dev"),
        features: array(&json["features"]).iter().map(string).collect(),
    };
    Package {
        name: string(&json["name"]),
        licence: string(&json["license"]),
        member: json["id"].as_str().is_some_and(|id| members.contains(id)),
        dependencies: array(&json["dependencies"]).iter().map(dependency).collect(),
        turns_on: json["features"]
            .as_object()
            .into_iter()
            .flat_map(|features| features.values())
            .flat_map(array)
            .map(string)
            .collect(),
    }
}

fn normal_id(dependency: &Value) -> Option<String> {
    let is_normal = array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    is_normal.then(|| string(&dependency["pkg"]))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_follows_normal_dependencies_only() {
        let through = |kind: Value| {
            let dependency = serde_json::json!({"pkg": "r", "dep_kinds": [{"kind": kind}]});
            let json = serde_json::json!({
                "packages": [{"id": "s", "name": "sim"}, {"id": "d", "name": "driver"}, {"id": "r", "name": "rocksdb"}],
                "resolve": {"nodes": [
                    {"id": "s", "deps": [{"pkg": "d", "dep_kinds": [{"kind": null}]}]},
                    {"id": "d", "deps": [dependency]},
                ]},
            });
            Metadata::of(&json).reaches("sim", "rocksdb")
        };
        assert!(through(Value::Null));
        assert!(!through("dev".into()));
    }
}
