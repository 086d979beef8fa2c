//! What a program still waits for before it may be sent work: each start-up task holds a guard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names still pending, and how many hold each.
type Pending = BTreeMap<String, usize>;

/// The program's readiness; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    pending: Arc<Mutex<Pending>>,
}

/// One task that is not ready yet; dropping it says that it is.
#[derive(Debug)]
#[must_use = "dropping the hold at once says that the task is ready"]
pub struct Hold {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// Nothing pending: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the program wait for `name` until the hold is dropped.
    pub fn hold(&self, name: impl Into<String>) -> Hold {
        let name = name.into();
        *self.lock().entry(name.clone()).or_default() += 1;
        Hold { name, readiness: self.clone() }
    }

    /// What is still waited for, sorted.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Whether nothing is waited for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // No code panics while it holds this; a poisoned count is still a count.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut pending = self.readiness.lock();
        if let Some(holders) = pending.get_mut(&self.name) {
            *holders -= 1;
            if *holders == 0 {
                pending.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_hold_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let configuration = readiness.hold("configuration");
        let proxy = readiness.clone().hold("a proxy");
        assert_eq!(readiness.pending(), ["a proxy", "configuration"]);
        drop(configuration);
        assert_eq!(readiness.pending(), ["a proxy"]);
        assert!(!readiness.is_ready());
        drop(proxy);
        assert!(readiness.is_ready());
    }

    #[test]
    fn one_name_held_twice_needs_both() {
        let readiness = Readiness::new();
        let first = readiness.hold("listener");
        let second = readiness.hold("listener");
        drop(first);
        assert_eq!(readiness.pending(), ["listener"]);
        drop(second);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_task_that_panics_does_not_stay_pending_for_ever() {
        let readiness = Readiness::new();
        let hold = readiness.hold("doomed");
        let thread = std::thread::spawn(move || {
            let _hold = hold;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert!(readiness.is_ready());
    }
}
