//! The demo: a small shop on two nodes, promise by promise what the mesh enforces, and what was measured.
//!
//! The looks are made by the lab's own process; `--on NAME` asks a running lab for them.

mod disturb;
mod live;
mod promise;
mod requests;
mod shop;
mod steady;
mod story;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::component::Programs;
use crate::control::{Request, call};
use crate::error::LabError;
use crate::lab::{Lab, LabOptions, Manifests, MeshMode};
use crate::visit::Running;
use promise::{Broken, Look};
pub use promise::{Finding, Promise, Sort};
use shop::Shop;

/// The sample, in the order of its files.
const SAMPLE: [&str; 4] = [
    include_str!("../samples/demo/1-shop.yaml"),
    include_str!("../samples/demo/2-legacy.yaml"),
    include_str!("../samples/demo/3-policy.yaml"),
    include_str!("../samples/demo/4-reviews.yaml"),
];
/// Pause between looks that are repeated.
const PAUSE: Duration = Duration::from_secs(5);
/// Width of the column of words.
const COLUMN: usize = 12;
/// Width of the text beside it.
const WIDTH: usize = 96;

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Checks every promise and exits, 0 only if all hold.
    #[arg(long)]
    once: bool,
    /// Looks at this promise alone; may be repeated.
    #[arg(long, value_name = "PROMISE")]
    only: Vec<Promise>,
    /// Looks at the promises of a demo lab that is running.
    #[arg(long, value_name = "NAME")]
    on: Option<String>,
}

/// Whether everything held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise held.
    Holds,
    /// At least one did not; they have been named.
    Broken,
}

impl Options {
    /// Whether the demo makes a lab of its own.
    pub fn brings_up(&self) -> bool {
        self.on.is_none()
    }

    fn wants(&self, promise: Promise) -> bool {
        self.only.is_empty() || self.only.contains(&promise)
    }
}

/// Runs the demo; one that makes a lab has to be in the lab's namespaces.
pub fn run(options: &Options, name: Option<&str>) -> Result<Verdict, LabError> {
    match &options.on {
        Some(name) => look_on(options, name),
        None => bring_up(options, name),
    }
}

fn bring_up(options: &Options, name: Option<&str>) -> Result<Verdict, LabError> {
    let start = Instant::now();
    let own = || crate::settings::outside_pid().unwrap_or_else(std::process::id);
    let name = match name {
        Some(name) => name.to_owned(),
        // Gone when it ends, so it need not be called by a name that is easy to type.
        None if options.once => format!("demo-{}", own()),
        None => "demo".to_owned(),
    };
    let lab = Lab::up(LabOptions {
        name: name.clone(),
        manifests: vec![Manifests::Inline(SAMPLE.join("---\n"))],
        nodes: 2,
        mesh: MeshMode::On(Programs::default()),
        ready_within: Some(Duration::from_secs(30)),
        keep: false,
    })?;
    let shop = Shop::of(&lab)?;
    println!(
        "A shop on two nodes: {} pods, controller, node agents and ztunnels, up in {:.1} s.",
        lab.pod_objects().len() - 2,
        start.elapsed().as_secs_f64()
    );
    println!("What the mesh promises, what was measured, and the command that repeats it:\n");
    if options.once {
        let findings = story(&shop, options, &|promise| again(promise, None));
        return Ok(sum_up(&findings, start));
    }
    let mut verdict = Verdict::Holds;
    let stays = |ended: &AtomicBool| {
        let findings = story(&shop, options, &|promise| again(promise, Some(&name)));
        verdict = sum_up(&findings, start);
        if verdict == Verdict::Holds {
            stay(&shop, &name, ended);
        }
        lab.end();
    };
    lab.attend(stays)?;
    println!();
    Ok(verdict)
}

/// The looks from the start, each printed when it is made.
fn story(shop: &Shop<'_>, options: &Options, again: &dyn Fn(Promise) -> String) -> Vec<Finding> {
    let mut findings = Vec::new();
    for promise in Promise::ALL {
        // The label is set by the look at enrolment, so this one is always made.
        if promise != Promise::Enrolment && !options.wants(promise) {
            continue;
        }
        let finding = promise.finding(look(shop, promise));
        if options.wants(promise) || !finding.holds {
            print(&finding, &again(promise));
            findings.push(finding);
        }
    }
    findings
}

fn look(shop: &Shop<'_>, promise: Promise) -> Look {
    match promise {
        Promise::Before => story::before(shop),
        Promise::Enrolment => story::enrolment(shop),
        Promise::Served => steady::served(shop),
        Promise::Encrypted => steady::encrypted(shop),
        Promise::Identity => steady::identity(shop),
        Promise::Strict => steady::strict(shop),
        Promise::Permissive => steady::permissive(shop),
        Promise::Allow => steady::allow(shop),
        Promise::Deny => steady::deny(shop),
        Promise::Names => steady::names(shop),
        Promise::Balance => steady::balance(shop),
        Promise::Canary => requests::canary(shop),
        Promise::Requests => requests::refusals(shop),
        Promise::Explain => requests::explained(shop),
        Promise::Metrics => requests::metrics(shop),
        Promise::Proxy => disturb::proxy(shop),
        Promise::Controller => disturb::controller(shop),
    }
}

impl Lab {
    /// Looks at one promise, in a lab that runs the demo's sample.
    pub fn look(&self, promise: Promise) -> Result<Finding, LabError> {
        if promise.sort() == Sort::Once {
            return Err(LabError::Manifest(format!("{promise} can be seen only while the demo comes up")));
        }
        let shop = Shop::of(self)
            .map_err(|error| LabError::Manifest(format!("this lab does not run the demo's shop: {error}")))?;
        Ok(promise.finding(look(&shop, promise)))
    }
}

/// Load and rates until somebody ends it.
fn stay(shop: &Shop<'_>, name: &str, ended: &AtomicBool) {
    println!("\nThe shop stays up until Ctrl-C. Look at it from another terminal:");
    let of = if name == "lab" { String::new() } else { format!(" --name {name}") };
    println!("  cargo xtask lab status{of}");
    println!("  cargo xtask lab exec{of} shop/client -- curl -s cart");
    println!("  cargo xtask lab logs{of} ztunnel/node-2");
    println!("or break it and see which promise falls:");
    println!("  cargo xtask lab break{of} kill ztunnel/node-2");
    println!("  cargo xtask lab demo --on {name} --once\n");
    if let Err(error) = live::rates(shop, ended)
        && !ended.load(Ordering::Relaxed)
    {
        eprintln!("ambit-lab: the load ended: {error}");
    }
}

fn look_on(options: &Options, name: &str) -> Result<Verdict, LabError> {
    let running = Running::find(name)?;
    loop {
        let start = Instant::now();
        let mut findings = Vec::new();
        for promise in Promise::ALL {
            let broken = findings.iter().any(|finding: &Finding| !finding.holds);
            let disturbs = promise.sort() == Sort::Disturbing;
            if promise.sort() == Sort::Once || !options.wants(promise) || (disturbs && !options.once) {
                continue;
            }
            if disturbs && broken {
                println!(
                    "{:<COLUMN$}{promise}: what is broken already is not disturbed further\n",
                    "not tried"
                );
                continue;
            }
            let finding = ask(&running, promise)?;
            if options.once || !finding.holds {
                print(&finding, &again(promise, Some(name)));
            }
            findings.push(finding);
        }
        let verdict = sum_up(&findings, start);
        if options.once {
            return Ok(verdict);
        }
        std::thread::sleep(PAUSE);
    }
}

fn ask(running: &Running, promise: Promise) -> Result<Finding, LabError> {
    let told = call(&running.state, &Request::Look(promise))
        .map_err(LabError::system("asking the lab"))?
        .map_err(LabError::Manifest)?;
    serde_json::from_str(&told).map_err(|error| LabError::Manifest(format!("the lab's answer: {error}")))
}

/// The command that repeats a look.
fn again(promise: Promise, on: Option<&str>) -> String {
    match on {
        Some(name) if promise.sort() != Sort::Once => {
            format!("cargo xtask lab demo --on {name} --once --only {promise}")
        }
        _ => format!("cargo xtask lab demo --once --only {promise}"),
    }
}

fn print(finding: &Finding, again: &str) {
    let word = if finding.holds { "ok" } else { "BROKEN" };
    println!("{word:<COLUMN$}{}", finding.promise.sentence());
    for line in finding.measured.lines().flat_map(wrap) {
        println!("{:<COLUMN$}{line}", "");
    }
    println!("{:<COLUMN$}$ {again}\n", "");
}

/// A line in pieces that fit beside the words, broken between words.
fn wrap(line: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for word in line.split(' ') {
        let last = pieces.len() - 1;
        if !pieces[last].is_empty() && pieces[last].len() + 1 + word.len() > WIDTH {
            pieces.push(word.to_owned());
            continue;
        }
        // A table's columns are spaces in a row; they stay.
        if !pieces[last].is_empty() {
            pieces[last].push(' ');
        }
        pieces[last].push_str(word);
    }
    pieces
}

fn sum_up(findings: &[Finding], start: Instant) -> Verdict {
    let seconds = start.elapsed().as_secs_f64();
    let broken: Vec<_> = findings.iter().filter(|finding| !finding.holds).collect();
    if broken.is_empty() {
        println!("{0} of {0} promises hold ({seconds:.1} s).", findings.len());
        return Verdict::Holds;
    }
    println!("{} of {} promises are BROKEN ({seconds:.1} s):", broken.len(), findings.len());
    for finding in broken {
        println!("  {:<COLUMN$}{}", finding.promise, finding.promise.sentence());
    }
    Verdict::Broken
}

impl From<Broken> for LabError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lab(error) => error,
            other => LabError::Manifest(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, wrap};

    #[test]
    fn long_lines_are_broken_between_words_and_lose_nothing() {
        for line in ["", "short", "a  table  of  columns", &"word ".repeat(60), &"x".repeat(3 * WIDTH)] {
            let pieces = wrap(line);
            assert_eq!(pieces.join(" ").replace(' ', ""), line.replace(' ', ""));
            assert!(pieces.iter().all(|piece| piece.len() <= WIDTH || !piece.contains(' ')), "{pieces:?}");
        }
        assert_eq!(wrap("a  b"), ["a  b"]);
        assert_eq!(wrap(&"word ".repeat(60)).len(), 4);
    }
}
