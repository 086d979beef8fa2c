//! The guided path: its page, followed as written, shows what it promises, and the same path as a scenario holds step by
//! step and breaks at the step whose expectation is wrong.

#[path = "support/by_hand.rs"]
mod by_hand;
#[path = "support/check.rs"]
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambit_lab::scenario::Scenario;
use by_hand::{Expected, Page, root};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const FOLDER: &str = "deploy/samples/guides";
const PAGE: &str = "deploy/samples/guides/README.md";
const NAME: &str = "guide";

fn main() -> std::process::ExitCode {
    let trials = vec![
        Trial::test("the_page_is_true", page),
        Trial::test("page_and_scenario_are_one_path", one_path),
        Trial::test("a_wrong_expectation_breaks_its_step", wrong),
        Trial::test("mistakes_in_a_scenario_are_named", mistakes),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What the page says of a line.
fn expected(line: &str) -> Expected {
    const TABLE: [(&str, Expected); 10] = [
        (" explain ", Expected::Fails("guide/no-deletes")),
        (" run ", Expected::Says(&["ok      Explain", "ok      Clean up"])),
        (" up ", Expected::Says(&["is up"])),
        (" status ", Expected::Says(&["guide/client", "enabled"])),
        (" logs ", Expected::Says(&["dst.identity=spiffe://cluster.local/ns/guide/sa/web"])),
        ("-S -m 5", Expected::Fails("curl:")),
        ("call=[1-20]", Expected::Says(&["Hello from v1"])),
        ("call=[1-40]", Expected::Says(&["Hello from v1", "Hello from v2"])),
        ("-X DELETE", Expected::Says(&["RBAC: access denied403"])),
        ("curl -s web", Expected::Says(&["Hello from v"])),
    ];
    let found = TABLE.into_iter().find(|(part, _)| line.contains(part));
    found.map_or(Expected::Says(&[]), |(_, expected)| expected)
}

fn page() -> Check {
    Page::open(PAGE, NAME)?.follow(expected)
}

/// Every step has its heading, in the same order, and every manifest its command.
fn one_path() -> Check {
    let text = std::fs::read_to_string(root().join(PAGE))?;
    let scenario = Scenario::read(&root().join(FOLDER).join("path.yaml"))?;
    let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let steps: Vec<_> = scenario.steps.iter().map(|step| step.title.as_str()).collect();
    check(headings == steps, || format!("headings {headings:?}, steps {steps:?}"))?;
    let page = Page::open(PAGE, NAME)?;
    for file in scenario.files() {
        let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
        let named = format!("{FOLDER}/{}", folder.map_or(file, |folder| folder.to_str().unwrap_or(file)));
        check(page.lines.iter().any(|line| line.contains(&named)), || {
            format!("the page does not use {named}")
        })?;
    }
    Ok(())
}

/// A copy of the guides with one text of the scenario replaced, run to its end; what was said.
fn altered(from: &str, to: &str) -> Result<(bool, String), Failed> {
    // Trials run side by side, each with copies of its own.
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let count = COPIES.fetch_add(1, Ordering::Relaxed);
    let copy = std::env::temp_dir().join(format!("ambit-guided-{}-{count}", std::process::id()));
    let scenario = std::fs::read_to_string(root().join(FOLDER).join("path.yaml"))?;
    check(scenario.contains(from), || format!("the scenario has no {from:?}"))?;
    std::fs::create_dir_all(copy.join("start"))?;
    for file in ["start/pods.yaml", "2-strict.yaml", "3-all-v1.yaml", "4-canary.yaml", "5-deny.yaml"] {
        std::fs::copy(root().join(FOLDER).join(file), copy.join(file))?;
    }
    let file = copy.join("path.yaml");
    std::fs::write(&file, scenario.replacen(from, to, 1))?;
    let page = Page::open(PAGE, "altered")?;
    let said = page.run(&format!("cargo xtask lab run {}", file.display()));
    std::fs::remove_dir_all(&copy)?;
    said.map(|said| (said.well, said.text))
}

fn wrong() -> Check {
    let (well, said) = altered("refused: {status: 0}", "answers: {status: 200}")?;
    check(!well && said.contains("ok      Enrol") && said.contains("BROKEN  STRICT"), || said.clone())?;
    check(!said.contains("Everything to v1"), || format!("it went on: {said}"))
}

fn mistakes() -> Check {
    for (from, to, part) in [
        ("2-strict.yaml", "2-lax.yaml", "2-lax.yaml"),
        ("title: STRICT", "titel: STRICT", "titel"),
        ("verdict: deny", "verdict: perhaps", "path.yaml"),
    ] {
        let (well, said) = altered(from, to)?;
        check(!well && said.contains(part) && !said.contains("ok  "), || format!("{to}: {said}"))?;
    }
    Ok(())
}
