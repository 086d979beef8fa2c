//! Which rule a request or connection falls on. Allocates nothing.

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
                let values = request.headers.get_all(&wanted.name).iter().map(|value| value.as_bytes());
                answers(wanted.value.as_ref(), wanted.invert, values)
            })
            && self.query.iter().all(|wanted| {
                let value = parameter(request.query.unwrap_or_default(), &wanted.name);
                answers(wanted.value.as_ref(), wanted.invert, value.into_iter())
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

/// One value suffices, each as it was sent: values that only look alike once joined are no match. Where none may match,
/// an absent one counts as empty.
fn answers<'v>(wanted: Option<&TextMatch>, invert: bool, values: impl Iterator<Item = &'v [u8]>) -> bool {
    let mut values = values.peekable();
    let absent = values.peek().is_none();
    let Some(wanted) = wanted else { return absent == invert };
    let hit = |value: &[u8]| wanted.matches_bytes(value, Case::Sensitive);
    if invert { !((absent && hit(b"")) || values.any(hit)) } else { values.any(hit) }
}

/// The first value of a parameter. Escapes stay: what they mean is for the application to say, and Envoy leaves them too.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q [u8]> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
}
