//! What a rule of an HTTPRoute or GRPCRoute does with requests.

use ambit_api::wire::waypoint::path_change::Kind as Change;
use ambit_api::wire::waypoint::redirect::PortFrom;
use ambit_api::wire::waypoint::{
    Backend as WireBackend, DirectResponse, Forward, HeaderChange, HttpRule, Mirror, PathChange, Redirect,
    Retry as WireRetry, Rewrite, http_rule,
};
use ambit_crds::code::Code;
use ambit_crds::gateway_api::{self as crd, Backend, Filter, HeaderModifier, PathModifier};

use super::super::backend::broken;
use super::super::draft::{Draft, Place, Remark};
use super::super::{HOST, mesh_retry, millis, retry};
use super::references::resolve;
use super::{Route, Rule};

/// What requests get whose rule or backend cannot work.
const BROKEN: u16 = 500;
/// Status of a redirect that names none.
const FOUND: u16 = 302;
/// Retries of a rule that asks for some and does not say how many.
const ATTEMPTS: u32 = 2;
/// Always retried where a rule asks for retries.
const ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

/// The rule, without its conditions.
pub(super) fn translate(place: &Place<'_>, route: &Route<'_>, at: usize, draft: &mut Draft) -> HttpRule {
    let rule = &route.rules[at];
    let mut wire = HttpRule {
        name: rule.name.to_owned(),
        origin: format!("{}/{}/{}#{at}", route.object.kind, route.object.namespace, route.object.name),
        timeout_ms: millis(rule.timeouts.request),
        retry: Some(retries(place, rule)),
        ..HttpRule::default()
    };
    for filter in rule.filters {
        apply(place, route, at, filter, (&mut wire, draft));
    }
    if wire.action.is_none() {
        wire.action = Some(http_rule::Action::Forward(forward(place, route, at, draft)));
    }
    wire
}

fn retries(place: &Place<'_>, rule: &Rule<'_>) -> WireRetry {
    let mut wire = mesh_retry(place.ctx);
    if let Some(asked) = rule.retry {
        let codes: Vec<String> = asked.codes.iter().map(u16::to_string).collect();
        let (on, statuses) = retry::conditions(&format!("{ON},{}", codes.join(",")));
        wire = WireRetry {
            attempts: asked.attempts.unwrap_or(ATTEMPTS),
            on,
            statuses,
            backoff_ms: millis(asked.backoff),
            ..retry::built_in()
        };
    }
    if let Some(limit) = rule.timeouts.backend_request {
        wire.per_try_timeout_ms = millis(Some(limit));
    }
    wire
}

fn apply(
    place: &Place<'_>,
    route: &Route<'_>,
    at: usize,
    filter: &Filter,
    (wire, draft): (&mut HttpRule, &mut Draft),
) {
    match filter {
        Filter::RequestHeaders(asked) => {
            if let Some(authority) = authority(asked) {
                wire.rewrite.get_or_insert_default().authority = authority;
            }
            wire.request_headers = headers(asked, false);
        }
        Filter::ResponseHeaders(asked) => wire.response_headers = headers(asked, true),
        Filter::Rewrite(asked) => {
            let Rewrite { path, authority } = wire.rewrite.get_or_insert_default();
            *path = asked.path.as_ref().map(path_change);
            if let Some(hostname) = &asked.hostname {
                *authority = hostname.clone();
            }
        }
        Filter::Redirect(asked) => wire.action = Some(http_rule::Action::Redirect(redirect(asked))),
        Filter::Mirror(asked) => match resolve(place, &route.object, &asked.backend) {
            Ok(to) => wire.mirrors.push(Mirror {
                service: to.service,
                port: to.port,
                share: asked.share.millionths(),
                ..Mirror::default()
            }),
            Err(why) => {
                let text = format!("{}; nothing is mirrored there", why.text);
                draft.remark(&route.object, Remark::new(why.code, format!("rules[{at}].filters"), text));
            }
        },
        Filter::Cors(_) => draft.not_yet(&route.object, format!("rules[{at}].filters.cors")),
        // Left out they might open what they were to close.
        Filter::ExternalAuth(_) | Filter::Extension(_) => {
            let name = if matches!(filter, Filter::Extension(_)) { "extensionRef" } else { "externalAuth" };
            draft.not_yet(&route.object, format!("rules[{at}].filters.{name} (its requests get {BROKEN})"));
            let status = u32::from(BROKEN);
            wire.action =
                Some(http_rule::Action::Respond(DirectResponse { status, ..DirectResponse::default() }));
        }
    }
}

fn forward(place: &Place<'_>, route: &Route<'_>, at: usize, draft: &mut Draft) -> Forward {
    let rule = &route.rules[at];
    if rule.backends.is_empty() {
        let text = format!("it names no backend; its requests get {BROKEN}");
        draft.remark(&route.object, Remark::new(Code::BackendNotResolved, format!("rules[{at}]"), text));
    }
    let mut one = |(number, backend): (usize, &Backend)| {
        let found = resolve(place, &route.object, &backend.object);
        let mut wire = found.unwrap_or_else(|why| {
            if backend.weight > 0 {
                let field = format!("rules[{at}].backendRefs[{number}]");
                let text = format!("{}; its requests get {BROKEN}", why.text);
                draft.remark(&route.object, Remark::new(why.code, field, text));
            }
            broken(BROKEN, why.text)
        });
        wire.weight = backend.weight;
        for filter in &backend.filters {
            apply_to_backend(route, at, filter, (&mut wire, draft));
        }
        wire
    };
    Forward { backends: rule.backends.iter().enumerate().map(&mut one).collect() }
}

/// Filters of one backend change headers; nothing else is obeyed there yet.
fn apply_to_backend(
    route: &Route<'_>,
    at: usize,
    filter: &Filter,
    (wire, draft): (&mut WireBackend, &mut Draft),
) {
    let field = |name: &str| format!("rules[{at}].backendRefs.filters.{name}");
    let name = match filter {
        Filter::RequestHeaders(asked) => {
            // Here a host stays among the headers: there is no other place for it.
            wire.request_headers = headers(asked, true);
            return;
        }
        Filter::ResponseHeaders(asked) => {
            wire.response_headers = headers(asked, true);
            return;
        }
        Filter::Mirror(_) => "requestMirror",
        Filter::Redirect(_) => "requestRedirect",
        Filter::Rewrite(_) => "urlRewrite",
        Filter::Cors(_) => "cors",
        Filter::ExternalAuth(_) | Filter::Extension(_) => {
            let why = "a filter of its own that nothing obeys yet";
            *wire = WireBackend { weight: wire.weight, ..broken(BROKEN, why.to_owned()) };
            "extensionRef or externalAuth"
        }
    };
    draft.not_yet(&route.object, field(name));
}

fn authority(asked: &HeaderModifier) -> Option<String> {
    let all = asked.set.iter().chain(&asked.add);
    all.filter(|one| one.name.eq_ignore_ascii_case(HOST)).map(|one| one.value.clone()).next()
}

/// Of several changes of one name the first counts.
fn headers(asked: &HeaderModifier, keep_host: bool) -> Option<HeaderChange> {
    let kept = |name: &str| keep_host || !name.eq_ignore_ascii_case(HOST);
    let pairs = |all: &[crd::Header]| {
        let reversed = all.iter().rev().filter(|one| kept(&one.name));
        reversed.map(|one| (one.name.to_ascii_lowercase(), one.value.clone())).collect()
    };
    let removed = asked.remove.iter().filter(|name| kept(name)).map(|name| name.to_ascii_lowercase());
    let change = HeaderChange { set: pairs(&asked.set), add: pairs(&asked.add), remove: removed.collect() };
    Some(change).filter(|change| *change != HeaderChange::default())
}

fn path_change(asked: &PathModifier) -> PathChange {
    let kind = match asked {
        PathModifier::Full(path) => Change::Full(path.clone()),
        PathModifier::Prefix(path) => Change::Segments(path.clone()),
    };
    PathChange { kind: Some(kind) }
}

fn redirect(asked: &crd::Redirect) -> Redirect {
    let from = if asked.scheme.is_some() { PortFrom::Scheme } else { PortFrom::Request };
    Redirect {
        scheme: asked.scheme.clone().unwrap_or_default(),
        authority: asked.hostname.clone().unwrap_or_default(),
        port: asked.port.map_or(0, |port| u32::from(port.get())),
        port_from: from.into(),
        path: asked.path.as_ref().map(path_change),
        status: u32::from(asked.status_code.unwrap_or(FOUND)),
    }
}
