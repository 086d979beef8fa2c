//! What rules do with requests: weights, times, retries, paths. Each rule for itself.

use ambit_crds::code::Code;
use ambit_crds::http_route::HttpRoute as GatewayRoute;
use ambit_crds::value::StringMatch;
use ambit_crds::virtual_service::{HttpRoute, VirtualService};

use super::{Report, pattern};

/// The sum that people mean.
const WHOLE: u64 = 100;
/// Methods whose requests may do twice what was asked once.
const UNSAFE: [&str; 2] = ["POST", "PATCH"];
/// Conditions under which a request is sent again that may have been obeyed already.
const AFTER_SENDING: [&str; 6] =
    ["5xx", "gateway-error", "reset", "retriable-status-codes", "retriable-4xx", "retriable-headers"];

pub(super) fn of_virtual_service(one: &VirtualService, report: &mut Report) {
    for (at, rule) in one.spec.http.iter().enumerate() {
        let field = format!("spec.http[{at}]");
        weights(&field, rule.route.iter().map(|route| route.weight), report);
        times(&field, rule, report);
        retries(&field, rule, report);
        paths(&field, rule, report);
    }
    for (list, at, weights_of) in one
        .spec
        .tcp
        .iter()
        .enumerate()
        .map(|(at, rule)| ("tcp", at, &rule.route))
        .chain(one.spec.tls.iter().enumerate().map(|(at, rule)| ("tls", at, &rule.route)))
    {
        weights(&format!("spec.{list}[{at}]"), weights_of.iter().map(|route| route.weight), report);
    }
}

/// Weights are shares of their sum, whatever it is; authors who count in percents have slipped if it is not a hundred.
fn weights(field: &str, weights: impl ExactSizeIterator<Item = u32>, report: &mut Report) {
    let count = weights.len();
    let sum: u64 = weights.map(u64::from).sum();
    if count > 1 && sum != WHOLE && sum > 0 {
        let message = format!("the weights sum to {sum}; each counts as its share of that");
        report.warning(Code::Weights, &format!("{field}.route"), message, "make the weights sum to 100");
    } else if count == 1 && sum != WHOLE && sum > 0 {
        let message = format!("the only destination gets everything, not {sum} of 100");
        let mend = "add the destination of the others, or remove the weight";
        report.warning(Code::Weights, &format!("{field}.route[0].weight"), message, mend);
    }
}

fn times(field: &str, rule: &HttpRoute, report: &mut Report) {
    let one_try = rule.retries.as_ref().and_then(|retries| retries.per_try_timeout);
    if let (Some(whole), Some(one_try)) = (rule.timeout, one_try)
        && whole < one_try
        && !whole.is_zero()
    {
        let message = format!("one try may take {one_try:?}, and the whole request only {whole:?}");
        let field = format!("{field}.retries.perTryTimeout");
        report.warning(Code::Timeouts, &field, message, "make it shorter than timeout");
    }
    let delay =
        rule.fault.as_ref().and_then(|fault| fault.delay.as_ref()).and_then(|delay| delay.fixed_delay);
    if let (Some(whole), Some(delay)) = (rule.timeout, delay)
        && whole <= delay
        && !whole.is_zero()
    {
        let message = format!("delayed requests wait {delay:?}, and the timeout of {whole:?} ends them");
        report.note(Code::Timeouts, &format!("{field}.fault.delay.fixedDelay"), message, "shorten the delay");
    }
}

fn retries(field: &str, rule: &HttpRoute, report: &mut Report) {
    let Some(retries) = rule.retries.as_ref().filter(|retries| retries.attempts > 0) else { return };
    let mut tokens = retries.retry_on.split(',').map(str::trim);
    let Some(risky) = tokens.find(|token| AFTER_SENDING.contains(token) || token.parse::<u16>().is_ok())
    else {
        return;
    };
    let named =
        |one: &StringMatch| matches!(one, StringMatch::Exact(method) if UNSAFE.contains(&method.as_str()));
    let explicit = rule.matches.iter().any(|one| one.method.as_ref().is_some_and(named));
    let any = rule.matches.is_empty() || rule.matches.iter().any(|one| one.method.is_none());
    let field = format!("{field}.retries.retryOn");
    let mend =
        "retry connect-failure and refused-stream only, or part these methods into a rule without retries";
    let message = format!("{risky:?} sends a request again that may have been obeyed, a POST as well");
    if explicit {
        report.warning(Code::RetriesUnsafe, &field, message, mend);
    } else if any {
        report.note(Code::RetriesUnsafe, &field, message, mend);
    }
}

fn paths(field: &str, rule: &HttpRoute, report: &mut Report) {
    for (place, one) in rule.matches.iter().enumerate() {
        let Some(StringMatch::Exact(path) | StringMatch::Prefix(path)) = &one.uri else { continue };
        if let Some((why, mend)) = pattern::path(path).filter(|_| !path.starts_with('*')) {
            let field = format!("{field}.match[{place}].uri");
            report.warning(
                Code::PatternNeverMatches,
                &field,
                format!("{why}, so the condition is never met"),
                mend,
            );
        }
    }
}

pub(super) fn of_http_route(one: &GatewayRoute, report: &mut Report) {
    for (at, rule) in one.spec.rules.iter().enumerate() {
        if !rule.backend_refs.is_empty() && rule.backend_refs.iter().all(|backend| backend.weight == 0) {
            let message = "every weight is 0, so its requests get 500".to_owned();
            let field = format!("spec.rules[{at}].backendRefs");
            report.error(Code::Weights, &field, message, "give at least one backend a weight");
        }
    }
}
