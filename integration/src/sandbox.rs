//! The way into the lab's own namespaces: whatever a lab makes lives in one container of namespaces
//! and is gone with its first process.
//!
//! outside → (exec `unshare`) → first process, which reaps → the lab itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::settings::Stage;

/// Makes sure that this process runs inside a lab's namespaces; call it first in `main`.
///
/// Started from outside, the process replaces itself by one inside with the same arguments. Started as
/// one of the lab's stand-in programs it becomes that program and does not return.
pub fn enter() {
    stand_in();
    match Stage::of_this_process() {
        Stage::Outside => leave_outside(),
        Stage::Init => first_process(),
        Stage::Inside => {
            if let Err(error) = crate::command::run("ip", &["link", "set", "lo", "up"]) {
                fail(&error.to_string());
            }
        }
    }
}

/// Becomes one of the lab's stand-in programs when started as one; a program that does not call [`enter`] in every case
/// calls this first.
pub fn stand_in() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == crate::standin::MARKER) {
        let rest: Vec<_> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
        std::process::exit(crate::standin::run(&rest));
    }
}

/// A command that runs this program again as a user without rights (uid and gid 65534), in a lab of its own; none when
/// this process has no right to do so, because it is such a user already.
pub fn again_unprivileged(program: &Path) -> Option<Command> {
    const NOBODY: &str = "65534";
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all_users = map
        .split_whitespace()
        .nth(2)
        .and_then(|count| count.parse().ok())
        .is_some_and(|count: u64| count > 65_534);
    if !all_users || !nix::unistd::geteuid().is_root() {
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(program);
    forget_namespaces(&mut command);
    command.env("AMBIT_LAB_DIR", format!("/tmp/ambit-lab-{NOBODY}"));
    Some(command)
}

/// Name of the copy of a ztunnel that runs in place of ours.
const FOREIGN: &str = "foreign-ztunnel";

/// Runs this program again with these arguments as [`again_unprivileged`] does, from copies of it and of the mesh's
/// programs in a folder that everybody may read; none when this process is such a user already.
pub fn run_unprivileged(arguments: &[&str]) -> Result<Option<Output>, LabError> {
    let own = std::env::current_exe().map_err(LabError::system("finding this program's own file"))?;
    let outside = crate::settings::outside_pid().unwrap_or_else(std::process::id);
    let copies = std::env::temp_dir().join(format!("ambit-lab-copies-{outside}"));
    let Some(mut command) = again_unprivileged(&copies.join("program")) else { return Ok(None) };
    if crate::settings::foreign_ztunnel().is_some() {
        command.env("AMBIT_ZTUNNEL", copies.join(FOREIGN));
    }
    let outcome = copy_programs(&own, &copies)
        .and_then(|()| command.args(arguments).env("AMBIT_LAB_PROGRAMS", &copies).output());
    // Left for the machine's own cleaning when it cannot be removed.
    let _removed = std::fs::remove_dir_all(&copies);
    outcome.map(Some).map_err(LabError::system(format!("running {} unprivileged", own.display())))
}

fn copy_programs(own: &Path, copies: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(copies)?;
    std::fs::copy(own, copies.join("program"))?;
    let programs = crate::settings::programs();
    for name in ["controller", "ambit-node-agent", "ztunnel"] {
        std::fs::copy(programs.join(name), copies.join(name))?;
    }
    if programs.join("waypoint").is_file() {
        std::fs::copy(programs.join("waypoint"), copies.join("waypoint"))?;
    }
    if let Some(foreign) = crate::settings::foreign_ztunnel() {
        std::fs::copy(foreign, copies.join(FOREIGN))?;
    }
    for file in std::fs::read_dir(copies)? {
        std::fs::set_permissions(file?.path(), Permissions::from_mode(0o755))?;
    }
    std::fs::set_permissions(copies, Permissions::from_mode(0o755))
}

/// Makes a program that this one starts find its own way into namespaces, rather than believe it is inside.
pub fn forget_namespaces(command: &mut Command) {
    command.env_remove(Stage::VARIABLE).env_remove(Stage::OUTSIDE_PID).env_remove("AMBIT_LAB_DIR");
}

fn leave_outside() -> ! {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--mount-proc"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let exe = std::env::current_exe().unwrap_or_else(|error| fail(&format!("own path is unknown: {error}")));
    let error = command
        .arg("--")
        .arg(exe)
        .args(std::env::args_os().skip(1))
        .env(Stage::VARIABLE, "init")
        .env(Stage::OUTSIDE_PID, std::process::id().to_string())
        // Inside a user namespace everybody is root; whose lab it is is decided here.
        .env("AMBIT_LAB_DIR", crate::settings::runs())
        .exec();
    fail(&format!("unshare (package util-linux) cannot be started: {error}"));
}

/// Reaps orphans, passes signals on, and ends with the lab's own exit code.
#[expect(clippy::zombie_processes, reason = "the loop below waits for every child, this one too")]
fn first_process() -> ! {
    let exe = std::env::current_exe().unwrap_or_else(|error| fail(&format!("own path is unknown: {error}")));
    let mut command = Command::new(exe);
    command.args(std::env::args_os().skip(1)).env(Stage::VARIABLE, "inside");
    let child =
        command.spawn().unwrap_or_else(|error| fail(&format!("cannot start inside the namespaces: {error}")));
    let lab = Pid::from_raw(child.id() as i32);
    pass_signals_on(lab);
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == lab => std::process::exit(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == lab => std::process::exit(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => fail(&format!("waiting for the lab failed: {error}")),
        }
    }
}

fn pass_signals_on(lab: Pid) {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Blocked before the thread starts, so that only its `wait` ever takes them.
    if signals.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            // From the terminal the lab has had an interrupt already; a second one does no harm.
            let _gone = kill(lab, signal);
        }
    });
}

fn fail(message: &str) -> ! {
    eprintln!("ambit-lab: {message}");
    std::process::exit(70);
}
