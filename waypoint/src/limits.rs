//! What a cluster may hold at once: connections, requests waiting for one, requests, retries.
//!
//! The counts belong to the process, not to a worker: every worker takes its slots from the same [`Limits`], so a
//! limit of ten is ten however many workers there are. Only the ceiling comes from the snapshot at hand, call by call,
//! so a changed policy is obeyed by the next request and lowers nobody who is already in.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Open connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

/// A limit was reached: 503, flag `UO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {kind} is reached")]
pub struct Overflow {
    /// Which.
    pub kind: Kind,
}

/// The counts of one cluster.
#[derive(Debug, Default)]
pub struct Limits {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    /// How many wait for a connection slot.
    waiting: AtomicU32,
    /// A connection slot came free.
    freed: Notify,
    /// Somebody began to wait for a connection slot.
    wanted: Notify,
}

/// One thing that counts against a limit, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the slot back"]
pub struct Slot {
    limits: Arc<Limits>,
    kind: Kind,
}

/// Somebody who waits for a connection slot, until dropped.
struct Waiting<'a>(&'a Limits);

/// How many more requests a connection may carry.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    left: Option<u32>,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Pending => "waiting requests",
            Self::Requests => "requests",
            Self::Retries => "retries",
        })
    }
}

impl Limits {
    /// Takes a slot below `ceiling` (`None`: no limit), at once or not at all.
    ///
    /// # Errors
    /// When all are taken.
    pub fn take(self: &Arc<Self>, kind: Kind, ceiling: Option<NonZeroU32>) -> Result<Slot, Overflow> {
        let below = |held: u32| match ceiling {
            Some(ceiling) if held >= ceiling.get() => None,
            _ => held.checked_add(1),
        };
        self.count(kind)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, below)
            .map(|_| Slot { limits: self.clone(), kind })
            .map_err(|_| Overflow { kind })
    }

    /// Waits for a connection slot. Give up by dropping the future. The number of those who wait is itself limited:
    /// hold a [`Kind::Pending`] slot meanwhile.
    pub async fn connection(self: &Arc<Self>, ceiling: Option<NonZeroU32>) -> Slot {
        if let Ok(slot) = self.take(Kind::Connections, ceiling) {
            return slot;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(self);
        loop {
            let mut freed = pin!(self.freed.notified());
            // In the queue before the last look: a slot given back in between must not be missed.
            freed.as_mut().enable();
            self.wanted.notify_one();
            if let Ok(slot) = self.take(Kind::Connections, ceiling) {
                return slot;
            }
            freed.await;
        }
    }

    /// Returns when a connection that is idle should close because somebody, perhaps on another worker, waits for its
    /// slot. Without this a worker's idle connections would keep the others out for as long as they live.
    pub async fn wanted(&self) {
        loop {
            let mut wanted = pin!(self.wanted.notified());
            wanted.as_mut().enable();
            if self.waiting.load(Ordering::Acquire) > 0 {
                return;
            }
            wanted.await;
        }
    }

    /// How many are taken.
    pub fn held(&self, kind: Kind) -> u32 {
        self.count(kind).load(Ordering::Acquire)
    }

    fn count(&self, kind: Kind) -> &AtomicU32 {
        match kind {
            Kind::Connections => &self.connections,
            Kind::Pending => &self.pending,
            Kind::Requests => &self.requests,
            Kind::Retries => &self.retries,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limits.count(self.kind).fetch_sub(1, Ordering::AcqRel);
        if self.kind == Kind::Connections {
            self.limits.freed.notify_one();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Uses {
    /// Of a new connection.
    pub fn new(most: Option<NonZeroU32>) -> Self {
        Self { left: most.map(NonZeroU32::get) }
    }

    /// Counts one request; whether the connection may carry it.
    pub fn spend(&mut self) -> bool {
        match &mut self.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Whether it carried its last request.
    pub fn is_spent(&self) -> bool {
        self.left == Some(0)
    }
}
