//! `ambit.mesh/waypoint: auto` on a namespace: a waypoint comes up when the first route or policy needs one, and stands before
//! the namespace as if it were labelled.

use std::collections::{BTreeMap, BTreeSet};

use ambit_crds::kind::Kind;
use ambit_crds::namespace::Namespace;
use ambit_crds::service::Service;

use super::policies::{Policy, Reach};
use super::routes;
use super::state::State;
use crate::objects::Key;

/// On a namespace.
const AUTO: &str = "ambit.mesh/waypoint";
/// The name of the Gateway that is brought up.
pub(crate) const NAME: &str = "waypoint";

/// Namespaces that ask for it, with what in them needs a waypoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Autos(BTreeMap<String, Needs>);

/// What needs a waypoint in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// Services with routes.
    services: BTreeSet<Key>,
    /// Policies that only a waypoint can judge.
    policies: BTreeSet<Key>,
}

/// Whether the answer for a namespace differs from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Yes,
    No,
}

impl Autos {
    /// Whether a namespace asks for one, needed or not.
    pub(crate) fn asks(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// The Gateway that is brought up for a namespace.
    pub(crate) fn gateway(&self, namespace: &str) -> Option<Key> {
        let needs = self.0.get(namespace)?;
        (!needs.services.is_empty() || !needs.policies.is_empty()).then(|| Key::new(namespace, NAME))
    }
}

impl State {
    /// Looks at a whole namespace again.
    pub(crate) fn refresh_auto(&mut self, namespace: &str) -> Turned {
        let before = self.autos.gateway(namespace);
        let meta = self.objects.get::<Namespace>(&Key::new("", namespace)).map(|one| &one.meta);
        let asks = meta.is_some_and(|meta| {
            [meta.label(AUTO), meta.annotation(AUTO)].into_iter().flatten().any(|value| value == "auto")
        });
        if !asks {
            self.autos.0.remove(namespace);
            return turned(&before, &None);
        }
        let services = self.objects.within::<Service>(namespace).map(|(key, _)| key);
        let services = services.filter(|key| self.has_routes(key)).cloned().collect();
        let policies = [namespace, self.mesh.root.as_str()].into_iter().flat_map(|of| {
            let all = self.policies.all.range(Key::new(of, "")..);
            all.take_while(move |(key, _)| key.namespace == of)
        });
        let policies = policies.filter(|(key, policy)| needs_waypoint(key, policy, namespace));
        let policies = policies.map(|(key, _)| key.clone()).collect();
        self.autos.0.insert(namespace.to_owned(), Needs { services, policies });
        turned(&before, &self.autos.gateway(namespace))
    }

    /// Looks at one Service again.
    pub(crate) fn refresh_auto_service(&mut self, service: &Key) -> Turned {
        if !self.autos.0.contains_key(&service.namespace) {
            return Turned::No;
        }
        let needs = self.objects.get::<Service>(service).is_some() && self.has_routes(service);
        self.note(&service.namespace, service, needs, |needs| &mut needs.services)
    }

    /// Looks at one policy again; the namespaces where that made a difference.
    pub(crate) fn refresh_auto_policy(&mut self, policy: &Key) -> BTreeSet<String> {
        let all = self
            .autos
            .0
            .keys()
            .filter(|namespace| **namespace == policy.namespace || policy.namespace == self.mesh.root);
        let mut turned = BTreeSet::new();
        for namespace in all.cloned().collect::<Vec<_>>() {
            let found = self.policies.all.get(policy);
            let needs = found.is_some_and(|found| needs_waypoint(policy, found, &namespace));
            if self.note(&namespace, policy, needs, |needs| &mut needs.policies) == Turned::Yes {
                turned.insert(namespace);
            }
        }
        turned
    }

    fn note(
        &mut self,
        namespace: &str,
        key: &Key,
        is_in: bool,
        set: impl Fn(&mut Needs) -> &mut BTreeSet<Key>,
    ) -> Turned {
        let before = self.autos.gateway(namespace);
        let Some(needs) = self.autos.0.get_mut(namespace) else { return Turned::No };
        match is_in {
            true => set(needs).insert(key.clone()),
            false => set(needs).remove(key),
        };
        turned(&before, &self.autos.gateway(namespace))
    }

    fn has_routes(&self, service: &Key) -> bool {
        let routed = routes::service(&self.routes(), service, &service.namespace);
        let kinds = [Kind::VirtualService, Kind::HttpRoute, Kind::GrpcRoute];
        routed.sources.iter().any(|source| kinds.contains(&source.kind))
    }
}

/// Whether only a waypoint of the namespace can do what a policy asks there: it is attached to something, or has something that
/// only a waypoint can judge. One of the root namespace that is attached to something is so in its own namespace alone.
fn needs_waypoint(key: &Key, policy: &Policy, namespace: &str) -> bool {
    match policy.reach {
        Reach::Targets(_) => key.namespace == namespace,
        Reach::Namespace | Reach::Workloads(_) => policy.is_l7(),
    }
}

fn turned(before: &Option<Key>, after: &Option<Key>) -> Turned {
    if before == after { Turned::No } else { Turned::Yes }
}
