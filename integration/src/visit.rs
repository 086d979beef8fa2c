//! Running a command inside a pod of a running lab from outside.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use crate::control::SOCKET;
use crate::error::LabError;
use crate::space::{Cover, put_on};

/// First word of the stand-in's arguments that makes it enter a pod.
pub(crate) const ENTER: &str = "enter";

/// A running lab as its folder describes it.
#[derive(Clone, Debug)]
pub struct Running {
    /// State folder.
    pub state: PathBuf,
    /// Its first process, seen from outside.
    pub first: u32,
}

impl Running {
    /// Finds the lab of this name.
    pub fn find(name: &str) -> Result<Self, LabError> {
        let state = crate::settings::runs().join(name);
        let first = first_of(&state).or_else(|| behind_socket(&state));
        match first {
            Some(first) => Ok(Running { state, first }),
            None => {
                Err(LabError::Unknown(format!("running lab named {name} (ambit-lab up DIR --name {name})")))
            }
        }
    }

    /// Becomes a command in a pod; returns only when that fails.
    pub fn exec(&self, uid: &str, namespace: &str, words: &[String]) -> LabError {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--mount", "--pid", "--net"]);
        if user_namespace("self") != user_namespace(&self.first.to_string()) {
            command.args(["--user", "--preserve-credentials"]);
        }
        let exe = std::env::current_exe().unwrap_or_else(|_unreadable| "/proc/self/exe".into());
        command.arg("--").arg(exe).args([crate::standin::MARKER, ENTER]);
        command.arg(&self.state).args([uid, namespace]).args(words);
        LabError::System { what: "starting nsenter (package util-linux)".to_owned(), source: command.exec() }
    }
}

/// The first process as the lab's own file says it.
fn first_of(state: &Path) -> Option<u32> {
    let about = std::fs::read_to_string(state.join("lab.json")).ok()?;
    let about: serde_json::Value = serde_json::from_str(&about).ok()?;
    let outer = about["pid"].as_u64()?;
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// The same where that file is lost: the lab itself listens at its socket, and the first process is its parent.
fn behind_socket(state: &Path) -> Option<u32> {
    let socket = UnixStream::connect(state.join(SOCKET)).ok()?;
    let lab = getsockopt(&socket, PeerCredentials).ok()?.pid();
    let status = std::fs::read_to_string(format!("/proc/{lab}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")).and_then(|parent| parent.trim().parse().ok())
}

fn user_namespace(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/user")).ok()
}

/// Inside the lab's namespaces: goes on into the pod's and becomes the command.
pub(crate) fn enter(arguments: &[String]) -> i32 {
    let [state, uid, namespace, program, words @ ..] = arguments else { return 64 };
    let error = match go(Path::new(state), uid, namespace) {
        Ok(()) => Command::new(program).args(words).exec().to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!("ambit-lab: {program}: {error}");
    127
}

fn go(state: &Path, uid: &str, namespace: &str) -> Result<(), LabError> {
    let netns = state.join("netns");
    let file = File::open(netns.join(uid))
        .map_err(LabError::system(format!("opening the network namespace of {uid}")))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(LabError::errno("entering the pod's network namespace"))?;
    put_on(&Cover { files: resolver_files(state, namespace), hidden: netns })
}

/// What a pod of this namespace reads in place of the machine's name service files.
pub(crate) fn resolver_files(state: &Path, namespace: &str) -> Vec<(PathBuf, &'static str)> {
    let folder = state.join("resolver");
    vec![
        (folder.join(format!("{namespace}.conf")), "/etc/resolv.conf"),
        (folder.join("nsswitch.conf"), "/etc/nsswitch.conf"),
    ]
}
