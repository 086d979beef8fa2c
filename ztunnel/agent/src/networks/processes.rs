//! A pod's network through `/proc` of the node: the first process in the pod's control group lives in it.
//!
//! The first by its start is the sandbox's, which never leaves the network that the pod was given; what the pod's own
//! programs do to themselves later is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ambit_transport::socket::NetnsId;

use super::NetworkError;
use crate::handover::{Network, PodUid};

/// How long one look through all processes serves: many pods ask at the same moment.
const FRESH: Duration = Duration::from_secs(1);

/// The processes of a node.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    seen: Mutex<Option<Seen>>,
}

/// One look through all processes.
#[derive(Debug)]
struct Seen {
    at: Instant,
    first: BTreeMap<PodUid, Process>,
}

/// A process, and when it started, in ticks since the node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    start: u64,
    pid: u32,
}

impl Processes {
    /// Those that this `/proc` shows.
    pub fn new(proc: PathBuf) -> Self {
        Self { proc, seen: Mutex::new(None) }
    }

    /// Opens a pod's network. Blocking.
    pub(super) fn open(&self, uid: &PodUid) -> Result<Network, NetworkError> {
        let process = self.first(uid)?.ok_or(NetworkError::NoProcess)?;
        let folder = self.proc.join(process.pid.to_string());
        let path = folder.join("ns/net");
        let network = Network::open(&path).map_err(|cause| NetworkError::Missing { path, cause })?;
        // Its number may have become somebody else's since we looked.
        if read(&folder) != Some((uid.clone(), process)) {
            return Err(NetworkError::NoProcess);
        }
        if network.netns().id() == self.of_the_node()? {
            return Err(NetworkError::OfTheNode);
        }
        Ok(network)
    }

    /// The node's own network: that of its first process.
    pub(super) fn of_the_node(&self) -> Result<NetnsId, NetworkError> {
        let path = self.proc.join("1/ns/net");
        match fs::metadata(&path) {
            Ok(found) => Ok(NetnsId { dev: found.dev(), inode: found.ino() }),
            Err(cause) => Err(NetworkError::Processes { path, cause }),
        }
    }

    fn first(&self, uid: &PodUid) -> Result<Option<Process>, NetworkError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| seen.at.elapsed() > FRESH) {
            *seen = Some(Seen { at: Instant::now(), first: look(&self.proc)? });
        }
        Ok(seen.as_ref().and_then(|seen| seen.first.get(uid).copied()))
    }
}

/// The first process of every pod.
fn look(proc: &Path) -> Result<BTreeMap<PodUid, Process>, NetworkError> {
    let folders =
        fs::read_dir(proc).map_err(|cause| NetworkError::Processes { path: proc.to_owned(), cause })?;
    let mut first: BTreeMap<PodUid, Process> = BTreeMap::new();
    for (uid, process) in folders.flatten().filter_map(|folder| read(&folder.path())) {
        let earliest = first.entry(uid).or_insert(process);
        *earliest = process.min(*earliest);
    }
    Ok(first)
}

/// The pod a process belongs to; `None` for what belongs to none, and for what ended while we looked.
fn read(folder: &Path) -> Option<(PodUid, Process)> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let uid = pod_of(&fs::read_to_string(folder.join("cgroup")).ok()?)?;
    let start = start_of(&fs::read_to_string(folder.join("stat")).ok()?)?;
    Some((uid, Process { start, pid }))
}

/// Field 22 of `/proc/PID/stat`. The name in field 2 may hold anything, so fields are counted from its end.
fn start_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The pod that `/proc/PID/cgroup` places a process in, whichever hierarchies and drivers the node has. Groups of different
/// pods at once are nobody's.
pub fn pod_of(groups: &str) -> Option<PodUid> {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    let pods: BTreeSet<String> =
        groups.lines().filter_map(path).filter_map(|path| path.split('/').find_map(pod_in)).collect();
    let mut pods = pods.into_iter();
    pods.next().filter(|_| pods.next().is_none()).map(|uid| PodUid(uid.into()))
}

/// The UID in one part of a path: `pod<uid>` (cgroupfs) or `…-pod<uid with underscores>.slice` (systemd), the latter
/// perhaps with `:cri-containerd:<container>` after it. The outermost part counts: what lies within a pod's group the pod
/// itself may have made and named.
fn pod_in(part: &str) -> Option<String> {
    let slice = part.split(':').next()?;
    let uid = match slice.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-"))?,
        None => slice.strip_prefix("pod")?.to_owned(),
    };
    // A UUID, or for pods of files on the node a hash.
    let is_uid =
        matches!(uid.len(), 32 | 36) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests;
