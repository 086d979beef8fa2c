//! VirtualService, DestinationRule, HTTPRoute and GRPCRoute → the rules of one Service at a waypoint, and where its requests
//! may go. Pure functions over the objects; what they read of others is named, so that a change reaches all it concerns.

mod affected;
mod backend;
mod destination;
mod draft;
mod gateway_api;
mod hosts;
mod matching;
mod retry;
mod verdict;
mod virtual_service;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ambit_api::wire::waypoint::{
    Backend, Destination, Forward, HttpMatch, HttpRule, Retry, TcpRule, http_rule,
};
use ambit_crds::mesh_config::MeshConfig;
use ambit_crds::meta::ObjectRef;
use ambit_crds::object::Object;

use super::names::Names;
use super::record::Mesh;
use super::service::tcp_ports;
use crate::objects::{Key, Objects};
use draft::{Draft, Place};

pub(crate) use affected::{attached, concerning, parting, sent_to};
pub(crate) use gateway_api::listeners::{Plain, plain};
pub(crate) use gateway_api::{Attachment, Route, at_listeners};
pub(crate) use hosts::Host;
pub(crate) use verdict::{Said, at_parents, said, verdict};
pub(crate) use virtual_service::is_of_mesh;

/// The header that names the host; changes of it are changes of the authority.
const HOST: &str = "host";

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

impl Routed {
    /// Whether some rule of HTTP is an owner's.
    pub(crate) fn is_routed(&self) -> bool {
        self.http.iter().any(|rule| !rule.origin.is_empty())
    }
}

/// What a verdict about a route needs beyond the objects.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The Gateway that stands before a Service, if one does.
    pub(crate) waypoint: &'a dyn Fn(&Key) -> Option<Key>,
    /// Whether a Gateway is one of ours and accepted.
    pub(crate) accepted: &'a dyn Fn(&Key) -> bool,
    /// Service → its pods.
    pub(crate) members: &'a BTreeMap<Key, BTreeSet<Key>>,
}

/// The rules of a Service at a waypoint of `waypoint_namespace`.
pub(crate) fn service(ctx: &Context<'_>, service: &Key, waypoint_namespace: &str) -> Routed {
    draft(&Place { ctx, service, viewer: waypoint_namespace }).finish(ctx)
}

/// Where requests to a Service may go, as seen from a namespace; and the labels its subsets ask for.
pub(crate) fn destination(ctx: &Context<'_>, service: &Key, viewer: &str) -> (Destination, BTreeSet<String>) {
    destination::translate(ctx, service, viewer)
}

/// The Services whose rules or destinations may differ after an object changed. `ctx` holds the objects after it.
pub(crate) fn affected(ctx: &Context<'_>, before: Option<&Object>, after: Option<&Object>) -> BTreeSet<Key> {
    [before, after].into_iter().flatten().flat_map(|object| affected::of_object(ctx, object)).collect()
}

/// The Gateways whose rules may differ after an object changed. `ctx` holds the objects after it.
pub(crate) fn affected_gateways(
    ctx: &Context<'_>,
    before: Option<&Object>,
    after: Option<&Object>,
) -> BTreeSet<Key> {
    let versions = [before, after].into_iter().flatten();
    versions.flat_map(|object| affected::gateways_of_object(ctx, object)).collect()
}

/// The rules with what their owners should hear: routes that name the Service as their parent first, then the
/// VirtualServices whose hosts do.
fn draft(place: &Place<'_>) -> Draft {
    let mut draft = Draft::default();
    gateway_api::add(place, &mut draft);
    for (key, one) in virtual_service::applying(place) {
        virtual_service::add(place, key, one, &mut draft);
    }
    complete(place, &mut draft);
    draft
}

/// Ports that no rule is about are served as if there were none.
fn complete(place: &Place<'_>, draft: &mut Draft) {
    let ports = place.ctx.served(place.service).into_iter().flat_map(tcp_ports);
    let ports: BTreeSet<u32> = ports.map(|port| u32::from(port.port)).collect();
    if draft.http.is_empty() {
        draft.http.push(default_http(place.ctx, place.service));
    }
    for port in ports {
        if !draft.http.iter().any(|rule| matching::concerns(rule, port)) {
            let matches = vec![HttpMatch { port, ..HttpMatch::default() }];
            draft.http.push(HttpRule { matches, ..default_http(place.ctx, place.service) });
        }
    }
    if !draft.tcp.last().is_some_and(|rule| rule.matches.is_empty()) {
        draft.tcp.push(default_tcp(place.ctx, place.service));
    }
}

/// Without routes: to the Service itself.
fn default_http(ctx: &Context<'_>, service: &Key) -> HttpRule {
    let forward = Forward { backends: vec![itself(ctx, service)] };
    HttpRule {
        name: "default".to_owned(),
        action: Some(http_rule::Action::Forward(forward)),
        retry: Some(mesh_retry(ctx)),
        ..HttpRule::default()
    }
}

fn default_tcp(ctx: &Context<'_>, service: &Key) -> TcpRule {
    TcpRule { name: "default".to_owned(), backends: vec![itself(ctx, service)], ..TcpRule::default() }
}

fn itself(ctx: &Context<'_>, service: &Key) -> Backend {
    Backend { service: ctx.names.service(&service.namespace, &service.name), weight: 1, ..Backend::default() }
}

/// Retries where a route says nothing.
fn mesh_retry(ctx: &Context<'_>) -> Retry {
    let mesh = ctx.objects.all::<MeshConfig>().next();
    let asked = mesh.and_then(|(_, config)| config.spec.default_http_retry_policy.as_ref());
    asked.map_or_else(retry::built_in, retry::of)
}

/// A duration in milliseconds; 0 for none, and at least 1 for any.
fn millis(duration: Option<Duration>) -> u32 {
    let Some(duration) = duration.filter(|one| !one.is_zero()) else { return 0 };
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
