//! From a policy's rules to what ztunnels may be sent: ports, waypoints, and the guard against emptiness
//! (policy.md rules 8 and 9).

pub(crate) mod parse;

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_api::identity::Identity;
use ambit_api::policy::{Clause, Match, PolicyAction, Rule, StringMatch};
use ambit_api::wire::security;
use prost::Message as _;

use super::ports::{PodPorts, Ports};

/// Identities of the waypoints that may stand before a pod.
pub(crate) type Waypoints = BTreeSet<Identity>;

/// The rules of a policy that an Authorization can carry, ports still as their author wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// CUSTOM counts as DENY.
    pub(crate) action: PolicyAction,
    /// Never holds an empty clause or match.
    pub(crate) rules: Vec<Rule>,
}

/// The wire form of a policy at some pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    /// Tells forms of one policy apart; made from the rules alone.
    pub(crate) id: Arc<str>,
    /// The rules.
    pub(crate) rules: Vec<security::Rule>,
    /// Ports about which Services disagree.
    pub(crate) ambiguous: BTreeSet<u16>,
}

impl Carried {
    /// What pods with these ports and waypoints are sent.
    pub(crate) fn form(&self, ports: &PodPorts, waypoints: &Waypoints) -> Form {
        let mut rules: Vec<Rule> = self.rules.iter().filter_map(|rule| self.rule(rule, ports)).collect();
        if !waypoints.is_empty() {
            let exact = || waypoints.iter().map(|id| StringMatch::Exact(id.principal().to_owned())).collect();
            match self.action {
                PolicyAction::Allow => rules
                    .push(Rule { clauses: vec![clause(Match { principals: exact(), ..Match::default() })] }),
                PolicyAction::Deny => rules.iter_mut().for_each(|rule| {
                    rule.clauses.push(clause(Match { not_principals: exact(), ..Match::default() }));
                }),
            }
        }
        Form::new(&rules, self.ambiguous(ports))
    }

    /// Whether ports make a difference.
    pub(crate) fn uses_ports(&self) -> bool {
        let matches = self.rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.matches);
        matches
            .into_iter()
            .any(|one| !one.destination_ports.is_empty() || !one.not_destination_ports.is_empty())
    }

    /// One rule with its ports read for these pods; `None` when it must not match at all.
    fn rule(&self, rule: &Rule, ports: &PodPorts) -> Option<Rule> {
        let clauses =
            rule.clauses.iter().map(|clause| self.clause(clause, ports)).collect::<Option<Vec<_>>>()?;
        Some(Rule { clauses: clauses.into_iter().flatten().collect() })
    }

    /// `None`: the rule must not match. `Some(None)`: the clause holds for everything and goes.
    fn clause(&self, clause: &Clause, ports: &PodPorts) -> Option<Option<Clause>> {
        let mut matches = Vec::with_capacity(clause.matches.len());
        for one in &clause.matches {
            let mut one = one.clone();
            match self.action {
                PolicyAction::Allow => {
                    one.destination_ports = ports.allowed(&one.destination_ports);
                    match ports.closed(&one.not_destination_ports) {
                        Ports::Some(not) => one.not_destination_ports = not,
                        // This alternative cannot be judged, so it does not match; others may.
                        Ports::Unknown => continue,
                    }
                }
                PolicyAction::Deny => match ports.closed(&one.destination_ports) {
                    Ports::Some(some) => one.destination_ports = some,
                    Ports::Unknown => one.destination_ports.clear(),
                },
            }
            if one == Match::default() {
                return Some(None);
            }
            matches.push(one);
        }
        if matches.is_empty() { None } else { Some(Some(Clause { matches })) }
    }

    fn ambiguous(&self, ports: &PodPorts) -> BTreeSet<u16> {
        let matches = self.rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.matches);
        matches
            .flat_map(|one| {
                // A DENY's notPorts are always read literally, so nothing is in doubt there.
                let not: &[u16] =
                    if self.action == PolicyAction::Allow { &one.not_destination_ports } else { &[] };
                one.destination_ports.iter().chain(not)
            })
            .copied()
            .filter(|port| ports.is_ambiguous(*port))
            .collect()
    }
}

impl Form {
    /// Encodes rules; two forms are the same exactly when their rules are.
    pub(crate) fn new(rules: &[Rule], ambiguous: BTreeSet<u16>) -> Self {
        let rules: Vec<security::Rule> = rules.iter().map(wire_rule).collect();
        let body: Vec<u8> = rules.iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect();
        Self { id: crate::snapshot::digest(&[&body]).into(), rules, ambiguous }
    }

    /// As a resource of this name and scope.
    pub(crate) fn resource(&self, head: &Head<'_>) -> crate::snapshot::Resource {
        let message = security::Authorization {
            name: head.name.to_owned(),
            namespace: head.namespace.to_owned(),
            scope: head.scope.into(),
            action: wire_action(head.action).into(),
            rules: self.rules.clone(),
            dry_run: head.dry_run,
            extensions: Vec::new(),
        };
        let name = format!("{}/{}", head.namespace, head.name);
        crate::snapshot::Resource::new(name, Vec::new(), message.encode_to_vec().into())
    }
}

/// Everything of an Authorization but its rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) scope: security::Scope,
    pub(crate) action: PolicyAction,
    pub(crate) dry_run: bool,
}

/// A clause with one match.
pub(crate) fn clause(one: Match) -> Clause {
    Clause { matches: vec![one] }
}

fn wire_action(action: PolicyAction) -> security::Action {
    match action {
        PolicyAction::Allow => security::Action::Allow,
        PolicyAction::Deny => security::Action::Deny,
    }
}

fn wire_rule(rule: &Rule) -> security::Rule {
    let clause =
        |clause: &Clause| security::Clause { matches: clause.matches.iter().map(wire_match).collect() };
    security::Rule { clauses: rule.clauses.iter().map(clause).collect() }
}

fn wire_match(one: &Match) -> security::Match {
    let strings = |list: &[StringMatch]| list.iter().map(wire_string).collect::<Vec<_>>();
    let prefixes = |list: &[ipnet::IpNet]| list.iter().map(wire_prefix).collect::<Vec<_>>();
    let ports = |list: &[u16]| list.iter().map(|port| u32::from(*port)).collect::<Vec<_>>();
    let accounts = |list: &[ambit_api::policy::ServiceAccountMatch]| {
        list.iter()
            .map(|account| security::ServiceAccountMatch {
                namespace: account.namespace.clone(),
                service_account: account.service_account.clone(),
            })
            .collect::<Vec<_>>()
    };
    security::Match {
        namespaces: strings(&one.namespaces),
        not_namespaces: strings(&one.not_namespaces),
        principals: strings(&one.principals),
        not_principals: strings(&one.not_principals),
        source_ips: prefixes(&one.source_ips),
        not_source_ips: prefixes(&one.not_source_ips),
        destination_ips: prefixes(&one.destination_ips),
        not_destination_ips: prefixes(&one.not_destination_ips),
        destination_ports: ports(&one.destination_ports),
        not_destination_ports: ports(&one.not_destination_ports),
        service_accounts: accounts(&one.service_accounts),
        not_service_accounts: accounts(&one.not_service_accounts),
        extensions: Vec::new(),
    }
}

fn wire_string(one: &StringMatch) -> security::StringMatch {
    use security::string_match::MatchType;
    let kind = match one {
        StringMatch::Exact(text) => MatchType::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchType::Prefix(text.clone()),
        StringMatch::Suffix(text) => MatchType::Suffix(text.clone()),
        StringMatch::Presence => MatchType::Presence(()),
    };
    security::StringMatch { match_type: Some(kind) }
}

fn wire_prefix(prefix: &ipnet::IpNet) -> security::Address {
    let address = super::names::octets(prefix.addr());
    security::Address { address, length: u32::from(prefix.prefix_len()) }
}

#[cfg(test)]
mod tests;
