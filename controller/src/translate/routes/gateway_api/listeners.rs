//! Routes attached to a Gateway that takes plain HTTP: the rules of each of its ports.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ambit_api::wire::waypoint::Text;
use ambit_api::wire::waypoint::text::Kind;
use ambit_crds::gateway::{Gateway, Listener};
use ambit_crds::gateway_api::{GROUP, ParentRef};
use ambit_crds::grpc_route::GrpcRoute;
use ambit_crds::http_route::HttpRoute;

use super::super::draft::{Draft, Place};
use super::super::{Context, Routed};
use super::{Attachment, Route, Scope, merge, parent_key};
use crate::objects::Key;
use crate::translate::gateways::Admits;

/// What a Gateway does with requests that reach one of its ports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plain {
    /// The listener's name; the first's where several share the port.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Requests that no rule takes get 404.
    pub(crate) routed: Routed,
}

/// How closely a host name is written: none, then the shortest ending, then whole names; the closest comes first.
pub(super) type Closeness = Reverse<(bool, usize)>;

/// What the Gateway does at each of its ports.
pub(crate) fn plain(ctx: &Context<'_>, gateway: &Key) -> Vec<Plain> {
    ports(ctx, gateway).map(|(port, name, draft)| Plain { name, port, routed: draft.finish(ctx) }).collect()
}

/// The rules of each port while they are made, with the port and its listener's name.
pub(crate) fn ports<'c>(
    ctx: &'c Context<'_>,
    key: &'c Key,
) -> impl Iterator<Item = (u16, String, Draft)> + 'c {
    let mut ports: BTreeMap<u16, Vec<&Listener>> = BTreeMap::new();
    for listener in ctx.objects.get::<Gateway>(key).into_iter().flat_map(|one| &one.spec.listeners) {
        ports.entry(listener.port.get()).or_default().push(listener);
    }
    let place = Place { ctx, service: key, viewer: &key.namespace };
    ports.into_iter().map(move |(port, listeners)| {
        let mut draft = Draft::default();
        let scopes = |route: &Route<'_>| scopes(ctx, route, key, &listeners);
        let grpc = ctx.objects.all::<GrpcRoute>().map(|(_, one)| Route::grpc(one));
        let http = ctx.objects.all::<HttpRoute>().map(|(_, one)| Route::http(one));
        merge(&place, grpc, scopes, &mut draft);
        merge(&place, http, scopes, &mut draft);
        (port, listeners[0].name.clone(), draft)
    })
}

/// What a route means to some listeners of a Gateway.
fn scopes(ctx: &Context<'_>, route: &Route<'_>, gateway: &Key, listeners: &[&Listener]) -> Vec<Scope> {
    let refs = route.parent_refs.iter();
    let refs = refs.filter(|one| one.is_gateway() && parent_key(route.meta, one) == *gateway);
    let mut hosts = BTreeSet::new();
    for parent in refs {
        let named = listeners.iter().filter(|one| is_named(parent, one) && admits(ctx, route, gateway, one));
        hosts.extend(named.flat_map(|one| common_hosts(one.hostname.as_deref(), route.hostnames)));
    }
    // One that takes every host makes the others superfluous.
    if hosts.contains(&None) {
        hosts.retain(Option::is_none);
    }
    let scope = |host: Option<String>| {
        let closeness =
            Reverse(host.as_deref().map_or((false, 0), |host| (!host.starts_with('*'), host.len())));
        Scope { port: 0, authority: host.as_deref().map(authority), closeness }
    };
    hosts.into_iter().map(scope).collect()
}

/// Whether a route is obeyed at a Gateway that it names.
pub(super) fn attachment(ctx: &Context<'_>, route: &Route<'_>, parent: &ParentRef) -> Attachment {
    let key = parent_key(route.meta, parent);
    let Key { namespace, name } = &key;
    let Some(gateway) = ctx.objects.get::<Gateway>(&key) else {
        return Attachment::Missing(format!("there is no Gateway {namespace}/{name}"));
    };
    if gateway.spec.gateway_class_name != crate::translate::gateways::PLAIN {
        return Attachment::Other;
    }
    let named: Vec<&Listener> = gateway.spec.listeners.iter().filter(|one| is_named(parent, one)).collect();
    let open: Vec<&Listener> = named.iter().copied().filter(|one| admits(ctx, route, &key, one)).collect();
    if named.is_empty() {
        return Attachment::Missing(format!("Gateway {namespace}/{name} has no such listener"));
    }
    if open.is_empty() {
        let text = format!(
            "no such listener of Gateway {namespace}/{name} admits routes of this kind and namespace"
        );
        return Attachment::NotAllowed(text);
    }
    match open.iter().any(|one| !common_hosts(one.hostname.as_deref(), route.hostnames).is_empty()) {
        true => Attachment::Gateway(open.iter().map(|one| one.name.clone()).collect()),
        false => Attachment::NoHost,
    }
}

fn is_named(parent: &ParentRef, listener: &Listener) -> bool {
    parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
        && parent.port.is_none_or(|port| port == listener.port)
}

fn admits(ctx: &Context<'_>, route: &Route<'_>, gateway: &Key, listener: &Listener) -> bool {
    let allowed = &listener.allowed_routes;
    let mut kinds = allowed.kinds.iter();
    let kind = route.object.kind.name();
    let is_kind = allowed.kinds.is_empty()
        || kinds.any(|one| one.kind == kind && one.group.as_deref().is_none_or(|group| group == GROUP));
    is_kind && Admits::of(&allowed.namespaces).hold(&route.object.namespace, &gateway.namespace, ctx.objects)
}

/// The names that both mean; `None` stands for every name.
fn common_hosts(listener: Option<&str>, route: &[String]) -> Vec<Option<String>> {
    let lower = |host: &str| host.to_ascii_lowercase();
    match listener.map(lower) {
        None if route.is_empty() => vec![None],
        None => route.iter().map(|host| Some(lower(host))).collect(),
        Some(listener) if route.is_empty() => vec![Some(listener)],
        Some(listener) => {
            let common = route.iter().map(|host| lower(host)).filter_map(|host| {
                if covers(&listener, &host) {
                    Some(host)
                } else {
                    covers(&host, &listener).then(|| listener.clone())
                }
            });
            common.map(Some).collect()
        }
    }
}

/// Whether every name that `inner` means is one that `outer` means.
fn covers(outer: &str, inner: &str) -> bool {
    outer == inner
        || outer.strip_prefix('*').is_some_and(|suffix| inner.trim_start_matches('*').ends_with(suffix))
}

/// The authority of requests to a host, whatever its port.
fn authority(host: &str) -> Text {
    let escape = |text: &str| text.replace('.', "\\.");
    let name = match host.strip_prefix('*') {
        Some(suffix) => format!("[^:]+{}", escape(suffix)),
        None => escape(host),
    };
    Text { kind: Some(Kind::Regex(format!("(?i){name}(?::[0-9]+)?"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listener_and_route_have_in_common() {
        type Case = (Option<&'static str>, &'static [&'static str], &'static [Option<&'static str>]);
        let table: [Case; 9] = [
            (None, &[], &[None]),
            (None, &["A.example"], &[Some("a.example")]),
            (Some("a.example"), &[], &[Some("a.example")]),
            (Some("a.example"), &["a.example", "b.example"], &[Some("a.example")]),
            (Some("a.example"), &["b.example"], &[]),
            (Some("*.example"), &["a.example", "example"], &[Some("a.example")]),
            (Some("a.b.example"), &["*.example"], &[Some("a.b.example")]),
            (Some("*.example"), &["*.b.example"], &[Some("*.b.example")]),
            (Some("*.example"), &["*.other"], &[]),
        ];
        for (listener, route, expected) in table {
            let route: Vec<String> = route.iter().map(|&host| host.to_owned()).collect();
            let expected: Vec<Option<String>> = expected.iter().map(|host| host.map(str::to_owned)).collect();
            assert_eq!(common_hosts(listener, &route), expected, "{listener:?} and {route:?}");
        }
    }
}
