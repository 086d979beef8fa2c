//! Whether one rule of a policy matches a connection, and if not, how near it came. Edge cases: l4-protocols §6.1.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::authz::Attributes;
use crate::policy::{Clause, Match, Policy, Rule, ServiceAccountMatch, StringMatch};

/// How near a rule, clause or match came: attributes that matched, those that did not, and the first of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fit<'n> {
    /// Attributes that matched.
    pub(crate) matched: usize,
    /// Attributes that did not.
    pub(crate) missed: usize,
    /// The first that did not, by its Kubernetes name.
    pub(crate) first_missed: Option<&'n str>,
}

/// One attribute of a match: what was asked for, and whether the connection has it.
struct Check {
    name: &'static str,
    holds: bool,
}

impl<'n> Fit<'n> {
    /// Counts one attribute.
    pub(crate) fn count(&mut self, name: &'n str, holds: bool) {
        if holds {
            self.matched += 1;
        } else {
            self.missed += 1;
            self.first_missed = self.first_missed.or(Some(name));
        }
    }

    /// Counts another part of the same rule.
    pub(crate) fn add(&mut self, part: Self) {
        self.matched += part.matched;
        self.missed += part.missed;
        self.first_missed = self.first_missed.or(part.first_missed);
    }
}

/// The nearer of two alternatives; the first of equally near ones, as policies are read in the order they were written.
pub(crate) fn nearer<'n>(best: Fit<'n>, fit: Fit<'n>) -> Fit<'n> {
    let nearness = |fit: &Fit<'_>| (fit.missed == 0, fit.matched, std::cmp::Reverse(fit.missed));
    if nearness(&fit) > nearness(&best) { fit } else { best }
}

/// The place of the first rule that matches.
pub(crate) fn matching_rule(policy: &Policy, attributes: &Attributes) -> Option<usize> {
    policy.rules.iter().position(|rule| {
        rule.clauses.iter().all(|clause| {
            clause.matches.is_empty() || clause.matches.iter().any(|found| matches(found, attributes))
        })
    })
}

/// How near a rule came. Each clause counts with the match that came nearest.
pub(crate) fn fit(rule: &Rule, attributes: &Attributes) -> Fit<'static> {
    let mut sum = Fit::default();
    rule.clauses.iter().for_each(|clause| sum.add(fit_clause(clause, attributes)));
    sum
}

fn fit_clause(clause: &Clause, attributes: &Attributes) -> Fit<'static> {
    clause.matches.iter().map(|found| fit_match(found, attributes)).reduce(nearer).unwrap_or_default()
}

fn fit_match(found: &Match, attributes: &Attributes) -> Fit<'static> {
    let mut fit = Fit::default();
    checks(found, attributes).for_each(|check| fit.count(check.name, check.holds));
    if fit.matched + fit.missed == 0 {
        // Empty, so it never matches; but no attribute is to blame.
        fit.missed = 1;
    }
    fit
}

fn matches(found: &Match, attributes: &Attributes) -> bool {
    let mut any = false;
    checks(found, attributes).all(|check| {
        any = true;
        check.holds
    }) && any
}

/// Every attribute the match asks for, in the order of the Kubernetes object (who, from where, to where). Lazy, so
/// that judging stops at the first that fails.
fn checks<'a>(found: &'a Match, attributes: &'a Attributes) -> impl Iterator<Item = Check> + 'a {
    who(found, attributes).chain(whence(found, attributes)).chain(whither(found, attributes))
}

fn who<'a>(found: &'a Match, attributes: &'a Attributes) -> impl Iterator<Item = Check> + 'a {
    let peer = attributes.peer.as_ref();
    let principal = move |wanted: &StringMatch| peer.is_some_and(|peer| text(wanted, peer.principal()));
    // Plaintext has the empty namespace, which no pattern but an empty one matches.
    let namespace = move |wanted: &StringMatch| text(wanted, peer.map_or("", |peer| peer.namespace()));
    let account = move |wanted: &ServiceAccountMatch| {
        peer.is_some_and(|peer| {
            wanted.namespace == peer.namespace() && wanted.service_account == peer.service_account()
        })
    };
    positive("principals", &found.principals, principal)
        .chain(negative("notPrincipals", &found.not_principals, principal))
        .chain(positive("namespaces", &found.namespaces, namespace))
        .chain(negative("notNamespaces", &found.not_namespaces, namespace))
        .chain(positive("serviceAccounts", &found.service_accounts, account))
        .chain(negative("notServiceAccounts", &found.not_service_accounts, account))
}

fn whence<'a>(found: &'a Match, attributes: &'a Attributes) -> impl Iterator<Item = Check> + 'a {
    let source = within(attributes.source);
    positive("ipBlocks", &found.source_ips, source).chain(negative(
        "notIpBlocks",
        &found.not_source_ips,
        source,
    ))
}

fn whither<'a>(found: &'a Match, attributes: &'a Attributes) -> impl Iterator<Item = Check> + 'a {
    let destination = within(attributes.destination.ip());
    let port = |wanted: &u16| *wanted == attributes.port();
    positive("destination.ip", &found.destination_ips, destination)
        .chain(negative("destination.ip (notValues)", &found.not_destination_ips, destination))
        .chain(positive("ports", &found.destination_ports, port))
        .chain(negative("notPorts", &found.not_destination_ports, port))
}

fn positive<'a, T>(
    name: &'static str,
    wanted: &'a [T],
    hit: impl Fn(&T) -> bool + 'a,
) -> impl Iterator<Item = Check> + 'a {
    let asked = (!wanted.is_empty()).then_some(wanted);
    asked.into_iter().map(move |wanted| Check { name, holds: wanted.iter().any(&hit) })
}

fn negative<'a, T>(
    name: &'static str,
    unwanted: &'a [T],
    hit: impl Fn(&T) -> bool + 'a,
) -> impl Iterator<Item = Check> + 'a {
    let asked = (!unwanted.is_empty()).then_some(unwanted);
    asked.into_iter().map(move |unwanted| Check { name, holds: !unwanted.iter().any(&hit) })
}

/// An IPv4 client of an IPv6 socket appears IPv4-mapped, yet means the IPv4 prefix.
pub(crate) fn within(address: IpAddr) -> impl Fn(&IpNet) -> bool + Copy {
    let address = address.to_canonical();
    move |prefix| prefix.contains(&address)
}

fn text(wanted: &StringMatch, value: &str) -> bool {
    match wanted {
        StringMatch::Exact(exact) => value == exact,
        StringMatch::Prefix(prefix) => value.starts_with(prefix.as_str()),
        StringMatch::Suffix(suffix) => value.ends_with(suffix.as_str()),
        StringMatch::Presence => !value.is_empty(),
    }
}
