//! `ambit-lab`: a whole mesh on this machine from a folder of manifests.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ambit_lab::bench;
use ambit_lab::component::{Kind, Programs};
use ambit_lab::control::{Action, Request, call};
use ambit_lab::demo::{self, Verdict};
use ambit_lab::scenario;
use ambit_lab::visit::Running;
use ambit_lab::{Lab, LabError, LabOptions, Manifests, MeshMode, answers};
use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A whole mesh on this machine from a folder of Kubernetes manifests.
#[derive(Debug, Parser)]
#[command(name = "ambit-lab", version)]
struct Cli {
    /// Name of the lab (default "lab"; the demo's is "demo").
    #[arg(long, global = true)]
    name: Option<String>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Brings a lab up and keeps it up until it is interrupted or taken down.
    Up(Up),
    /// Runs a command in a pod: exec NS/POD -- CMD…
    Exec {
        /// Namespace and pod, Deployment, or value of the label app.
        pod: String,
        /// The command.
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
    /// Applies manifests live.
    Apply(Change),
    /// Deletes the objects named in manifests.
    Delete(Change),
    /// Sets labels (key=value) or removes them (key-).
    Label {
        /// Kind.
        kind: String,
        /// Name, NS/NAME for namespaced kinds.
        object: String,
        /// Changes.
        #[arg(required = true)]
        changes: Vec<String>,
        /// Waits until every proxy has acknowledged.
        #[arg(long)]
        wait: bool,
    },
    /// Changes the number of pods of a Deployment or StatefulSet.
    Scale {
        /// deployment or statefulset.
        kind: String,
        /// NS/NAME.
        object: String,
        /// How many.
        replicas: usize,
        /// Waits until every proxy has acknowledged.
        #[arg(long)]
        wait: bool,
    },
    /// Waits until pods are ready and every proxy has acknowledged everything.
    Wait,
    /// Shows nodes, programs, pods, enrolment, faults and conditions.
    Status,
    /// Shows the log of controller, agent/NODE, ztunnel/NODE or NS/POD.
    Logs {
        /// Component or pod.
        of: String,
    },
    /// Breaks or mends something: kill, start, restart COMPONENT; kill, restart, flush (rules of) NS/POD.
    Break {
        /// kill, start, restart or flush.
        action: String,
        /// Component or pod.
        target: String,
    },
    /// Takes the lab down.
    Down,
    /// Shows promise by promise what the mesh enforces, on a sample of its own.
    Demo(demo::Options),
    /// Runs a scenario: manifests, calls and expectations in one file.
    Run(scenario::Options),
    /// Measures side by side: no mesh, ours, and a ztunnel named by --ztunnel.
    Bench(bench::Options),
}

#[derive(Debug, Args)]
struct Up {
    /// Folder of manifests.
    dir: PathBuf,
    /// Number of nodes.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// A ztunnel program in place of ours.
    #[arg(long)]
    ztunnel: Option<PathBuf>,
    /// Pods, Services and names only.
    #[arg(long)]
    no_mesh: bool,
    /// Keeps logs and generated objects afterwards.
    #[arg(long)]
    keep: bool,
    /// Returns when the lab is up and leaves it running.
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
struct Change {
    /// File, or - for standard input.
    #[arg(short = 'f', long = "file")]
    file: PathBuf,
    /// Waits until every proxy has acknowledged.
    #[arg(long)]
    wait: bool,
}

fn main() -> ExitCode {
    ambit_lab::sandbox::stand_in();
    let cli = Cli::parse();
    let name = cli.name.as_deref().unwrap_or("lab");
    let outcome = match cli.command {
        Verb::Up(up) if up.detach => detach(name),
        Verb::Up(up) => run(name, up),
        Verb::Demo(options) => show(&options, cli.name.as_deref()),
        Verb::Run(options) => {
            if options.on == scenario::Place::Lab {
                ambit_lab::sandbox::enter();
            }
            match scenario::run(&options) {
                Ok(false) => return ExitCode::FAILURE,
                outcome => outcome.map(drop),
            }
        }
        Verb::Bench(options) => {
            ambit_lab::sandbox::enter();
            bench::run(&options)
        }
        other => ask(name, other),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ambit-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A broken promise has been named by then; the exit code says it to programs.
fn show(options: &demo::Options, name: Option<&str>) -> Result<(), LabError> {
    if options.brings_up() {
        ambit_lab::sandbox::enter();
    }
    match demo::run(options, name)? {
        Verdict::Holds => Ok(()),
        Verdict::Broken => std::process::exit(1),
    }
}

fn run(name: &str, up: Up) -> Result<(), LabError> {
    ambit_lab::sandbox::enter();
    let start = Instant::now();
    let mut programs = Programs::default();
    programs.files.extend(up.ztunnel.map(|file| (Kind::Ztunnel, file)));
    let lab = Lab::up(LabOptions {
        name: name.to_owned(),
        manifests: vec![Manifests::Folder(up.dir.clone())],
        nodes: up.nodes,
        mesh: if up.no_mesh { MeshMode::Off } else { MeshMode::On(programs) },
        ready_within: Some(Duration::from_secs(30)),
        keep: up.keep,
    })?;
    for fault in lab.faults() {
        eprintln!("ambit-lab: {fault}");
    }
    println!(
        "lab {name} is up after {:.1} s; state in {}",
        start.elapsed().as_secs_f64(),
        lab.folder().display()
    );
    lab.attend(|ended| follow(&lab, &up.dir, ended))
}

/// Reads the manifests again whenever a file of theirs changes.
fn follow(lab: &Lab, dir: &Path, ended: &AtomicBool) {
    let mut seen = stamps(dir);
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(300));
        let now = stamps(dir);
        if now != seen {
            seen = now;
            match lab.reload() {
                Ok(()) => lab.faults().iter().for_each(|fault| eprintln!("ambit-lab: {fault}")),
                Err(error) => eprintln!("ambit-lab: {error}"),
            }
        }
    }
}

fn stamps(dir: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let stamp = |entry: std::fs::DirEntry| {
        entry.metadata().ok().map(|about| (entry.path(), about.len(), about.modified().ok()))
    };
    let mut stamps: Vec<_> = entries.filter_map(stamp).collect();
    stamps.sort();
    stamps
}

/// Starts the same command without `--detach` and waits until the lab answers.
fn detach(name: &str) -> Result<(), LabError> {
    let failed = |what: &'static str| move |source| LabError::System { what: what.to_owned(), source };
    let runs = ambit_lab::settings::runs();
    if answers(&runs.join(name)) {
        // Else it would be taken for the new one.
        return Err(LabError::Manifest(format!(
            "a lab named {name} is running; take it down first (cargo xtask lab down --name {name}), or choose another --name"
        )));
    }
    std::fs::create_dir_all(&runs).map_err(failed("making the run folder"))?;
    let log = runs.join(format!(".{name}.log"));
    let file = std::fs::File::create(&log).map_err(failed("making the log"))?;
    let copy = file.try_clone().map_err(failed("copying a file handle"))?;
    let exe = std::env::current_exe().map_err(failed("finding this program"))?;
    let words = std::env::args_os().skip(1).filter(|word| word != "--detach");
    let mut command = std::process::Command::new(exe);
    command.args(words).stdin(std::process::Stdio::null()).stdout(file).stderr(copy);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(failed("starting the lab"))?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    loop {
        if let Some(status) = child.try_wait().map_err(failed("waiting for the lab"))? {
            return Err(LabError::Manifest(format!("the lab ended with {status}:\n{}", said())));
        }
        if call(&runs.join(name), &Request::Find(String::new())).is_ok() {
            print!("{}", said());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(name: &str, verb: Verb) -> Result<(), LabError> {
    let running = Running::find(name)?;
    let (request, wait) = match verb {
        Verb::Exec { pod, words } => {
            let found = told(&running, &Request::Find(pod))?;
            let (uid, namespace) =
                found.split_once(' ').ok_or_else(|| LabError::Unknown("pod".to_owned()))?;
            return Err(running.exec(uid, namespace, &words));
        }
        Verb::Apply(change) => (Request::Apply(read(&change.file)?), change.wait),
        Verb::Delete(change) => (Request::Delete(read(&change.file)?), change.wait),
        Verb::Label { kind, object, changes, wait } => (Request::Label(kind, object, changes), wait),
        Verb::Scale { kind, object, replicas, wait } => (Request::Scale(kind, object, replicas), wait),
        Verb::Wait => (Request::Wait, false),
        Verb::Status => (Request::Status, false),
        Verb::Logs { of } => (Request::Logs(of), false),
        Verb::Break { action, target } => {
            let action = serde_json::from_value::<Action>(action.clone().into()).map_err(|_unknown| {
                LabError::Unknown(format!("action {action} (kill, start, restart, flush)"))
            })?;
            (Request::Program(target, action), false)
        }
        Verb::Down => return down(name, &running),
        Verb::Up(_) | Verb::Demo(_) | Verb::Run(_) | Verb::Bench(_) => return Ok(()),
    };
    print!("{}", told(&running, &request)?);
    if let Some(done) = done(&request) {
        println!("{done}");
    }
    if wait {
        let start = Instant::now();
        told(&running, &Request::Wait)?;
        println!("every proxy has it after {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// What a change has done, for a person who would see nothing else.
fn done(request: &Request) -> Option<String> {
    match request {
        Request::Apply(_) => Some("applied".to_owned()),
        Request::Delete(_) => Some("deleted".to_owned()),
        Request::Label(kind, object, changes) => Some(format!("{kind} {object}: {}", changes.join(" "))),
        Request::Scale(kind, object, replicas) => Some(format!("{kind} {object}: {replicas} pods")),
        Request::Wait => Some("pods are ready and every proxy has acknowledged".to_owned()),
        Request::Program(target, action) => Some(format!("{target}: {action:?}").to_lowercase()),
        _ => None,
    }
}

fn told(running: &Running, request: &Request) -> Result<String, LabError> {
    let reply = call(&running.state, request)
        .map_err(|source| LabError::System { what: "asking the lab".to_owned(), source })?;
    reply.map_err(LabError::Manifest)
}

fn read(file: &Path) -> Result<String, LabError> {
    let failed = |source| LabError::System { what: format!("reading {}", file.display()), source };
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// Asks the lab to end, and ends it when it does not.
fn down(name: &str, running: &Running) -> Result<(), LabError> {
    // The answer to this is the end of the conversation.
    let _ended = call(&running.state, &Request::Down);
    if gone_within(running.first, Duration::from_secs(20)) {
        return Ok(());
    }
    eprintln!("ambit-lab: lab {name} does not end by itself and is ended by force");
    // With its first process goes everything that runs in the lab.
    let _gone = kill(Pid::from_raw(running.first as i32), Signal::SIGKILL);
    if !gone_within(running.first, Duration::from_secs(10)) {
        let first = running.first;
        return Err(LabError::Manifest(format!("lab {name} did not end; its first process is {first}")));
    }
    // What is left of it is removed by the next lab as well.
    let _removed = std::fs::remove_dir_all(&running.state);
    Ok(())
}

fn gone_within(process: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let process = PathBuf::from(format!("/proc/{process}"));
    while process.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    !process.exists()
}
