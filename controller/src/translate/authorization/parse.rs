//! AuthorizationPolicy → the part of it that an Authorization can carry (policy.md rule 9).
//!
//! What is left out always closes: an ALLOW rule goes as a whole, a DENY loses the attribute and so denies more.

use std::collections::BTreeSet;

use ambit_api::identity::TrustDomain;
use ambit_api::policy::{Clause, Match, PolicyAction, Rule, StringMatch};
use ambit_crds::authorization_policy::{
    self as crd, Action, Condition, ConditionKey, Operation, Source, Values,
};

use super::{Carried, clause};

/// The mesh's trust domain under all its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustDomains {
    pub(crate) own: TrustDomain,
    pub(crate) aliases: Vec<TrustDomain>,
}

/// A policy after reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) carried: Carried,
    /// Attributes that only a waypoint can judge, by their name in the policy.
    pub(crate) beyond: BTreeSet<String>,
}

/// One source, operation or condition.
#[derive(Debug, Default)]
struct Term {
    one: Match,
    /// Principals of the trust domains asked for, to hold besides `one.principals`.
    domains: Vec<StringMatch>,
    beyond: Vec<String>,
}

/// Reads a policy; `None` for AUDIT, which denies nothing.
pub(crate) fn read(policy: &crd::AuthorizationPolicy, domains: &TrustDomains) -> Option<Read> {
    let action = match policy.spec.action {
        Action::Allow => PolicyAction::Allow,
        Action::Deny | Action::Custom { .. } => PolicyAction::Deny,
        Action::Audit => return None,
    };
    let mut beyond = BTreeSet::new();
    let rules =
        policy.spec.rules.iter().flat_map(|rule| read_rule(rule, action, domains, &mut beyond)).collect();
    Some(Read { carried: Carried { action, rules }, beyond })
}

/// What stands in for a policy of which no version was ever valid: it denies everything it covers.
pub(crate) fn closed() -> Read {
    let carried = Carried { action: PolicyAction::Deny, rules: vec![Rule::default()] };
    Read { carried, beyond: BTreeSet::new() }
}

fn read_rule(
    rule: &crd::Rule,
    action: PolicyAction,
    domains: &TrustDomains,
    beyond: &mut BTreeSet<String>,
) -> Vec<Rule> {
    let from: Vec<Term> = rule.from.iter().map(|one| source(one, domains)).collect();
    let to: Vec<Term> = rule.to.iter().map(operation).collect();
    let when: Vec<Term> = rule.when.iter().map(|one| condition(one, domains)).collect();
    let names: BTreeSet<String> =
        from.iter().chain(&to).chain(&when).flat_map(|term| term.beyond.clone()).collect();
    let is_left_out = action == PolicyAction::Allow && !names.is_empty();
    beyond.extend(names);
    if is_left_out {
        return Vec::new();
    }
    let rest: Vec<Clause> = alternatives(to)
        .into_iter()
        .chain(when.into_iter().flat_map(|term| alternatives(vec![term])))
        .collect();
    split(from)
        .into_iter()
        .map(|clauses| Rule { clauses: clauses.into_iter().chain(rest.clone()).collect() })
        .collect()
}

/// The clauses of the sources: normally one rule's; one rule's for each source when a source asks for principals
/// and trust domains at once, because a match has one list of principals only.
fn split(from: Vec<Term>) -> Vec<Vec<Clause>> {
    let needs_two_lists = |term: &Term| !term.domains.is_empty() && !term.one.principals.is_empty();
    if !from.iter().any(needs_two_lists) {
        return vec![alternatives(from.into_iter().map(Term::merged).collect())];
    }
    let rule = |mut term: Term| {
        let domains = Match { principals: std::mem::take(&mut term.domains), ..Match::default() };
        let domains = (domains != Match::default()).then(|| clause(domains));
        alternatives(vec![term]).into_iter().chain(domains).collect()
    };
    from.into_iter().map(rule).collect()
}

/// One clause that any of the terms satisfies; none if there is no term, or one of them always holds.
fn alternatives(terms: Vec<Term>) -> Vec<Clause> {
    let matches: Vec<Match> = terms.into_iter().map(|term| term.merged().one).collect();
    if matches.is_empty() || matches.contains(&Match::default()) {
        return Vec::new();
    }
    vec![Clause { matches }]
}

fn source(source: &Source, domains: &TrustDomains) -> Term {
    let mut term = Term {
        one: Match {
            namespaces: source.namespaces.clone(),
            not_namespaces: source.not_namespaces.clone(),
            principals: domains.principals(&source.principals),
            not_principals: domains.principals(&source.not_principals),
            service_accounts: source.service_accounts.clone(),
            not_service_accounts: source.not_service_accounts.clone(),
            source_ips: source.ip_blocks.clone(),
            not_source_ips: source.not_ip_blocks.clone(),
            ..Match::default()
        },
        ..Term::default()
    };
    term.trust_domains("trustDomains", &source.trust_domains, domains);
    term.not_trust_domains("notTrustDomains", &source.not_trust_domains, domains);
    term.beyond("requestPrincipals", &source.request_principals);
    term.beyond("notRequestPrincipals", &source.not_request_principals);
    term.beyond("remoteIpBlocks", &source.remote_ip_blocks);
    term.beyond("notRemoteIpBlocks", &source.not_remote_ip_blocks);
    term
}

fn operation(operation: &Operation) -> Term {
    let one = Match {
        destination_ports: operation.ports.clone(),
        not_destination_ports: operation.not_ports.clone(),
        ..Match::default()
    };
    let mut term = Term { one, ..Term::default() };
    term.beyond("hosts", &operation.hosts);
    term.beyond("notHosts", &operation.not_hosts);
    term.beyond("methods", &operation.methods);
    term.beyond("notMethods", &operation.not_methods);
    term.beyond("paths", &operation.paths);
    term.beyond("notPaths", &operation.not_paths);
    term
}

fn condition(condition: &Condition, domains: &TrustDomains) -> Term {
    let (key, one, not) = (&condition.key, &condition.values, &condition.not_values);
    let mut term = Term::default();
    let list = &mut term.one;
    match (key, one, not) {
        (ConditionKey::SourceIp, Values::Networks(one), Values::Networks(not)) => {
            (list.source_ips, list.not_source_ips) = (one.clone(), not.clone());
        }
        (ConditionKey::DestinationIp, Values::Networks(one), Values::Networks(not)) => {
            (list.destination_ips, list.not_destination_ips) = (one.clone(), not.clone());
        }
        (ConditionKey::DestinationPort, Values::Ports(one), Values::Ports(not)) => {
            (list.destination_ports, list.not_destination_ports) = (one.clone(), not.clone());
        }
        (ConditionKey::SourceNamespace, Values::Text(one), Values::Text(not)) => {
            (list.namespaces, list.not_namespaces) = (one.clone(), not.clone());
        }
        (ConditionKey::SourceServiceAccount, Values::ServiceAccounts(one), Values::ServiceAccounts(not)) => {
            (list.service_accounts, list.not_service_accounts) = (one.clone(), not.clone());
        }
        (ConditionKey::SourcePrincipal, Values::Text(one), Values::Text(not)) => {
            (list.principals, list.not_principals) = (domains.principals(one), domains.principals(not));
        }
        (ConditionKey::SourceTrustDomain, Values::Text(one), Values::Text(not)) => {
            term.trust_domains("when source.trustDomain", one, domains);
            term.not_trust_domains("when source.trustDomain", not, domains);
        }
        _ => term.beyond.push(format!("when {}", key_name(key))),
    }
    term
}

impl Term {
    fn beyond<T>(&mut self, name: &str, values: &[T]) {
        if !values.is_empty() {
            self.beyond.push(name.to_owned());
        }
    }

    fn trust_domains(&mut self, name: &str, values: &[StringMatch], domains: &TrustDomains) {
        match domains.prefixes(values) {
            Some(prefixes) => self.domains = prefixes,
            None => self.beyond.push(name.to_owned()),
        }
    }

    /// None of the domains and none of the principals: one list says both.
    fn not_trust_domains(&mut self, name: &str, values: &[StringMatch], domains: &TrustDomains) {
        match domains.prefixes(values) {
            Some(prefixes) => self.one.not_principals.extend(prefixes),
            None => self.beyond.push(name.to_owned()),
        }
    }

    /// Moves the trust domains into the list of principals, where that is free.
    fn merged(mut self) -> Self {
        if self.one.principals.is_empty() {
            self.one.principals = std::mem::take(&mut self.domains);
        }
        self
    }
}

impl TrustDomains {
    /// Principals, with those of our trust domain under each of its names.
    pub(crate) fn principals(&self, list: &[StringMatch]) -> Vec<StringMatch> {
        let each = list.iter().flat_map(|one| match one {
            StringMatch::Exact(text) => {
                self.under_all_names(text).into_iter().map(StringMatch::Exact).collect()
            }
            StringMatch::Prefix(text) => {
                self.under_all_names(text).into_iter().map(StringMatch::Prefix).collect()
            }
            StringMatch::Suffix(_) | StringMatch::Presence => vec![one.clone()],
        });
        each.collect()
    }

    /// Trust domains, with ours under each of its names.
    pub(crate) fn names(&self, list: &[StringMatch]) -> Vec<StringMatch> {
        let each = list.iter().flat_map(|one| match one {
            StringMatch::Exact(text) => self
                .under_all_names(&format!("{text}/"))
                .into_iter()
                .map(|name| StringMatch::Exact(name.trim_end_matches('/').to_owned()))
                .collect(),
            StringMatch::Prefix(_) | StringMatch::Suffix(_) | StringMatch::Presence => vec![one.clone()],
        });
        each.collect()
    }

    /// Trust domains as prefixes of principals; `None` if one of them cannot be said that way.
    fn prefixes(&self, list: &[StringMatch]) -> Option<Vec<StringMatch>> {
        let each = list.iter().map(|one| match one {
            StringMatch::Exact(domain) => Some(
                self.under_all_names(&format!("{domain}/")).into_iter().map(StringMatch::Prefix).collect(),
            ),
            StringMatch::Prefix(_) | StringMatch::Presence => Some(vec![one.clone()]),
            StringMatch::Suffix(_) => None,
        });
        each.collect::<Option<Vec<Vec<_>>>>().map(|lists| lists.concat())
    }

    /// A principal (or the beginning of one) whose trust domain is ours, under each name; `cluster.local` is Istio's
    /// way to say "the mesh's own".
    fn under_all_names(&self, text: &str) -> Vec<String> {
        let ours = || std::iter::once(&self.own).chain(&self.aliases);
        match text.split_once('/') {
            Some((domain, rest)) if domain == "cluster.local" || ours().any(|one| one.as_str() == domain) => {
                ours().map(|one| format!("{one}/{rest}")).collect()
            }
            _ => vec![text.to_owned()],
        }
    }
}

/// A condition's key as its author wrote it.
pub(crate) fn key_name(key: &ConditionKey) -> String {
    match key {
        ConditionKey::RequestHeader(name) => format!("request.headers[{name}]"),
        ConditionKey::RequestClaim(path) => format!("request.auth.claims[{}]", path.join("][")),
        ConditionKey::EnvoyFilter(rest) => format!("experimental.envoy.filters.{rest}"),
        ConditionKey::RemoteIp => "remote.ip".to_owned(),
        ConditionKey::RequestPrincipal => "request.auth.principal".to_owned(),
        ConditionKey::RequestAudiences => "request.auth.audiences".to_owned(),
        ConditionKey::RequestPresenter => "request.auth.presenter".to_owned(),
        ConditionKey::ConnectionSni => "connection.sni".to_owned(),
        ConditionKey::SourceIp => "source.ip".to_owned(),
        ConditionKey::SourceNamespace => "source.namespace".to_owned(),
        ConditionKey::SourceServiceAccount => "source.serviceAccount".to_owned(),
        ConditionKey::SourcePrincipal => "source.principal".to_owned(),
        ConditionKey::SourceTrustDomain => "source.trustDomain".to_owned(),
        ConditionKey::DestinationIp => "destination.ip".to_owned(),
        ConditionKey::DestinationPort => "destination.port".to_owned(),
    }
}
