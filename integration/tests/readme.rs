//! What the README says is so: its commands work as written, and its table of promises names the tests there are.

#[path = "support/check.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ambit_lab::sandbox;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const README: &str = include_str!("../../README.md");
const CARGO: &str = include_str!("../Cargo.toml");

fn main() -> std::process::ExitCode {
    let trials = vec![
        Trial::test("the_lab_by_hand_works_as_written", by_hand),
        Trial::test("every_xtask_command_exists", commands),
        Trial::test("the_table_of_promises_is_whole", promises),
        Trial::test("every_file_named_exists", files),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Commands of the README's shell blocks.
fn shell() -> Vec<&'static str> {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// The labs that the README brings up.
const LABS: [&str; 2] = ["hello", "canary"];

fn by_hand() -> Check {
    let labs = std::env::temp_dir().join(format!("ambit-readme-{}", std::process::id()));
    let program = Path::new(env!("CARGO_BIN_EXE_ambit-lab"));
    let run = |words: &[&str]| -> Result<(bool, String), Failed> {
        let mut command = Command::new(program);
        sandbox::forget_namespaces(&mut command);
        let output = command.args(words).current_dir(root()).env("AMBIT_LAB_DIR", &labs).output()?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        println!("$ ambit-lab {}\n{}", words.join(" "), said.concat());
        Ok((output.status.success(), said.concat()))
    };
    let lines = shell().into_iter().filter_map(|line| line.strip_prefix("cargo xtask lab "));
    // The demo's lab, which is broken there on purpose, has a test of its own.
    let lines: Vec<_> = lines.filter(|line| !line.contains("demo")).collect();
    let outcome = (|| {
        check(lines.len() >= 6, || format!("the README's lab is {lines:?}"))?;
        for line in &lines {
            let words: Vec<_> = line.split_whitespace().collect();
            let (well, said) = run(&words)?;
            check(well, || format!("{line}: {said}"))?;
            let expected = match words[0] {
                "up" => "is up",
                "exec" if line.contains("stranger") => "403",
                "exec" if line.contains("x-version:v2") => "Hello from v2",
                "exec" => "Hello from v",
                "status" => "enabled",
                _ => "",
            };
            check(said.contains(expected), || format!("{line}: no {expected:?} in {said}"))?;
        }
        for name in LABS {
            let (runs, said) = run(&["status", "--name", name])?;
            check(!runs, || format!("the lab {name} still runs after the last line: {said}"))?;
        }
        Ok(())
    })();
    // After a failure one may still run; nothing of it may stay.
    for name in LABS {
        let _down = run(&["down", "--name", name]);
    }
    std::fs::remove_dir_all(&labs)?;
    outcome
}

/// The words after `cargo xtask` anywhere in the README are commands that xtask knows.
fn commands() -> Check {
    let xtask = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name("xtask");
    let usage = String::from_utf8(Command::new(xtask).arg("help").output()?.stdout)?;
    let known: BTreeSet<_> = usage
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|word| word.chars().all(char::is_alphanumeric))
        .collect();
    let named: BTreeSet<_> = README
        .split("cargo xtask ")
        .skip(1)
        .filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()).next())
        .collect();
    println!("named: {named:?}; known: {known:?}");
    for needed in ["demo", "test", "check", "bench", "lab"] {
        check(named.contains(needed), || format!("the README does not name cargo xtask {needed}"))?;
    }
    check(named.is_subset(&known), || format!("no such commands: {:?}", named.difference(&known)))?;
    for line in shell() {
        check(line.starts_with("cargo xtask "), || format!("nobody tries {line:?}"))?;
    }
    Ok(())
}

/// The table names every lab test, and every test that it names exists.
fn promises() -> Check {
    let rows = README.lines().filter(|line| line.starts_with("| "));
    // The last column; a promise may quote commands too.
    let column = |row: &'static str| row.trim_end_matches([' ', '|']).rsplit('|').next();
    let tests: Vec<_> = rows.filter_map(|row| column(row)?.split('`').nth(1)).collect();
    let root = root();
    for test in tests.iter().filter(|test| !test.starts_with("cargo ")) {
        check(root.join(test).is_file(), || format!("{test} does not exist"))?;
    }
    let targets: BTreeSet<_> = CARGO
        .split("[[test]]")
        .skip(1)
        .filter_map(|entry| entry.split("name = \"").nth(1)?.split('"').next())
        .collect();
    for target in &targets {
        let path = format!("integration/tests/{target}.rs");
        check(tests.contains(&path.as_str()), || format!("the table does not name {path}"))?;
    }
    // A file without an entry in Cargo.toml is never run.
    for entry in std::fs::read_dir(root.join("integration/tests"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_test = path.extension().is_some_and(|end| end == "rs") && name != "support";
        check(!is_test || targets.contains(name.as_str()), || format!("{} is never run", path.display()))?;
    }
    Ok(())
}

/// Links and paths in the text lead to files.
fn files() -> Check {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links: Vec<_> = links.filter(|link| !link.contains("://")).collect();
    check(links.len() > 3, || format!("{links:?}"))?;
    for link in links {
        check(root().join(link).exists(), || format!("{link} does not exist"))?;
    }
    Ok(())
}
