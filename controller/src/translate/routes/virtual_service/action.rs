//! What a VirtualService's rule does with a request: forwards, redirects or answers it.

use ambit_api::wire::waypoint::path_change::Kind as Change;
use ambit_api::wire::waypoint::redirect::PortFrom;
use ambit_api::wire::waypoint::text::Kind;
use ambit_api::wire::waypoint::{
    Backend, DirectResponse, Forward, HttpMatch, HttpRule, PathChange, Redirect, RegexChange, Text, http_rule,
};
use ambit_crds::virtual_service::{self as crd, Destination, HttpDestination, HttpRoute, RedirectPort};

use super::super::backend::{self, Nowhere, Target};
use super::super::draft::{Draft, Place, Remark};
use super::{Rule, filters};

/// Before the rest of a redirect's path: only the matched prefix is replaced.
const PREFIX: &str = "%PREFIX()%";

/// What a rule of a delegate does: its own, and blocks of the root's that it lacks.
pub(super) fn inherited(root: &HttpRoute, own: &HttpRoute) -> HttpRoute {
    let mut route = own.clone();
    route.name = super::matching::joined(&root.name, &own.name);
    macro_rules! inherit {
        ($($field:ident),*) => {$(if route.$field.is_none() { route.$field = root.$field.clone(); })*};
    }
    inherit!(rewrite, direct_response, timeout, retries, fault, cors_policy, headers);
    if route.mirror.is_none() && route.mirrors.is_empty() {
        route.mirror = root.mirror.clone();
        route.mirror_percentage = root.mirror_percentage;
        route.mirror_percent = root.mirror_percent;
        route.mirrors = root.mirrors.clone();
    }
    route
}

/// Sets the action and the authority it rewrites.
pub(super) fn set(place: &Place<'_>, rule: &Rule<'_>, draft: &mut Draft, wire: &mut HttpRule) {
    let route = &rule.route;
    let action = match (&route.redirect, &route.direct_response) {
        (Some(one), _) => http_rule::Action::Redirect(redirect(one)),
        (None, Some(one)) => http_rule::Action::Respond(DirectResponse {
            status: one.status,
            body: one.body.as_ref().map(|body| body.0.clone()).unwrap_or_default(),
        }),
        (None, None) => http_rule::Action::Forward(forward(place, rule, draft)),
    };
    wire.action = Some(action);
    let Some(asked) = &route.rewrite else { return };
    let rewrite = wire.rewrite.get_or_insert_default();
    if !asked.authority.is_empty() {
        rewrite.authority = asked.authority.clone();
    }
    if let Some(regex) = &asked.uri_regex_rewrite {
        let regex = RegexChange { pattern: regex.pattern.clone(), substitution: regex.substitution.clone() };
        rewrite.path = Some(PathChange { kind: Some(Change::Regex(regex)) });
    }
}

fn forward(place: &Place<'_>, rule: &Rule<'_>, draft: &mut Draft) -> Forward {
    let routes = rule.route.route.as_slice();
    let one = |(at, route): (usize, &HttpDestination)| {
        let found = find(place, &rule.object.namespace, &route.destination);
        let mut backend = found.unwrap_or_else(|why| {
            let field = format!("http[{}].route[{at}].destination.{}", rule.place, why.field);
            let text = format!("{why}; its requests get 503");
            draft.remark(rule.object, Remark::new(why.code, field, text));
            backend::broken(503, why.text)
        });
        // Alone it gets everything, whatever its weight says.
        backend.weight = if routes.len() == 1 { 1 } else { route.weight };
        if let Some(headers) = &route.headers {
            backend.request_headers = filters::change(&headers.request);
            backend.response_headers = filters::change(&headers.response);
        }
        backend
    };
    Forward { backends: routes.iter().enumerate().map(one).collect() }
}

/// The backend of a destination that an object of `namespace` names.
pub(super) fn find(place: &Place<'_>, namespace: &str, to: &Destination) -> Result<Backend, Nowhere> {
    let service = backend::named(&to.host, namespace, place)?;
    Target { service: &service, subset: &to.subset, port: to.port.map(|port| port.number.get()) }.find(place)
}

fn redirect(one: &crd::Redirect) -> Redirect {
    let from = match one.derive_port {
        Some(RedirectPort::FromProtocolDefault) => PortFrom::Scheme,
        Some(RedirectPort::FromRequestPort) => PortFrom::Request,
        // Another host brings its own port along, or none; another scheme has its own.
        None if !one.authority.is_empty() || !one.scheme.is_empty() => PortFrom::Scheme,
        None => PortFrom::Request,
    };
    let path = match one.uri.strip_prefix(PREFIX) {
        Some(rest) => Some(Change::Prefix(rest.to_owned())),
        None => Some(Change::Full(one.uri.clone())).filter(|_| !one.uri.is_empty()),
    };
    Redirect {
        scheme: one.scheme.clone(),
        authority: one.authority.clone(),
        port: one.port.map_or(0, |port| u32::from(port.get())),
        port_from: from.into(),
        path: path.map(|kind| PathChange { kind: Some(kind) }),
        status: one.redirect_code.unwrap_or_default(),
    }
}

/// The rule with its conditions. A rewritten path replaces the whole path where a pattern matched and the matched
/// prefix elsewhere, so conditions of both sorts need rules of their own.
pub(super) fn by_path(rule: &Rule<'_>, wire: HttpRule) -> Vec<HttpRule> {
    let uri = rule.route.rewrite.as_ref().map(|rewrite| rewrite.uri.as_str()).filter(|uri| !uri.is_empty());
    let by_prefix =
        uri.is_some() || rule.route.redirect.as_ref().is_some_and(|one| one.uri.starts_with(PREFIX));
    if !by_prefix {
        return vec![HttpRule { matches: rule.matches.clone(), ..wire }];
    }
    let mut matches = rule.matches.clone();
    if matches.is_empty() {
        matches.push(HttpMatch::default());
    }
    for one in &mut matches {
        one.path.get_or_insert_with(|| Text { kind: Some(Kind::Prefix("/".to_owned())) });
    }
    let groups = matches.chunk_by(|one, next| is_pattern(one) == is_pattern(next));
    let split = groups.map(|group| {
        let mut part = HttpRule { matches: group.to_vec(), ..wire.clone() };
        if let Some(uri) = uri {
            let uri = uri.to_owned();
            let kind = if is_pattern(&group[0]) { Change::Full(uri) } else { Change::Prefix(uri) };
            part.rewrite.get_or_insert_default().path = Some(PathChange { kind: Some(kind) });
        }
        part
    });
    split.collect()
}

fn is_pattern(one: &HttpMatch) -> bool {
    matches!(one.path.as_ref().and_then(|path| path.kind.as_ref()), Some(Kind::Regex(_)))
}
