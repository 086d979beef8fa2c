//! What statuses of Gateways and routes say besides conditions.

use std::collections::BTreeMap;

use ambit_crds::gateway::{Gateway, Listener};
use ambit_crds::gateway_api::GROUP;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::service::{Addressing, Service};
use ambit_crds::status::{Address, Condition, Details, GatewayStatus, ListenerStatus};

use crate::objects::Key;
use crate::status::waypoint::listener;
use crate::translate::gateways::{self, PLAIN, Standing};
use crate::translate::routes;
use crate::translate::state::State;

/// Kinds of routes that a listener of plain HTTP takes.
const ROUTES: [Kind; 2] = [Kind::HttpRoute, Kind::GrpcRoute];

impl State {
    /// What the status of an object says besides its conditions.
    pub(crate) fn details(&self, object: &ObjectRef) -> Details {
        let key = Key::new(&object.namespace, &object.name);
        match object.kind {
            Kind::Gateway => self.gateway_status(&key).map_or(Details::None, Details::Gateway),
            Kind::HttpRoute | Kind::GrpcRoute => {
                let said = self.with_facts(|facts| routes::at_parents(&self.routes(), object, facts));
                let generation = self.objects.any(object).map_or(0, |one| one.meta().generation);
                Details::Parents(said.into_iter().map(|said| observed(said, generation)).collect())
            }
            _ => Details::None,
        }
    }

    /// Of a Gateway of our classes.
    fn gateway_status(&self, key: &Key) -> Option<GatewayStatus> {
        let standing = self.gateways.get(key)?;
        let gateway = self.objects.get::<Gateway>(key)?;
        let is_plain = gateway.spec.gateway_class_name == PLAIN;
        let attached = if is_plain { routes::at_listeners(&self.routes(), key) } else { BTreeMap::new() };
        let status = |one: &Listener| {
            let fault = gateways::listener_fault(is_plain, one);
            let (kinds, strange) = kinds(is_plain && fault.is_none(), one);
            let is_served = matches!(standing, Standing::Accepted(waypoint) if waypoint.readiness.is_used());
            ListenerStatus {
                name: one.name.clone(),
                kinds,
                attached: attached.get(&one.name).copied().unwrap_or_default(),
                conditions: observed(listener(fault, strange, is_served), gateway.meta.generation),
            }
        };
        let listeners = gateway.spec.listeners.iter().map(status).collect();
        let addresses = match standing {
            Standing::Accepted(_) => self.addresses(key),
            Standing::Refused(_) => Vec::new(),
        };
        Some(GatewayStatus { addresses, listeners })
    }

    /// Host name and cluster IPs of a Gateway's Service, once it has any.
    fn addresses(&self, key: &Key) -> Vec<Address> {
        match self.objects.get::<Service>(key).map(Service::addressing) {
            Some(Addressing::Virtual(ips)) => {
                let host = Address::Hostname(self.names.hostname(&key.namespace, &key.name));
                std::iter::once(host).chain(ips.into_iter().map(Address::Ip)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Which kinds of routes a listener takes, and the first that it asks for in vain.
fn kinds(takes_routes: bool, listener: &Listener) -> (Vec<Kind>, Option<String>) {
    let asked = &listener.allowed_routes.kinds;
    if !takes_routes || asked.is_empty() {
        return (if takes_routes { ROUTES.to_vec() } else { Vec::new() }, None);
    }
    let known = |kind: &Kind| {
        let names = |one: &ambit_crds::gateway::RouteKind| {
            one.kind == kind.name() && one.group.as_deref().is_none_or(|group| group == GROUP)
        };
        asked.iter().any(names)
    };
    let strange = asked.iter().find(|one| {
        !ROUTES.iter().any(|kind| kind.name() == one.kind)
            || one.group.as_deref().is_some_and(|group| group != GROUP)
    });
    (ROUTES.into_iter().filter(known).collect(), strange.map(|one| one.kind.clone()))
}

fn observed(mut conditions: Vec<Condition>, generation: i64) -> Vec<Condition> {
    conditions.iter_mut().for_each(|one| one.observed_generation = generation);
    conditions
}
