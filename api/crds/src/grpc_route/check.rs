//! What is wrong with a GRPCRoute beyond the shape of its fields, as Gateway API's own rules see it.

use super::{GrpcMatch, GrpcRouteSpec, GrpcRule, MethodMatch};
use crate::check::{At, Check, Wrong, each, regex};
use crate::gateway_api::check::{at_most, backends, filters, matches, top};
use crate::gateway_api::{Filter, MatchKind};

/// The most rules.
const MAX_RULES: usize = 16;
/// The most matches of one rule.
const MAX_MATCHES: usize = 64;

impl Check for GrpcRouteSpec {
    fn check(&self) -> Result<(), Wrong> {
        top(&self.parent_refs, &self.hostnames, self.use_default_gateways.as_deref())?;
        at_most(&self.rules, MAX_RULES).at("rules")?;
        each("rules", &self.rules, rule)
    }
}

fn rule(rule: &GrpcRule) -> Result<(), Wrong> {
    at_most(&rule.matches, MAX_MATCHES).at("matches")?;
    each("matches", &rule.matches, matching)?;
    known_filters(&rule.filters)?;
    filters(&rule.filters)?;
    each("backendRefs", &rule.backend_refs, |one| known_filters(&one.filters))?;
    backends(&rule.backend_refs)
}

/// gRPC has no redirects, rewrites and origins.
fn known_filters(filters: &[Filter]) -> Result<(), Wrong> {
    each("filters", filters, |filter| {
        let known = matches!(
            filter,
            Filter::RequestHeaders(_) | Filter::ResponseHeaders(_) | Filter::Mirror(_) | Filter::Extension(_)
        );
        if known {
            return Ok(());
        }
        let sentence = "a GRPCRoute has no such filter; write RequestHeaderModifier, ResponseHeaderModifier, \
                        RequestMirror or ExtensionRef";
        Err(Wrong::new(sentence).under("type"))
    })
}

fn matching(one: &GrpcMatch) -> Result<(), Wrong> {
    if let Some(method) = &one.method {
        method_match(method).at("method")?;
    }
    matches(&one.headers, true).map_err(|wrong| wrong.under("headers"))
}

fn method_match(one: &MethodMatch) -> Result<(), Wrong> {
    if one.service.is_none() && one.method.is_none() {
        return Err(Wrong::new("it names nothing; write service, method or both"));
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (field, text, dots) in [("service", &one.service, true), ("method", &one.method, false)] {
        let Some(text) = text else { continue };
        if one.kind == MatchKind::RegularExpression {
            regex(text).at(field)?;
        } else if text.is_empty() || !text.chars().all(|c| word(c) || (dots && c == '.')) {
            let sentence = format!("{text:?} is no name of gRPC; write it as the protocol definition does");
            return Err(Wrong::new(sentence).under(field));
        }
    }
    Ok(())
}
