//! The only writer of a [`View`]: applies one push, rejects single bad resources, publishes one snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_api::policy::{Policy, PolicyKey, PolicyScope};
use ambit_api::service::{Service, ServiceKey};
use ambit_api::wire;
use ambit_api::workload::{Uid, Workload};

use super::waypoint::policy_key;
use super::{Snapshot, View};
use crate::xds::{Named, Push, Rejection, Sink};

/// Applies pushes to a view.
pub struct Writer {
    view: View,
    next: Snapshot,
}

impl Writer {
    pub(super) fn new(view: View) -> Self {
        Self { view, next: Snapshot::default() }
    }

    fn addresses(
        &mut self,
        upserts: Vec<Named<wire::workload::Address>>,
        removed: &[String],
    ) -> Vec<Rejection> {
        let mut touched = BTreeSet::new();
        let mut rejected = Vec::new();
        for name in removed {
            self.remove_address(name, &mut touched);
        }
        for Named { name, body } in upserts {
            if let Err(reason) = self.upsert_address(body, &mut touched) {
                rejected.push(Rejection { name, reason });
            }
        }
        for key in &touched {
            self.next.services.refresh(key);
        }
        self.next.synced.addresses = true;
        rejected
    }

    fn upsert_address(
        &mut self,
        body: wire::workload::Address,
        touched: &mut BTreeSet<ServiceKey>,
    ) -> Result<(), String> {
        match body.r#type {
            Some(wire::workload::address::Type::Workload(body)) => {
                let workload = Workload::try_from(body).map_err(|fault| fault.to_string())?;
                self.upsert_workload(Arc::new(workload), touched);
            }
            Some(wire::workload::address::Type::Service(body)) => {
                let service = Service::try_from(body).map_err(|fault| fault.to_string())?;
                self.next.services.insert(Arc::new(service));
            }
            None => return Err("neither a workload nor a service".to_owned()),
        }
        Ok(())
    }

    fn upsert_workload(&mut self, workload: Arc<Workload>, touched: &mut BTreeSet<ServiceKey>) {
        if let Some(before) = self.next.workloads.insert(workload.clone()) {
            for key in before.services.keys().filter(|key| !workload.services.contains_key(key)) {
                self.next.services.leave(key, &before.uid);
                touched.insert(key.clone());
            }
        }
        for key in workload.services.keys() {
            self.next.services.join(key, workload.clone());
            touched.insert(key.clone());
        }
    }

    /// Removal names a workload's unique name or a service's `namespace/hostname`; neither can look like the other,
    /// since a unique name has at least two slashes.
    fn remove_address(&mut self, name: &str, touched: &mut BTreeSet<ServiceKey>) {
        if let Some(workload) = self.next.workloads.remove(&Uid(name.into())) {
            for key in workload.services.keys() {
                self.next.services.leave(key, &workload.uid);
                touched.insert(key.clone());
            }
        } else if let Some((namespace, hostname)) = name.split_once('/') {
            self.next.services.remove(&ServiceKey::new(namespace, hostname));
        }
    }

    fn authorizations(
        &mut self,
        upserts: Vec<Named<wire::security::Authorization>>,
        unreadable: &[String],
        removed: &[String],
    ) -> Vec<Rejection> {
        let mut rejected = Vec::new();
        for name in removed {
            self.next.policies.remove(&policy_key(name));
        }
        for name in unreadable {
            self.next.policies.refuse(policy_key(name), PolicyScope::Global);
        }
        for Named { name, body } in upserts {
            let (key, scope) = covered(&name, &body);
            match Policy::try_from(body) {
                Ok(policy) => self.next.policies.insert(Arc::new(policy)),
                Err(fault) => {
                    self.next.policies.refuse(key, scope);
                    rejected.push(Rejection { name, reason: fault.to_string() });
                }
            }
        }
        self.next.synced.policies = true;
        rejected
    }
}

/// What a policy would cover, read from as little of it as possible; a scope we do not know is read as the widest.
fn covered(name: &str, body: &wire::security::Authorization) -> (PolicyKey, PolicyScope) {
    let scope = match wire::security::Scope::try_from(body.scope) {
        Ok(wire::security::Scope::WorkloadSelector) => PolicyScope::WorkloadSelector,
        Ok(wire::security::Scope::Namespace) => PolicyScope::Namespace,
        Ok(wire::security::Scope::Global) | Err(_) => PolicyScope::Global,
    };
    (policy_key(name), scope)
}

impl Sink for Writer {
    fn apply(&mut self, push: Push) -> Vec<Rejection> {
        let rejected = match push {
            Push::Address { upserts, removed } => self.addresses(upserts, &removed),
            Push::Authorization { upserts, unreadable, removed } => {
                self.authorizations(upserts, &unreadable, &removed)
            }
            Push::Policy(changes) => self.next.waypoint.apply_policies(changes),
            Push::Workload(changes) => self.next.waypoint.apply_workloads(changes),
            Push::Destination(changes) => self.next.waypoint.apply_destinations(changes),
            Push::Service(changes) => self.next.waypoint.apply_services(changes),
            Push::Gateway(changes) => self.next.waypoint.apply_gateway(changes),
        };
        self.view.publish(self.next.clone());
        rejected
    }
}
