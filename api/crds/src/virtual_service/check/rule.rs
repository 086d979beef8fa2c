//! One rule for HTTP: its actions against one another, its matches and its header changes.

use super::super::{Delay, Fault, Headers, HttpMatch, HttpRoute, Redirect, Retry, Rewrite};
use super::{destination, gateway, weights};
use crate::check::{At, Wrong, at_least_a_millisecond, each, header_name, labels, percent, regex};
use crate::value::StringMatch;

/// What `retryOn` may name, besides statuses.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// The statuses of gRPC in the order of their numbers.
const GRPC_STATUSES: [&str; 17] = [
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

pub(super) fn check(rule: &HttpRoute, delegated: bool) -> Result<(), Wrong> {
    actions(rule, delegated)?;
    each("match", &rule.matches, matching)?;
    if let Some(headers) = &rule.headers {
        header_changes(headers).at("headers")?;
    }
    each("route", &rule.route, |one| {
        destination(&one.destination).at("destination")?;
        one.headers.as_ref().map_or(Ok(()), header_changes).at("headers")
    })?;
    weights(rule.route.iter().map(|one| one.weight))?;
    if let Some(redirect) = &rule.redirect {
        check_redirect(redirect, rule).at("redirect")?;
    }
    if let Some(answer) = &rule.direct_response {
        status(answer.status, 200).at("directResponse.status")?;
    }
    if let Some(rewrite) = &rule.rewrite {
        check_rewrite(rewrite).at("rewrite")?;
    }
    at_least_a_millisecond(rule.timeout).at("timeout")?;
    if let Some(retry) = &rule.retries {
        check_retry(retry).at("retries")?;
    }
    if let Some(fault) = &rule.fault {
        check_fault(fault).at("fault")?;
    }
    mirrors(rule)?;
    cors(rule)
}

/// Which of them may stand together.
fn actions(rule: &HttpRoute, delegated: bool) -> Result<(), Wrong> {
    let set = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("directResponse", rule.direct_response.is_some()),
        ("delegate", rule.delegate.is_some()),
    ];
    let mut set = set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name);
    let first = set.next();
    if let (Some(first), Some(second)) = (first, set.next()) {
        return Err(Wrong::new(format!("both {first} and {second} are set; keep one of them")).under(second));
    }
    let answers = match first {
        None => return Err(Wrong::new("it does nothing; set route, redirect, directResponse or delegate")),
        Some("delegate") if delegated => {
            return Err(
                Wrong::new("rules without hosts cannot be delegated on; write route").under("delegate")
            );
        }
        Some(name @ ("redirect" | "directResponse")) => name,
        Some(_) => return Ok(()),
    };
    let forbidden = [
        ("fault", rule.fault.is_some()),
        ("rewrite", rule.rewrite.is_some()),
        ("mirror", rule.mirror.is_some()),
        ("mirrors", !rule.mirrors.is_empty()),
    ];
    match forbidden.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => {
            let sentence =
                format!("{answers} sends no request on, so this has no meaning; remove one of them");
            Err(Wrong::new(sentence).under(field))
        }
        None => Ok(()),
    }
}

fn matching(one: &HttpMatch) -> Result<(), Wrong> {
    let texts =
        [("uri", &one.uri), ("scheme", &one.scheme), ("method", &one.method), ("authority", &one.authority)];
    for (field, text) in texts {
        if let Some(text) = text {
            string_match(text).at(field)?;
        }
    }
    for (field, map) in [("headers", &one.headers), ("withoutHeaders", &one.without_headers)] {
        for (name, text) in map {
            // A claim of a token in brackets or behind dots is no header, and is no header's name either.
            if !name.starts_with('@') {
                header_name(name).at(name).at(field)?;
            }
            string_match(text).at(name).at(field)?;
        }
    }
    for (name, text) in &one.query_params {
        string_match(text).at(name).at("queryParams")?;
    }
    each("gateways", &one.gateways, |name| gateway(name))?;
    labels(&one.source_labels).at("sourceLabels")
}

fn string_match(text: &StringMatch) -> Result<(), Wrong> {
    match text {
        // The expression for presence, which is no expression.
        StringMatch::Regex(text) if text == "*" => Ok(()),
        StringMatch::Regex(text) => regex(text).at("regex"),
        StringMatch::Prefix(text) if text.is_empty() => {
            Err(Wrong::new("an empty prefix matches everything; write the prefix, or remove the match")
                .under("prefix"))
        }
        _ => Ok(()),
    }
}

fn header_changes(headers: &Headers) -> Result<(), Wrong> {
    for (field, changes) in [("request", &headers.request), ("response", &headers.response)] {
        for (verb, map) in [("set", &changes.set), ("add", &changes.add)] {
            for name in map.keys() {
                header_name(name.strip_prefix(':').unwrap_or(name)).at(name).at(verb).at(field)?;
            }
        }
        each("remove", &changes.remove, |name| header_name(name)).at(field)?;
    }
    Ok(())
}

fn check_redirect(redirect: &Redirect, rule: &HttpRoute) -> Result<(), Wrong> {
    if redirect.port.is_some() && redirect.derive_port.is_some() {
        return Err(Wrong::new("both port and derivePort are set; keep one of them").under("derivePort"));
    }
    let code = redirect.redirect_code.unwrap_or(301);
    if !matches!(code, 301 | 302 | 303 | 307 | 308) {
        let sentence = format!("{code} is no redirect; write 301, 302, 303, 307 or 308");
        return Err(Wrong::new(sentence).under("redirectCode"));
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        return Err(Wrong::new("unknown scheme; write http or https").under("scheme"));
    }
    if redirect.prefix_rewrite.is_empty() {
        return Ok(());
    }
    if !redirect.uri.is_empty() {
        return Err(Wrong::new("both uri and prefixRewrite are set; keep one of them").under("prefixRewrite"));
    }
    let by_prefix = |one: &HttpMatch| matches!(one.uri, Some(StringMatch::Prefix(_)));
    if rule.matches.is_empty() || !rule.matches.iter().all(by_prefix) {
        let sentence = "it replaces a matched prefix; every match must have uri.prefix";
        return Err(Wrong::new(sentence).under("prefixRewrite"));
    }
    Ok(())
}

fn check_rewrite(rewrite: &Rewrite) -> Result<(), Wrong> {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        return Err(Wrong::new("it changes nothing; set uri, uriRegexRewrite or authority"));
    }
    let Some(by_regex) = &rewrite.uri_regex_rewrite else {
        return Ok(());
    };
    if !rewrite.uri.is_empty() {
        return Err(
            Wrong::new("both uri and uriRegexRewrite are set; keep one of them").under("uriRegexRewrite")
        );
    }
    if by_regex.pattern.is_empty() {
        return Err(Wrong::new("the expression is missing; write match").under("uriRegexRewrite.match"));
    }
    regex(&by_regex.pattern).at("uriRegexRewrite.match")
}

pub(crate) fn check_retry(retry: &Retry) -> Result<(), Wrong> {
    let details = !retry.retry_on.is_empty()
        || retry.per_try_timeout.is_some()
        || retry.retry_remote_localities.is_some();
    if retry.attempts == 0 && details {
        return Err(
            Wrong::new("it is 0 or absent, so nothing else here counts; write how often").under("attempts")
        );
    }
    at_least_a_millisecond(retry.per_try_timeout).at("perTryTimeout")?;
    at_least_a_millisecond(retry.backoff).at("backoff")?;
    for token in retry.retry_on.split(',').map(str::trim) {
        let known = token.is_empty() && retry.retry_on.is_empty()
            || RETRY_ON.contains(&token)
            || token.parse::<u16>().is_ok_and(|status| (100..600).contains(&status));
        if !known {
            let mend = match crate::document::suggest(token, RETRY_ON.into_iter()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are statuses and {}", RETRY_ON.join(", ")),
            };
            return Err(Wrong::new(format!("unknown condition {token:?}; {mend}")).under("retryOn"));
        }
    }
    Ok(())
}

fn check_fault(fault: &Fault) -> Result<(), Wrong> {
    if fault.delay.is_none() && fault.abort.is_none() {
        return Err(Wrong::new("it does nothing; set delay or abort"));
    }
    if let Some(delay) = &fault.delay {
        check_delay(delay).at("delay")?;
    }
    let Some(abort) = &fault.abort else {
        return Ok(());
    };
    let kinds = [abort.http_status.is_some(), !abort.grpc_status.is_empty(), !abort.http2_error.is_empty()];
    if kinds.into_iter().filter(|set| *set).count() != 1 {
        return Err(Wrong::new("exactly one answer is wanted; set httpStatus or grpcStatus").under("abort"));
    }
    if let Some(code) = abort.http_status {
        status(code, 200).at("abort.httpStatus")?;
    }
    let grpc = abort.grpc_status.as_str();
    let numbered = grpc.parse::<usize>().is_ok_and(|number| number < GRPC_STATUSES.len());
    if !grpc.is_empty() && !numbered && !GRPC_STATUSES.contains(&grpc) {
        let sentence = format!("{grpc:?} is no status of gRPC; write one of {}", GRPC_STATUSES.join(", "));
        return Err(Wrong::new(sentence).under("abort.grpcStatus"));
    }
    Ok(())
}

fn check_delay(delay: &Delay) -> Result<(), Wrong> {
    if delay.fixed_delay.is_some() == delay.exponential_delay.is_some() {
        return Err(Wrong::new("it does not say how long; set fixedDelay").under("fixedDelay"));
    }
    at_least_a_millisecond(delay.fixed_delay).at("fixedDelay")?;
    at_least_a_millisecond(delay.exponential_delay).at("exponentialDelay")?;
    percent(delay.percent).at("percent")
}

fn mirrors(rule: &HttpRoute) -> Result<(), Wrong> {
    if rule.mirror.is_some() && !rule.mirrors.is_empty() {
        return Err(Wrong::new("both mirror and mirrors are set; keep mirrors").under("mirror"));
    }
    percent(rule.mirror_percent).at("mirrorPercent")?;
    if let Some(mirror) = &rule.mirror {
        destination(mirror).at("mirror")?;
    }
    each("mirrors", &rule.mirrors, |one| destination(&one.destination).at("destination"))
}

fn cors(rule: &HttpRoute) -> Result<(), Wrong> {
    let Some(cors) = &rule.cors_policy else {
        return Ok(());
    };
    let check = || {
        each("allowOrigins", &cors.allow_origins, string_match)?;
        each("allowHeaders", &cors.allow_headers, |name| header_name(name))?;
        each("exposeHeaders", &cors.expose_headers, |name| header_name(name))?;
        at_least_a_millisecond(cors.max_age).at("maxAge")
    };
    check().at("corsPolicy")
}

fn status(code: u32, least: u32) -> Result<(), Wrong> {
    if (least..600).contains(&code) {
        return Ok(());
    }
    Err(Wrong::new(format!("{code} is no status of an answer; write one from {least} to 599")))
}
