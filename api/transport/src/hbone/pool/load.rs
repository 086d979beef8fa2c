//! How busy tunnels are, and which worker has one with room: the part of a pool that other threads may see.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Key;
use crate::hbone::Settings;

/// How busy one tunnel is; written by its worker, readable from every thread.
#[derive(Debug)]
pub struct TunnelLoad {
    streams: AtomicUsize,
    opened: AtomicUsize,
    queued: AtomicUsize,
    limit: AtomicUsize,
    our_limit: usize,
    mark: usize,
    closed: AtomicBool,
}

/// Which worker has a tunnel with room for a key; one per process, shared by all workers.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<RwLock<HashMap<Key, Vec<Listed>>>>);

#[derive(Debug)]
struct Listed {
    worker: usize,
    load: Arc<TunnelLoad>,
}

impl TunnelLoad {
    pub(in crate::hbone) fn new(settings: &Settings) -> Self {
        Self {
            streams: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            limit: AtomicUsize::new(settings.untold_streams()),
            our_limit: settings.max_streams_per_tunnel,
            mark: settings.queue_mark,
            closed: AtomicBool::new(false),
        }
    }

    /// Streams open now, asked-for ones included.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Streams opened in its life.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Bytes handed to the tunnel that TLS has not taken yet.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Whether it takes no new streams.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether one more stream may be opened.
    pub fn has_room(&self) -> bool {
        !self.is_closed() && self.streams() < self.limit.load(Ordering::Relaxed)
    }

    /// Whether it should get one more stream: there is room, and what is queued has not passed the mark.
    pub fn is_light(&self) -> bool {
        self.has_room() && self.queued() < self.mark
    }

    pub(in crate::hbone) fn enter(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::hbone) fn leave(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(in crate::hbone) fn queue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::hbone) fn unqueue(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Follows what the peer's settings allow.
    pub(in crate::hbone) fn limit_to(&self, peers: usize) {
        self.limit.store(peers.min(self.our_limit), Ordering::Relaxed);
    }

    pub(in crate::hbone) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl Directory {
    /// The worker that owns a tunnel for `key` that should get one more stream.
    pub fn worker_for(&self, key: &Key) -> Option<usize> {
        let listed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        listed.get(key)?.iter().find(|one| one.load.is_light()).map(|one| one.worker)
    }

    /// Whether there is any tunnel for `key`, with room or without.
    pub fn lists(&self, key: &Key) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Tunnels listed now, over all keys and workers.
    pub fn tunnels(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }

    pub(super) fn list(&self, key: &Key, worker: usize, load: &Arc<TunnelLoad>) {
        let mut listed = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listed.entry(key.clone()).or_default().push(Listed { worker, load: load.clone() });
    }

    pub(super) fn unlist(&self, key: &Key, load: &Arc<TunnelLoad>) {
        let mut listed = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnels) = listed.get_mut(key) {
            tunnels.retain(|one| !Arc::ptr_eq(&one.load, load));
            if tunnels.is_empty() {
                listed.remove(key);
            }
        }
    }
}
