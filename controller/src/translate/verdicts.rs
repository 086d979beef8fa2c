//! Facts for verdicts, gathered from what translation computed.

mod details;
mod waypoint;

use std::collections::BTreeSet;

use ambit_crds::authorization_policy::{Action, AuthorizationPolicy};
use ambit_crds::fault::Fault;
use ambit_crds::kind::{Kind, Standing as KindStanding};
use ambit_crds::mesh_config::PolicyPlacement;
use ambit_crds::meta::ObjectRef;
use ambit_crds::peer_authentication::{MtlsMode, PeerAuthentication};
use ambit_crds::service::{Addressing, Service};
use ambit_crds::status::Condition;

use super::dirty::{Dirty, policy_ref};
use super::levels::Levels;
use super::policies::{Policy, Reach, Standing};
use super::record::{Policies, Record};
use super::state::State;
use super::{index, routes, waypoints};
use crate::objects::Key;
use crate::status::{self, Coverage, PeerOutcome, PolicyOutcome, ServiceOutcome};

impl Dirty {
    /// Marks the verdicts that depend on a pod whose record changed.
    pub(crate) fn verdicts_around<'a>(
        &mut self,
        key: &Key,
        records: impl Iterator<Item = &'a Record>,
        state: &State,
    ) {
        let records: Vec<&Record> = records.collect();
        let counted = |record: &Record| (record.applies.clone(), record.enrolled, record.waypoints.clone());
        // A record that counts like the one before it changes no policy's coverage.
        let counts_alike = matches!(records.as_slice(), [old, new] if counted(old) == counted(new));
        if !counts_alike {
            let policies = records.iter().flat_map(|record| &record.applies);
            self.verdicts.extend(policies.map(policy_ref));
        }
        let services = records.into_iter().flat_map(index::services);
        self.verdicts.extend(services.map(|one| ObjectRef::new(Kind::Service, &one.namespace, &one.name)));
        self.peer_verdicts(&key.namespace, state);
    }

    /// Marks what follows from the keys that were stale.
    pub(crate) fn close_verdicts(&mut self, state: &State) {
        for service in &self.parted {
            self.verdicts.extend(routes::parting(&state.routes(), service));
        }
        for key in &self.services {
            self.verdicts.insert(ObjectRef::new(Kind::Service, &key.namespace, &key.name));
        }
        for namespace in self.peers.clone().iter().map(|key| &key.namespace) {
            self.peer_verdicts(namespace, state);
        }
    }

    /// Those of the namespace, and the mesh's own.
    fn peer_verdicts(&mut self, namespace: &str, state: &State) {
        let own = state.objects.within::<PeerAuthentication>(namespace);
        let mesh = state.objects.within::<PeerAuthentication>(&state.mesh.root);
        let all = own
            .chain(mesh)
            .map(|(key, _)| ObjectRef::new(Kind::PeerAuthentication, &key.namespace, &key.name));
        self.verdicts.extend(all);
    }
}

/// What is wrong, where, and what to do about it.
fn why(fault: &Fault) -> String {
    let field = fault.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let mend = if fault.mend.is_empty() { String::new() } else { format!("; {}", fault.mend) };
    format!("{field}{}{mend}", fault.message)
}

impl State {
    /// The conditions of an object; `None` when it does not exist.
    pub(crate) fn judge(&self, object: &ObjectRef) -> Option<Vec<Condition>> {
        let key = Key::new(&object.namespace, &object.name);
        let invalid = self.objects.invalid_one(object);
        let generation = match (self.objects.any(object), invalid) {
            (Some(one), _) => one.meta().generation,
            (None, Some(_)) => 0,
            (None, None) => return None,
        };
        let why = invalid.map(|invalid| why(&invalid.fault));
        let mut conditions = match object.kind {
            Kind::AuthorizationPolicy => {
                let policy = self.policies.all.get(&key)?;
                status::policy(
                    object,
                    policy.standing == Standing::DryRun,
                    &self.policy_outcome(&key, policy, why),
                )
            }
            Kind::PeerAuthentication => status::peer(&self.peer_outcome(&key, why)?),
            _ if why.is_some() => why.map(status::invalid).into_iter().collect(),
            Kind::Service => {
                let service = self.objects.get(&key)?;
                let bound = self.bound(&key, service).map(|bound| status::waypoint::bound(object, &bound));
                let mut conditions = status::service(object, &self.service_outcome(&key, service));
                conditions.extend(bound);
                conditions
            }
            Kind::Gateway => match self.gateway_outcome(&key) {
                Some(outcome) => status::waypoint::gateway(&outcome),
                // Another controller's.
                None => Vec::new(),
            },
            Kind::Pod => {
                let bound = self.objects.get(&key).and_then(|pod| self.bound_pod(&key, pod));
                bound.iter().map(|bound| status::waypoint::bound(object, bound)).collect()
            }
            Kind::GatewayClass if self.serves_class(&key.name) => status::waypoint::class(),
            Kind::VirtualService | Kind::DestinationRule | Kind::HttpRoute | Kind::GrpcRoute => {
                self.with_facts(|facts| routes::verdict(&self.routes(), object, facts))
            }
            kind if kind.standing() == KindStanding::NotYetEnforced => status::not_yet(kind),
            _ => Vec::new(),
        };
        conditions.iter_mut().for_each(|one| one.observed_generation = generation);
        Some(conditions)
    }

    /// What is to be said about a routing object, beyond its conditions.
    pub(crate) fn said(&self, object: &ObjectRef) -> routes::Said {
        self.with_facts(|facts| routes::said(&self.routes(), object, facts))
    }

    fn with_facts<T>(&self, ask: impl FnOnce(&routes::Facts<'_>) -> T) -> T {
        let waypoint = |service: &Key| self.waypoint_before(service);
        let accepted = |gateway: &Key| self.gateways.get(gateway).is_some_and(|one| one.waypoint().is_some());
        ask(&routes::Facts { waypoint: &waypoint, accepted: &accepted, members: &self.members })
    }

    fn policy_outcome(&self, key: &Key, policy: &Policy, why: Option<String>) -> PolicyOutcome {
        if let Some(why) = why {
            return PolicyOutcome::Invalid(why);
        }
        let Some(read) = policy.read.as_ref() else {
            return PolicyOutcome::Audit;
        };
        if let Reach::Targets(targets) = &policy.reach {
            return PolicyOutcome::Attached(self.targets(key, targets));
        }
        let custom = |one: &AuthorizationPolicy| matches!(one.spec.action, Action::Custom { .. });
        if self.objects.get(key).is_some_and(custom) {
            return PolicyOutcome::Custom(self.fronted(key));
        }
        if !read.beyond.is_empty() {
            return PolicyOutcome::Beyond(read.beyond.iter().cloned().collect(), self.fronted(key));
        }
        if !policy.is_sent() {
            return PolicyOutcome::Empty;
        }
        let spreads =
            self.spreads.range((key.clone(), String::new())..).take_while(|((one, _), _)| one == key);
        let mut coverage = Coverage::default();
        let mut ambiguous = BTreeSet::new();
        for (_, spread) in spreads {
            coverage.pods += spread.pods;
            coverage.enrolled += spread.enrolled;
            ambiguous.extend(spread.ambiguous());
        }
        PolicyOutcome::Carried { coverage, ambiguous: ambiguous.into_iter().collect() }
    }

    fn peer_outcome(&self, key: &Key, why: Option<String>) -> Option<PeerOutcome> {
        if let Some(why) = why {
            return Some(PeerOutcome::Invalid(why));
        }
        let one = self.objects.get::<PeerAuthentication>(key)?;
        let root = key.namespace == self.mesh.root;
        let disables = one.spec.mode == MtlsMode::Disable;
        if !one.spec.selector.is_empty() {
            if root {
                return Some(PeerOutcome::SelectorInRoot);
            }
            let count = self.tally.peers.get(key).copied().unwrap_or_default();
            if count.matched > 0 && count.won == 0 {
                return Some(PeerOutcome::Overridden(None));
            }
            let coverage = Coverage { pods: count.won, enrolled: count.enrolled };
            return Some(PeerOutcome::Counts { coverage, disables });
        }
        let winner = Levels::new(&self.objects, &self.mesh.root, &key.namespace).winner();
        if winner != Some(key) {
            return Some(PeerOutcome::Overridden(
                winner.map(|key| format!("{}/{}", key.namespace, key.name)),
            ));
        }
        let mut coverage = Coverage::default();
        for (_, pods) in self.tally.pods.iter().filter(|(namespace, _)| root || **namespace == key.namespace)
        {
            coverage.pods += pods.covered;
            coverage.enrolled += pods.enrolled;
        }
        Some(PeerOutcome::Counts { coverage, disables })
    }

    fn service_outcome(&self, key: &Key, service: &Service) -> ServiceOutcome {
        let policies: Vec<String> = self.policies.attached(key).map(|policy| policy.name.clone()).collect();
        if Policies::waived(service) && !policies.is_empty() && self.waypoint_before(key).is_none() {
            return ServiceOutcome::Waived(policies);
        }
        if self.mesh.placement == PolicyPlacement::Ambit && self.policies.locking(service).is_some() {
            return ServiceOutcome::Locked {
                policies,
                headless: service.addressing() == Addressing::Headless,
                waypoint: self.waypoint_before(key).map(|waypoint| waypoints::resource_name(&waypoint)),
            };
        }
        let sharing = self.sharing(key);
        if sharing.is_empty() {
            ServiceOutcome::Open
        } else {
            ServiceOutcome::Shares(sharing.into_iter().collect())
        }
    }

    /// The Services that lock a port this one leads to.
    fn sharing(&self, key: &Key) -> BTreeSet<String> {
        let pods = self.members.get(key).into_iter().flatten().filter_map(|pod| self.records.get(pod));
        let mut names = BTreeSet::new();
        for record in pods.filter(|record| !record.locks.is_empty()) {
            let own = record.members.iter().find(|member| member.service == key.name);
            let own: Vec<Option<u16>> =
                own.map(|own| own.ports.iter().map(|(_, target)| *target).collect()).unwrap_or_default();
            for other in record.members.iter().filter(|other| other.service != key.name) {
                let locking = self.objects.get::<Service>(&Key::new(&other.namespace, &other.service));
                let locks = locking.is_some_and(|service| self.policies.locking(service).is_some());
                let meets = |target: &Option<u16>| target.is_none() || own.contains(target);
                if locks && !own.is_empty() && other.ports.iter().any(|(_, target)| meets(target)) {
                    names.insert(other.service.clone());
                }
            }
        }
        names
    }
}
