//! What is wrong with an HTTPRoute beyond the shape of its fields, as Gateway API's own rules see it.

use std::time::Duration;

use super::{HttpMatch, HttpRouteSpec, HttpRule, PathMatch, Timeouts};
use crate::check::{At, Check, Wrong, each, regex};
use crate::gateway_api::check::{at_most, backends, filters, matches, top};
use crate::gateway_api::{Filter, PathModifier};

/// The most rules.
const MAX_RULES: usize = 16;
/// The most matches of one rule.
const MAX_MATCHES: usize = 64;
/// The longest path.
const MAX_PATH: usize = 1024;

impl Check for HttpRouteSpec {
    fn check(&self) -> Result<(), Wrong> {
        top(&self.parent_refs, &self.hostnames, self.use_default_gateways.as_deref())?;
        at_most(&self.rules, MAX_RULES).at("rules")?;
        each("rules", &self.rules, rule)
    }
}

fn rule(rule: &HttpRule) -> Result<(), Wrong> {
    at_most(&rule.matches, MAX_MATCHES).at("matches")?;
    each("matches", &rule.matches, matching)?;
    filters(&rule.filters)?;
    backends(&rule.backend_refs)?;
    let redirects = rule.filters.iter().position(|filter| matches!(filter, Filter::Redirect(_)));
    if let Some(place) = redirects {
        let step = format!("filters[{place}].requestRedirect");
        if !rule.backend_refs.is_empty() {
            let sentence = "a redirect sends no request on; remove it or backendRefs";
            return Err(Wrong::new(sentence).under(&step));
        }
        if rule.filters.iter().any(|filter| matches!(filter, Filter::Rewrite(_))) {
            let sentence = "a redirect and a rewrite cannot stand together; remove one of them";
            return Err(Wrong::new(sentence).under(&step));
        }
    }
    let own = rule.filters.iter().enumerate().map(|(place, filter)| (format!("filters[{place}]"), filter));
    let theirs = rule.backend_refs.iter().enumerate().flat_map(|(backend, one)| {
        let filters = one.filters.iter().enumerate();
        filters.map(move |(place, filter)| (format!("backendRefs[{backend}].filters[{place}]"), filter))
    });
    for (step, filter) in own.chain(theirs) {
        prefix_replacement(rule, filter).at(&step)?;
    }
    timeouts(rule.timeouts.unwrap_or_default()).at("timeouts")?;
    match &rule.retry {
        Some(retry) => each("codes", &retry.codes, |code| status(*code)).at("retry"),
        None => Ok(()),
    }
}

fn matching(one: &HttpMatch) -> Result<(), Wrong> {
    path(&one.path).at("path.value")?;
    matches(&one.headers, true).map_err(|wrong| wrong.under("headers"))?;
    matches(&one.query_params, false).map_err(|wrong| wrong.under("queryParams"))
}

fn path(path: &PathMatch) -> Result<(), Wrong> {
    let text = match path {
        PathMatch::Regex(text) => return regex(text),
        PathMatch::Exact(text) | PathMatch::Prefix(text) => text.as_str(),
    };
    if !text.starts_with('/') {
        return Err(Wrong::new(format!("{text:?} does not begin with /; write the whole path")));
    }
    if text.len() > MAX_PATH {
        return Err(Wrong::new(format!("it is longer than {MAX_PATH} bytes; shorten it")));
    }
    let never = ["//", "/./", "/../", "%2f", "%2F", "#"];
    let dots = text.ends_with("/.") || text.ends_with("/..");
    if dots || never.iter().any(|part| text.contains(part)) {
        let sentence = format!("{text:?} is no normal path; write it without //, dot segments, %2F and #");
        return Err(Wrong::new(sentence));
    }
    Ok(())
}

/// A matched prefix can be replaced only where the one match is by prefix.
fn prefix_replacement(rule: &HttpRule, filter: &Filter) -> Result<(), Wrong> {
    let (field, modifier) = match filter {
        Filter::Redirect(one) => ("requestRedirect.path", &one.path),
        Filter::Rewrite(one) => ("urlRewrite.path", &one.path),
        _ => return Ok(()),
    };
    let by_prefix = matches!(rule.matches.as_slice(), [one] if matches!(one.path, PathMatch::Prefix(_)));
    // Without matches the rule matches the prefix `/`.
    if matches!(modifier, Some(PathModifier::Prefix(_))) && !by_prefix && !rule.matches.is_empty() {
        let sentence =
            "the matched prefix is replaced, so the rule needs one match, by PathPrefix; split the rule";
        return Err(Wrong::new(sentence).under(field));
    }
    Ok(())
}

fn timeouts(timeouts: Timeouts) -> Result<(), Wrong> {
    let (request, attempt) = (timeouts.request, timeouts.backend_request);
    match (request, attempt) {
        (Some(request), Some(attempt)) if request != Duration::ZERO && attempt > request => {
            let sentence = "it is longer than the whole request may take; lower it, or raise request";
            Err(Wrong::new(sentence).under("backendRequest"))
        }
        _ => Ok(()),
    }
}

fn status(code: u16) -> Result<(), Wrong> {
    if (400..600).contains(&code) {
        return Ok(());
    }
    Err(Wrong::new(format!("{code} is no status of an error; write one from 400 to 599")))
}
