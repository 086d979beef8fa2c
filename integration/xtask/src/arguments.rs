//! What was asked for, read once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::images;

/// One command with its options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Check,
    Test(TestOptions),
    /// Anything that the lab's program does, with its arguments.
    Lab(Vec<String>),
    /// Anything that the command for users does, with its arguments.
    Ambit(Vec<String>),
    /// Anything that the cluster's program does, with its arguments.
    Cluster(Vec<String>),
    Images(images::Options),
}

/// What to test, and with whose ztunnel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    pub(crate) parts: Parts,
    pub(crate) ztunnel: Option<PathBuf>,
    pub(crate) guides: Option<PathBuf>,
    /// Whether what takes its time has it: streams of ten minutes instead of two, longer outages, more pods.
    pub(crate) is_long: bool,
}

/// Which tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Those that need nothing but the machine.
    Unit,
    /// Real programs over real packets, in network namespaces.
    Lab,
    /// The same on a real Kubernetes.
    Kubernetes,
}

/// The parts that were named; all of them when none was.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Parts(pub(crate) BTreeSet<Part>);

impl Parts {
    /// Whether this part is asked for.
    pub(crate) fn have(&self, part: Part) -> bool {
        self.0.is_empty() || self.0.contains(&part)
    }

    /// Whether every part is.
    pub(crate) fn are_all(&self) -> bool {
        [Part::Unit, Part::Lab, Part::Kubernetes].into_iter().all(|part| self.have(part))
    }
}

/// Reads the words after `cargo xtask`.
pub(crate) fn parse(words: &[String]) -> Result<Command, String> {
    let Some((command, rest)) = words.split_first() else {
        return Err("name a command".to_owned());
    };
    match command.as_str() {
        "help" | "--help" | "-h" => Ok(Command::Help),
        "check" => match rest.first() {
            None => Ok(Command::Check),
            Some(word) => Err(format!("check takes no {word:?}")),
        },
        "test" => test(rest).map(Command::Test),
        "demo" => demo(rest),
        "bench" => bench(rest),
        "lab" => Ok(Command::Lab(rest.to_vec())),
        "ambit" => Ok(Command::Ambit(rest.to_vec())),
        "cluster" => Ok(Command::Cluster(rest.to_vec())),
        "images" => images(rest).map(Command::Images),
        other => Err(format!("there is no command {other:?}")),
    }
}

fn test(words: &[String]) -> Result<TestOptions, String> {
    let mut options = TestOptions::default();
    let mut words = words.iter();
    let mut parts = BTreeSet::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--unit" => drop(parts.insert(Part::Unit)),
            "--lab" => drop(parts.insert(Part::Lab)),
            "--kubernetes" => drop(parts.insert(Part::Kubernetes)),
            "--long" => options.is_long = true,
            "--ztunnel" => options.ztunnel = Some(path(word, words.next())?),
            "--guides" => options.guides = Some(path(word, words.next())?),
            other => return Err(format!("test takes no {other:?}")),
        }
    }
    options.parts = Parts(parts);
    Ok(options)
}

fn demo(words: &[String]) -> Result<Command, String> {
    let mut lab = vec!["demo".to_owned()];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--once" => lab.push(word.clone()),
            "--record" | "--picture" | "--from" => {
                let value = words.next().ok_or_else(|| format!("{word} needs a file"))?;
                lab.extend([word.clone(), value.clone()]);
            }
            other => {
                return Err(format!("demo takes no {other:?}; cargo xtask lab demo --help lists the rest"));
            }
        }
    }
    Ok(Command::Lab(lab))
}

fn bench(words: &[String]) -> Result<Command, String> {
    let (layer, words) = match words.split_first() {
        Some((layer, rest)) if matches!(layer.as_str(), "l4" | "l7" | "checkout") => (layer.as_str(), rest),
        _ => ("l4", words),
    };
    let peer = match layer {
        "l4" => Some("--ztunnel"),
        "l7" => Some("--envoy"),
        _ => None,
    };
    let mut lab = vec!["bench".to_owned(), layer.to_owned()];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--proxies-only" if peer.is_none() => {
                return Err(format!("bench {layer} takes no {word:?}"));
            }
            "--json" | "--proxies-only" => lab.push(word.clone()),
            named if Some(named) == peer => {
                lab.push(word.clone());
                lab.push(path(word, words.next())?.display().to_string());
            }
            "--only" | "--rounds" | "--seconds" | "--connections" | "--markdown" => {
                let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
                lab.extend([word.clone(), value.clone()]);
            }
            other => return Err(format!("bench {layer} takes no {other:?}")),
        }
    }
    Ok(Command::Lab(lab))
}

fn images(words: &[String]) -> Result<images::Options, String> {
    let mut options = images::Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => options.build = images::Build::Quick,
            "--profile" => {
                let name = value()?;
                let build = images::Build::of_profile(&name);
                options.build =
                    build.ok_or_else(|| format!("--profile {name}: it is dist, release or dev"))?;
            }
            "--samples" => options.samples = images::Samples::StoodInFor,
            "--hub" => options.hub = value()?,
            "--tag" => options.tag = Some(value()?),
            other => return Err(format!("images takes no {other:?}")),
        }
    }
    Ok(options)
}

/// A file named by an option, made absolute: what we start may run in another folder.
fn path(option: &str, value: Option<&String>) -> Result<PathBuf, String> {
    let value = value.ok_or_else(|| format!("{option} needs a path"))?;
    Path::new(value).canonicalize().map_err(|error| format!("{option} {value}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn lab(line: &str) -> Command {
        Command::Lab(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn commands_are_read() {
        let here = Path::new(".").canonicalize().unwrap();
        let of = |parts: &[Part]| Parts(parts.iter().copied().collect());
        let test = |parts: &[Part]| Command::Test(TestOptions { parts: of(parts), ..TestOptions::default() });
        let image = |build| Command::Images(images::Options { build, ..images::Options::default() });
        let cases = [
            ("help", Command::Help),
            ("check", Command::Check),
            ("test", test(&[])),
            ("test --unit", test(&[Part::Unit])),
            ("test --lab", test(&[Part::Lab])),
            ("test --lab --unit", test(&[Part::Unit, Part::Lab])),
            ("test --kubernetes", test(&[Part::Kubernetes])),
            ("test --long", Command::Test(TestOptions { is_long: true, ..TestOptions::default() })),
            ("demo", lab("demo")),
            ("demo --once", lab("demo --once")),
            ("demo --record run.json --picture p.svg", lab("demo --record run.json --picture p.svg")),
            ("bench", lab("bench l4")),
            ("bench l4 --json", lab("bench l4 --json")),
            ("bench --only bulk1 --rounds 5", lab("bench l4 --only bulk1 --rounds 5")),
            ("bench l7 --only memory", lab("bench l7 --only memory")),
            ("bench checkout --only orders10", lab("bench checkout --only orders10")),
            ("lab up dir --nodes 3", lab("up dir --nodes 3")),
            ("images", image(images::Build::Shipped)),
            ("images --quick", image(images::Build::Quick)),
            ("images --profile dev", image(images::Build::Development)),
            ("ambit version", Command::Ambit(vec!["version".to_owned()])),
            (
                "cluster up --nodes 3",
                Command::Cluster(vec!["up".to_owned(), "--nodes".to_owned(), "3".to_owned()]),
            ),
        ];
        for (line, command) in cases {
            assert_eq!(read(line), Ok(command), "{line}");
        }
        let (parts, ztunnel, guides) = (of(&[Part::Lab]), Some(here.clone()), Some(here));
        let options = TestOptions { parts, ztunnel, guides, is_long: false };
        assert_eq!(read("test --lab --ztunnel . --guides ."), Ok(Command::Test(options)));
    }

    #[test]
    fn no_part_named_is_all_of_them() {
        let named = Parts(BTreeSet::from([Part::Lab]));
        assert!(Parts::default().are_all() && !named.are_all());
        assert!(named.have(Part::Lab) && !named.have(Part::Kubernetes));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("", "name a command"),
            ("tset", "\"tset\""),
            ("check --fast", "\"--fast\""),
            ("test --labs", "\"--labs\""),
            ("test --ztunnel", "needs a path"),
            ("test --ztunnel ./does/not/exist", "does/not/exist"),
            ("demo --twice", "\"--twice\""),
            ("demo --record", "needs a file"),
            ("bench l5", "\"l5\""),
            ("bench l7 --ztunnel x", "\"--ztunnel\""),
            ("bench --envoy x", "\"--envoy\""),
            ("images --tag", "needs a value"),
            ("images ztunnel", "\"ztunnel\""),
            ("images --profile fast", "dist, release or dev"),
            ("bench checkout --proxies-only", "\"--proxies-only\""),
        ];
        for (line, part) in cases {
            let problem = read(line).unwrap_err();
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }
}
