//! What the README and the pages around it say is so: commands work as written, files and names that are told of exist,
//! the picture is the demo's, and the table of promises names the tests there are.

#[path = "support/check.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ambit_lab::{demo, sandbox};
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
        Trial::test("what_the_architecture_names_is_there", architecture),
        Trial::test("the_picture_is_drawn_from_its_recording", picture),
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

/// Pages for people who do not know the project.
const PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "api/README.md",
    "deploy/deviations.md",
    "deploy/foreign-ztunnel.md",
    "deploy/samples/shop/README.md",
];

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

/// Links of the pages lead to files.
fn files() -> Check {
    for page in PAGES {
        let path = root().join(page);
        let text = std::fs::read_to_string(&path)?;
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links: Vec<_> = links.filter(|link| !link.is_empty() && !link.contains("://")).collect();
        for link in &links {
            let to = path.parent().unwrap_or(&path).join(link);
            check(to.exists(), || format!("{page}: {link} does not exist"))?;
        }
        check(page != "ARCHITECTURE.md" || links.len() > 30, || format!("{page}: {links:?}"))?;
    }
    Ok(())
}

/// What the architecture's page says of files is in them: a name in code quotes right behind a link, and of each life the
/// stages, in the description that its file begins with.
fn architecture() -> Check {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let mut names = 0;
    for (link, behind) in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
        let Some(name) = behind.strip_prefix(" `").and_then(|rest| rest.split('`').next()) else { continue };
        let file = std::fs::read_to_string(root().join(link))?;
        check(file.contains(name), || format!("{link} has no {name:?}"))?;
        names += 1;
    }
    let mut lives = 0;
    for row in text.lines().filter(|line| line.contains(".rs) | `")) {
        let file = row.split("](").nth(1).and_then(|rest| rest.split(')').next()).ok_or("no link")?;
        let stages = row.rsplit('`').nth(1).ok_or("no stages")?;
        let source = std::fs::read_to_string(root().join(file))?;
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        let description: String = lines.collect();
        check(description.contains(stages), || format!("{file} begins otherwise: {description}"))?;
        lives += 1;
    }
    println!("{names} names, {lives} lives");
    check(names >= 8 && lives == 5, || format!("{names} names, {lives} lives"))
}

/// The picture is what the demo draws from the recording beside it.
fn picture() -> Check {
    check(README.contains("deploy/picture/demo.svg"), || "the README shows no picture".to_owned())?;
    let folder = root().join("deploy/picture");
    let drawn = demo::draw(&demo::Recording::read(&folder.join("run.json"))?);
    check(drawn == std::fs::read_to_string(folder.join("demo.svg"))?, || {
        "the picture is another one; draw it again: cargo xtask demo --from deploy/picture/run.json --picture deploy/picture/demo.svg".to_owned()
    })
}
