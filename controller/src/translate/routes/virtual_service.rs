//! VirtualServices: which of them apply to a Service, and their rules with those of their delegates.

mod action;
mod filters;
mod matches;
mod tcp;

use std::borrow::Cow;

use ambit_api::wire::waypoint::{HttpMatch, HttpRule};
use ambit_crds::code::Code;
use ambit_crds::kind::Kind;
use ambit_crds::meta::ObjectRef;
use ambit_crds::virtual_service::{Delegate, HttpRoute, MESH_GATEWAY, VirtualService};

use super::draft::{Draft, Place, Remark};
use super::hosts::{Closeness, Host, is_exported};
use super::{Context, matching, mesh_retry, millis, retry};
use crate::objects::Key;

/// One rule as it is, and where it stands.
struct Rule<'a> {
    object: &'a ObjectRef,
    place: usize,
    route: Cow<'a, HttpRoute>,
    /// What each condition of it became; the outer list is empty where it has none.
    matches: Vec<HttpMatch>,
}

/// Whether a list of gateways includes the proxies of the mesh.
pub(crate) fn is_of_mesh(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH_GATEWAY)
}

/// Names a VirtualService.
pub(crate) fn reference(key: &Key) -> ObjectRef {
    ObjectRef::new(Kind::VirtualService, &key.namespace, &key.name)
}

/// The hosts of a VirtualService.
pub(crate) fn hosts<'a>(ctx: &'a Context<'_>, one: &'a VirtualService) -> impl Iterator<Item = Host> + 'a {
    one.spec.hosts.iter().map(|host| Host::new(host, &one.meta.namespace, ctx.names))
}

/// The VirtualServices it delegates to.
pub(crate) fn delegates(one: &VirtualService) -> impl Iterator<Item = Key> + '_ {
    let named = one.spec.http.iter().filter_map(|rule| rule.delegate.as_ref());
    named.map(|delegate| delegate_key(delegate, &one.meta.namespace))
}

fn delegate_key(delegate: &Delegate, own: &str) -> Key {
    let namespace = if delegate.namespace.is_empty() { own } else { &delegate.namespace };
    Key::new(namespace, &delegate.name)
}

/// Every host it sends to.
pub(crate) fn destinations(one: &VirtualService) -> impl Iterator<Item = &str> {
    let http = one.spec.http.iter().flat_map(|rule| {
        let routes = rule.route.iter().map(|route| &route.destination);
        routes.chain(rule.copies().map(|(copy, _)| copy))
    });
    let tcp = one.spec.tcp.iter().flat_map(|rule| &rule.route);
    let tls = one.spec.tls.iter().flat_map(|rule| &rule.route);
    http.chain(tcp.chain(tls).map(|route| &route.destination)).map(|to| to.host.as_str())
}

/// Those that apply: the closest hosts first, then the oldest.
pub(crate) fn applying<'a>(place: &Place<'a>) -> Vec<(&'a Key, &'a VirtualService)> {
    let ctx = place.ctx;
    let hostname = ctx.hostname(place.service);
    let mut namespaces = vec![place.service.namespace.as_str()];
    if place.viewer != place.service.namespace {
        namespaces.push(place.viewer);
    }
    let all = namespaces.into_iter().flat_map(|namespace| ctx.objects.within::<VirtualService>(namespace));
    let mut found: Vec<(Closeness, &Key, &VirtualService)> = all
        .filter(|(_, one)| is_of_mesh(&one.spec.gateways))
        .filter(|(key, one)| is_exported(&one.spec.export_to, &key.namespace, place.viewer))
        .filter_map(|(key, one)| {
            let close = hosts(ctx, one).filter_map(|host| host.closeness(&hostname)).min()?;
            Some((close, key, one))
        })
        .collect();
    found.sort_by_key(|(close, key, one)| (*close, one.meta.creation.clone(), *key));
    found.into_iter().map(|(_, key, one)| (key, one)).collect()
}

/// Adds the rules of one VirtualService.
pub(crate) fn add(place: &Place<'_>, key: &Key, one: &VirtualService, draft: &mut Draft) {
    let object = reference(key);
    draft.sources.insert(object.clone());
    for (at, route) in one.spec.http.iter().enumerate() {
        let Some(matches) = matches::of_rule(route, at, &object, draft) else { continue };
        let rule = Rule { object: &object, place: at, route: Cow::Borrowed(route), matches };
        match &route.delegate {
            None => emit(place, &rule, draft),
            Some(delegate) => delegated(place, &rule, &delegate_key(delegate, &key.namespace), draft),
        }
    }
    tcp::add(place, &object, one, draft);
}

/// Adds the rules of a delegate, each within the conditions of the root's rule.
fn delegated(place: &Place<'_>, root: &Rule<'_>, key: &Key, draft: &mut Draft) {
    let found = place.ctx.objects.get::<VirtualService>(key).filter(|one| {
        one.spec.hosts.is_empty() && is_exported(&one.spec.export_to, &key.namespace, &root.object.namespace)
    });
    let Some(found) = found else {
        let Key { namespace, name } = key;
        let text = format!(
            "no VirtualService {namespace}/{name} without hosts is there to delegate to, so the rule is left out"
        );
        let field = format!("http[{}].delegate", root.place);
        return draft.remark(root.object, Remark::new(Code::Delegate, field, text));
    };
    let object = reference(key);
    draft.sources.insert(object.clone());
    for (at, route) in found.spec.http.iter().enumerate() {
        if route.delegate.is_some() {
            let text = "a delegate cannot delegate, so the rule is left out";
            draft.remark(&object, Remark::new(Code::Delegate, format!("http[{at}].delegate"), text));
            continue;
        }
        let Some(own) = matches::of_rule(route, at, &object, draft) else { continue };
        let Some(matches) = within(&root.matches, own) else {
            let text = format!(
                "its conditions do not lie within those of {} http[{}], so the rule is left out there",
                root.object, root.place
            );
            draft.remark(&object, Remark::new(Code::Delegate, format!("http[{at}].match"), text));
            continue;
        };
        let route = Cow::Owned(action::inherited(&root.route, route));
        emit(place, &Rule { object: &object, place: at, route, matches }, draft);
    }
}

/// Every condition of the delegate's within each of the root's that it fits; nothing if one fits none.
fn within(root: &[HttpMatch], own: Vec<HttpMatch>) -> Option<Vec<HttpMatch>> {
    match (root, own.as_slice()) {
        ([], _) => Some(own),
        (root, []) => Some(root.to_vec()),
        (root, own) => {
            let mut all = Vec::new();
            for inner in own {
                let fitting: Vec<_> =
                    root.iter().filter_map(|outer| matching::common(outer, inner)).collect();
                if fitting.is_empty() {
                    return None;
                }
                all.extend(fitting);
            }
            Some(all)
        }
    }
}

/// Adds one rule; several where its path change differs by condition.
fn emit(place: &Place<'_>, rule: &Rule<'_>, draft: &mut Draft) {
    let mut wire = HttpRule {
        name: rule.route.name.clone(),
        origin: format!("VirtualService/{}/{}#{}", rule.object.namespace, rule.object.name, rule.place),
        timeout_ms: millis(rule.route.timeout),
        retry: Some(rule.route.retries.as_ref().map_or_else(|| mesh_retry(place.ctx), retry::of)),
        ..HttpRule::default()
    };
    wire.fault = filters::fault(rule.route.fault.as_ref());
    filters::headers(&rule.route, &mut wire);
    filters::mirrors(place, rule, draft, &mut wire);
    filters::remark_not_yet(rule, draft);
    action::set(place, rule, draft, &mut wire);
    draft.http.extend(action::by_path(rule, wire));
}
