//! Planted bugs stay in the simulator: nothing else may turn on the feature that compiles them.

use super::Breaches;
use super::metadata::Metadata;

const FEATURE: &str = "planted";
const HOME: &str = "throng-sim";

/// No crate but the simulator asks for the feature, and the simulator does not by default.
pub(crate) fn check(metadata: &Metadata) -> Breaches {
    let mut breaches = Breaches::new();
    for package in metadata.packages.iter().filter(|package| package.member) {
        let asked = package.dependencies.iter().flat_map(|dependency| &dependency.features);
        if asked.clone().any(|feature| feature == FEATURE) {
            breaches.push(format!(
                "{} enables `{FEATURE}` of a dependency; only a feature of {HOME} may",
                package.name
            ));
        }
        let passed_on = package.turns_on.iter().any(|feature| feature.ends_with(&format!("/{FEATURE}")));
        if passed_on && package.name != HOME {
            breaches.push(format!("a feature of {} enables `{FEATURE}`; only {HOME} may", package.name));
        }
        if package.turns_on.iter().any(|feature| feature == FEATURE) {
            breaches.push(format!(
                "a feature of {} turns on `{FEATURE}`; it is asked for by name alone",
                package.name
            ));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn breaches(name: &str, features: Value, asked: Value) -> usize {
        let dependency = json!({"name": "throng-base", "kind": null, "features": asked});
        let package = json!({"id": "a", "name": name, "dependencies": [dependency], "features": features});
        let json = json!({"workspace_members": ["a"], "packages": [package], "resolve": {"nodes": []}});
        check(&Metadata::of(&json)).len()
    }

    #[test]
    fn only_a_feature_of_the_simulator_plants() {
        assert_eq!(breaches("throng-sim", json!({"planted": ["throng-base/planted"]}), json!([])), 0);
        assert_eq!(breaches("throng-node", json!({"x": ["throng-base/planted"]}), json!([])), 1);
        assert_eq!(breaches("throng-node", json!({}), json!(["planted"])), 1);
        assert_eq!(breaches("throng-sim", json!({"default": ["planted"]}), json!([])), 1);
    }
}
