//! The pods as far as identity is concerned: one writer, many readers.

use std::collections::HashMap;

/// What the CA must know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFact {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: a pod of the same name that came later is another pod.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// The node it runs on; empty when not scheduled.
    pub node: String,
    /// The Gateway in its namespace that it is a replica of: labelled so, and as our controller deploys them.
    pub waypoint: Option<String>,
    /// Whether its containers have ended for good.
    pub phase: Phase,
}

/// Whether a pod can still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Pending or running.
    Live,
    /// Succeeded or failed.
    Terminal,
}

/// All pods, by name.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    by_name: HashMap<(String, String), PodFact>,
    running: HashMap<(String, String, String), usize>,
}

impl Pods {
    /// Adds or replaces a pod.
    pub fn insert(&mut self, pod: PodFact) {
        self.remove(&pod.namespace, &pod.name);
        if let Some(place) = place(&pod) {
            *self.running.entry(place).or_default() += 1;
        }
        self.by_name.insert((pod.namespace.clone(), pod.name.clone()), pod);
    }

    /// Removes a pod.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(old) = self.by_name.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        if let Some(place) = place(&old)
            && let Some(count) = self.running.get_mut(&place)
        {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&place);
            }
        }
    }

    /// A pod by name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&PodFact> {
        self.by_name.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// How many live pods of a service account run on a node, not counting replicas of waypoints: they speak for themselves.
    pub fn running(&self, node: &str, namespace: &str, service_account: &str) -> usize {
        let place = (node.to_owned(), namespace.to_owned(), service_account.to_owned());
        self.running.get(&place).copied().unwrap_or(0)
    }
}

fn place(pod: &PodFact) -> Option<(String, String, String)> {
    let counts = pod.phase == Phase::Live && !pod.node.is_empty() && pod.waypoint.is_none();
    counts.then(|| (pod.node.clone(), pod.namespace.clone(), pod.service_account.clone()))
}
