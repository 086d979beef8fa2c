//! Limits: open connections and streams of the process, and of one pod so that it cannot starve its neighbours; memory;
//! TLS handshakes under way, and those of one peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ambit_process::overload::{Charge, Standing, Work};

use crate::mesh::Mesh;
use crate::pods::Pod;

/// Open connections of the process.
#[derive(Debug, Default)]
pub struct Total {
    connections: AtomicUsize,
    /// Pods with at least one of them.
    pods: AtomicUsize,
}

/// A place under the limits; given back on drop.
#[derive(Debug)]
pub struct Open {
    _counted: Counted,
    _charge: Charge,
}

#[derive(Debug)]
struct Counted {
    total: Arc<Total>,
    pod: Arc<AtomicUsize>,
}

impl Open {
    /// Takes a place for one connection of a pod, or one stream of a tunnel to it; `None` when a limit is reached.
    pub fn admit(mesh: &Mesh, pod: &Pod, work: Work) -> Option<Self> {
        let counted = Counted { total: mesh.open.clone(), pod: pod.open.clone() };
        // Counted first and given back by drop on refusal, so that two arrivals cannot share the last place.
        let process = counted.total.connections.fetch_add(1, Ordering::Relaxed);
        let own = counted.pod.fetch_add(1, Ordering::Relaxed);
        let pods = match own {
            0 => counted.total.pods.fetch_add(1, Ordering::Relaxed) + 1,
            _ => counted.total.pods.load(Ordering::Relaxed),
        };
        if process >= mesh.limits.process || own >= mesh.limits.pod {
            return None;
        }
        let charge = mesh.overload.admit(work, standing(own, process, pods))?;
        Some(Self { _counted: counted, _charge: charge })
    }
}

/// Whether a pod with `own` of all open connections has less than its share among `pods` that have any. When memory is
/// short, those who have more are refused first.
fn standing(own: usize, all: usize, pods: usize) -> Standing {
    if own.saturating_mul(pods.max(1)) < all.max(1) { Standing::Modest } else { Standing::Greedy }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.total.connections.fetch_sub(1, Ordering::Relaxed);
        if self.pod.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.total.pods.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// TLS handshakes that peers have begun and not finished. They cost memory and a timer before we know who asks, so one
/// peer that begins many holds up itself alone.
#[derive(Clone, Debug)]
pub struct Handshakes {
    under_way: Arc<Mutex<UnderWay>>,
    limit: usize,
}

#[derive(Debug, Default)]
struct UnderWay {
    total: usize,
    of_peer: HashMap<IpAddr, usize>,
}

/// One handshake; over when dropped.
#[derive(Debug)]
pub struct Handshake {
    of: Handshakes,
    peer: IpAddr,
}

/// One peer may have this part of all handshakes.
const PEERS_PART: usize = 8;

impl Handshakes {
    /// At most `limit` at once.
    pub fn new(limit: usize) -> Self {
        Self { under_way: Arc::default(), limit }
    }

    /// Takes a place for a handshake with `peer`; `None` when there are too many.
    pub fn begin(&self, peer: IpAddr) -> Option<Handshake> {
        let mut under_way = self.lock();
        let own = under_way.of_peer.get(&peer).copied().unwrap_or(0);
        if under_way.total >= self.limit || own >= (self.limit / PEERS_PART).max(1) {
            return None;
        }
        under_way.total += 1;
        under_way.of_peer.insert(peer, own + 1);
        Some(Handshake { of: self.clone(), peer })
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut under_way = self.of.lock();
        under_way.total -= 1;
        if let Some(own) = under_way.of_peer.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                under_way.of_peer.remove(&self.peer);
            }
        }
    }
}

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the whole process.
    pub process: usize,
    /// Of one pod.
    pub pod: usize,
}

/// Descriptors kept back from connections: listeners, epoll, logs, control plane.
const RESERVED: usize = 1024;

impl Limits {
    /// From the settings (0 means derive) and the descriptor limit. A connection needs two descriptors at most.
    pub fn new(process: usize, pod: usize, descriptors: usize) -> Self {
        let room = descriptors.saturating_sub(RESERVED.min(descriptors / 4)) / 2;
        let process = if process == 0 { room } else { process.min(room) };
        let pod = if pod == 0 { (process / 2).max(1) } else { pod.min(process) };
        Self { process, pod }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_takes_its_part_of_the_handshakes_and_all_together_the_limit() {
        let handshakes = Handshakes::new(16);
        let peer = |last: u8| IpAddr::from([10, 0, 0, last]);
        let begin = |last| handshakes.begin(peer(last));
        let mut held: Vec<_> = (0..8).flat_map(|last| [begin(last), begin(last)]).flatten().collect();
        assert_eq!(held.len(), 16);
        assert!(begin(9).is_none(), "the limit of all");
        held.remove(0);
        assert!(begin(1).is_none(), "this peer's part");
        assert!(begin(9).is_some(), "a place was given back");
        held.clear();
        assert!(handshakes.lock().of_peer.is_empty(), "nothing is kept of peers that are done");
        assert_eq!(handshakes.lock().total, 0);
        assert!(Handshakes::new(1).begin(peer(1)).is_some(), "at least one");
    }

    #[test]
    fn who_has_less_than_a_fair_share_is_modest() {
        // (own, all, pods)
        let cases = [
            ((0, 0, 1), Standing::Modest),
            ((0, 100, 2), Standing::Modest),
            ((49, 100, 2), Standing::Modest),
            ((50, 100, 2), Standing::Greedy),
            ((100, 100, 1), Standing::Greedy),
            ((1, 1000, 10), Standing::Modest),
        ];
        for ((own, all, pods), expected) in cases {
            assert_eq!(standing(own, all, pods), expected, "{own} of {all}, {pods} pods");
        }
    }

    #[test]
    fn limits_follow_settings_and_descriptors() {
        let cases = [
            // (process, pod, descriptors) -> (process, pod)
            ((0, 0, 20_000), (9_488, 4_744)),
            ((100, 0, 20_000), (100, 50)),
            ((100, 10, 20_000), (100, 10)),
            ((100, 1_000, 20_000), (100, 100)),
            ((50_000, 0, 20_000), (9_488, 4_744)),
            ((0, 0, 256), (96, 48)),
        ];
        for ((process, pod, descriptors), expected) in cases {
            let limits = Limits::new(process, pod, descriptors);
            assert_eq!((limits.process, limits.pod), expected, "{process} {pod} {descriptors}");
        }
    }
}
