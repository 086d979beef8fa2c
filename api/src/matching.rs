//! Whether one rule of a policy matches a connection, and if not, how near it came. Edge cases: l4-protocols §6.1.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::authz::Attributes;
use crate::policy::{Clause, Match, Policy, Rule, ServiceAccountMatch, StringMatch};

/// How near a rule, clause or match came: attributes that matched, those that did not, and the first of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Attributes that matched.
    pub(crate) matched: usize,
    /// Attributes that did not.
    pub(crate) missed: usize,
    /// The first that did not, by its Kubernetes name.
    pub(crate) first_missed: Option<&'static str>,
}

/// One attribute of a match: what was asked for, and whether the connection has it.
struct Check {
    name: &'static str,
    holds: bool,
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
pub(crate) fn fit(rule: &Rule, attributes: &Attributes) -> Fit {
    rule.clauses.iter().fold(Fit::default(), |sum, clause| {
        let clause = fit_clause(clause, attributes);
        Fit {
            matched: sum.matched + clause.matched,
            missed: sum.missed + clause.missed,
            first_missed: sum.first_missed.or(clause.first_missed),
        }
    })
}

fn fit_clause(clause: &Clause, attributes: &Attributes) -> Fit {
    let fits = clause.matches.iter().map(|found| fit_match(found, attributes));
    // The first of equally near ones: a clause is read in the order it was written.
    let nearest = fits.reduce(|best, fit| {
        let nearness = |fit: &Fit| (fit.missed == 0, fit.matched, std::cmp::Reverse(fit.missed));
        if nearness(&fit) > nearness(&best) { fit } else { best }
    });
    nearest.unwrap_or_default()
}

fn fit_match(found: &Match, attributes: &Attributes) -> Fit {
    let mut fit = Fit::default();
    for check in checks(found, attributes) {
        if check.holds {
            fit.matched += 1;
        } else {
            fit.missed += 1;
            fit.first_missed = fit.first_missed.or(Some(check.name));
        }
    }
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
fn within(address: IpAddr) -> impl Fn(&IpNet) -> bool + Copy {
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
