//! VirtualService, DestinationRule, HTTPRoute and GRPCRoute → the rules of one Service at a waypoint, and where its requests
//! may go. Pure functions over the objects; what they read of others is named, so that a change reaches all it concerns.

mod hosts;
mod retry;

use std::collections::{BTreeMap, BTreeSet};

use ambit_api::wire::waypoint::{Backend, Destination, Forward, HttpRule, TcpRule, http_rule};
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;
use ambit_crds::status::Condition;

use super::names::Names;
use super::record::Mesh;
use crate::objects::{Key, Objects};

/// What translation of routes reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) names: &'a Names,
    pub(crate) mesh: &'a Mesh,
}

/// The rules of one Service, and whom they concern.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Routed {
    /// Never empty.
    pub(crate) http: Vec<HttpRule>,
    /// Never empty.
    pub(crate) tcp: Vec<TcpRule>,
    /// Services that rules send to, and that exist.
    pub(crate) destinations: BTreeSet<Key>,
    /// Labels of clients' pods that rules ask for.
    pub(crate) client_labels: BTreeSet<String>,
    /// Objects that the rules are made of.
    pub(crate) sources: BTreeSet<ObjectRef>,
}

/// What a verdict about a route needs beyond the objects.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The Gateway that stands before a Service, if one does.
    pub(crate) waypoint: &'a dyn Fn(&Key) -> Option<Key>,
    /// Service → its pods.
    pub(crate) members: &'a BTreeMap<Key, BTreeSet<Key>>,
}

/// The rules of a Service at a waypoint of `waypoint_namespace`.
pub(crate) fn service(ctx: &Context<'_>, service: &Key, _waypoint_namespace: &str) -> Routed {
    let mut routed = Routed::default();
    routed.http.push(default_http(ctx, service));
    routed.tcp.push(default_tcp(ctx, service));
    routed.destinations.insert(service.clone());
    routed
}

/// Where requests to a Service may go, as seen from a namespace; and the labels its subsets ask for.
pub(crate) fn destination(
    ctx: &Context<'_>,
    service: &Key,
    _viewer: &str,
) -> (Destination, BTreeSet<String>) {
    let wire = Destination {
        namespace: service.namespace.clone(),
        hostname: ctx.names.hostname(&service.namespace, &service.name),
        ..Destination::default()
    };
    (wire, BTreeSet::new())
}

/// The Services whose rules or destinations may differ after an object changed. `ctx` holds the objects after it.
pub(crate) fn affected(
    _ctx: &Context<'_>,
    _before: Option<&Object>,
    _after: Option<&Object>,
) -> BTreeSet<Key> {
    BTreeSet::new()
}

/// The objects whose verdict speaks of a Service: to be judged again when its waypoint or its pods change.
pub(crate) fn concerning(_ctx: &Context<'_>, _service: &Key) -> BTreeSet<ObjectRef> {
    BTreeSet::new()
}

/// What became of a VirtualService, DestinationRule, HTTPRoute or GRPCRoute.
pub(crate) fn verdict(_ctx: &Context<'_>, _object: &ObjectRef, _facts: &Facts<'_>) -> Vec<Condition> {
    Vec::new()
}

/// Without routes: to the Service itself.
fn default_http(ctx: &Context<'_>, service: &Key) -> HttpRule {
    let forward = Forward { backends: vec![itself(ctx, service)] };
    HttpRule {
        name: "default".to_owned(),
        action: Some(http_rule::Action::Forward(forward)),
        retry: Some(retry::built_in()),
        ..HttpRule::default()
    }
}

fn default_tcp(ctx: &Context<'_>, service: &Key) -> TcpRule {
    TcpRule { name: "default".to_owned(), backends: vec![itself(ctx, service)], ..TcpRule::default() }
}

fn itself(ctx: &Context<'_>, service: &Key) -> Backend {
    Backend { service: ctx.names.service(&service.namespace, &service.name), weight: 1, ..Backend::default() }
}
