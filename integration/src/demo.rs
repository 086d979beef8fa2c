//! The demo: a small shop on two nodes, promise by promise what the mesh enforces, and what was measured.
//!
//! The looks are made by the lab's own process; `--on NAME` asks a running lab for them.

mod cast;
mod disturb;
mod live;
mod picture;
mod promise;
mod recording;
mod refusal;
mod requests;
mod scene;
mod screen;
mod shop;
mod steady;
mod story;
mod tell;
mod traffic;
mod watch;
mod wire;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::component::Programs;
use crate::control::{Request, call};
use crate::error::LabError;
use crate::lab::{Lab, LabOptions, Manifests, MeshMode};
use crate::visit::Running;
pub use picture::draw;
use promise::{Broken, Look};
pub use promise::{Finding, Promise, Sort};
pub use recording::Recording;
use shop::Shop;
use tell::{COLUMN, again, print, sum_up};

/// The sample, in the order of its files.
const SAMPLE: [&str; 4] = [
    include_str!("../samples/demo/1-shop.yaml"),
    include_str!("../samples/demo/2-legacy.yaml"),
    include_str!("../samples/demo/3-policy.yaml"),
    include_str!("../samples/demo/4-reviews.yaml"),
];
/// Pause between looks that are repeated.
const PAUSE: Duration = Duration::from_secs(5);

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
    /// Writes a recording of this run to a file, and ends.
    #[arg(long, value_name = "FILE", conflicts_with = "on")]
    record: Option<PathBuf>,
    /// Draws a picture (SVG) of this run, or of the recording that --from names, and ends.
    #[arg(long, value_name = "FILE", conflicts_with = "on")]
    picture: Option<PathBuf>,
    /// The recording to draw; nothing is run.
    #[arg(long, value_name = "FILE", requires = "picture", conflicts_with = "record")]
    from: Option<PathBuf>,
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
        self.on.is_none() && self.from.is_none()
    }

    /// Whether it ends by itself when the promises have been looked at.
    fn ends(&self) -> bool {
        self.once || self.records()
    }

    fn records(&self) -> bool {
        self.record.is_some() || self.picture.is_some()
    }

    fn wants(&self, promise: Promise) -> bool {
        self.only.is_empty() || self.only.contains(&promise)
    }
}

/// Runs the demo; one that makes a lab has to be in the lab's namespaces.
pub fn run(options: &Options, name: Option<&str>) -> Result<Verdict, LabError> {
    match (&options.on, &options.from, &options.picture) {
        (Some(name), ..) => look_on(options, name),
        (None, Some(from), Some(picture)) => {
            Recording::read(from)?.draw_to(picture)?;
            Ok(Verdict::Holds)
        }
        _ => bring_up(options, name),
    }
}

fn bring_up(options: &Options, name: Option<&str>) -> Result<Verdict, LabError> {
    let start = Instant::now();
    let own = || crate::settings::outside_pid().unwrap_or_else(std::process::id);
    let name = match name {
        Some(name) => name.to_owned(),
        // Gone when it ends, so it need not be called by a name that is easy to type.
        None if options.ends() => format!("demo-{}", own()),
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
    if options.ends() {
        let never = AtomicBool::new(false);
        let findings = story(&shop, options, &|promise| again(promise, None), &never);
        let verdict = sum_up(&findings, start);
        if options.records() && verdict == Verdict::Holds {
            keep(options, &Recording::make(&shop, findings)?)?;
        }
        return Ok(verdict);
    }
    let mut verdict = Verdict::Holds;
    let stays = |ended: &AtomicBool| {
        let findings = story(&shop, options, &|promise| again(promise, Some(&name)), ended);
        if ended.load(Ordering::Relaxed) {
            return;
        }
        verdict = sum_up(&findings, start);
        if verdict == Verdict::Holds {
            let title = format!("Ambit's demo: two nodes, {0} of {0} promises hold", findings.len());
            stay(&shop, &name, &title, ended);
        }
        lab.end();
    };
    lab.attend(stays)?;
    println!();
    Ok(verdict)
}

/// Writes a recording, draws it, or both.
fn keep(options: &Options, recording: &Recording) -> Result<(), LabError> {
    options.record.as_deref().map_or(Ok(()), |file| recording.write(file))?;
    options.picture.as_deref().map_or(Ok(()), |file| recording.draw_to(file))
}

/// The looks from the start, each printed when it is made.
fn story(
    shop: &Shop<'_>,
    options: &Options,
    again: &dyn Fn(Promise) -> String,
    ended: &AtomicBool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for promise in Promise::ALL {
        if ended.load(Ordering::Relaxed) {
            break;
        }
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
        Promise::FanOut => story::fan_out(),
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

/// Calls and a view of them until somebody ends it.
fn stay(shop: &Shop<'_>, name: &str, title: &str, ended: &AtomicBool) {
    println!(
        "\nThe shop stays up until Ctrl-C. Look at it from another terminal, or break it and see what falls:"
    );
    for words in [
        "status",
        "exec shop/client -- curl -s cart",
        "break kill ztunnel/node-2",
        "break start ztunnel/node-2",
    ] {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        println!("  {}", format!("cargo xtask lab {verb} --name {name} {rest}").trim_end());
    }
    println!("  cargo xtask lab demo --on {name} --once\n");
    if let Err(error) = live::show(shop, title, ended)
        && !ended.load(Ordering::Relaxed)
    {
        eprintln!("ambit-lab: the view ended: {error}");
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

impl From<Broken> for LabError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lab(error) => error,
            other => LabError::Manifest(other.to_string()),
        }
    }
}
