//! Which Services a change of an object concerns.

use std::collections::BTreeSet;

use ambit_crds::destination_rule::DestinationRule;
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use ambit_crds::reference_grant::ReferenceGrant;
use ambit_crds::service::Service;
use ambit_crds::virtual_service::VirtualService;

use super::gateway_api::Route;
use super::hosts::Host;
use super::{Context, destination, gateway_api, virtual_service};
use crate::objects::Key;

/// The Services whose rules or destinations an object takes part in, or would if they existed.
pub(crate) fn of_object(ctx: &Context<'_>, object: &Object) -> BTreeSet<Key> {
    match object {
        Object::VirtualService(one) => of_virtual_service(ctx, one),
        Object::DestinationRule(one) => of_destination_rule(ctx, one),
        Object::HttpRoute(one) => gateway_api::parents(&one.meta, &one.spec.parent_refs).collect(),
        Object::GrpcRoute(one) => gateway_api::parents(&one.meta, &one.spec.parent_refs).collect(),
        Object::ReferenceGrant(one) => granted(ctx, one),
        Object::Service(one) => of_service(ctx, one),
        _ => BTreeSet::new(),
    }
}

/// The Gateways whose rules an object takes part in, or would if they existed.
pub(crate) fn gateways_of_object(ctx: &Context<'_>, object: &Object) -> BTreeSet<Key> {
    let through = |concerned: &dyn Fn(&gateway_api::Links) -> bool| {
        gateway_api::all(ctx).filter(|route| concerned(route)).flat_map(|route| route.gateways).collect()
    };
    match object {
        Object::HttpRoute(one) => gateway_api::gateways(&one.meta, &one.spec.parent_refs).collect(),
        Object::GrpcRoute(one) => gateway_api::gateways(&one.meta, &one.spec.parent_refs).collect(),
        Object::Service(one) => through(&|route| route.backends.contains(&Key::of(&one.meta))),
        // Listeners admit routes by the labels of their namespaces.
        Object::Namespace(one) => through(&|route| route.object.namespace == one.meta.name),
        Object::ReferenceGrant(one) => {
            through(&|route| route.backends.iter().any(|to| to.namespace == one.meta.namespace))
        }
        _ => BTreeSet::new(),
    }
}

/// The routes that name a Gateway as their parent.
pub(crate) fn attached(ctx: &Context<'_>, gateway: &Key) -> BTreeSet<ObjectRef> {
    let routes = gateway_api::all(ctx).filter(|route| route.gateways.contains(gateway));
    routes.map(|route| route.object).collect()
}

/// A VirtualService without hosts takes part where others delegate to it.
pub(crate) fn of_virtual_service(ctx: &Context<'_>, one: &VirtualService) -> BTreeSet<Key> {
    let hosts: Vec<Host> = match one.spec.hosts.is_empty() {
        false => virtual_service::hosts(ctx, one).collect(),
        true => {
            let key = Key::of(&one.meta);
            let all = ctx.objects.all::<VirtualService>().map(|(_, root)| root);
            let roots = all.filter(|root| virtual_service::delegates(root).any(|child| child == key));
            roots.flat_map(|root| virtual_service::hosts(ctx, root).collect::<Vec<_>>()).collect()
        }
    };
    ctx.named(hosts.iter()).into_iter().collect()
}

/// Rules that name a subset which comes or goes change with it.
fn of_destination_rule(ctx: &Context<'_>, one: &DestinationRule) -> BTreeSet<Key> {
    let mut services: BTreeSet<Key> = ctx.named([destination::host(ctx, one)].iter()).into_iter().collect();
    services.extend(routing_to(ctx, &services));
    services
}

fn of_service(ctx: &Context<'_>, one: &Service) -> BTreeSet<Key> {
    let own = BTreeSet::from([Key::of(&one.meta)]);
    let routing = routing_to(ctx, &own);
    own.into_iter().chain(routing).collect()
}

fn granted(ctx: &Context<'_>, one: &ReferenceGrant) -> BTreeSet<Key> {
    let mut services = BTreeSet::new();
    for route in gateway_api::all(ctx) {
        if route.backends.iter().any(|backend| backend.namespace == one.meta.namespace) {
            services.extend(route.parents);
        }
    }
    services
}

/// The Services whose rules send to any of these, or would if it existed.
pub(crate) fn routing_to(ctx: &Context<'_>, services: &BTreeSet<Key>) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    for (key, one) in ctx.objects.all::<VirtualService>() {
        let mut hosts =
            virtual_service::destinations(one).map(|host| Host::new(host, &key.namespace, ctx.names));
        if hosts.any(|host| host.key(ctx.names).is_some_and(|key| services.contains(&key))) {
            found.extend(of_virtual_service(ctx, one));
        }
    }
    for route in gateway_api::all(ctx) {
        if route.backends.iter().any(|backend| services.contains(backend)) {
            found.extend(route.parents);
        }
    }
    found
}

/// The objects that speak of a Service: as a host, a parent, or where they send to.
pub(crate) fn concerning(ctx: &Context<'_>, service: &Key) -> BTreeSet<ObjectRef> {
    let hostname = ctx.hostname(service);
    let mut found = BTreeSet::new();
    let mut reached = BTreeSet::from([service.clone()]);
    for (key, one) in ctx.objects.all::<VirtualService>() {
        let named = virtual_service::hosts(ctx, one).any(|host| host.closeness(&hostname).is_some());
        let mut hosts =
            virtual_service::destinations(one).map(|host| Host::new(host, &key.namespace, ctx.names));
        let sends = hosts.any(|host| host.key(ctx.names).as_ref() == Some(service));
        if named || sends {
            found.insert(virtual_service::reference(key));
        }
        if named {
            found.extend(virtual_service::delegates(one).map(|child| virtual_service::reference(&child)));
            reached.extend(sent_by_virtual_service(ctx, one));
        }
    }
    for route in gateway_api::all(ctx) {
        let is_parent = route.parents.contains(service);
        if is_parent || route.backends.contains(service) {
            found.insert(route.object);
        }
        if is_parent {
            reached.extend(route.backends);
        }
    }
    found.extend(destination_rules(ctx, &reached, |_| true));
    found
}

/// The VirtualServices that an object delegates to, and the DestinationRules of the Services that its rules send to: whether a
/// waypoint obeys them depends on the object.
pub(crate) fn sent_to(ctx: &Context<'_>, object: &Object) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    let services: BTreeSet<Key> = match object {
        Object::VirtualService(one) => {
            found.extend(virtual_service::delegates(one).map(|child| virtual_service::reference(&child)));
            sent_by_virtual_service(ctx, one).collect()
        }
        Object::HttpRoute(one) => Route::http(one).links().backends,
        Object::GrpcRoute(one) => Route::grpc(one).links().backends,
        _ => return found,
    };
    found.extend(destination_rules(ctx, &services, |_| true));
    found
}

/// The DestinationRules that part the pods of a Service; what they say of it depends on these pods.
pub(crate) fn parting(ctx: &Context<'_>, service: &Key) -> BTreeSet<ObjectRef> {
    destination_rules(ctx, &BTreeSet::from([service.clone()]), |one| !one.spec.subsets.is_empty())
}

/// Also where those send that it delegates to.
fn sent_by_virtual_service<'a>(
    ctx: &'a Context<'_>,
    one: &'a VirtualService,
) -> impl Iterator<Item = Key> + 'a {
    let children =
        virtual_service::delegates(one).filter_map(|child| ctx.objects.get::<VirtualService>(&child));
    std::iter::once(one).chain(children).flat_map(|one| {
        let hosts = virtual_service::destinations(one);
        hosts.filter_map(|host| Host::new(host, &one.meta.namespace, ctx.names).key(ctx.names))
    })
}

fn destination_rules(
    ctx: &Context<'_>,
    services: &BTreeSet<Key>,
    wanted: impl Fn(&DestinationRule) -> bool,
) -> BTreeSet<ObjectRef> {
    let hostnames: Vec<String> = services.iter().map(|service| ctx.hostname(service)).collect();
    let rules = ctx.objects.all::<DestinationRule>().filter(|(_, one)| wanted(one)).filter(|(_, one)| {
        let host = destination::host(ctx, one);
        hostnames.iter().any(|hostname| host.closeness(hostname).is_some())
    });
    rules.map(|(key, _)| destination::reference(key)).collect()
}
