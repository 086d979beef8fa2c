//! A real Kubernetes cluster on this machine: builds its programs (`integration/kubernetes`, in Go) and calls them.
//!
//! Everything that happens while a cluster lives is one Go program's, `ambit-cluster`: the processes it starts are Go, too,
//! and a single process has to be the parent of all nodes for the kernel to take them down with it. So this side only
//! builds, installs what is missing, and steps aside.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Failure, Workspace, name, succeeds};
use crate::setup;

pub(crate) mod toolchain;

/// Where the sources are, from the workspace's root.
const SOURCES: &str = "integration/kubernetes";

/// Every program: a folder of the same name below `cmd`.
const PROGRAMS: [&str; 3] = ["ambit-kube", "ambit-cluster", "ambit-pod"];

/// Programs that nodes use from the system, by name or by path, and the Debian packages that hold them.
const TOOLS: [(&str, &str); 6] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
];

/// Turns this process into the cluster's program, with these words. Returns only when that fails.
pub(crate) fn run(workspace: &Workspace, words: &[String]) -> Result<(), Failure> {
    let mut command = program(workspace);
    // Taking a cluster down must not wait for a build of what would bring up the next one.
    if !(words.iter().any(|word| word == "down") && Path::new(command.get_program()).is_file()) {
        setup::require(&TOOLS)?;
        build(workspace)?;
    }
    if words.iter().any(|word| word == "check") {
        own_tests(workspace)?;
    }
    Err(Failure::new(name(&command), command.args(words).exec()))
}

/// Makes sure that clusters can be built and brought up here: installs and fetches what is missing. The error is what
/// cannot be had.
pub(crate) fn provide(workspace: &Workspace) -> Result<(), Failure> {
    if !setup::is_root() {
        return Err(Failure("nodes are namespaces that only root may make".to_owned()));
    }
    permitted()?;
    setup::require(&TOOLS)?;
    toolchain::find(workspace).map(drop)
}

/// Whether root may make here what nodes are made of: not every container permits it.
fn permitted() -> Result<(), Failure> {
    let mut space = Command::new("unshare");
    space.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]);
    space.args(["mount", "-t", "tmpfs", "ambit-probe", "/tmp"]);
    succeeds(&mut space)
        .map_err(|_| Failure("this machine permits no namespaces with mounts of their own".to_owned()))?;
    let version_1 = Path::new("/sys/fs/cgroup/memory");
    let root = if version_1.is_dir() { version_1 } else { Path::new("/sys/fs/cgroup") };
    let group = root.join(format!("ambit-probe-{}", std::process::id()));
    fs::create_dir(&group)
        .and_then(|()| fs::remove_dir(&group))
        .map_err(|error| Failure::new("this machine permits no control groups", error))
}

/// The cluster's program, to which the words of a command are added.
pub(crate) fn program(workspace: &Workspace) -> Command {
    let folder = folder(workspace);
    let mut command = Command::new(folder.join("programs").join("ambit-cluster"));
    command.arg("--clusters").arg(folder);
    command
}

/// Holds the programs, and a folder for every cluster that is up.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("cluster")
}

/// Builds the programs unless they are those of the same sources.
pub(crate) fn build(workspace: &Workspace) -> Result<(), Failure> {
    let programs = folder(workspace).join("programs");
    let sources = workspace.root.join(SOURCES);
    let stamp = format!("{:016x}\n", fingerprint(&sources)?);
    let stamped = programs.join("stamp");
    let complete = PROGRAMS.iter().all(|program| programs.join(program).is_file());
    if complete && fs::read_to_string(&stamped).is_ok_and(|last| last == stamp) {
        return Ok(());
    }
    let flags = format!("-ldflags=-s -w {}", version_flags(&sources)?);
    let go = toolchain::find(workspace)?;
    eprintln!("building Kubernetes (the first time takes about six minutes on two processors) …");
    fs::create_dir_all(&programs).map_err(|error| Failure::new(programs.display(), error))?;
    for program in PROGRAMS {
        eprintln!("  {program}");
        let mut build = go.command();
        // Static, so that they run in an image without anything else.
        build.current_dir(&sources).env("CGO_ENABLED", "0").env("GOBIN", &programs);
        // `install` leaves alone what is new enough; `build` would link it again.
        build.args(["install", "-trimpath", "-buildvcs=false", &flags]);
        succeeds(build.arg(format!("./cmd/{program}")))?;
    }
    fs::write(&stamped, stamp).map_err(|error| Failure::new(stamped.display(), error))
}

/// Lints and unit tests of our own packages; the others' alone would take minutes.
pub(crate) fn own_tests(workspace: &Workspace) -> Result<(), Failure> {
    let go = toolchain::find(workspace)?;
    let own = ["./cmd/ambit-cluster", "./cmd/ambit-pod", "./internal/..."];
    for word in ["vet", "test"] {
        let mut command = go.command();
        command.current_dir(workspace.root.join(SOURCES)).env("CGO_ENABLED", "0");
        succeeds(command.arg(word).args(own))?;
    }
    Ok(())
}

/// What tells Kubernetes' programs their version: they learn it when they are linked, not from their module.
fn version_flags(sources: &Path) -> Result<String, Failure> {
    let path = sources.join("go.mod");
    let text = fs::read_to_string(&path).map_err(|error| Failure::new(path.display(), error))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version = version.ok_or_else(|| Failure::new(path.display(), "requires no k8s.io/kubernetes"))?;
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let own = [("gitVersion", format!("v{version}")), ("gitMajor", major.into()), ("gitMinor", minor.into())];
    let set =
        |package: &str| own.iter().map(|(name, value)| format!("-X {package}.{name}={value}")).collect();
    let flags: [Vec<String>; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(set);
    Ok(flags.concat().join(" "))
}

/// A number that changes with any source file of a program. Not for keeping: another compiler may count otherwise, and all that follows
/// is a build that has nothing to do.
fn fingerprint(folder: &Path) -> Result<u64, Failure> {
    let mut hasher = DefaultHasher::new();
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| Failure::new(folder.display(), error))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if is_source(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    for path in files {
        let text = fs::read(&path).map_err(|error| Failure::new(path.display(), error))?;
        (path.strip_prefix(folder).unwrap_or(&path), text).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Whether a program changes with this file.
fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !name.ends_with("_test.go") && [".go", ".mod", ".sum", ".yaml"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_the_version_of_their_module() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes");
        let flags = version_flags(&sources).unwrap();
        assert!(flags.starts_with("-X k8s.io/component-base/version.gitVersion=v1."), "{flags}");
        assert!(flags.contains(" -X k8s.io/client-go/pkg/version.gitMajor=1 "), "{flags}");
        assert!(version_flags(Path::new("/does/not/exist")).is_err());
    }

    #[test]
    fn any_change_of_a_source_is_seen() {
        let folder = std::env::temp_dir().join(format!("ambit-fingerprint-{}", std::process::id()));
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        fs::create_dir_all(folder.join("cmd")).unwrap();
        write("go.mod", "module a");
        write("cmd/main.go", "package main");
        let first = fingerprint(&folder).unwrap();
        write("README.md", "changes no program");
        write("cmd/main_test.go", "neither does this");
        assert_eq!(fingerprint(&folder).unwrap(), first);
        write("cmd/main.go", "package other");
        let second = fingerprint(&folder).unwrap();
        assert_ne!(second, first);
        fs::rename(folder.join("cmd/main.go"), folder.join("cmd/other.go")).unwrap();
        assert_ne!(fingerprint(&folder).unwrap(), second);
        fs::remove_dir_all(&folder).unwrap();
        assert!(fingerprint(&folder).is_err());
    }
}
