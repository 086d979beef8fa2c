//! Policies between wire and model.
//!
//! What cannot be read rejects the whole policy: a part silently left out could widen an ALLOW or narrow a DENY.

use ipnet::IpNet;

use super::{
    Clause, Match, Policy, PolicyAction, PolicyKey, PolicyScope, Rule, ServiceAccountMatch, StringMatch,
};
use crate::invalid::{self, InvalidField, Problem};
use crate::wire::security as wire;

/// Why a policy is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy {key}: {fault}")]
pub struct InvalidPolicy {
    /// The policy's name, as far as it has one.
    pub key: PolicyKey,
    /// The field at fault.
    pub fault: InvalidField,
}

impl TryFrom<wire::Authorization> for Policy {
    type Error = InvalidPolicy;

    fn try_from(wire: wire::Authorization) -> Result<Self, InvalidPolicy> {
        let key = PolicyKey::new(&wire.namespace, &wire.name);
        parse(wire, key.clone()).map_err(|fault| InvalidPolicy { key, fault })
    }
}

fn parse(wire: wire::Authorization, key: PolicyKey) -> Result<Policy, InvalidField> {
    if wire.name.is_empty() {
        return Err(Problem::Missing.of("name"));
    }
    let scope = match wire::Scope::try_from(wire.scope) {
        Ok(wire::Scope::Global) => PolicyScope::Global,
        Ok(wire::Scope::Namespace) => PolicyScope::Namespace,
        Ok(wire::Scope::WorkloadSelector) => PolicyScope::WorkloadSelector,
        Err(_) => return Err(Problem::Value(wire.scope).of("scope")),
    };
    let action = match wire::Action::try_from(wire.action) {
        Ok(wire::Action::Allow) => PolicyAction::Allow,
        Ok(wire::Action::Deny) => PolicyAction::Deny,
        Err(_) => return Err(Problem::Value(wire.action).of("action")),
    };
    let rules = wire.rules.into_iter().enumerate().map(|(place, wire)| {
        rule(wire, action)
            .map_err(|fault| InvalidField { field: format!("rules[{place}].{}", fault.field), ..fault })
    });
    Ok(Policy { key, scope, action, rules: rules.collect::<Result<_, _>>()?, dry_run: wire.dry_run })
}

fn rule(wire: wire::Rule, action: PolicyAction) -> Result<Rule, InvalidField> {
    let clauses = wire.clauses.into_iter().map(|wire| {
        let matches = wire.matches.into_iter().map(|wire| one_match(wire, action));
        Ok(Clause { matches: matches.collect::<Result<_, _>>()? })
    });
    Ok(Rule { clauses: clauses.collect::<Result<_, _>>()? })
}

/// Extensions of a match are constraints that we cannot evaluate: with one, an ALLOW never matches, and a DENY
/// matches whatever the rest of it matches (policy.md rule 17).
fn one_match(wire: wire::Match, action: PolicyAction) -> Result<Match, InvalidField> {
    let extended = !wire.extensions.is_empty();
    let found = Match {
        namespaces: list(&wire.namespaces, "namespaces", string)?,
        not_namespaces: list(&wire.not_namespaces, "not_namespaces", string)?,
        principals: list(&wire.principals, "principals", string)?,
        not_principals: list(&wire.not_principals, "not_principals", string)?,
        service_accounts: list(&wire.service_accounts, "service_accounts", account)?,
        not_service_accounts: list(&wire.not_service_accounts, "not_service_accounts", account)?,
        source_ips: list(&wire.source_ips, "source_ips", prefix)?,
        not_source_ips: list(&wire.not_source_ips, "not_source_ips", prefix)?,
        destination_ips: list(&wire.destination_ips, "destination_ips", prefix)?,
        not_destination_ips: list(&wire.not_destination_ips, "not_destination_ips", prefix)?,
        destination_ports: list(&wire.destination_ports, "destination_ports", port)?,
        not_destination_ports: list(&wire.not_destination_ports, "not_destination_ports", port)?,
    };
    match action {
        PolicyAction::Allow if extended => Ok(Match::default()),
        // Without its only constraint it would never match, which for a DENY is open.
        PolicyAction::Deny if extended && found == Match::default() => {
            Err(Problem::Unsupported("a match of nothing but extensions").of("extensions"))
        }
        PolicyAction::Allow | PolicyAction::Deny => Ok(found),
    }
}

fn list<W, M>(
    wire: &[W],
    field: &'static str,
    item: impl Fn(&W) -> Result<M, Problem>,
) -> Result<Vec<M>, InvalidField> {
    wire.iter().map(item).collect::<Result<_, _>>().map_err(|problem| problem.of(field))
}

fn string(wire: &wire::StringMatch) -> Result<StringMatch, Problem> {
    match wire.match_type.clone().ok_or(Problem::Missing)? {
        wire::string_match::MatchType::Exact(text) => Ok(StringMatch::Exact(text)),
        wire::string_match::MatchType::Prefix(text) => Ok(StringMatch::Prefix(text)),
        wire::string_match::MatchType::Suffix(text) => Ok(StringMatch::Suffix(text)),
        wire::string_match::MatchType::Presence(()) => Ok(StringMatch::Presence),
    }
}

fn account(wire: &wire::ServiceAccountMatch) -> Result<ServiceAccountMatch, Problem> {
    if wire.namespace.is_empty() || wire.service_account.is_empty() {
        return Err(Problem::Missing);
    }
    Ok(ServiceAccountMatch {
        namespace: wire.namespace.clone(),
        service_account: wire.service_account.clone(),
    })
}

fn prefix(wire: &wire::Address) -> Result<IpNet, Problem> {
    invalid::prefix(&wire.address, wire.length)
}

fn port(wire: &u32) -> Result<u16, Problem> {
    invalid::port(*wire)
}

impl From<&Policy> for wire::Authorization {
    fn from(model: &Policy) -> Self {
        let scope = match model.scope {
            PolicyScope::Global => wire::Scope::Global,
            PolicyScope::Namespace => wire::Scope::Namespace,
            PolicyScope::WorkloadSelector => wire::Scope::WorkloadSelector,
        };
        let action = match model.action {
            PolicyAction::Allow => wire::Action::Allow,
            PolicyAction::Deny => wire::Action::Deny,
        };
        Self {
            name: model.key.name.to_string(),
            namespace: model.key.namespace.to_string(),
            scope: scope.into(),
            action: action.into(),
            rules: model.rules.iter().map(Into::into).collect(),
            dry_run: model.dry_run,
            extensions: Vec::new(),
        }
    }
}

impl From<&Rule> for wire::Rule {
    fn from(model: &Rule) -> Self {
        Self { clauses: model.clauses.iter().map(Into::into).collect() }
    }
}

impl From<&Clause> for wire::Clause {
    fn from(model: &Clause) -> Self {
        Self { matches: model.matches.iter().map(Into::into).collect() }
    }
}

impl From<&Match> for wire::Match {
    fn from(model: &Match) -> Self {
        fn all<M, W: for<'a> From<&'a M>>(model: &[M]) -> Vec<W> {
            model.iter().map(Into::into).collect()
        }
        let prefixes = |model: &[IpNet]| model.iter().map(prefix_to_wire).collect();
        let ports = |model: &[u16]| model.iter().map(|port| u32::from(*port)).collect();
        Self {
            namespaces: all(&model.namespaces),
            not_namespaces: all(&model.not_namespaces),
            principals: all(&model.principals),
            not_principals: all(&model.not_principals),
            source_ips: prefixes(&model.source_ips),
            not_source_ips: prefixes(&model.not_source_ips),
            destination_ips: prefixes(&model.destination_ips),
            not_destination_ips: prefixes(&model.not_destination_ips),
            destination_ports: ports(&model.destination_ports),
            not_destination_ports: ports(&model.not_destination_ports),
            service_accounts: all(&model.service_accounts),
            not_service_accounts: all(&model.not_service_accounts),
            extensions: Vec::new(),
        }
    }
}

fn prefix_to_wire(model: &IpNet) -> wire::Address {
    wire::Address { address: invalid::bytes(model.addr()), length: model.prefix_len().into() }
}

impl From<&StringMatch> for wire::StringMatch {
    fn from(model: &StringMatch) -> Self {
        let match_type = match model {
            StringMatch::Exact(text) => wire::string_match::MatchType::Exact(text.clone()),
            StringMatch::Prefix(text) => wire::string_match::MatchType::Prefix(text.clone()),
            StringMatch::Suffix(text) => wire::string_match::MatchType::Suffix(text.clone()),
            StringMatch::Presence => wire::string_match::MatchType::Presence(()),
        };
        Self { match_type: Some(match_type) }
    }
}

impl From<&ServiceAccountMatch> for wire::ServiceAccountMatch {
    fn from(model: &ServiceAccountMatch) -> Self {
        Self { namespace: model.namespace.clone(), service_account: model.service_account.clone() }
    }
}
