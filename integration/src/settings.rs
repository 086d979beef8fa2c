//! What the lab reads from its surroundings, in one table (`TABLE`), and where its folders are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One environment variable the lab reads: name and meaning.
pub const TABLE: &[(&str, &str)] = &[
    ("AMBIT_LAB_DIR", "folder that holds the run folders of all labs of this user"),
    ("XDG_RUNTIME_DIR", "where that folder is made when AMBIT_LAB_DIR is not set; else /tmp/ambit-lab-<uid>"),
    ("AMBIT_LAB_STAGE", "set by the lab itself: how far the way into its own namespaces has got"),
    ("AMBIT_LAB_OUTSIDE", "set by the lab itself: process id of the supervisor as seen from outside"),
    (
        "AMBIT_LAB_PROGRAMS",
        "folder of the controller, ambit-node-agent, ztunnel and waypoint programs, when not beside this one",
    ),
    (
        "AMBIT_CLUSTER",
        "cluster of this machine (`cargo xtask cluster`) that is used, in place of where kubectl leads to",
    ),
    (
        "AMBIT_CLUSTERS",
        "folder of those clusters and of their programs, when not `cluster` in the target folder",
    ),
    ("AMBIT_ZTUNNEL", "ztunnel program to run in place of ours, of another maker as it may be"),
    ("PATH", "handed on to the pods' programs"),
    ("RUST_LOG", "handed on to controller, agents, ztunnels and waypoints (default info)"),
];

/// What a line begins with that says what was left out with a foreign ztunnel.
const LEFT_OUT: &str = "LEFT OUT with a foreign ztunnel: ";

/// How far a process is on its way into the lab's namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Started by a person or by cargo.
    Outside,
    /// First process of the new process namespace.
    Init,
    /// The lab itself.
    Inside,
}

impl Stage {
    pub(crate) const VARIABLE: &str = "AMBIT_LAB_STAGE";
    pub(crate) const OUTSIDE_PID: &str = "AMBIT_LAB_OUTSIDE";

    pub(crate) fn of_this_process() -> Self {
        match text(Self::VARIABLE).as_deref() {
            Some("init") => Stage::Init,
            Some("inside") => Stage::Inside,
            _ => Stage::Outside,
        }
    }
}

/// Supervisor's process id seen from outside the namespaces, when we are inside.
pub(crate) fn outside_pid() -> Option<u32> {
    text(Stage::OUTSIDE_PID)?.parse().ok()
}

/// Folder under which each lab of this user has its own.
pub fn runs() -> PathBuf {
    if let Some(folder) = text("AMBIT_LAB_DIR") {
        return folder.into();
    }
    let runtime = text("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| writable(folder));
    match runtime {
        Some(folder) => folder.join("ambit-lab"),
        None => PathBuf::from(format!("/tmp/ambit-lab-{}", nix::unistd::getuid())),
    }
}

/// Folder in which the mesh's programs are looked for.
pub(crate) fn programs() -> PathBuf {
    if let Some(folder) = text("AMBIT_LAB_PROGRAMS") {
        return folder.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let folder = exe.parent().unwrap_or(Path::new("/")).to_path_buf();
    // Test binaries lie one folder below the programs.
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(&folder).to_path_buf(),
        _ => folder,
    }
}

/// Name of the cluster of this machine that is to be used.
pub(crate) fn cluster() -> Option<String> {
    text("AMBIT_CLUSTER")
}

/// Folder of this machine's clusters and their programs.
pub(crate) fn clusters() -> PathBuf {
    match text("AMBIT_CLUSTERS") {
        Some(folder) => folder.into(),
        // Programs lie in a folder of the target folder named after their profile.
        None => programs().parent().unwrap_or(Path::new("/")).join("cluster"),
    }
}

/// The ztunnel that runs in place of ours. Tests ask it only for what Istio's does too.
pub fn foreign_ztunnel() -> Option<PathBuf> {
    text("AMBIT_ZTUNNEL").map(PathBuf::from)
}

/// Whether a trial leaves out what a foreign ztunnel never promised; it then says so in one line, which `cargo xtask test`
/// collects; a trial may ask again and again.
pub fn left_out(trial: &str, what_and_why: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let foreign = foreign_ztunnel().is_some();
    let new =
        || SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{trial}: {what_and_why}"));
    if foreign && new() {
        // Lines of a trial begin behind its name.
        println!("\n{LEFT_OUT}{trial}: {what_and_why}");
    }
    foreign
}

/// Variables every program in the lab gets from outside.
pub(crate) fn inherited() -> Vec<(&'static str, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    vec![("PATH", path), ("HOME", "/tmp".into()), ("LANG", "C.UTF-8".into())]
}

/// Log filter for the mesh's programs.
pub(crate) fn log_filter() -> String {
    text("RUST_LOG").unwrap_or_else(|| "info".to_owned())
}

fn text(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

fn writable(folder: &Path) -> bool {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}
