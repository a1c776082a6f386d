//! Licences and reasons of dependencies, checked against `deny.toml` without cargo-deny or a network.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Breaches;
use super::metadata::{Metadata, Package};
use crate::Result;

/// Every outside package has a licence we allow, and every direct one a reason.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<Breaches> {
    let text = fs::read_to_string(root.join("deny.toml")).map_err(|error| format!("deny.toml: {error}"))?;
    let mut breaches = licence_breaches(&allowed_licences(&text), &metadata.packages);
    breaches.extend(reason_breaches(&text, &metadata.packages));
    Ok(breaches)
}

/// The strings of the array `allow = [ … ]`.
fn allowed_licences(deny: &str) -> BTreeSet<&str> {
    let array = deny
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(array, _)| array);
    array.split('"').skip(1).step_by(2).collect()
}

fn licence_breaches(allowed: &BTreeSet<&str>, packages: &[Package]) -> Breaches {
    let outside = packages.iter().filter(|package| !package.member);
    outside
        .filter(|package| !is_allowed(allowed, &package.licence))
        .map(|package| {
            format!("{} is licensed '{}', which deny.toml does not allow", package.name, package.licence)
        })
        .collect()
}

/// Evaluates the little of SPDX that crates use: OR (also written `/`), AND, one level of parentheses.
fn is_allowed(allowed: &BTreeSet<&str>, licence: &str) -> bool {
    let flat = licence.replace('/', " OR ");
    flat.split(" AND ").all(|part| {
        let choices = part.trim().trim_start_matches('(').trim_end_matches(')');
        choices.split(" OR ").any(|choice| allowed.contains(choice.trim()))
    })
}

fn reason_breaches(deny: &str, packages: &[Package]) -> Breaches {
    let mut breaches = Breaches::new();
    let reasons: BTreeSet<&str> = deny
        .lines()
        .filter_map(|line| line.strip_prefix("# why ")?.split_once(": "))
        .filter(|(_, reason)| !reason.is_empty())
        .map(|(name, _)| name)
        .collect();
    let members: BTreeSet<&str> =
        packages.iter().filter(|package| package.member).map(|package| package.name.as_str()).collect();
    let used: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package.member)
        .flat_map(|package| package.dependencies.iter().map(|dependency| dependency.name.as_str()))
        .filter(|name| !members.contains(name))
        .collect();
    for name in used.difference(&reasons) {
        breaches.push(format!(
            "{name} has no '# why {name}: …' in deny.toml; say why it is here, or take it out"
        ));
    }
    for name in reasons.difference(&used) {
        breaches.push(format!("deny.toml explains {name}, which no member uses; take the line out"));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::Dependency;

    fn package(name: &str, licence: &str, member: bool, used: &[&str]) -> Package {
        let dependency =
            |name: &&str| Dependency { name: (*name).to_owned(), for_tests: false, features: Vec::new() };
        Package {
            name: name.into(),
            licence: licence.into(),
            member,
            dependencies: used.iter().map(dependency).collect(),
            turns_on: Vec::new(),
        }
    }

    #[test]
    fn licences_are_alternatives_and_conjunctions() {
        let allowed = BTreeSet::from(["MIT", "ISC", "Unicode-3.0"]);
        for good in
            ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT AND ISC"]
        {
            assert!(is_allowed(&allowed, good), "{good}");
        }
        for bad in ["GPL-3.0", "", "Apache-2.0 AND ISC", "MIT AND GPL-3.0"] {
            assert!(!is_allowed(&allowed, bad), "{bad}");
        }
    }

    #[test]
    fn the_allow_list_is_read_from_deny_toml() {
        let deny = "[licenses]\nallow = [\n    \"MIT\",\n    \"ISC\",\n]\n";
        assert_eq!(allowed_licences(deny), BTreeSet::from(["MIT", "ISC"]));
    }

    #[test]
    fn a_dependency_needs_a_reason_and_a_reason_a_dependency() {
        let packages =
            [package("throng-x", "", true, &["bytes", "left-pad"]), package("bytes", "MIT", false, &[])];
        let found = reason_breaches("# why bytes: sharing\n# why gone: it was needed\n", &packages);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("left-pad"));
        assert!(found[1].contains("gone"));
    }
}
