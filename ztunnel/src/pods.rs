//! The pods of this node: handed over by the agent, each with exclusive listeners in its own network namespace.
//!
//! One writer (the hand-over session) keeps the list; connections hold their [`Pod`] and follow its [`Phase`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ambit_api::identity::{Identity, InvalidIdentity};
use ambit_discovery::credentials::State;
use ambit_discovery::resolve::HBONE_PORT;
use ambit_discovery::view::{Local, LocalPod};
use ambit_process::spawn::spawn;
use ambit_transport::socket::{self, ListenOptions, Netns, Transparent};
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::capture;
use crate::mesh::Mesh;
use crate::settings::OriginalSource;

/// What the agent hands over.
#[derive(Debug)]
pub struct Handed {
    /// The pod's Kubernetes UID.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Service account.
    pub service_account: Arc<str>,
    /// Its network namespace.
    pub netns: OwnedFd,
}

/// How a pod leaves us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It runs on, outside the mesh: open connections live, tunnels are accepted until every peer has heard.
    LeftMesh,
    /// It is being deleted: peers are told to open no more streams, connections end soon.
    PodGone,
    /// The agent does not say (it is not ours): treated as gone, since that is what it usually means.
    Unknown,
}

/// Where a pod is in its life with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Phase {
    /// In the mesh.
    Serving,
    /// Deleted: tunnels are asked to end, no new ones are accepted.
    Leaving,
    /// Out of the mesh, but running: listeners are closed, open connections go on.
    Left,
    /// Its network is gone: whatever is still open is cut.
    Gone,
}

/// One pod.
pub struct Pod {
    /// Kubernetes UID.
    pub uid: Arc<str>,
    /// Its name as the view knows it.
    pub name: LocalPod,
    /// The identity its tunnels carry.
    pub identity: Identity,
    /// Its network namespace.
    pub netns: Netns,
    /// Its workload and policies.
    pub local: watch::Receiver<Arc<Local>>,
    /// Its certificate.
    pub credentials: watch::Receiver<State>,
    /// Its phase.
    pub phase: watch::Receiver<Phase>,
    /// Open connections, for `/config_dump` and the limit.
    pub open: Arc<AtomicUsize>,
}

/// Why a pod cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its names do not form an identity.
    #[error("pod {pod}: {cause}")]
    Identity {
        /// The pod.
        pod: String,
        /// What is wrong.
        cause: InvalidIdentity,
    },
    /// A listener could not be opened, for example because an application holds the port.
    #[error("pod {pod}: cannot listen on port {port} in its network namespace: {cause}")]
    Listen {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// The namespace descriptor is unusable.
    #[error("pod {pod}: cannot use its network namespace: {cause}")]
    Netns {
        /// The pod.
        pod: String,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

struct Entry {
    pod: Arc<Pod>,
    phase: watch::Sender<Phase>,
    /// Set while a pod that left the mesh lingers; a new hand-over clears it and the pod simply stays.
    lingering: Option<Lingering>,
}

/// Tells one departure from another of the same pod.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lingering(Instant);

/// The list of pods.
#[derive(Clone)]
pub struct Pods {
    mesh: Arc<Mesh>,
    entries: Arc<Mutex<HashMap<Arc<str>, Entry>>>,
}

/// The list, without keeping it (or the process's drain) alive.
pub struct WeakPods {
    mesh: Weak<Mesh>,
    entries: Weak<Mutex<HashMap<Arc<str>, Entry>>>,
}

impl WeakPods {
    /// The list, if it still exists.
    pub fn upgrade(&self) -> Option<Pods> {
        Some(Pods { mesh: self.mesh.upgrade()?, entries: self.entries.upgrade()? })
    }
}

/// The three listeners of a pod (l4-protocols §1.1).
pub struct Listeners {
    /// 15001: leaving the pod.
    pub outbound: std::net::TcpListener,
    /// 15006: arriving in plain text.
    pub plaintext: std::net::TcpListener,
    /// 15008: arriving in tunnels.
    pub tunnels: std::net::TcpListener,
}

/// Port that captured outbound connections are redirected to.
const OUTBOUND_PORT: u16 = 15001;
/// Port that captured plaintext inbound connections are redirected to.
const PLAINTEXT_PORT: u16 = 15006;

impl Pods {
    /// An empty list.
    pub fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh, entries: Arc::default() }
    }

    /// Serves a pod. Idempotent by UID and namespace; another namespace under the same UID replaces the old one.
    pub fn add(&self, handed: Handed) -> Result<(), Refused> {
        let name = format!("{}/{}", handed.namespace, handed.name);
        let netns =
            Netns::from_fd(handed.netns).map_err(|cause| Refused::Netns { pod: name.clone(), cause })?;
        if let Some(entry) = self.lock().get_mut(&handed.uid)
            && entry.pod.netns.id() == netns.id()
        {
            entry.lingering = None;
            return Ok(());
        }
        self.remove(&handed.uid, Departure::Unknown);
        let domain = &self.mesh.settings.control.trust_domain;
        let identity = Identity::new(domain, &handed.namespace, &handed.service_account)
            .map_err(|cause| Refused::Identity { pod: name.clone(), cause })?;
        let listeners = Listeners::open(&netns, &self.mesh, &name)?;
        let (phase, followed) = watch::channel(Phase::Serving);
        let local = LocalPod {
            namespace: handed.namespace,
            name: handed.name,
            service_account: handed.service_account,
        };
        let pod = Arc::new(Pod {
            uid: handed.uid.clone(),
            local: self.mesh.view.watch(&local),
            credentials: self.mesh.credentials.watch(&identity),
            name: local,
            identity,
            netns,
            phase: followed,
            open: Arc::default(),
        });
        info!(%pod, "serving pod");
        self.mesh.report.pods_started();
        capture::start(pod.clone(), listeners, self.mesh.clone());
        self.lock().insert(handed.uid, Entry { pod, phase, lingering: None });
        Ok(())
    }

    /// Stops serving a pod; unknown ones are ignored.
    pub fn remove(&self, uid: &str, departure: Departure) {
        match departure {
            Departure::LeftMesh => self.leave(uid),
            Departure::PodGone | Departure::Unknown => {
                if let Some(entry) = self.lock().remove(uid) {
                    entry.phase.send_replace(Phase::Leaving);
                    self.end(entry, self.mesh.settings.pods.gone_grace, Phase::Gone);
                }
            }
        }
    }

    /// A pod left the mesh and runs on. Peers that have not heard yet still dial its tunnel port, so it lingers.
    fn leave(&self, uid: &str) {
        let departure = Lingering(Instant::now());
        match self.lock().get_mut(uid) {
            Some(entry) if entry.lingering.is_none() => entry.lingering = Some(departure),
            _ => return,
        }
        let (pods, uid) = (self.clone(), uid.to_owned());
        spawn("pod-linger", async move {
            tokio::select! {
                () = tokio::time::sleep(pods.mesh.settings.pods.linger) => {}
                () = pods.mesh.drain.signalled() => {}
            }
            let mut entries = pods.lock();
            if entries.get(uid.as_str()).is_some_and(|entry| entry.lingering == Some(departure))
                && let Some(entry) = entries.remove(uid.as_str())
            {
                pods.end(entry, Duration::ZERO, Phase::Left);
            }
        });
    }

    fn end(&self, entry: Entry, grace: Duration, last: Phase) {
        let Entry { pod, phase, .. } = entry;
        info!(%pod, ?last, "pod leaves");
        self.mesh.report.pods_stopped();
        let (pods, identity) = (self.clone(), pod.identity.clone());
        drop(pod);
        spawn("pod-departure", async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = pods.mesh.drain.forced() => {}
            }
            phase.send_replace(last);
            // Keeps the channel until the last connection has gone, so that none mistakes its end for a change.
            phase.closed().await;
            pods.release(&identity);
        });
    }

    /// Drops every pod that the agent's complete list does not name.
    pub fn retain(&self, listed: &HashSet<Arc<str>>) {
        let unlisted: Vec<_> = self.lock().keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in unlisted {
            warn!(%uid, "pod is not on the node agent's list any more");
            self.remove(&uid, Departure::LeftMesh);
        }
    }

    /// A handle that does not keep the list alive.
    pub fn downgrade(&self) -> WeakPods {
        WeakPods { mesh: Arc::downgrade(&self.mesh), entries: Arc::downgrade(&self.entries) }
    }

    /// The pods being served.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.lock().values().map(|entry| entry.pod.clone()).collect()
    }

    /// Drops the key of an identity that no pod here has any more.
    fn release(&self, identity: &Identity) {
        let entries = self.lock();
        if !entries.values().any(|entry| entry.pod.identity == *identity) {
            self.mesh.credentials.forget(identity);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    fn open(netns: &Netns, mesh: &Mesh, pod: &str) -> Result<Self, Refused> {
        let transparent = match mesh.settings.data.original_source {
            OriginalSource::BestEffort => Transparent::BestEffort,
            OriginalSource::Required => Transparent::Required,
            OriginalSource::Off => Transparent::Off,
        };
        let options =
            ListenOptions { mark: Some(mesh.settings.data.mark), transparent, ..ListenOptions::default() };
        let quiet = ListenOptions { keepalive: None, ..options.clone() };
        let open = |port: u16, options: &ListenOptions| {
            socket::listen_any(netns, port, options).map_err(|cause| Refused::Listen {
                pod: pod.to_owned(),
                port,
                cause,
            })
        };
        Ok(Self {
            outbound: open(OUTBOUND_PORT, &options)?,
            plaintext: open(PLAINTEXT_PORT, &options)?,
            tunnels: open(HBONE_PORT, &quiet)?,
        })
    }
}

impl Pod {
    /// Open connections now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name.namespace, self.name.name)
    }
}

#[cfg(test)]
pub(crate) mod tests;
