//! Gateways to Services and pods: who stands, who is led through whom, and what follows when that changes
//! (policy.md rules 10 to 12).

use std::collections::BTreeSet;

use ambit_crds::kind::Kind;
use ambit_crds::mesh_config::PolicyPlacement;
use ambit_crds::meta::ObjectRef;
use ambit_crds::namespace::Namespace;
use ambit_crds::pod::Pod;
use ambit_crds::service::Service;

use super::auto::Turned;
use super::binding::{self, Labels, Link, Share};
use super::dirty::{Dirty, policy_ref};
use super::gateways::{self, DOWN, PROGRAMMED, Standing, Waypoint};
use super::state::State;
use crate::objects::Key;
use crate::write_back::Annotation;

/// The waypoints through which ztunnels lead to a Service or a pod, with their weights; the first is the primary one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lead(pub(crate) Vec<(Key, u32)>);

/// Gateways that ask to be waypoints, by how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// With a ready replica.
    pub ready: usize,
    /// Never ready so far.
    pub starting: usize,
    /// Without a ready replica for a moment.
    pub absent: usize,
    /// Without one for so long that only traffic that needs them goes to them.
    pub withdrawn: usize,
    /// Not accepted.
    pub refused: usize,
}

impl State {
    /// What bindings are read from.
    pub(crate) fn labels(&self) -> Labels<'_> {
        let Self { objects, gateways, autos, shape, .. } = self;
        Labels { objects, gateways, autos, shape }
    }

    /// Brings Gateways up to date and marks what they stand before; what is to be noted on them.
    pub(crate) fn refresh_gateways(&mut self, dirty: &mut Dirty) -> Vec<Annotation> {
        self.refresh_autos(dirty);
        let mut notes = Vec::new();
        for key in dirty.gateways.clone() {
            let new = gateways::standing(&key, self);
            notes.extend(
                new.as_ref().and_then(Standing::waypoint).into_iter().flat_map(|one| note(&key, one)),
            );
            let old = match new.clone() {
                Some(new) => self.gateways.insert(key.clone(), new),
                None => self.gateways.remove(&key),
            };
            let object = ObjectRef::new(Kind::Gateway, &key.namespace, &key.name);
            dirty.verdicts.extend(super::routes::attached(&self.routes(), &key));
            let policies = self.policies.about_gateway(&key, &self.mesh.root);
            dirty.verdicts.extend(policies.map(policy_ref));
            if old != new {
                let moved = identity(old.as_ref()) != identity(new.as_ref());
                self.mark_bound(&key, moved, dirty);
                dirty.verdicts.insert(object);
            } else if self.objects.any(&object).is_some() {
                dirty.verdicts.insert(object);
            }
        }
        notes
    }

    fn refresh_autos(&mut self, dirty: &mut Dirty) {
        let mut turned = BTreeSet::new();
        for namespace in &dirty.autos {
            if self.refresh_auto(namespace) == Turned::Yes {
                turned.insert(namespace.clone());
            }
        }
        for service in dirty.services.union(&dirty.routed) {
            if self.refresh_auto_service(service) == Turned::Yes {
                turned.insert(service.namespace.clone());
            }
        }
        for policy in &dirty.policies {
            turned.extend(self.refresh_auto_policy(policy));
        }
        for namespace in turned {
            self.mark_namespace(&namespace, dirty);
            dirty.gateways.insert(Key::new(&namespace, super::auto::NAME));
        }
    }

    /// Everything in a namespace may be bound otherwise.
    pub(crate) fn mark_namespace(&self, namespace: &str, dirty: &mut Dirty) {
        dirty.pods.extend(self.objects.within::<Pod>(namespace).map(|(key, _)| key.clone()));
        self.mark_services(self.objects.within::<Service>(namespace).map(|(key, _)| key.clone()), dirty);
    }

    /// What a Gateway stands before. Where only its readiness changed, no pod's policies do.
    fn mark_bound(&self, gateway: &Key, moved: bool, dirty: &mut Dirty) {
        let mut pods = BTreeSet::new();
        for (key, namespace) in self.objects.all::<Namespace>() {
            let wished = self.autos.gateway(&key.name).as_ref() == Some(gateway);
            if wished || binding::names(&namespace.meta, &key.name, gateway) {
                pods.extend(self.objects.within::<Pod>(&key.name).map(|(key, _)| key.clone()));
                let services = self.objects.within::<Service>(&key.name).map(|(key, _)| key.clone());
                self.mark_services(services, dirty);
            }
        }
        let services = self.objects.all::<Service>();
        let services: Vec<Key> = services
            .filter(|(key, service)| binding::names(&service.meta, &key.namespace, gateway))
            .map(|(key, _)| key.clone())
            .collect();
        for service in &services {
            pods.extend(self.members.get(service).into_iter().flatten().cloned());
        }
        self.mark_services(services.into_iter(), dirty);
        let own = self.objects.all::<Pod>();
        let own = own.filter(|(key, pod)| binding::names(&pod.meta, &key.namespace, gateway));
        pods.extend(own.map(|(key, _)| key.clone()));
        if moved { dirty.pods.extend(pods) } else { dirty.lists.extend(pods) }
    }

    fn mark_services(&self, services: impl Iterator<Item = Key>, dirty: &mut Dirty) {
        for service in services {
            dirty.policy_verdicts_of(&service, self);
            dirty.verdicts.extend(super::routes::concerning(&self.routes(), &service));
            dirty.services.insert(service);
        }
    }

    /// How ztunnels are led to a Service.
    pub(crate) fn lead(&self, key: &Key, service: &Service) -> Lead {
        let binding = self.labels().service(service);
        let required = self.requires(key, service);
        let used = |link: &Link<'_>| self.is_led(link, required).then(|| link.gateway.clone());
        let primary = binding.primary.as_ref().and_then(used);
        let canary = binding.canary.as_ref().and_then(used);
        Lead(match (primary, canary, binding.share) {
            (Some(primary), Some(canary), Share::Percent(share)) => {
                vec![(primary, 100 - share), (canary, share)]
            }
            (Some(primary), ..) => vec![(primary, 100)],
            (None, ..) => Vec::new(),
        })
    }

    /// How ztunnels are led to a pod's own address.
    pub(crate) fn lead_to_pod(&self, key: &Key, pod: &Pod) -> Lead {
        let required = self.mesh.placement == PolicyPlacement::Ambit
            && self.records.get(key).is_some_and(|record| record.needs_l7);
        let link = self.labels().pod(pod).filter(|link| self.is_led(link, required));
        Lead(link.map(|link| (link.gateway, 100)).into_iter().collect())
    }

    /// Whether something asked for of a Service is only had behind a waypoint (policy.md rule 12).
    pub(crate) fn requires(&self, key: &Key, service: &Service) -> bool {
        let of_pods = || {
            let pods = self.members.get(key).into_iter().flatten();
            pods.filter_map(|pod| self.records.get(pod)).any(|record| record.needs_l7)
        };
        self.mesh.placement == PolicyPlacement::Ambit && (self.policies.need_waypoint(service) || of_pods())
    }

    fn is_led(&self, link: &Link<'_>, required: bool) -> bool {
        link.found.is_ok_and(|waypoint| {
            let readiness = waypoint.readiness;
            // Istio never takes a waypoint back that once was there.
            let kept = self.mesh.placement == PolicyPlacement::Istio && readiness.programmed;
            required || kept || readiness.is_used()
        })
    }

    /// Accepted waypoints that have been ready and have no ready replica, and of which nobody has said for how long.
    pub(crate) fn absent(&self) -> BTreeSet<Key> {
        let absent = self.gateways.iter().filter(|(_, standing)| {
            standing
                .waypoint()
                .is_some_and(|one| one.readiness.programmed && !one.readiness.ready && !one.readiness.down)
        });
        absent.map(|(key, _)| key.clone()).collect()
    }

    /// How waypoints are, all in all.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for standing in self.gateways.values() {
            let readiness = standing.waypoint().map(|waypoint| waypoint.readiness);
            let count = match readiness {
                None => &mut census.refused,
                Some(one) if one.ready => &mut census.ready,
                Some(one) if !one.programmed => &mut census.starting,
                Some(one) if one.down => &mut census.withdrawn,
                Some(_) => &mut census.absent,
            };
            *count += 1;
        }
        census
    }
}

/// Everything about a Gateway but its readiness.
fn identity(standing: Option<&Standing>) -> Option<Standing> {
    let mut standing = standing?.clone();
    if let Standing::Accepted(waypoint) = &mut standing {
        waypoint.readiness = Default::default();
    }
    Some(standing)
}

/// What is to be noted on a Gateway, so that restarts and other replicas of ours agree (policy.md rule 17).
fn note(key: &Key, waypoint: &Waypoint) -> Vec<Annotation> {
    let readiness = waypoint.readiness;
    let note = |name: &'static str, value: Option<&str>| Annotation {
        object: ObjectRef::new(Kind::Gateway, &key.namespace, &key.name),
        key: name,
        value: value.map(str::to_owned),
    };
    let first = (readiness.ready && !readiness.programmed).then(|| note(PROGRAMMED, Some("true")));
    let back = (readiness.ready && readiness.down).then(|| note(DOWN, None));
    first.into_iter().chain(back).collect()
}
