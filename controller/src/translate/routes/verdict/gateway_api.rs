//! What became of an HTTPRoute or GRPCRoute: the Gateway API's conditions, over all parents, and `Enforced`.

use std::collections::BTreeSet;

use ambit_crds::gateway_api::{Filter, ParentRef};
use ambit_crds::status::{Condition, ConditionStatus};

use super::super::draft::Place;
use super::super::gateway_api::references::{self, resolve};
use super::super::gateway_api::{Attachment, Route, gateways, listeners, parent_key};
use super::super::{Context, Facts};
use super::{Findings, condition};
use crate::objects::Key;

/// The conditions; where parents differ, the message names each.
pub(super) fn conditions(ctx: &Context<'_>, route: &Route<'_>, facts: &Facts<'_>) -> [Condition; 3] {
    [
        accepted(ctx, route),
        resolved(ctx, route),
        findings(ctx, route, facts).condition((
            "NoMatchingParent",
            "none of its parents is a Service that exists or a Gateway of ours that takes it",
        )),
    ]
}

/// What became of it at its parents.
pub(super) fn findings(ctx: &Context<'_>, route: &Route<'_>, facts: &Facts<'_>) -> Findings {
    let mut findings = Findings::default();
    let services = super::super::gateway_api::parents(route.meta, route.parent_refs).collect();
    findings.look_at(ctx, &route.object, &services, facts);
    findings.look_at_gateways(ctx, route, facts);
    findings
}

impl Findings {
    /// What became of a route at each Gateway that it names.
    fn look_at_gateways(&mut self, ctx: &Context<'_>, route: &Route<'_>, facts: &Facts<'_>) {
        let named: BTreeSet<Key> = gateways(route.meta, route.parent_refs).collect();
        for gateway in named.into_iter().filter(|gateway| (facts.accepted)(gateway)) {
            let mut counts = false;
            for (_, _, draft) in listeners::ports(ctx, &gateway) {
                if draft.sources.contains(&route.object) {
                    counts = true;
                    self.unreachable(&route.object, &draft.http);
                }
                self.take(&route.object, draft);
            }
            if counts {
                self.gateways.push(gateway);
            }
        }
    }
}

/// What is said at each of its parents, in their order.
pub(super) fn at_parents(ctx: &Context<'_>, route: &Route<'_>, facts: &Facts<'_>) -> Vec<Vec<Condition>> {
    let [_, resolved, enforced] = conditions(ctx, route, facts);
    let at = |parent| {
        let (reason, text) = at_parent(ctx, route, parent);
        vec![is_accepted(reason, text), resolved.clone(), enforced.clone()]
    };
    route.parent_refs.iter().map(at).collect()
}

/// Whether a route is accepted at one parent: reason and sentence.
fn at_parent(ctx: &Context<'_>, route: &Route<'_>, parent: &ParentRef) -> (&'static str, String) {
    match route.attachment(ctx, parent) {
        Attachment::Port(0) => ("Accepted", "all ports".to_owned()),
        Attachment::Port(port) => ("Accepted", format!("port {port}")),
        Attachment::Missing(text) => ("NoMatchingParent", text),
        Attachment::Consumer => (
            "UnsupportedValue",
            "routes of clients' namespaces are not obeyed; put it into the Service's".to_owned(),
        ),
        Attachment::Gateway(listeners) => ("Accepted", format!("listener {}", listeners.join(", "))),
        Attachment::NotAllowed(text) => ("NotAllowedByListeners", text),
        Attachment::NoHost => {
            ("NoMatchingListenerHostname", "its hostnames are none of the listener's".to_owned())
        }
        Attachment::Other => ("UnsupportedValue", "nothing obeys routes of this parent yet".to_owned()),
    }
}

/// Over all parents: each has its part of the sentence.
fn accepted(ctx: &Context<'_>, route: &Route<'_>) -> Condition {
    let mut reason = "Accepted";
    let mut parts = Vec::new();
    for parent in route.parent_refs {
        let (why, text) = at_parent(ctx, route, parent);
        if reason == "Accepted" {
            reason = why;
        }
        parts.push(format!("{}: {text}", named(route, parent)));
    }
    if parts.is_empty() {
        (reason, parts) = ("NoMatchingParent", vec!["it names no parent".to_owned()]);
    }
    is_accepted(reason, parts.join("; "))
}

fn is_accepted(reason: &str, text: String) -> Condition {
    let status = if reason == "Accepted" { ConditionStatus::True } else { ConditionStatus::False };
    condition("Accepted", status, reason, text)
}

fn named(route: &Route<'_>, parent: &ParentRef) -> String {
    let key = parent_key(route.meta, parent);
    format!("{} {}/{}", parent.kind, key.namespace, key.name)
}

fn resolved(ctx: &Context<'_>, route: &Route<'_>) -> Condition {
    let mut reason = None;
    let mut parts = BTreeSet::new();
    for rule in &route.rules {
        let mirrors = rule.filters.iter().filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(&mirror.backend),
            _ => None,
        });
        for object in rule.backends.iter().map(|backend| &backend.object).chain(mirrors) {
            let service = references::key(object, &route.object.namespace);
            let place = Place { ctx, service: &service, viewer: &route.object.namespace };
            if let Err(why) = resolve(&place, &route.object, object) {
                reason.get_or_insert(why.reason);
                parts.insert(why.text);
            }
        }
    }
    let Some(reason) = reason else {
        let text = "every backend exists and may be referred to".to_owned();
        return condition("ResolvedRefs", ConditionStatus::True, "ResolvedRefs", text);
    };
    let parts: Vec<String> = parts.into_iter().collect();
    condition("ResolvedRefs", ConditionStatus::False, reason, parts.join("; "))
}
