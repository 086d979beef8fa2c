//! Versions in Cargo.lock: advisories that bind us, and crates that must not be there.

use super::exceptions::Exceptions;
use super::{Outcome, outcome};

/// Where every crate must come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The first version without a known advisory that concerns us; a name that ends in `*` is a family.
const MINIMUMS: [(&str, [u64; 3]); 11] = [
    ("h2", [0, 4, 16]),
    ("tonic", [0, 12, 3]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("aws-lc-sys", [0, 39, 0]),
    ("hickory-*", [0, 26, 1]),
    ("bytes", [1, 11, 1]),
    ("slab", [0, 4, 11]),
    ("crossbeam-channel", [0, 5, 15]),
    ("quinn-proto", [0, 11, 15]),
    ("lru", [0, 18, 2]),
];

/// Unmaintained, unsound, or a second library for what we have.
const BANNED: [(&str, &str); 13] = [
    ("serde_yml", "unsound"),
    ("serde_yaml", "unmaintained"),
    ("im", "unmaintained: imbl"),
    ("backoff", "unmaintained: ambit_process::backoff"),
    ("rustls-pemfile", "unmaintained: rustls-pki-types"),
    ("instant", "unmaintained"),
    ("paste", "unmaintained"),
    ("bincode", "unmaintained"),
    ("ring", "aws-lc-rs is our one cryptography"),
    ("openssl", "aws-lc-rs is our one cryptography"),
    ("openssl-sys", "aws-lc-rs is our one cryptography"),
    ("native-tls", "rustls is our one TLS"),
    ("protobuf", "prost is our one protobuf"),
];

/// One `[[package]]` of Cargo.lock.
#[derive(Debug, PartialEq, Eq)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

pub(super) fn minimums(lock: &str) -> Outcome {
    let packages = packages(lock);
    let mut problems = Vec::new();
    for package in &packages {
        for (_, minimum) in MINIMUMS.iter().filter(|(name, _)| covers(name, &package.name)) {
            if number(&package.version).is_none_or(|version| version < *minimum) {
                let [major, minor, patch] = minimum;
                let Locked { name, version, .. } = package;
                problems
                    .push(format!("{name} {version}: advisories ask for {major}.{minor}.{patch} or later"));
            }
        }
    }
    outcome(problems, format!("{} crates against {} advisories' minimums", packages.len(), MINIMUMS.len()))
}

pub(super) fn banned(lock: &str, exceptions: &Exceptions) -> Outcome {
    let packages = packages(lock);
    let mut problems = Vec::new();
    for (name, reason) in BANNED {
        let excused = exceptions.crates.iter().any(|crate_| crate_ == name);
        match (packages.iter().any(|package| package.name == name), excused) {
            (true, false) => problems.push(format!("{name}: {reason}")),
            (false, true) => problems.push(format!("{name}: excused, but gone: remove the exception")),
            _ => {}
        }
    }
    let unknown = exceptions.crates.iter().filter(|name| BANNED.iter().all(|(banned, _)| banned != name));
    problems.extend(unknown.map(|name| format!("{name}: excused, but not banned")));
    let foreign =
        packages.iter().filter(|package| package.source.as_deref().is_some_and(|source| source != REGISTRY));
    problems.extend(foreign.map(|package| format!("{}: not from crates.io", package.name)));
    outcome(problems, format!("{} crates, {} excused", packages.len(), exceptions.crates.len()))
}

fn covers(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |family| name.starts_with(family))
}

fn packages(lock: &str) -> Vec<Locked> {
    let sections = lock.split("[[package]]").skip(1);
    sections
        .filter_map(|section| {
            let value = |key: &str| {
                let line =
                    section.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix("= "))?;
                Some(line.trim().trim_matches('"').to_owned())
            };
            Some(Locked { name: value("name ")?, version: value("version ")?, source: value("source ") })
        })
        .collect()
}

/// The three numbers of a release; a pre-release of a version counts as less than it, so it is none.
fn number(version: &str) -> Option<[u64; 3]> {
    let release = version.split('+').next()?;
    let mut parts = release.split('.').map(|part| part.parse().ok());
    let number = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str, &str)]) -> String {
        let entry = |(name, version, source): &(&str, &str, &str)| {
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\ndependencies = [\n \"ring\",\n]\n\n"
            )
        };
        format!("version = 4\n\n{}", packages.iter().map(entry).collect::<String>())
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let cases = [
            ("h2", "0.4.16", 0),
            ("h2", "0.4.9", 1),
            ("h2", "0.4.100", 0),
            ("h2", "1.0.0", 0),
            ("h2", "0.4.16-rc.1", 1),
            ("hickory-proto", "0.26.0", 1),
            ("hickory-resolver", "0.26.3", 0),
            ("aws-lc-sys", "0.39.0+1", 0),
            ("h2-other", "0.0.1", 0),
        ];
        for (name, version, problems) in cases {
            let found =
                minimums(&lock(&[(name, version, REGISTRY)])).err().map_or(0, |problems| problems.len());
            assert_eq!(found, problems, "{name} {version}");
        }
        let two = lock(&[("slab", "0.4.12", REGISTRY), ("slab", "0.4.10", REGISTRY)]);
        assert_eq!(minimums(&two).unwrap_err().len(), 1, "every version counts");
    }

    #[test]
    fn banned_crates_need_an_exception_that_is_needed() {
        let excused = |names: &[&str]| Exceptions {
            crates: names.iter().map(|name| (*name).to_owned()).collect(),
            lines: Vec::new(),
        };
        let with = lock(&[("ring", "0.17.14", REGISTRY)]);
        let without = lock(&[("serde", "1.0.0", REGISTRY)]);
        assert!(banned(&with, &excused(&[])).is_err());
        assert!(banned(&with, &excused(&["ring"])).is_ok());
        assert!(banned(&without, &excused(&[])).is_ok(), "a name in a list of dependencies is no package");
        assert!(banned(&without, &excused(&["ring"])).is_err());
        assert!(banned(&without, &excused(&["serde"])).is_err());
        assert!(banned(&lock(&[("serde", "1.0.0", "git+https://x.y/z")]), &excused(&[])).is_err());
    }
}
