//! Indexes and counts over records: a record is remembered and forgotten as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::policies::Spread;
use super::record::Record;
use super::state::{Peers, Pods, State, put};
use crate::objects::Key;

impl State {
    /// Enters a record into every index.
    pub(crate) fn remember(&mut self, key: &Key, record: &Record) {
        for service in services(record) {
            self.members.entry(service).or_default().insert(key.clone());
        }
        self.on_node.entry(record.node.clone()).or_default().insert(key.clone());
        for (policy, form) in &record.forms {
            let spread = self.spreads.entry((policy.clone(), key.namespace.clone())).or_default();
            spread.add(form, record.enrolled);
        }
        for lock in record.locks.resources(&key.namespace) {
            *self.tally.locks.entry(lock.name.clone()).or_default() += 1;
            put(&mut self.snapshot.authorizations, lock);
        }
        let pods = self.tally.pods.entry(key.namespace.clone()).or_default();
        pods.present += 1;
        pods.covered += usize::from(record.covered);
        pods.enrolled += usize::from(record.enrolled);
        for peer in &record.peer.matched {
            let count = self.tally.peers.entry(peer.clone()).or_default();
            count.matched += 1;
            let won = record.peer.won.as_ref() == Some(peer);
            count.won += usize::from(won);
            count.enrolled += usize::from(won && record.enrolled);
        }
    }

    /// Takes a record out of every index.
    pub(crate) fn forget(&mut self, key: &Key, record: &Record) {
        for service in services(record) {
            remove_from(&mut self.members, &service, key);
        }
        remove_from(&mut self.on_node, &record.node, key);
        for (policy, form) in &record.forms {
            let spread: Option<&mut Spread> = self.spreads.get_mut(&(policy.clone(), key.namespace.clone()));
            if let Some(spread) = spread {
                spread.remove(form, record.enrolled);
            }
        }
        for lock in record.locks.resources(&key.namespace) {
            if let Some(count) = self.tally.locks.get_mut(&lock.name) {
                *count -= 1;
            }
        }
        if let Some(pods) = self.tally.pods.get_mut(&key.namespace) {
            pods.present -= 1;
            pods.covered -= usize::from(record.covered);
            pods.enrolled -= usize::from(record.enrolled);
        }
        self.tally.pods.retain(|_, pods| *pods != Pods::default());
        for peer in &record.peer.matched {
            if let Some(count) = self.tally.peers.get_mut(peer) {
                count.matched -= 1;
                let won = record.peer.won.as_ref() == Some(peer);
                count.won -= usize::from(won);
                count.enrolled -= usize::from(won && record.enrolled);
            }
        }
        self.tally.peers.retain(|_, count| *count != Peers::default());
    }

    /// Removes the locks that no pod lists any more.
    pub(crate) fn sweep_locks(&mut self) {
        let unused: Vec<Arc<str>> =
            self.tally.locks.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.clone()).collect();
        for name in unused {
            self.tally.locks.remove(&name);
            self.snapshot.authorizations.remove(&name);
        }
    }
}

/// The policies of the pod's namespace whose count of forms or of enrolled pods differs.
pub(crate) fn changed_spreads(
    key: &Key,
    old: Option<&Record>,
    new: Option<&Record>,
) -> impl Iterator<Item = (Key, String)> {
    let seen = |record: Option<&Record>, policy: &Key| {
        record.and_then(|record| Some((record.forms.get(policy)?.clone(), record.enrolled)))
    };
    let policies = [old, new].into_iter().flatten().flat_map(|record| record.forms.keys());
    let changed: BTreeSet<Key> =
        policies.filter(|policy| seen(old, policy) != seen(new, policy)).cloned().collect();
    let namespace = key.namespace.clone();
    changed.into_iter().map(move |policy| (policy, namespace.clone()))
}

/// The Services before a pod.
pub(crate) fn services(record: &Record) -> impl Iterator<Item = Key> + '_ {
    record.members.iter().map(|member| Key::new(&member.namespace, &member.service))
}

/// Removes one key from the set at a place, and the set with its last key.
pub(crate) fn remove_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
