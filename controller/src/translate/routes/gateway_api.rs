//! HTTPRoutes and GRPCRoutes attached to a Service or a Gateway: one list of rules, in the Gateway API's order of precedence.

mod filters;
pub(crate) mod listeners;
mod matches;
pub(crate) mod references;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ambit_api::wire::waypoint::{HttpMatch, HttpRule, Text};
use ambit_crds::code::Code;
use ambit_crds::gateway_api::{Backend, Filter, ParentRef};
use ambit_crds::grpc_route::GrpcRoute;
use ambit_crds::http_route::{HttpRoute, Retry, Timeouts};
use ambit_crds::kind::Kind;
use ambit_crds::meta::{ObjectMeta, ObjectRef, Order};
use ambit_crds::service::Service;

use super::Context;
use super::draft::{Draft, Place, Remark};
use super::matching::Precedence;
use crate::objects::Key;
use crate::translate::service::tcp_ports;

/// One route, HTTP or gRPC, as far as both are alike.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) object: ObjectRef,
    pub(crate) meta: &'a ObjectMeta,
    pub(crate) parent_refs: &'a [ParentRef],
    pub(crate) hostnames: &'a [String],
    pub(crate) rules: Vec<Rule<'a>>,
}

/// One rule of a route.
#[derive(Clone, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) name: &'a str,
    pub(crate) matches: Vec<(Precedence, HttpMatch)>,
    pub(crate) filters: &'a [Filter],
    pub(crate) backends: &'a [Backend],
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Option<&'a Retry>,
    pub(crate) has_session: bool,
}

/// What a change of other objects may concern in a route.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    pub(crate) object: ObjectRef,
    /// Services.
    pub(crate) parents: BTreeSet<Key>,
    pub(crate) gateways: BTreeSet<Key>,
    pub(crate) backends: BTreeSet<Key>,
}

/// Whether a route is obeyed for one of its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// It is: for one port, or 0 for all.
    Port(u16),
    /// The Service or its port does not exist.
    Missing(String),
    /// The Service is of another namespace, so the route is its clients'.
    Consumer,
    /// It is, at these listeners of a Gateway.
    Gateway(Vec<String>),
    /// The Gateway admits other routes.
    NotAllowed(String),
    /// The listeners are for other host names.
    NoHost,
    /// It is neither a Service nor a Gateway of ours.
    Other,
}

/// The Services a route names as its parents.
pub(crate) fn parents<'a>(meta: &'a ObjectMeta, refs: &'a [ParentRef]) -> impl Iterator<Item = Key> + 'a {
    refs.iter().filter(|one| one.is_service()).map(|one| parent_key(meta, one))
}

/// The Gateways a route names as its parents.
pub(crate) fn gateways<'a>(meta: &'a ObjectMeta, refs: &'a [ParentRef]) -> impl Iterator<Item = Key> + 'a {
    refs.iter().filter(|one| one.is_gateway()).map(|one| parent_key(meta, one))
}

/// The object a parentRef names.
pub(crate) fn parent_key(meta: &ObjectMeta, parent: &ParentRef) -> Key {
    Key::new(parent.namespace.as_deref().unwrap_or(&meta.namespace), &parent.name)
}

/// The links of every route.
pub(crate) fn all<'a>(ctx: &Context<'a>) -> impl Iterator<Item = Links> + 'a {
    let http = ctx.objects.all::<HttpRoute>().map(|(_, one)| Route::http(one));
    let grpc = ctx.objects.all::<GrpcRoute>().map(|(_, one)| Route::grpc(one));
    http.chain(grpc).map(|route| route.links())
}

/// How many routes are attached to each listener of a Gateway, by its name.
pub(crate) fn at_listeners(ctx: &Context<'_>, gateway: &Key) -> BTreeMap<String, u32> {
    let http = ctx.objects.all::<HttpRoute>().map(|(_, one)| Route::http(one));
    let grpc = ctx.objects.all::<GrpcRoute>().map(|(_, one)| Route::grpc(one));
    let mut counts = BTreeMap::new();
    for route in http.chain(grpc) {
        let refs = route.parent_refs.iter();
        let refs = refs.filter(|one| one.is_gateway() && parent_key(route.meta, one) == *gateway);
        // Two references of one route to a listener are one route there.
        let names = refs.filter_map(|one| match route.attachment(ctx, one) {
            Attachment::Gateway(names) => Some(names),
            _ => None,
        });
        for name in names.flatten().collect::<BTreeSet<String>>() {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

impl<'a> Route<'a> {
    /// Of an HTTPRoute.
    pub(crate) fn http(one: &'a HttpRoute) -> Self {
        let rules = one.spec.rules.iter().map(|rule| Rule {
            name: rule.name.as_deref().unwrap_or_default(),
            matches: rule.matches.iter().map(matches::of_http).collect(),
            filters: &rule.filters,
            backends: &rule.backend_refs,
            timeouts: rule.timeouts.unwrap_or_default(),
            retry: rule.retry.as_ref(),
            has_session: rule.session_persistence.is_some(),
        });
        Self {
            object: ObjectRef::new(Kind::HttpRoute, &one.meta.namespace, &one.meta.name),
            meta: &one.meta,
            parent_refs: &one.spec.parent_refs,
            hostnames: &one.spec.hostnames,
            rules: rules.collect(),
        }
    }

    /// Of a GRPCRoute.
    pub(crate) fn grpc(one: &'a GrpcRoute) -> Self {
        let rules = one.spec.rules.iter().map(|rule| Rule {
            name: rule.name.as_deref().unwrap_or_default(),
            matches: matches::of_grpc_rule(&rule.matches),
            filters: &rule.filters,
            backends: &rule.backend_refs,
            timeouts: Timeouts::default(),
            retry: None,
            has_session: rule.session_persistence.is_some(),
        });
        Self {
            object: ObjectRef::new(Kind::GrpcRoute, &one.meta.namespace, &one.meta.name),
            meta: &one.meta,
            parent_refs: &one.spec.parent_refs,
            hostnames: &one.spec.hostnames,
            rules: rules.collect(),
        }
    }

    pub(crate) fn links(&self) -> Links {
        let objects = self.rules.iter().flat_map(|rule| {
            let mirrors = rule.filters.iter().filter_map(|filter| match filter {
                Filter::Mirror(mirror) => Some(&mirror.backend),
                _ => None,
            });
            mirrors.chain(rule.backends.iter().map(|backend| &backend.object))
        });
        Links {
            object: self.object.clone(),
            parents: parents(self.meta, self.parent_refs).collect(),
            gateways: gateways(self.meta, self.parent_refs).collect(),
            backends: objects.map(|object| references::key(object, &self.meta.namespace)).collect(),
        }
    }

    /// Whether it is obeyed for one of its parents.
    pub(crate) fn attachment(&self, ctx: &Context<'_>, parent: &ParentRef) -> Attachment {
        if parent.is_gateway() {
            return listeners::attachment(ctx, self, parent);
        }
        if !parent.is_service() {
            return Attachment::Other;
        }
        let key = parent_key(self.meta, parent);
        let Some(service) = ctx.served(&key) else {
            return Attachment::Missing(format!("there is no Service {}/{}", key.namespace, key.name));
        };
        if key.namespace != self.meta.namespace {
            return Attachment::Consumer;
        }
        port(service, parent).map_or_else(Attachment::Missing, Attachment::Port)
    }

    /// The ports of a Service for which it is obeyed; 0 stands for all.
    fn ports(&self, place: &Place<'_>) -> BTreeSet<u16> {
        let refs = self.parent_refs.iter();
        let refs = refs.filter(|one| one.is_service() && parent_key(self.meta, one) == *place.service);
        let ports = refs.filter_map(|one| match self.attachment(place.ctx, one) {
            Attachment::Port(port) => Some(port),
            _ => None,
        });
        let ports: BTreeSet<u16> = ports.collect();
        if ports.contains(&0) { BTreeSet::from([0]) } else { ports }
    }
}

/// The port that a parentRef is about, by number and by name; 0 for all.
fn port(service: &Service, parent: &ParentRef) -> Result<u16, String> {
    let number = parent.port.map(|port| port.get());
    let name = parent.section_name.as_deref();
    if number.is_none() && name.is_none() {
        return Ok(0);
    }
    let fits = |port: &&ambit_crds::service::ServicePort| {
        number.is_none_or(|number| port.port == number) && name.is_none_or(|name| port.name == name)
    };
    tcp_ports(service).find(fits).map(|port| port.port).ok_or_else(|| {
        let asked = name.map(str::to_owned).into_iter().chain(number.map(|one| one.to_string()));
        let asked = asked.collect::<Vec<_>>().join(" ");
        format!("Service {}/{} has no port {asked}", service.meta.namespace, service.meta.name)
    })
}

/// Part of a parent's requests.
struct Scope {
    /// Of a Service; 0 for any.
    port: u16,
    /// Of a listener.
    authority: Option<Text>,
    closeness: listeners::Closeness,
}

/// One condition with the rule it leads to, and what decides its place.
type Ranked = ((listeners::Closeness, Precedence), (Order, Key), (usize, usize), HttpRule);

/// Adds the rules of all routes attached to the Service; gRPC's come first, for they are narrower by nature.
pub(crate) fn add(place: &Place<'_>, draft: &mut Draft) {
    let namespace = &place.service.namespace;
    let grpc = place.ctx.objects.within::<GrpcRoute>(namespace).map(|(_, one)| Route::grpc(one));
    let http = place.ctx.objects.within::<HttpRoute>(namespace).map(|(_, one)| Route::http(one));
    let scope = |port| Scope { port, authority: None, closeness: Reverse((false, 0)) };
    let scopes = |route: &Route<'_>| route.ports(place).into_iter().map(scope).collect::<Vec<_>>();
    merge(place, grpc, scopes, draft);
    merge(place, http, scopes, draft);
}

fn merge<'a>(
    place: &Place<'_>,
    routes: impl Iterator<Item = Route<'a>>,
    scopes: impl Fn(&Route<'a>) -> Vec<Scope>,
    draft: &mut Draft,
) {
    let mut ranked: Vec<Ranked> = Vec::new();
    for route in routes {
        let scopes = scopes(&route);
        if scopes.is_empty() {
            continue;
        }
        draft.sources.insert(route.object.clone());
        remark(place, &route, draft);
        for (at, rule) in route.rules.iter().enumerate() {
            let wire = filters::translate(place, &route, at, draft);
            for (number, (rank, one)) in rule.matches.iter().enumerate() {
                for scope in &scopes {
                    let authority = scope.authority.clone();
                    let one = HttpMatch { port: u32::from(scope.port), authority, ..one.clone() };
                    let wire = HttpRule { matches: vec![one], ..wire.clone() };
                    let age = (route.meta.creation.clone(), Key::of(route.meta));
                    ranked.push(((scope.closeness, rank.clone()), age, (at, number), wire));
                }
            }
        }
    }
    ranked.sort_by(|one, other| (&one.0, &one.1, &one.2).cmp(&(&other.0, &other.1, &other.2)));
    for (_, _, _, rule) in ranked {
        match draft.http.last_mut().filter(|last| last.origin == rule.origin) {
            Some(last) => last.matches.extend(rule.matches),
            None => draft.http.push(rule),
        }
    }
}

fn remark(place: &Place<'_>, route: &Route<'_>, draft: &mut Draft) {
    if !route.hostnames.is_empty() && parents(route.meta, route.parent_refs).any(|one| one == *place.service)
    {
        let text = "they mean nothing where the parent is a Service: its own name and address were called";
        draft.remark(&route.object, Remark::new(Code::FieldMeansLess, "hostnames", text));
    }
    for (at, _) in route.rules.iter().enumerate().filter(|(_, rule)| rule.has_session) {
        draft.not_yet(&route.object, format!("rules[{at}].sessionPersistence"));
    }
}
