//! What all workers share about a cluster: open requests and marks of each endpoint, and what its limits hold.
//!
//! A cluster is a service, one of its ports and perhaps a subset, each with limits and ejections of its own. It lives as
//! long as a worker's balancer or something under way needs it: nothing is swept, nothing outlives its use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ambit_api::service::ServiceKey;
use ambit_api::workload::Uid;
use tokio::time::Instant;

use crate::limits::Limits;
use crate::outlier::{Marks, Moment};

/// The name of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterKey {
    /// The service.
    pub service: ServiceKey,
    /// The service's port.
    pub port: u16,
    /// The subset; `None` for all endpoints.
    pub subset: Option<Arc<str>>,
}

/// All clusters in use in this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    known: Arc<Mutex<HashMap<ClusterKey, Weak<Cluster>>>>,
}

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    key: ClusterKey,
    /// Its limits.
    pub limits: Arc<Limits>,
    hosts: Mutex<HashMap<Uid, Weak<Host>>>,
    /// Held while an ejection is decided: two workers must not both find that one more is permitted.
    deciding: Mutex<()>,
    began: Instant,
}

/// For how many further requests a refused one makes its endpoint count as one that refuses, and the most it may come to.
/// One that refuses fewer than about one in so many never does for long.
const REFUSED: (u32, u32) = (8, 64);

/// One endpoint of a cluster.
#[derive(Debug, Default)]
pub struct Host {
    open: AtomicU64,
    refusing: AtomicU32,
    /// What is held against it.
    pub marks: Marks,
}

/// A request open at a host, until dropped.
#[derive(Debug)]
pub(super) struct Load(Arc<Host>);

impl Clusters {
    /// The cluster of that name. Taken once per worker and snapshot, never per request.
    pub fn get(&self, key: ClusterKey) -> Arc<Cluster> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = known.get(&key).and_then(Weak::upgrade) {
            return cluster;
        }
        known.retain(|_, cluster| cluster.strong_count() > 0);
        let cluster = Arc::new(Cluster::new(key.clone()));
        known.insert(key, Arc::downgrade(&cluster));
        cluster
    }
}

impl Cluster {
    fn new(key: ClusterKey) -> Self {
        Self {
            key,
            limits: Arc::default(),
            hosts: Mutex::default(),
            deciding: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Its name.
    pub fn key(&self) -> &ClusterKey {
        &self.key
    }

    /// What all workers know of these endpoints.
    pub(super) fn hosts<'a>(&self, uids: impl Iterator<Item = &'a Uid>) -> Vec<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, host| host.strong_count() > 0);
        uids.map(|uid| {
            hosts.get(uid).and_then(Weak::upgrade).unwrap_or_else(|| {
                let host = Arc::<Host>::default();
                hosts.insert(uid.clone(), Arc::downgrade(&host));
                host
            })
        })
        .collect()
    }

    pub(super) fn deciding<T>(&self, decide: impl FnOnce() -> T) -> T {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        decide()
    }

    /// A time as all workers count it.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment(now.saturating_duration_since(self.began))
    }
}

impl Host {
    /// Requests open at it, of all workers.
    pub fn load(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Its policies refused a request.
    pub(super) fn refused(&self) {
        // Two workers may count two as one; it is no exact number.
        let more = self.refusing.load(Ordering::Relaxed) + REFUSED.0;
        self.refusing.store(more.min(REFUSED.1), Ordering::Relaxed);
    }

    /// Whether its policies refuse some requests. Those cost it nothing, so its load says little of how often it was
    /// chosen.
    pub(super) fn refuses(&self) -> bool {
        self.refusing.load(Ordering::Relaxed) > 0
    }
}

impl Load {
    pub(super) fn new(host: Arc<Host>) -> Self {
        host.open.fetch_add(1, Ordering::Relaxed);
        let left = host.refusing.load(Ordering::Relaxed);
        if left > 0 {
            host.refusing.store(left - 1, Ordering::Relaxed);
        }
        Self(host)
    }

    pub(super) fn host(&self) -> &Host {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
