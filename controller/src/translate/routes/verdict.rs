//! What became of a routing object, in words for its owner.

mod gateway_api;

use std::collections::BTreeSet;

use ambit_api::wire::waypoint::HttpRule;
use ambit_crds::code::Code;
use ambit_crds::destination_rule::DestinationRule;
use ambit_crds::grpc_route::GrpcRoute;
use ambit_crds::http_route::HttpRoute;
use ambit_crds::kind::Kind;
use ambit_crds::meta::{ObjectRef, selects};
use ambit_crds::pod::Pod;
use ambit_crds::status::{Condition, ConditionStatus};
use ambit_crds::virtual_service::{MESH_GATEWAY, VirtualService};

use super::affected::{of_virtual_service, routing_to};
use super::draft::{Draft, Place, Remark};
use super::gateway_api::Route;
use super::hosts::Host;
use super::matching::ends_with;
use super::{Context, Facts, destination, draft, virtual_service};
use crate::objects::Key;

/// A wildcard may name thousands of Services; a verdict looks at so many of them.
const LOOKED_AT: usize = 32;

/// What is known about an object once the Services that it names were looked at.
#[derive(Default)]
struct Findings {
    /// Gateway, Service.
    enforced: Vec<(Key, Key)>,
    /// Gateways that obey it for whoever comes.
    gateways: Vec<Key>,
    /// Services at which this did not look.
    more: usize,
    said: Said,
}

/// What is to be said to an object's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Why nothing of it is obeyed whatever it names, if so: reason and sentence.
    pub(crate) refused: Option<(&'static str, String)>,
    /// Services before which no waypoint stands.
    pub(crate) bare: Vec<Key>,
    /// Services whose waypoint does not obey it, and why.
    pub(crate) elsewhere: Vec<(Key, String)>,
    /// Consequences of what is written.
    pub(crate) remarks: BTreeSet<Remark>,
    /// Fields that nothing obeys yet.
    pub(crate) not_yet: BTreeSet<String>,
}

/// What became of a VirtualService, DestinationRule, HTTPRoute or GRPCRoute.
pub(crate) fn verdict(ctx: &Context<'_>, object: &ObjectRef, facts: &Facts<'_>) -> Vec<Condition> {
    let key = Key::new(&object.namespace, &object.name);
    match object.kind {
        Kind::VirtualService => {
            let one = ctx.objects.get::<VirtualService>(&key);
            one.map(|one| vec![of_virtual(ctx, object, one, facts).condition(no_host(one))])
                .unwrap_or_default()
        }
        Kind::DestinationRule => {
            let one = ctx.objects.get::<DestinationRule>(&key);
            let none = ("HostNotFound", "its host is no Service");
            one.map(|one| vec![of_rule(ctx, object, one, facts).condition(none)]).unwrap_or_default()
        }
        Kind::HttpRoute => {
            let one = ctx.objects.get::<HttpRoute>(&key);
            one.map(|one| gateway_api::conditions(ctx, &Route::http(one), facts).to_vec()).unwrap_or_default()
        }
        Kind::GrpcRoute => {
            let one = ctx.objects.get::<GrpcRoute>(&key);
            one.map(|one| gateway_api::conditions(ctx, &Route::grpc(one), facts).to_vec()).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// What became of an HTTPRoute or GRPCRoute at each of its parents, in their order; nothing for other kinds.
pub(crate) fn at_parents(ctx: &Context<'_>, object: &ObjectRef, facts: &Facts<'_>) -> Vec<Vec<Condition>> {
    let key = Key::new(&object.namespace, &object.name);
    let route = match object.kind {
        Kind::HttpRoute => ctx.objects.get::<HttpRoute>(&key).map(Route::http),
        Kind::GrpcRoute => ctx.objects.get::<GrpcRoute>(&key).map(Route::grpc),
        _ => None,
    };
    route.map(|route| gateway_api::at_parents(ctx, &route, facts)).unwrap_or_default()
}

/// What is to be said about a VirtualService, DestinationRule, HTTPRoute or GRPCRoute.
pub(crate) fn said(ctx: &Context<'_>, object: &ObjectRef, facts: &Facts<'_>) -> Said {
    let key = Key::new(&object.namespace, &object.name);
    let objects = ctx.objects;
    let findings = match object.kind {
        Kind::VirtualService => objects.get(&key).map(|one| of_virtual(ctx, object, one, facts)),
        Kind::DestinationRule => objects.get(&key).map(|one| of_rule(ctx, object, one, facts)),
        Kind::HttpRoute => objects.get(&key).map(|one| gateway_api::findings(ctx, &Route::http(one), facts)),
        Kind::GrpcRoute => objects.get(&key).map(|one| gateway_api::findings(ctx, &Route::grpc(one), facts)),
        _ => None,
    };
    findings.map(|findings| findings.said).unwrap_or_default()
}

/// What it means that a VirtualService names no Service.
fn no_host(one: &VirtualService) -> (&'static str, &'static str) {
    match one.spec.hosts.is_empty() {
        true => ("NotDelegatedTo", "it has no hosts, and no VirtualService that applies delegates to it"),
        false => ("HostNotFound", "none of its hosts is a Service"),
    }
}

fn of_virtual(ctx: &Context<'_>, object: &ObjectRef, one: &VirtualService, facts: &Facts<'_>) -> Findings {
    let mut findings = Findings::default();
    let foreign: Vec<&str> =
        one.spec.gateways.iter().map(String::as_str).filter(|gateway| *gateway != MESH_GATEWAY).collect();
    if !virtual_service::is_of_mesh(&one.spec.gateways) {
        let text = format!(
            "it is for Gateway {} alone, and nothing serves Istio's Gateways yet",
            foreign.join(", ")
        );
        findings.said.refused = Some(("NotYetEnforced", text));
        return findings;
    }
    findings.said.not_yet.extend(foreign.into_iter().map(|gateway| format!("gateways: {gateway}")));
    if one.spec.export_to.iter().any(|to| to != "*") {
        let text =
            "it is obeyed by the waypoint's namespace; clients of any namespace that come by it are routed";
        findings.remark(Code::FieldMeansLess, "exportTo", text);
    }
    for (at, (text, host)) in one.spec.hosts.iter().zip(virtual_service::hosts(ctx, one)).enumerate() {
        unknown_host(ctx, (&format!("hosts[{at}]"), text), &host, &mut findings);
    }
    findings.look_at(ctx, object, &of_virtual_service(ctx, one), facts);
    findings
}

fn unknown_host(ctx: &Context<'_>, (field, text): (&str, &str), host: &Host, findings: &mut Findings) {
    let known = match host {
        Host::Suffix(_) => true,
        Host::Exact(_) => host.key(ctx.names).is_some_and(|key| ctx.served(&key).is_some()),
    };
    if !known {
        let domain = &ctx.names.domain;
        let text = format!(
            "{text} is no Service (a name with a dot is taken as it is: NAME.NAMESPACE.svc.{domain}); other hosts \
             are not served yet"
        );
        findings.remark(Code::HostNotFound, field, text);
    }
}

fn of_rule(ctx: &Context<'_>, object: &ObjectRef, one: &DestinationRule, facts: &Facts<'_>) -> Findings {
    let mut findings = Findings::default();
    let mut draft = Draft::default();
    destination::remarks(object, one, &mut draft);
    findings.take(object, draft);
    let host = destination::host(ctx, one);
    unknown_host(ctx, ("host", &one.spec.host), &host, &mut findings);
    if !one.spec.workload_selector.match_labels.is_empty() {
        let text = "workloadSelector picks proxies beside clients, and a waypoint is none, so it is left out";
        findings.said.refused = Some(("NoEffect", text.to_owned()));
        return findings;
    }
    let own = Key::of(&one.meta);
    let services: BTreeSet<Key> = ctx.named([host].iter()).into_iter().collect();
    for service in services.iter().filter(|key| ctx.served(key).is_some()).take(LOOKED_AT) {
        empty_subsets(ctx, service, one, facts, &mut findings);
        let routing = routing_to(ctx, &BTreeSet::from([service.clone()]));
        let mut gateways = routing.iter().chain([service]).filter_map(|key| (facts.waypoint)(key));
        let Some(first) = gateways.next() else {
            findings.said.bare.push(service.clone());
            continue;
        };
        let viewed: BTreeSet<Key> = gateways.chain([first]).collect();
        for gateway in viewed {
            let merged = destination::Merged::new(ctx, service, &gateway.namespace);
            if merged.rules.iter().any(|(key, _)| **key == own) {
                shadowed(&own, one, &merged, &mut findings);
                findings.enforced.push((gateway, service.clone()));
            } else {
                let why = match merged.rules.first() {
                    Some((key, _)) => format!("DestinationRule {}/{} counts there", key.namespace, key.name),
                    None => {
                        "a waypoint sees those of its own, the Service's and the root namespace".to_owned()
                    }
                };
                findings.said.elsewhere.push((service.clone(), why));
            }
        }
    }
    findings
}

/// What of a DestinationRule does not count because an older one says it too.
fn shadowed(own: &Key, one: &DestinationRule, merged: &destination::Merged<'_>, findings: &mut Findings) {
    for (key, older) in merged.rules.iter().take_while(|(key, _)| **key != *own) {
        let mut say = |field: String, what: &str| {
            let text =
                format!("{what} of DestinationRule {}/{} counts, which is older", key.namespace, key.name);
            findings.remark(Code::RuleShadowed, field, text);
        };
        if one.spec.traffic_policy.is_some() && older.spec.traffic_policy.is_some() {
            say("trafficPolicy".to_owned(), "that");
        }
        let twice = |name: &str| older.spec.subsets.iter().any(|subset| subset.name == name);
        let both = one.spec.subsets.iter().enumerate().filter(|(_, subset)| twice(&subset.name));
        for (at, subset) in both {
            say(format!("subsets[{at}]"), &format!("subset {}", subset.name));
        }
    }
}

fn empty_subsets(
    ctx: &Context<'_>,
    service: &Key,
    one: &DestinationRule,
    facts: &Facts<'_>,
    findings: &mut Findings,
) {
    let pods = facts.members.get(service).into_iter().flatten();
    let pods: Vec<&Pod> = pods.filter_map(|pod| ctx.objects.get(pod)).collect();
    for (at, subset) in one.spec.subsets.iter().enumerate() {
        if !pods.iter().any(|pod| selects(&subset.labels, &pod.meta.labels)) {
            let Key { namespace, name } = service;
            let text = format!("subset {} selects no pod of Service {namespace}/{name}", subset.name);
            findings.remark(Code::SubsetEmpty, format!("subsets[{at}].labels"), text);
        }
    }
}

impl Findings {
    fn remark(&mut self, code: Code, field: impl Into<String>, text: impl Into<String>) {
        self.said.remarks.insert(Remark::new(code, field, text));
    }

    /// What became of an object of rules at each of the Services.
    fn look_at(
        &mut self,
        ctx: &Context<'_>,
        object: &ObjectRef,
        services: &BTreeSet<Key>,
        facts: &Facts<'_>,
    ) {
        let why = match object.kind {
            Kind::VirtualService => {
                "a waypoint obeys those of its own and the Service's namespace that it may see"
            }
            _ => "it is not attached, as Accepted says",
        };
        let served: Vec<&Key> = services.iter().filter(|key| ctx.served(key).is_some()).collect();
        for service in served.iter().take(LOOKED_AT) {
            let gateway = (facts.waypoint)(service);
            let viewer = gateway.as_ref().map_or(&service.namespace, |gateway| &gateway.namespace);
            let draft = draft(&Place { ctx, service, viewer });
            let counts = draft.sources.contains(object);
            if counts {
                self.unreachable(object, &draft.http);
            }
            self.take(object, draft);
            match gateway {
                None => self.said.bare.push((*service).clone()),
                Some(gateway) if counts => self.enforced.push((gateway, (*service).clone())),
                Some(_) => self.said.elsewhere.push(((*service).clone(), why.to_owned())),
            }
        }
        self.more = served.len().saturating_sub(LOOKED_AT);
    }

    fn take(&mut self, object: &ObjectRef, mut draft: Draft) {
        self.said.remarks.extend(draft.remarks.said.remove(object).unwrap_or_default());
        self.said.not_yet.extend(draft.remarks.not_yet.remove(object).unwrap_or_default());
    }

    /// Rules of the object that stand behind one which takes every request.
    fn unreachable(&mut self, object: &ObjectRef, rules: &[HttpRule]) {
        let own = format!("{}/{}/{}#", object.kind, object.namespace, object.name);
        let Some(end) = rules.iter().position(|rule| ends_with(rule, 0)) else { return };
        for rule in &rules[end + 1..] {
            if let Some(place) = rule.origin.strip_prefix(&own).filter(|_| rule.origin != rules[end].origin) {
                let list = if object.kind == Kind::VirtualService { "http" } else { "rules" };
                let text =
                    format!("it is never reached: {} takes every request before it", rules[end].origin);
                self.remark(Code::RuleUnreachable, format!("{list}[{place}]"), text);
            }
        }
    }

    /// The condition `Enforced`; `none` says what it means that it names no Service.
    fn condition(self, none: (&str, &str)) -> Condition {
        if let Some((reason, text)) = self.said.refused {
            return condition("Enforced", ConditionStatus::False, reason, text);
        }
        let name = |key: &Key| format!("{}/{}", key.namespace, key.name);
        let mut parts: Vec<String> = Vec::new();
        let gateways: BTreeSet<&Key> = self.enforced.iter().map(|(gateway, _)| gateway).collect();
        for gateway in gateways {
            let services = self.enforced.iter().filter(|(one, _)| one == gateway);
            let services: Vec<String> = services.map(|(_, service)| name(service)).collect();
            parts.push(format!("by waypoint {} for Service {}", name(gateway), services.join(", ")));
        }
        if !self.gateways.is_empty() {
            let gateways: Vec<String> = self.gateways.iter().map(name).collect();
            parts.push(format!("by gateway {}", gateways.join(", ")));
        }
        if let Some(Key { namespace, name: first }) = self.said.bare.first() {
            let services: Vec<String> = self.said.bare.iter().map(name).collect();
            parts.push(format!(
                "no waypoint stands before Service {}: kubectl label service {first} -n {namespace} \
                 istio.io/use-waypoint=waypoint",
                services.join(", ")
            ));
        }
        parts.extend(
            self.said.elsewhere.iter().map(|(key, why)| format!("not for Service {}: {why}", name(key))),
        );
        if !self.said.not_yet.is_empty() {
            let fields: Vec<&str> = self.said.not_yet.iter().map(String::as_str).collect();
            parts.push(format!("not yet enforced: {}", fields.join(", ")));
        }
        let (status, reason) = match (
            self.enforced.is_empty() && self.gateways.is_empty(),
            self.said.bare.is_empty(),
            self.said.elsewhere.is_empty(),
        ) {
            (false, ..) if !self.said.not_yet.is_empty() => (ConditionStatus::True, "PartiallyEnforced"),
            (false, ..) if !self.said.remarks.is_empty() => (ConditionStatus::True, "EnforcedWithWarnings"),
            (false, ..) if self.enforced.is_empty() => (ConditionStatus::True, "Gateway"),
            (false, ..) => (ConditionStatus::True, "Waypoint"),
            (true, false, _) => (ConditionStatus::False, "WaypointRequired"),
            (true, true, false) => (ConditionStatus::False, "NotHere"),
            (true, true, true) => {
                parts.insert(0, none.1.to_owned());
                (ConditionStatus::False, none.0)
            }
        };
        parts.extend(self.said.remarks.iter().map(Remark::to_string));
        if self.more > 0 {
            parts.push(format!("and {} more Services, at which this does not look", self.more));
        }
        condition("Enforced", status, reason, parts.join("; "))
    }
}

fn condition(kind: &str, status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind: kind.to_owned(), status, reason: reason.to_owned(), message, observed_generation: 0 }
}
