//! Running the tests: one release build of everything, one sum, and no test left out silently.
//!
//! cargo builds the tests' programs; they are run from here, most of them alone, some two at a time (see `beside`), and
//! some on a cluster (see `kubernetes`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use crate::arguments::{Part, Parts, TestOptions};
use crate::peers;
use crate::run::{ALL_FEATURES, Failure, Reach, Workspace, succeeds, variable};

mod beside;
mod helm;
mod kubernetes;
mod program;

use program::Program;

/// The package whose `tests/` need network namespaces.
const LAB: &str = "ambit-lab";

/// Tests that may be skipped where what they need is missing, each with its reason.
const SKIPS: &str = "integration/tests/skips.txt";

/// What is asked of somebody else's ztunnel: the tests of what the protocols promise, by every ztunnel.
const FOREIGN: [&str; 8] = ["wire", "enrol", "identity", "modes", "authz", "bypass", "names", "restart"];

/// What a line begins with by which such a test says what it did not ask.
const LEFT_OUT: &str = "LEFT OUT with a foreign ztunnel: ";

/// What the tests' own lines said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Test and reason.
    skipped: BTreeMap<String, String>,
    /// What was not asked of a foreign ztunnel, by the test that says so.
    left_out: BTreeSet<String>,
}

/// Builds and runs what was asked for.
pub(crate) fn all(workspace: &Workspace, options: &TestOptions) -> Result<(), Failure> {
    let allowed = allowed(&read_skips(&workspace.root.join(SKIPS))?)?;
    let targets = match &options.ztunnel {
        Some(_) => FOREIGN.iter().flat_map(|name| ["--test".to_owned(), (*name).to_owned()]).collect(),
        None => targets(&workspace.packages, &options.parts),
    };
    if !options.parts.are_all() && targets.is_empty() {
        // No names would mean all targets.
        return Err(Failure("there are no such tests".to_owned()));
    }
    // Programs as they are shipped, in every part: another build for each would take longer than it tells.
    workspace.build_with(Reach::Clusters)?;
    let environment = environment(workspace, options);
    let programs = program::build(workspace, &targets)?;
    let (on_clusters, programs): (Vec<_>, Vec<_>) = programs.into_iter().partition(kubernetes::needs);
    let mut tally = Tally::default();
    let mut failed = run(&programs, &environment, &mut tally);
    if !on_clusters.is_empty() {
        failed.extend(kubernetes::run(workspace, &on_clusters, &environment, &mut tally));
    }
    if options.parts.have(Part::Unit) && options.ztunnel.is_none() {
        let mut documents = workspace.cargo();
        documents.args(["test", "--quiet", "--release", "--workspace", ALL_FEATURES, "--doc"]);
        failed.extend(
            succeeds(&mut documents).is_err().then(|| "the examples in the documentation".to_owned()),
        );
    }
    for (test, reason) in &tally.skipped {
        println!("skipped: {test}: {reason}");
    }
    for what in &tally.left_out {
        println!("left out: {what}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if !failed.is_empty() {
        return Err(Failure(format!("failed: {}", failed.join(", "))));
    }
    judge(&tally, &allowed, is_ci())
}

/// What the tests are told by their environment.
fn environment(workspace: &Workspace, options: &TestOptions) -> BTreeMap<&'static str, OsString> {
    let mut told = BTreeMap::new();
    let named = [("AMBIT_ZTUNNEL", &options.ztunnel), ("AMBIT_GUIDES", &options.guides)];
    told.extend(named.into_iter().filter_map(|(name, path)| Some((name, path.clone()?.into_os_string()))));
    if options.is_long {
        told.insert("AMBIT_LONG", "1".into());
    }
    if options.parts.have(Part::Lab) {
        match peers::envoy(workspace) {
            Ok(program) => told.insert("AMBIT_ENVOY", program.into_os_string()),
            // The test says so and is skipped, which CI does not let pass.
            Err(Failure(reason)) => told.insert("AMBIT_ENVOY_MISSING", reason.into()),
        };
    }
    told
}

/// Runs everything, and returns the names of what failed: first what must be alone, then the rest, two at a time.
fn run(
    programs: &[Program],
    environment: &BTreeMap<&'static str, OsString>,
    tally: &mut Tally,
) -> Vec<String> {
    let (beside, alone): (Vec<_>, Vec<_>) =
        programs.iter().partition(|program| program.package == LAB && beside::may(&program.name));
    let mut failed = Vec::new();
    for program in alone {
        let outcome = program.stream(environment, &mut |line| tally.read(line));
        failed.extend(outcome.err().map(|Failure(why)| format!("{} ({why})", program.name)));
    }
    beside::run(&beside, environment, &mut |program, run| {
        println!("{}", run.output);
        run.output.lines().for_each(|line| tally.read(line));
        failed.extend(run.outcome.err().map(|Failure(why)| format!("{} ({why})", program.name)));
    });
    failed
}

/// The targets of those parts. Always the whole workspace's packages, so that no part asks for other features of a
/// dependency than another and everything is compiled once.
fn targets(packages: &[Value], parts: &Parts) -> Vec<String> {
    if parts.are_all() {
        return Vec::new();
    }
    let tests = packages.iter().flat_map(|package| {
        let targets = package["targets"].as_array().into_iter().flatten();
        let tests = targets.filter(|target| target["kind"][0] == "test");
        tests.filter_map(move |target| Some((package["name"].as_str()?, target["name"].as_str()?)))
    });
    let tests = tests.filter(|(package, test)| parts.have(part(package, test)));
    let named = tests.flat_map(|(_package, test)| ["--test".to_owned(), test.to_owned()]);
    let own = if parts.have(Part::Unit) { &["--lib", "--bins"][..] } else { &[] };
    own.iter().map(|word| (*word).to_owned()).chain(named).collect()
}

/// The part that a test target of a package belongs to.
fn part(package: &str, test: &str) -> Part {
    match package {
        _ if kubernetes::TESTS.contains(&(package, test)) => Part::Kubernetes,
        LAB => Part::Lab,
        _ => Part::Unit,
    }
}

impl Tally {
    /// Takes from one line what it says about tests.
    fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(summary) = line.strip_prefix("test result:") {
            self.passed += count(summary, "passed");
            self.failed += count(summary, "failed");
        } else if let Some(what) = line.strip_prefix(LEFT_OUT) {
            self.left_out.insert(what.to_owned());
        } else if let Some(skipped) = line.strip_prefix("SKIPPED ") {
            let (test, reason) = skipped.split_once(':').unwrap_or((skipped, "no reason given"));
            self.skipped.insert(test.trim().to_owned(), reason.trim().to_owned());
        } else if let Some((test, reason)) = ignored(line) {
            self.skipped.insert(test, reason);
        }
    }
}

/// The number before a word: `… 12 passed; …`.
fn count(summary: &str, word: &str) -> u64 {
    let parts = summary.split([';', '.', ',']).map(str::trim);
    let numbers = parts.filter_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok());
    numbers.sum()
}

/// `test NAME ... ignored, REASON`, which is a skipped test too.
fn ignored(line: &str) -> Option<(String, String)> {
    let (test, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let reason = outcome.strip_prefix("ignored")?.trim_start_matches(',').trim();
    Some((test.trim().to_owned(), if reason.is_empty() { "ignored".to_owned() } else { reason.to_owned() }))
}

fn read_skips(path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        outcome => outcome.map_err(|error| Failure::new(path.display(), error)),
    }
}

/// The list of tests that may be skipped: `NAME: REASON` a line.
fn allowed(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (test, reason) = line.split_once(':').map(|(test, reason)| (test.trim(), reason.trim()))?;
        (!test.is_empty() && !reason.is_empty()).then(|| (test.to_owned(), reason.to_owned()))
    };
    lines
        .map(|line| entry(line).ok_or_else(|| Failure::new(SKIPS, format!("{line:?} is not NAME: REASON"))))
        .collect()
}

/// Whether tests that were skipped are a failure: on a developer's machine they are not, in CI they are unless listed.
fn judge(tally: &Tally, allowed: &BTreeMap<String, String>, ci: bool) -> Result<(), Failure> {
    if tally.failed > 0 {
        return Err(Failure(format!("{} tests failed", tally.failed)));
    }
    let unlisted: Vec<_> =
        tally.skipped.keys().filter(|test| !allowed.contains_key(*test)).cloned().collect();
    if ci && !unlisted.is_empty() {
        return Err(Failure(format!("skipped, and not listed in {SKIPS}: {}", unlisted.join(", "))));
    }
    Ok(())
}

fn is_ci() -> bool {
    variable("CI").is_some_and(|value| value != "false" && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn results_are_summed_and_skips_collected() {
        let tally = tally(&[
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s",
            "test a::b ... ok",
            "test a::c ... ignored, needs a moon",
            "test a::d ... ignored",
            "  SKIPPED capture_unprivileged: no user namespaces: EPERM",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s",
            "nothing: 7 passed; 9 failed",
            "LEFT OUT with a foreign ztunnel: a::b: the colour",
        ]);
        assert_eq!((tally.passed, tally.failed), (15, 2));
        assert_eq!(tally.left_out, BTreeSet::from(["a::b: the colour".to_owned()]));
        let skipped: Vec<_> =
            tally.skipped.iter().map(|(test, reason)| (test.as_str(), reason.as_str())).collect();
        let expected = [
            ("a::c", "needs a moon"),
            ("a::d", "ignored"),
            ("capture_unprivileged", "no user namespaces: EPERM"),
        ];
        assert_eq!(skipped, expected);
    }

    #[test]
    fn a_skip_fails_ci_unless_listed() {
        let skipped = tally(&["SKIPPED capture: no root"]);
        let none = BTreeMap::new();
        assert!(judge(&skipped, &none, false).is_ok());
        assert!(judge(&skipped, &none, true).unwrap_err().0.contains("capture"));
        let listed = allowed("# why\n\ncapture: needs root\n").unwrap();
        assert!(judge(&skipped, &listed, true).is_ok());
        assert!(judge(&tally(&["test result: FAILED. 0 passed; 1 failed"]), &none, false).is_err());
    }

    #[test]
    fn parts_name_their_targets() {
        let target = |kind: &str, name: &str| serde_json::json!({"kind": [kind], "name": name});
        let packages = [
            serde_json::json!({"name": "ambit-api", "targets": [target("lib", "ambit_api"), target("test", "regenerate")]}),
            serde_json::json!({"name": "ambit-crds", "targets": [target("test", "cluster")]}),
            serde_json::json!({"name": LAB, "targets": [target("bin", LAB), target("test", "enrol"), target("test", "kubernetes")]}),
        ];
        let of = |parts: &[Part]| targets(&packages, &Parts(parts.iter().copied().collect()));
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[Part::Lab]), ["--test", "enrol"]);
        assert_eq!(of(&[Part::Unit]), ["--lib", "--bins", "--test", "regenerate"]);
        assert_eq!(of(&[Part::Kubernetes]), ["--test", "cluster", "--test", "kubernetes"]);
        assert_eq!(
            of(&[Part::Kubernetes, Part::Lab]),
            ["--test", "cluster", "--test", "enrol", "--test", "kubernetes"]
        );
        assert!(targets(&[], &Parts([Part::Lab].into())).is_empty());
    }

    #[test]
    fn a_skip_needs_a_reason() {
        for text in ["capture", "capture:", ": reason"] {
            assert!(allowed(text).is_err(), "{text}");
        }
    }
}
