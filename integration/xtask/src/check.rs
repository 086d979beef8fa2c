//! Everything that can be judged without running the product: one line per check, every failure named.

use std::time::Instant;

use crate::run::{ALL_FEATURES, Failure, Workspace, succeeds};

mod budgets;
mod exceptions;
mod files;
mod layers;
mod locked;
mod source;

use exceptions::Exceptions;

/// What one check found: problems, or a few words about what it looked at.
type Outcome = Result<String, Vec<String>>;

/// Runs every check, then fails if any did.
pub(crate) fn all(workspace: &Workspace) -> Result<(), Failure> {
    let exceptions = Exceptions::read(&workspace.root)?;
    let files = files::tracked(&workspace.root)?;
    let lock = std::fs::read_to_string(workspace.root.join("Cargo.lock"))
        .map_err(|error| Failure::new("Cargo.lock", error))?;
    let checks: [(&str, &dyn Fn() -> Outcome); 11] = [
        ("layers", &|| layers::check(&workspace.packages)),
        ("budgets", &|| budgets::check(&files, &exceptions)),
        ("unsafe", &|| source::no_unsafe(&files)),
        ("headers", &|| source::headers(&files)),
        ("paths", &|| source::no_machine_paths(&files)),
        ("minimum versions", &|| locked::minimums(&lock)),
        ("banned crates", &|| locked::banned(&lock, &exceptions)),
        ("format", &|| cargo(workspace, &FORMAT)),
        ("dependency rules", &|| dependency_rules(workspace)),
        ("lints", &|| cargo(workspace, &LINTS)),
        ("generated code", &|| cargo(workspace, &DRIFT)),
    ];
    let mut failures = Vec::new();
    for (name, check) in checks {
        let began = Instant::now();
        let outcome = check();
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(seen) => println!("ok    {name}: {seen} ({seconds:.1} s)"),
            Err(problems) => {
                println!("FAIL  {name}: {} ({seconds:.1} s)", counted(problems.len()));
                failures.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    println!();
    failures.iter().for_each(|failure| println!("{failure}"));
    Err(Failure(format!("{} in all", counted(failures.len()))))
}

/// Names of files only: `cargo fmt --all` mends them, so nobody needs to read the differences.
const FORMAT: [&str; 5] = ["fmt", "--all", "--check", "--", "--files-with-diff"];

/// Release mode, though lints do not need it: the C code that build scripts compile is then the tests' own.
const LINTS: [&str; 9] =
    ["clippy", "--quiet", "--release", "--workspace", "--all-targets", ALL_FEATURES, "--", "-D", "warnings"];

/// The test that regenerates the wire code and compares; selected so that it is the one `xtask test` built.
const DRIFT: [&str; 7] =
    ["test", "--quiet", "--release", "--workspace", ALL_FEATURES, "--test", "regenerate"];

/// A cargo command whose own output says what is wrong.
fn cargo(workspace: &Workspace, words: &[&str]) -> Outcome {
    let seen = format!("cargo {}", words.join(" "));
    succeeds(workspace.cargo().args(words))
        .map(|()| seen)
        .map_err(|Failure(message)| vec![message + ", see above"])
}

/// cargo-deny's rules, where it is installed.
fn dependency_rules(workspace: &Workspace) -> Outcome {
    let installed = workspace.cargo().args(["deny", "--version"]).output();
    if installed.is_ok_and(|output| output.status.success()) {
        cargo(workspace, &["deny", "check", "bans", "licenses", "sources"])
    } else {
        Ok("skipped, cargo-deny is not installed (cargo install cargo-deny)".to_owned())
    }
}

fn counted(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

/// The usual end of a check that collects problems.
fn outcome(problems: Vec<String>, seen: impl Into<String>) -> Outcome {
    if problems.is_empty() { Ok(seen.into()) } else { Err(problems) }
}
