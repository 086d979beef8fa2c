//! Arrows between crates: programs stand on the floor, never on each other.

use serde_json::Value;

use super::{Outcome, outcome};

/// A crate, what it may stand on, and what its tests may use besides.
struct Room {
    name: &'static str,
    on: &'static [&'static str],
    tests: &'static [&'static str],
}

/// Every crate of the workspace. A new one is added here, on purpose.
const ROOMS: [Room; 12] = [
    room("ambit-api", &[]),
    room("ambit-process", &["ambit-api"]),
    room("ambit-crds", &["ambit-api", "ambit-process"]),
    room("ambit-transport", &["ambit-api", "ambit-process"]),
    room("ambit-discovery", &["ambit-api", "ambit-process", "ambit-transport"]),
    room("ztunnel", &["ambit-api", "ambit-process", "ambit-transport", "ambit-discovery"]),
    room("waypoint", &["ambit-api", "ambit-process", "ambit-transport", "ambit-discovery"]),
    room("ambit-agent", &["ambit-api", "ambit-crds", "ambit-process", "ambit-transport"]),
    Room {
        name: "controller",
        on: &["ambit-api", "ambit-crds", "ambit-process", "ambit-transport"],
        tests: &["ambit-discovery"],
    },
    // The command lives with the controller: it explains by the very translation that the controller does.
    room(
        "ambit",
        &["ambit-api", "ambit-crds", "ambit-process", "ambit-transport", "ambit-discovery", "controller"],
    ),
    Room { name: "ambit-lab", on: &FLOOR, tests: &["controller", "ztunnel", "ambit-agent"] },
    room("xtask", &[]),
];

/// The crates under `api/`. A sixth needs one removed.
const FLOOR: [&str; 5] = ["ambit-api", "ambit-crds", "ambit-process", "ambit-transport", "ambit-discovery"];

/// What the words of the mesh must never need.
const NOT_IN_WORDS: [&str; 9] =
    ["tokio", "kube", "k8s-openapi", "tonic", "hyper", "h2", "axum", "rustls", "tokio-rustls"];

const fn room(name: &'static str, on: &'static [&'static str]) -> Room {
    Room { name, on, tests: &[] }
}

pub(super) fn check(packages: &[Value]) -> Outcome {
    let names: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut problems: Vec<_> = packages.iter().flat_map(|package| arrows(package, &names)).collect();
    let under = packages
        .iter()
        .filter(|package| is_under_api(package))
        .filter_map(|package| package["name"].as_str());
    let strangers = under.filter(|name| !FLOOR.contains(name));
    problems.extend(
        strangers.map(|name| format!("{name}: stands under api/, which holds {} only", FLOOR.join(", "))),
    );
    outcome(problems, format!("{} crates", packages.len()))
}

/// What is wrong with one crate's dependencies.
fn arrows(package: &Value, members: &[&str]) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!("{name}: not in the table of layers; say what it may stand on")];
    };
    let mut problems = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let on = dependency["name"].as_str().unwrap_or_default();
        let tests_only = dependency["kind"] == "dev";
        let allowed = room.on.contains(&on) || (tests_only && room.tests.contains(&on));
        if members.contains(&on) && !allowed {
            problems.push(format!("{name} may not stand on {on}"));
        }
        if name == "ambit-api" && !tests_only && NOT_IN_WORDS.contains(&on) {
            problems.push(format!("{name} is words only: no {on}"));
        }
    }
    problems
}

fn is_under_api(package: &Value) -> bool {
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let folders: Vec<_> = manifest.split('/').rev().collect();
    // …/api/Cargo.toml or …/api/NAME/Cargo.toml.
    folders.get(1) == Some(&"api") || folders.get(2) == Some(&"api")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, folder: &str, on: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<_> =
            on.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "manifest_path": format!("/x/{folder}/Cargo.toml"), "dependencies": dependencies})
    }

    fn problems(package: Value) -> Vec<String> {
        let others = FLOOR.iter().chain(&["ztunnel", "controller"]).filter(|name| package["name"] != **name);
        let mut packages: Vec<_> =
            others.map(|name| json!({"name": name, "manifest_path": "/x/y/Cargo.toml"})).collect();
        packages.push(package);
        check(&packages).err().unwrap_or_default()
    }

    #[test]
    fn allowed_arrows() {
        let normal = None;
        assert!(
            problems(package("ztunnel", "ztunnel", &[("ambit-discovery", normal), ("tokio", normal)]))
                .is_empty()
        );
        assert!(problems(package("ambit-lab", "integration", &[("controller", Some("dev"))])).is_empty());
        assert!(
            problems(package("ambit-api", "api", &[("tonic", Some("dev")), ("prost", normal)])).is_empty()
        );
        assert!(problems(package("ambit-process", "api/process", &[("ambit-api", normal)])).is_empty());
    }

    #[test]
    fn forbidden_arrows() {
        let cases = [
            (package("ztunnel", "ztunnel", &[("controller", None)]), "ztunnel may not stand on controller"),
            (
                package("ambit-lab", "integration", &[("controller", None)]),
                "ambit-lab may not stand on controller",
            ),
            (package("ambit-process", "api/process", &[("ambit-transport", None)]), "may not stand on"),
            (package("controller", "controller", &[("ambit-discovery", Some("build"))]), "may not stand on"),
            (package("ambit-api", "api", &[("tokio", None)]), "words only: no tokio"),
            (package("stranger", "stranger", &[]), "not in the table"),
            (package("xtask", "api/xtask", &[]), "stands under api/"),
        ];
        for (package, part) in cases {
            let problems = problems(package);
            assert!(problems.len() == 1 && problems[0].contains(part), "{problems:?}");
        }
    }
}
