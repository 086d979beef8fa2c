//! Which proxy holds which generation: `/debug/syncz`.
//!
//! `{"generation": 7, "proxies": [{"node", "pod", "waypoint", "version", "generation_sent", "generation_acked", "overdue",
//! "nacks": [{"type", "generation", "message"}]}]}`. A change has arrived everywhere when every proxy's
//! `generation_acked` is at least the `generation` of an answer asked for after the change was made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use super::{Audience, Kind};
use crate::snapshot::Moment;

/// NACKs remembered per proxy.
const REMEMBERED: usize = 8;

/// All connected proxies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<()>,
}

/// How far the slowest are, of those that are worth waiting for: a proxy that owes an answer for too long is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slowest {
    /// The lowest step that a ztunnel has answered; none when there is no ztunnel to wait for.
    pub ztunnel: Option<u64>,
    /// The same by Gateway.
    pub waypoints: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    proxies: BTreeMap<u64, Proxy>,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Its node.
    pub node: String,
    /// Its pod, `namespace/name`.
    pub pod: String,
    /// The Gateway it serves, `namespace/name`; absent for a ztunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<String>,
    /// Ambit's version, empty for a proxy that announces none.
    pub version: String,
    /// The generation it is being told.
    pub generation_sent: u64,
    /// The generation it has answered in full; absent before the first.
    pub generation_acked: Option<u64>,
    /// The publication it has answered in full.
    #[serde(skip)]
    pub step_acked: u64,
    /// The kind for which it owes an answer for too long; absent when it does not.
    pub overdue: Option<String>,
    /// Its latest refusals.
    pub nacks: VecDeque<Nack>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nack {
    /// Kind of resource.
    pub r#type: String,
    /// What it was told.
    pub generation: u64,
    /// What it said.
    pub message: String,
}

/// A proxy's entry; removed when dropped.
#[derive(Debug)]
pub struct Entry {
    id: u64,
    proxies: Proxies,
}

impl Proxies {
    /// A proxy connected.
    pub fn enter(&self, proxy: Proxy) -> Entry {
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.proxies.insert(id, proxy);
        self.changed.send_replace(());
        Entry { id, proxies: self.clone() }
    }

    /// Everybody, by node and pod.
    pub fn all(&self) -> Vec<Proxy> {
        let mut all: Vec<_> = self.lock().proxies.values().cloned().collect();
        all.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
        all
    }

    /// How far the slowest are.
    pub fn slowest(&self) -> Slowest {
        let mut slowest = Slowest::default();
        for proxy in self.lock().proxies.values().filter(|proxy| proxy.overdue.is_none()) {
            let step = proxy.step_acked;
            match &proxy.waypoint {
                None => slowest.ztunnel = Some(slowest.ztunnel.map_or(step, |lowest| lowest.min(step))),
                Some(gateway) => {
                    let lowest = slowest.waypoints.entry(gateway.clone()).or_insert(step);
                    *lowest = step.min(*lowest);
                }
            }
        }
        slowest
    }

    /// Told of every answer, and of who comes and goes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// It is being told a generation.
    pub fn sent(&self, generation: u64) {
        self.change(|proxy| proxy.generation_sent = generation);
    }

    /// It has answered everything up to a moment.
    pub fn acknowledged(&self, Moment { generation, step }: Moment) {
        self.change(|proxy| {
            proxy.generation_acked = Some(generation);
            proxy.step_acked = step;
            proxy.generation_sent = proxy.generation_sent.max(generation);
            proxy.overdue = None;
        });
    }

    /// It owes an answer.
    pub fn overdue(&self, kind: Kind) {
        self.change(|proxy| proxy.overdue = Some(kind.to_string()));
    }

    /// It refused something.
    pub fn nacked(&self, kind: Kind, message: String) {
        self.change(|proxy| {
            if proxy.nacks.len() >= REMEMBERED {
                proxy.nacks.pop_front();
            }
            let generation = proxy.generation_sent;
            proxy.nacks.push_back(Nack { r#type: kind.to_string(), generation, message });
        });
    }

    fn change(&self, change: impl FnOnce(&mut Proxy)) {
        if let Some(proxy) = self.proxies.lock().proxies.get_mut(&self.id) {
            change(proxy);
        }
        self.proxies.changed.send_replace(());
    }
}

impl Proxy {
    /// A proxy that has been told nothing yet.
    pub fn new(audience: &Audience) -> Self {
        let waypoint = match audience {
            Audience::Ztunnel => None,
            Audience::Waypoint(gateway) => Some(gateway.to_string()),
        };
        Self { waypoint, ..Self::default() }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.proxies.lock().proxies.remove(&self.id);
        self.proxies.changed.send_replace(());
    }
}
