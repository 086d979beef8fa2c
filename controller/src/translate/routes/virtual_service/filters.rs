//! What a VirtualService's rule does besides: headers, faults, mirrors, time and retries.

use ambit_api::wire::waypoint::{Fault as WireFault, HeaderChange, HttpRule, Mirror};
use ambit_crds::value::Percent;
use ambit_crds::virtual_service::{Fault, HeaderOperations, HttpRoute};

use super::super::draft::{Draft, Place, Remark};
use super::super::{HOST, millis};
use super::{Rule, action};

/// A rule's changes of headers; one of `Host` rewrites the authority.
pub(super) fn headers(route: &HttpRoute, wire: &mut HttpRule) {
    let Some(headers) = &route.headers else { return };
    let request = &headers.request;
    let authority = [&request.set, &request.add].into_iter().flatten().find(|(name, _)| is_host(name));
    if let Some((_, authority)) = authority {
        wire.rewrite.get_or_insert_default().authority = authority.clone();
    }
    wire.request_headers = change(request).map(|mut change| {
        change.set.remove(HOST);
        change.add.remove(HOST);
        change
    });
    wire.request_headers.take_if(|change| *change == HeaderChange::default());
    wire.response_headers = change(&headers.response);
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case(HOST) || name.eq_ignore_ascii_case(":authority")
}

/// Changes of headers, in lower case; `host` is the authority, which cannot be removed, other pseudo-headers are not
/// touched.
pub(super) fn change(asked: &HeaderOperations) -> Option<HeaderChange> {
    let name = |name: &String| match is_host(name) {
        true => Some(HOST.to_owned()),
        false => (!name.starts_with(':')).then(|| name.to_ascii_lowercase()),
    };
    let pairs = |map: &ambit_crds::meta::Map| {
        map.iter().filter_map(|(key, value)| Some((name(key)?, value.clone()))).collect()
    };
    let removed = asked.remove.iter().filter_map(name).filter(|name| name != HOST).collect();
    let change = HeaderChange { set: pairs(&asked.set), add: pairs(&asked.add), remove: removed };
    Some(change).filter(|change| *change != HeaderChange::default())
}

/// Faults whose share is nothing are none.
pub(super) fn fault(asked: Option<&Fault>) -> Option<WireFault> {
    let asked = asked?;
    let mut wire = WireFault::default();
    if let Some(delay) = &asked.delay {
        wire.delay_share = delay.share().millionths();
        wire.delay_ms = if wire.delay_share == 0 { 0 } else { millis(delay.fixed_delay) };
    }
    if let Some(abort) = asked.abort.as_ref().filter(|abort| abort.share() != Percent::NONE) {
        wire.abort_share = abort.share().millionths();
        wire.abort_status = abort.http_status.unwrap_or_default();
        wire.abort_grpc = grpc_status(&abort.grpc_status);
    }
    Some(wire).filter(|wire| *wire != WireFault::default())
}

/// The mirrors that exist.
pub(super) fn mirrors(place: &Place<'_>, rule: &Rule<'_>, draft: &mut Draft, wire: &mut HttpRule) {
    let route = &rule.route;
    for (at, (to, share)) in route.copies().enumerate() {
        match action::find(place, &rule.object.namespace, to) {
            Err(why) => {
                let copy = match route.mirror {
                    Some(_) => "mirror".to_owned(),
                    None => format!("mirrors[{at}].destination"),
                };
                let field = format!("http[{}].{copy}.{}", rule.place, why.field);
                let text = format!("{why}; nothing is mirrored there");
                draft.remark(rule.object, Remark::new(why.code, field, text));
            }
            Ok(to) => wire.mirrors.push(Mirror {
                service: to.service,
                subset: to.subset,
                port: to.port,
                share: share.millionths(),
            }),
        }
    }
}

/// Says what of a rule is not obeyed yet.
pub(super) fn remark_not_yet(rule: &Rule<'_>, draft: &mut Draft) {
    let route = &rule.route;
    let retries = route.retries.as_ref();
    let fields = [
        ("corsPolicy", route.cors_policy.is_some()),
        ("match.statPrefix", route.matches.iter().any(|one| !one.stat_prefix.is_empty())),
        (
            "fault.abort.http2Error",
            rule.route
                .fault
                .as_ref()
                .is_some_and(|one| one.abort.as_ref().is_some_and(|abort| !abort.http2_error.is_empty())),
        ),
        (
            "fault.delay.exponentialDelay",
            rule.route
                .fault
                .as_ref()
                .is_some_and(|one| one.delay.as_ref().is_some_and(|delay| delay.exponential_delay.is_some())),
        ),
        ("retries.retryRemoteLocalities", retries.is_some_and(|one| one.retry_remote_localities.is_some())),
    ];
    for (field, _) in fields.into_iter().filter(|(_, used)| *used) {
        draft.not_yet(rule.object, format!("http[{}].{field}", rule.place));
    }
}

/// The number of a gRPC status; 0 for a name that is none.
fn grpc_status(name: &str) -> u32 {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    (0..).zip(NAMES).find(|(_, one)| *one == name).map_or(0, |(number, _)| number)
}
