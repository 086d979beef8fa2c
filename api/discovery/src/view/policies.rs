//! Policies by name and by scope, and the set that judges one workload.

use std::sync::Arc;

use ambit_api::authz::PolicySet;
use ambit_api::policy::{Policy, PolicyKey, PolicyScope};
use ambit_api::workload::Workload;
use imbl::{HashMap, OrdMap};

/// The policy index.
#[derive(Clone, Default)]
pub struct Policies {
    by_key: HashMap<PolicyKey, Arc<Policy>>,
    global: OrdMap<PolicyKey, Arc<Policy>>,
    by_namespace: HashMap<Arc<str>, OrdMap<PolicyKey, Arc<Policy>>>,
    /// Policies that arrived in a form we cannot evaluate and never had a good version: what they cover is closed.
    unusable: OrdMap<PolicyKey, PolicyScope>,
}

impl Policies {
    /// By name.
    pub fn get(&self, key: &PolicyKey) -> Option<&Arc<Policy>> {
        self.by_key.get(key)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.by_key.values()
    }

    /// The policies that apply to a workload: the mesh's, its namespace's, and those it names.
    pub fn of(&self, workload: &Workload) -> PolicySet {
        let namespace = self.by_namespace.get(workload.namespace.as_str());
        let mut set = PolicySet {
            policies: self
                .global
                .values()
                .chain(namespace.into_iter().flat_map(OrdMap::values))
                .cloned()
                .collect(),
            ..PolicySet::default()
        };
        for key in &workload.policies {
            match self.by_key.get(key) {
                Some(policy) if policy.scope == PolicyScope::WorkloadSelector => {
                    set.policies.push(policy.clone())
                }
                Some(_) => {} // already there by its scope, or another namespace's: naming it adds nothing
                None if self.unusable.contains_key(key) => set.unusable.push(key.clone()),
                None => set.missing.push(key.clone()),
            }
        }
        let covering = self.unusable.iter().filter(|(key, scope)| match scope {
            PolicyScope::Global => true,
            PolicyScope::Namespace => *key.namespace == *workload.namespace,
            PolicyScope::WorkloadSelector => false, // those that the workload names are there already
        });
        set.unusable.extend(covering.map(|(key, _)| key.clone()));
        set
    }

    pub(super) fn insert(&mut self, policy: Arc<Policy>) {
        self.remove(&policy.key);
        match policy.scope {
            PolicyScope::Global => {
                self.global.insert(policy.key.clone(), policy.clone());
            }
            PolicyScope::Namespace => {
                let namespace = self.by_namespace.entry(policy.key.namespace.clone()).or_default();
                namespace.insert(policy.key.clone(), policy.clone());
            }
            PolicyScope::WorkloadSelector => {}
        }
        self.by_key.insert(policy.key.clone(), policy);
    }

    /// Remembers a policy that cannot be evaluated. A good version that is in force stays so instead.
    pub(super) fn refuse(&mut self, key: PolicyKey, scope: PolicyScope) {
        if !self.by_key.contains_key(&key) {
            self.unusable.insert(key, scope);
        }
    }

    pub(super) fn remove(&mut self, key: &PolicyKey) {
        self.unusable.remove(key);
        self.by_key.remove(key);
        self.global.remove(key);
        if let Some(namespace) = self.by_namespace.get_mut(&key.namespace) {
            namespace.remove(key);
            if namespace.is_empty() {
                self.by_namespace.remove(&key.namespace);
            }
        }
    }
}
