//! Limits on open connections: of the process, and of one pod so that it cannot starve its neighbours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::mesh::Mesh;
use crate::pods::Pod;

/// A place under the limits; given back on drop.
#[derive(Debug)]
pub struct Open {
    process: Arc<AtomicUsize>,
    pod: Arc<AtomicUsize>,
}

impl Open {
    /// Takes a place for one connection of a pod; `None` when a limit is reached.
    pub fn admit(mesh: &Mesh, pod: &Pod) -> Option<Self> {
        let open = Self { process: mesh.open.clone(), pod: pod.open.clone() };
        // Counted first and given back by drop on refusal, so that two arrivals cannot share the last place.
        let process = open.process.fetch_add(1, Ordering::Relaxed);
        let own = open.pod.fetch_add(1, Ordering::Relaxed);
        (process < mesh.limits.process && own < mesh.limits.pod).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.process.fetch_sub(1, Ordering::Relaxed);
        self.pod.fetch_sub(1, Ordering::Relaxed);
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
