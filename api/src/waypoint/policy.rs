//! A policy as waypoints hold it: everything an AuthorizationPolicy can say, compiled once. Source:
//! `ambit.waypoint.Policy`. The evaluation lives in [`crate::authz::http`].

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use crate::policy::{PolicyKey, ServiceAccountMatch};
use crate::route::TextMatch;

mod parse;
mod path;
#[cfg(test)]
mod tests;

pub use path::PathMatch;

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unique name.
    pub key: PolicyKey,
    /// What it does.
    pub action: Action,
    /// Counted and logged, never enforced.
    pub dry_run: bool,
    /// Any suffices; without rules it never matches.
    pub rules: Vec<Rule>,
    /// It was never valid: it denies all.
    pub closed: bool,
    /// Whom [`Action::Custom`] asks.
    pub provider: Option<Arc<str>>,
}

/// What a matching policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Allows; its presence denies what no ALLOW matches.
    Allow,
    /// Denies.
    Deny,
    /// Marks for the log.
    Audit,
    /// Lets somebody else decide; nobody is asked yet, so it denies.
    Custom,
}

/// One source, one operation and every condition must match; an empty list matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Sources, any of.
    pub from: Vec<Group>,
    /// Operations, any of.
    pub to: Vec<Group>,
    /// Conditions, all of.
    pub when: Group,
}

/// Terms that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group(pub Vec<Term>);

/// What is asked of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The attribute, as the AuthorizationPolicy calls it (`notPaths`, `request.headers[user-agent]`).
    pub name: Arc<str>,
    /// None of the values may match, instead of any.
    pub negated: bool,
    /// The attribute and its values.
    pub asked: Asked,
}

/// An attribute and the values that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The peer's identity without `spiffe://`.
    Principals(Vec<TextMatch>),
    /// The peer's namespace.
    Namespaces(Vec<TextMatch>),
    /// The peer's service account.
    ServiceAccounts(Vec<ServiceAccountMatch>),
    /// The peer's trust domain.
    TrustDomains(Vec<TextMatch>),
    /// The peer's address.
    SourceIps(Vec<IpNet>),
    /// The address of the first sender, as trusted headers tell it.
    RemoteIps(Vec<IpNet>),
    /// The address dialled, or the pod's.
    DestinationIps(Vec<IpNet>),
    /// The port dialled, or the pod's.
    Ports(Vec<u16>),
    /// The host, in any case of letters, with or without its port.
    Hosts(Vec<TextMatch>),
    /// The method.
    Methods(Vec<TextMatch>),
    /// The normalised path without the query.
    Paths(Vec<PathMatch>),
    /// One header.
    Header(HeaderName, Vec<TextMatch>),
    /// Nothing that this proxy can evaluate: with it an ALLOW does not match, and a DENY does.
    Unknown,
}

/// A value with the wildcards of policies: `*` any that is not empty, `x*`, `*x`, else as it stands.
pub(crate) fn wildcard(text: &str) -> TextMatch {
    if text == "*" {
        return TextMatch::Present;
    }
    match (text.strip_suffix('*'), text.strip_prefix('*')) {
        (Some(prefix), _) => TextMatch::Prefix(prefix.to_owned()),
        (None, Some(suffix)) => TextMatch::Suffix(suffix.to_owned()),
        (None, None) => TextMatch::Exact(text.to_owned()),
    }
}
