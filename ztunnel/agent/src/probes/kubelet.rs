//! Who the kubelet is on this node: its process, the user it runs as, and its control group.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::networks::processes::pod_of;

/// What kubelets are called: on their own, and in distributions that put everything into one program.
pub const NAMES: [&str; 6] = ["kubelet", "kubelite", "k3s", "k3s-server", "k3s-agent", "rke2"];

/// Where the second hierarchy is mounted below the control groups: alone, or beside the first.
const HIERARCHIES: [&str; 2] = ["", "unified/"];

/// A kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// Its process.
    pub pid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// Its control group; `None` where it has none of its own that packets can be told by.
    pub group: Option<Group>,
}

/// A control group of the second hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its path where `nft` looks.
    pub path: String,
    /// How deep it lies in its hierarchy.
    pub level: usize,
    /// Its inode: another one of the same name is another group.
    pub inode: u64,
}

/// Looks for the kubelet.
#[derive(Clone, Debug)]
pub struct Finder {
    /// The node's processes.
    pub proc: PathBuf,
    /// The node's control groups, mounted where `nft` looks for them.
    pub groups: PathBuf,
}

impl fmt::Display for Kubelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.uid)?;
        match &self.group {
            Some(group) => write!(f, " and control group {}", group.path),
            None => f.write_str(" alone: it has no control group of the second hierarchy to itself"),
        }
    }
}

impl Finder {
    /// Finds it; most often it is still the one that is known. Blocking.
    pub fn find(&self, known: Option<&Kubelet>) -> Option<Kubelet> {
        let known = known.and_then(|known| self.read(known.pid));
        known.or_else(|| {
            let processes = fs::read_dir(&self.proc).into_iter().flatten().flatten();
            let mut pids: Vec<u32> =
                processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect();
            pids.sort_unstable();
            pids.into_iter().find_map(|pid| self.read(pid))
        })
    }

    fn read(&self, pid: u32) -> Option<Kubelet> {
        let folder = self.proc.join(pid.to_string());
        if !is_kubelet(&fs::read(folder.join("cmdline")).ok()?) {
            return None;
        }
        let groups = fs::read_to_string(folder.join("cgroup")).ok()?;
        // What a pod calls itself is no kubelet.
        if pod_of(&groups).is_some() {
            return None;
        }
        let uid = fs::metadata(&folder).ok()?.uid();
        Some(Kubelet { pid, uid, group: self.group(pid, &groups) })
    }

    /// Its group, if packets of its can be told by it: not the root, and really the one that holds it (the path that we
    /// are shown depends on our own group).
    fn group(&self, pid: u32, groups: &str) -> Option<Group> {
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "..")).collect();
        if parts.is_empty() || path.contains(['"', '\\']) {
            return None;
        }
        HIERARCHIES.iter().find_map(|hierarchy| {
            let path = [*hierarchy, &parts.join("/")].concat();
            let folder = self.groups.join(&path);
            let members = fs::read_to_string(folder.join("cgroup.procs")).ok()?;
            let holds = members.lines().any(|line| line.trim().parse() == Ok(pid));
            let inode = fs::metadata(&folder).ok().filter(|_| holds)?.ino();
            Some(Group { path, level: parts.len(), inode })
        })
    }
}

/// By the program's name, or by its first argument where one program is many.
fn is_kubelet(command: &[u8]) -> bool {
    let words = command.split(|byte| *byte == 0).take(2);
    words.filter_map(|word| std::str::from_utf8(word).ok()).any(|word| {
        let name = Path::new(word).file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| NAMES.contains(&name))
    })
}

#[cfg(test)]
mod tests;
