//! Sets with a count, so that what several need goes with the last of them.

use std::collections::{BTreeMap, BTreeSet};

/// Keys, by how many need them.
#[derive(Clone, Debug)]
pub(super) struct Counts<K>(BTreeMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Counts<K> {
    pub(super) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// Counts a set in the place of another one; the keys that came or went.
    pub(super) fn swap(&mut self, old: &BTreeSet<K>, new: &BTreeSet<K>) -> BTreeSet<K> {
        let mut turned = BTreeSet::new();
        for key in new.difference(old) {
            let count = self.0.entry(key.clone()).or_default();
            *count += 1;
            if *count == 1 {
                turned.insert(key.clone());
            }
        }
        for key in old.difference(new) {
            let Some(count) = self.0.get_mut(key) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
                turned.insert(key.clone());
            }
        }
        turned
    }
}
