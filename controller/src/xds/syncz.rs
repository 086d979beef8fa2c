//! Which proxy holds which generation: `/debug/syncz`.
//!
//! `{"generation": 7, "proxies": [{"node", "pod", "version", "generation_sent", "generation_acked", "overdue",
//! "nacks": [{"type", "generation", "message"}]}]}`. A change has arrived everywhere when every proxy's
//! `generation_acked` is at least the `generation` of an answer asked for after the change was made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Kind;

/// NACKs remembered per proxy.
const REMEMBERED: usize = 8;

/// All connected proxies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    inner: Arc<Mutex<Inner>>,
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
    /// Ambit's version, empty for a proxy that announces none.
    pub version: String,
    /// The generation it is being told.
    pub generation_sent: u64,
    /// The generation it has answered in full; absent before the first.
    pub generation_acked: Option<u64>,
    /// Since when it owes an answer for too long, by kind; absent when it does not.
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
        Entry { id, proxies: self.clone() }
    }

    /// Everybody, by node and pod.
    pub fn all(&self) -> Vec<Proxy> {
        let mut all: Vec<_> = self.lock().proxies.values().cloned().collect();
        all.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
        all
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

    /// It has answered everything up to a generation.
    pub fn acknowledged(&self, generation: u64) {
        self.change(|proxy| {
            proxy.generation_acked = Some(generation);
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
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.proxies.lock().proxies.remove(&self.id);
    }
}
