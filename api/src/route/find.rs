//! Which rule a request or connection falls on. Allocates nothing, unless a parameter of the query has escapes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::parse::is_port;
use super::{Case, Client, HttpMatch, HttpTable, Matched, Request, TcpMatch, TcpRule, TcpTable, TextMatch};

impl HttpTable {
    /// The first rule that matches.
    pub fn find(&self, request: &Request<'_>) -> Option<Matched<'_>> {
        self.rules.iter().enumerate().find_map(|(place, rule)| {
            if rule.matches.is_empty() {
                return Some(Matched { rule, place, by: None, prefix: root(request.path) });
            }
            let by = rule.matches.iter().find(|found| found.matches(request))?;
            Some(Matched { rule, place, by: Some(by), prefix: by.prefix(request.path) })
        })
    }
}

impl TcpTable {
    /// The first rule that matches a connection to `address` and `port`.
    pub fn find(&self, address: IpAddr, port: u16, client: &Client) -> Option<&Arc<TcpRule>> {
        let hit = |found: &TcpMatch| found.matches(address, port, client);
        self.rules.iter().find(|rule| rule.matches.is_empty() || rule.matches.iter().any(hit))
    }
}

impl HttpMatch {
    /// Cheap questions first.
    fn matches(&self, request: &Request<'_>) -> bool {
        let text = |wanted: &Option<TextMatch>, value: &str, case| {
            wanted.as_ref().is_none_or(|wanted| wanted.matches(value, case))
        };
        is_port(self.port, request.port)
            && text(&self.method, request.method.as_str(), Case::Sensitive)
            && text(&self.path, request.path, self.path_case)
            && text(&self.scheme, request.scheme, Case::Sensitive)
            && text(&self.authority, request.authority, Case::Insensitive)
            && is_from(request.client, self.source_namespace.as_deref(), &self.source_labels)
            && self.headers.iter().all(|wanted| {
                let mut values = request.headers.get_all(&wanted.name).iter().map(|value| value.as_bytes());
                let first = values.next();
                answers(
                    wanted.value.as_ref(),
                    wanted.invert,
                    first.map(|first| joined(first, values)).as_deref(),
                )
            })
            && self.query.iter().all(|wanted| {
                let value = parameter(request.query.unwrap_or_default(), &wanted.name);
                answers(wanted.value.as_ref(), wanted.invert, value.as_deref())
            })
    }

    /// How much of the path a rewrite of the prefix replaces.
    fn prefix(&self, path: &str) -> usize {
        match &self.path {
            Some(TextMatch::Prefix(prefix) | TextMatch::Segments(prefix)) => prefix.len(),
            Some(TextMatch::Exact(_) | TextMatch::Regex(_) | TextMatch::Suffix(_)) => path.len(),
            Some(TextMatch::Present) | None => root(path),
        }
    }
}

impl TcpMatch {
    fn matches(&self, address: IpAddr, port: u16, client: &Client) -> bool {
        let address = address.to_canonical();
        is_port(self.port, port)
            && (self.destination_subnets.is_empty()
                || self.destination_subnets.iter().any(|subnet| subnet.contains(&address)))
            && is_from(client, self.source_namespace.as_deref(), &self.source_labels)
    }
}

/// Whether labels contain those that are wanted.
pub(crate) fn contains(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn is_from(client: &Client, namespace: Option<&str>, labels: &BTreeMap<String, String>) -> bool {
    namespace.is_none_or(|wanted| *client.namespace == *wanted) && contains(&client.labels, labels)
}

/// The slash that every path begins with; `*` has none.
fn root(path: &str) -> usize {
    usize::from(path.starts_with('/'))
}

/// An absent value counts as empty where it must not match, and never matches otherwise.
fn answers(wanted: Option<&TextMatch>, invert: bool, value: Option<&[u8]>) -> bool {
    let Some(wanted) = wanted else { return value.is_some() != invert };
    if invert {
        return !wanted.matches_bytes(value.unwrap_or_default(), Case::Sensitive);
    }
    value.is_some_and(|value| wanted.matches_bytes(value, Case::Sensitive))
}

/// A repeated header as one list, which is what it means (RFC 9110 §5.3).
fn joined<'v>(first: &'v [u8], rest: impl Iterator<Item = &'v [u8]>) -> Cow<'v, [u8]> {
    rest.fold(Cow::Borrowed(first), |mut sum, value| {
        let list = sum.to_mut();
        list.push(b',');
        list.extend_from_slice(value);
        sum
    })
}

/// The first value of a parameter, decoded.
fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// Broken escapes stand for themselves.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        Cow::Borrowed(text.as_bytes())
    } else {
        percent_encoding::percent_decode_str(text).into()
    }
}
