//! The kubelet's own way to pods: its probes reach the application without the ztunnel, whatever policy says, and nobody
//! else's connections do.
//!
//! In the node's network the kubelet's connections to the ports that pods are probed at get a source address of their own
//! ([`rules`]); in the pod's network that address is let through to the same ports. What is the kubelet's is told by its
//! user and, where the node has the second hierarchy of control groups, by its group ([`kubelet`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::time::{MissedTickBehavior, interval};

use crate::handover::PodUid;
use crate::pod::node::Node;
use crate::redirect::apply::{RedirectError, Redirector};
use crate::redirect::command::Program;
use kubelet::{Finder, Group, Kubelet};
use rules::Script;

pub mod kubelet;
pub mod rules;

/// How often it is looked whether the kubelet was started anew.
const LOOK: Duration = Duration::from_secs(1);
/// Every so many looks it is looked whether the rules still stand instead.
const VERIFY: u64 = 10;

/// Where pods are probed.
pub type Openings = BTreeSet<(IpAddr, u16)>;

/// The kubelet's way to the pods of this node. Nothing is done where there is no kubelet (the lab).
#[derive(Debug)]
pub enum Probes {
    /// The lab asks from within the pods.
    None,
    /// A node of Kubernetes.
    Kubelet(Box<Host>),
}

/// The rules in the node's own network.
#[derive(Debug)]
pub struct Host {
    nft: PathBuf,
    within: Duration,
    proc: PathBuf,
    finder: Finder,
    held: Mutex<Held>,
}

/// What is to stand there, and what was written last.
#[derive(Debug, Default)]
struct Held {
    openings: BTreeMap<PodUid, Openings>,
    kubelet: Option<Kubelet>,
    written: Option<Written>,
    /// Nothing is written before all pods are known: what a former agent has written serves until then.
    is_complete: bool,
}

/// What was written last.
#[derive(Debug)]
struct Written {
    script: Script,
    /// The group it was written for: another one of the same name needs it anew.
    group: Option<Group>,
    /// What it looked like then.
    listing: String,
}

impl Probes {
    /// Lets the kubelet through to a pod, and nowhere else on it. Blocking.
    pub fn open(&self, uid: PodUid, openings: Openings) -> Result<(), RedirectError> {
        let Self::Kubelet(host) = self else { return Ok(()) };
        let mut held = host.lock();
        held.openings.insert(uid, openings);
        host.write(&mut held)
    }

    /// Not any more. Blocking.
    pub fn close(&self, uid: &PodUid) -> Result<(), RedirectError> {
        let Self::Kubelet(host) = self else { return Ok(()) };
        let mut held = host.lock();
        if held.openings.remove(uid).is_none() {
            return Ok(());
        }
        host.write(&mut held)
    }

    /// Takes the node's rules away. Blocking.
    pub fn remove(&self) -> Result<(), RedirectError> {
        let Self::Kubelet(host) = self else { return Ok(()) };
        host.nft(&["-f", "-"], &rules::removal()).map(drop)
    }

    /// All pods are known. Looks whether the kubelet was started anew, and writes what is missing. Blocking.
    pub fn check(&self) -> Result<(), RedirectError> {
        let Self::Kubelet(host) = self else { return Ok(()) };
        let mut held = host.lock();
        held.is_complete = true;
        let found = host.finder.find(held.kubelet.as_ref());
        if held.kubelet != found {
            match &found {
                Some(kubelet) => tracing::info!(%kubelet, "the kubelet is known by"),
                None => {
                    tracing::warn!("no kubelet is found on this node; whatever runs as root may pass for it")
                }
            }
            held.kubelet = found;
        }
        host.write(&mut held)
    }

    /// Writes everything again if somebody has changed it. Blocking.
    pub fn verify(&self) -> Result<(), RedirectError> {
        let Self::Kubelet(host) = self else { return Ok(()) };
        let mut held = host.lock();
        let Some(written) = &held.written else { return Ok(()) };
        if host.listing().is_ok_and(|listing| listing == written.listing) {
            return Ok(());
        }
        tracing::warn!(
            "the rules for the kubelet's probes were changed by somebody else and are written again"
        );
        held.written = None;
        host.write(&mut held)
    }
}

impl Host {
    /// Nothing is written yet.
    pub fn new(redirector: &Redirector, finder: Finder) -> Self {
        let Redirector { nft, within, .. } = redirector.clone();
        Self { nft, within, proc: finder.proc.clone(), finder, held: Mutex::default() }
    }

    /// Writes the rules unless they were written just so.
    fn write(&self, held: &mut Held) -> Result<(), RedirectError> {
        if !held.is_complete {
            return Ok(());
        }
        let openings = held.openings.values().flatten().copied().collect();
        let script = Script::new(&openings, held.kubelet.as_ref());
        let group = held.kubelet.as_ref().and_then(|kubelet| kubelet.group.clone());
        let before = held.written.as_ref();
        if before.is_some_and(|written| written.script == script && written.group == group) {
            return Ok(());
        }
        self.nft(&["-f", "-"], &script.inet)?;
        let is_guarded = before.is_some_and(|written| written.script.bridge == script.bridge);
        if !is_guarded && let Err(error) = self.nft(&["-f", "-"], &script.bridge) {
            // A kernel that has none of it has no bridges that could carry what it guards against.
            tracing::warn!(%error, "bridges of this node are not guarded against the kubelet's source address");
        }
        held.written = Some(Written { script, group, listing: self.listing()? });
        Ok(())
    }

    /// What stands there, without the probes that are under way.
    fn listing(&self) -> Result<String, RedirectError> {
        self.nft(&["-t", "list", "table", "inet", rules::TABLE], "")
    }

    /// On a thread of its own among the node's control groups: newer kernels count their levels from the caller's.
    fn nft(&self, arguments: &[&str], input: &str) -> Result<String, RedirectError> {
        let program = Program { path: &self.nft, arguments, input, within: self.within };
        let run = || {
            let entered = File::open(self.proc.join("1/ns/cgroup"))
                .and_then(|groups| Ok(setns(groups, CloneFlags::CLONE_NEWCGROUP)?));
            if let Err(error) = entered {
                tracing::debug!(%error, "cannot enter the node's control groups");
            }
            program.run().map_err(RedirectError::Rules)
        };
        std::thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the kubelet through its restarts until the node is gone.
pub async fn follow(node: Arc<Node>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    for looks in 0_u64.. {
        look.tick().await;
        let action = if looks % VERIFY == VERIFY - 1 { Probes::verify } else { Probes::check };
        let checked = Node::blocking(&node, move |node| action(&node.probes)).await;
        let Ok(outcome) = checked else { return };
        let problem = outcome.err().map(|error| error.to_string());
        if let Some(problem) = problem.as_ref().filter(|_| problem != last) {
            tracing::error!(%problem, "the kubelet's probes are not let through to pods of the mesh");
        }
        last = problem;
    }
}
