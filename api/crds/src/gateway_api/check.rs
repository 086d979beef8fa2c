//! Checks that HTTPRoute and GRPCRoute share.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};

use super::{Backend, BackendObject, Filter, HeaderModifier, MatchKind, NamedMatch, ParentRef};
use crate::check::{At, Wrong, each, header_name, host, regex};

/// The most parents, and the most hostnames; filters and backends of one rule; rules.
const MAX_PARENTS: usize = 32;
const MAX_HOSTNAMES: usize = 16;
const MAX_IN_RULE: usize = 16;

pub(crate) fn top(parents: &[ParentRef], hostnames: &[String], scope: Option<&str>) -> Result<(), Wrong> {
    at_most(parents, MAX_PARENTS).at("parentRefs")?;
    each("parentRefs", parents, |one| named(&one.name))?;
    one_of(scope, &["All", "None"]).at("useDefaultGateways")?;
    at_most(hostnames, MAX_HOSTNAMES).at("hostnames")?;
    each("hostnames", hostnames, |name| hostname(name))
}

/// A value that is one of a few.
pub(crate) fn one_of(value: Option<&str>, known: &[&str]) -> Result<(), Wrong> {
    match value {
        Some(value) if !known.contains(&value) => {
            Err(Wrong::new(format!("unknown value {value:?}; write one of {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

/// A DNS name in lower case, no address.
pub(crate) fn hostname(name: &str) -> Result<(), Wrong> {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(Wrong::new(format!("{name:?} is an address; write a DNS name")));
    }
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(Wrong::new(format!(
            "{name:?} has upper-case letters; write {:?}",
            name.to_ascii_lowercase()
        )));
    }
    host(name)
}

pub(crate) fn at_most<T>(items: &[T], most: usize) -> Result<(), Wrong> {
    if items.len() <= most {
        return Ok(());
    }
    Err(Wrong::new(format!("{} entries, at most {most} are allowed; split the object", items.len())))
}

fn named(name: &str) -> Result<(), Wrong> {
    if name.is_empty() { Err(Wrong::new("it is empty; write the name").under("name")) } else { Ok(()) }
}

/// Headers or parameters to compare; each once.
pub(crate) fn matches(items: &[NamedMatch], headers: bool) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for (place, one) in items.iter().enumerate() {
        let step = format!("[{place}]");
        let name = if headers { one.name.to_ascii_lowercase() } else { one.name.clone() };
        header_name(&one.name).at("name").at(&step)?;
        if one.kind == MatchKind::RegularExpression {
            regex(&one.value).at("value").at(&step)?;
        }
        if !seen.insert(name) {
            let sentence = format!("{:?} is there twice; keep one of them", one.name);
            return Err(Wrong::new(sentence).under("name").under(&step));
        }
    }
    Ok(())
}

pub(crate) fn backends(backends: &[Backend]) -> Result<(), Wrong> {
    at_most(backends, MAX_IN_RULE).at("backendRefs")?;
    each("backendRefs", backends, |one| {
        backend(&one.object)?;
        if one.weight > 1_000_000 {
            return Err(
                Wrong::new(format!("{} is too large; write at most 1000000", one.weight)).under("weight")
            );
        }
        filters(&one.filters)
    })
}

pub(crate) fn backend(one: &BackendObject) -> Result<(), Wrong> {
    named(&one.name)?;
    if one.group.is_empty() && one.kind == "Service" && one.port.is_none() {
        return Err(Wrong::new("a Service needs a port; write its number").under("port"));
    }
    Ok(())
}

/// Filters of a rule or a backend.
pub(crate) fn filters(filters: &[Filter]) -> Result<(), Wrong> {
    at_most(filters, MAX_IN_RULE).at("filters")?;
    let mut seen: Vec<Discriminant<Filter>> = Vec::new();
    for (place, filter) in filters.iter().enumerate() {
        let step = format!("filters[{place}]");
        let once = !matches!(filter, Filter::Mirror(_) | Filter::Extension(_));
        if once && seen.contains(&discriminant(filter)) {
            return Err(Wrong::new("there are two of this type; merge them").under("type").under(&step));
        }
        seen.push(discriminant(filter));
        match filter {
            Filter::RequestHeaders(one) => header_changes(one).at("requestHeaderModifier"),
            Filter::ResponseHeaders(one) => header_changes(one).at("responseHeaderModifier"),
            Filter::Mirror(one) => backend(&one.backend).at("requestMirror.backendRef"),
            Filter::ExternalAuth(one) => {
                one_of(Some(&one.protocol), &["HTTP", "GRPC"]).at("externalAuth.protocol")?;
                backend(&one.backend_ref).at("externalAuth.backendRef")
            }
            Filter::Redirect(one) => redirect(one).at("requestRedirect"),
            Filter::Rewrite(one) => {
                one.hostname.as_deref().map_or(Ok(()), hostname).at("urlRewrite.hostname")
            }
            Filter::Cors(_) | Filter::Extension(_) => Ok(()),
        }
        .at(&step)?;
    }
    Ok(())
}

fn redirect(one: &super::Redirect) -> Result<(), Wrong> {
    one_of(one.scheme.as_deref(), &["http", "https"]).at("scheme")?;
    one.hostname.as_deref().map_or(Ok(()), hostname).at("hostname")?;
    match one.status_code {
        Some(code) if !matches!(code, 301 | 302 | 303 | 307 | 308) => {
            let sentence = format!("{code} is no redirect; write 301, 302, 303, 307 or 308");
            Err(Wrong::new(sentence).under("statusCode"))
        }
        _ => Ok(()),
    }
}

fn header_changes(one: &HeaderModifier) -> Result<(), Wrong> {
    for (field, list) in [("set", &one.set), ("add", &one.add)] {
        at_most(list, MAX_IN_RULE).at(field)?;
        each(field, list, |header| header_name(&header.name).at("name"))?;
    }
    at_most(&one.remove, MAX_IN_RULE).at("remove")?;
    each("remove", &one.remove, |name| header_name(name))
}
