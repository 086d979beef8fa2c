//! Policies of waypoints between wire and model. What cannot be read rejects the whole policy: a part silently left out
//! could widen an ALLOW or narrow a DENY.

use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::{Action, Asked, Group, PathMatch, Policy, Rule, Term, wildcard};
use crate::invalid::{self, InvalidField, Problem};
use crate::policy::{PolicyKey, ServiceAccountMatch};
use crate::route::TextMatch;
use crate::waypoint::InvalidResource;
use crate::waypoint::parse::{Field, invalid};
use crate::wire::waypoint as wire;

impl TryFrom<wire::Policy> for Policy {
    type Error = InvalidResource;

    fn try_from(wire: wire::Policy) -> Result<Self, InvalidResource> {
        let name = format!("{}/{}", wire.namespace, wire.name);
        parse(wire).map_err(|fault| InvalidResource { name, fault })
    }
}

fn parse(wire: wire::Policy) -> Result<Policy, InvalidField> {
    if wire.name.is_empty() {
        return Err(Problem::Missing.of("name"));
    }
    let action = match wire::policy::Action::try_from(wire.action) {
        Ok(wire::policy::Action::Allow) => Action::Allow,
        Ok(wire::policy::Action::Deny) => Action::Deny,
        Ok(wire::policy::Action::Audit) => Action::Audit,
        Ok(wire::policy::Action::Custom) => Action::Custom,
        Err(_) => return Err(Problem::Value(wire.action).of("action")),
    };
    let rules = wire.rules.into_iter().enumerate().map(|(place, wire)| rule(wire).within("rules", place));
    Ok(Policy {
        key: PolicyKey::new(&wire.namespace, &wire.name),
        action,
        dry_run: wire.dry_run,
        rules: rules.collect::<Result<_, _>>()?,
        closed: wire.closed,
        provider: Some(wire.provider.as_str()).filter(|provider| !provider.is_empty()).map(Arc::from),
    })
}

fn rule(wire: wire::PolicyRule) -> Result<Rule, InvalidField> {
    let from = wire.from.into_iter().enumerate().map(|(place, wire)| source(wire).within("from", place));
    let to = wire.to.into_iter().enumerate().map(|(place, wire)| operation(wire).within("to", place));
    let mut when = Vec::new();
    for (place, wire) in wire.when.into_iter().enumerate() {
        when.extend(condition(&wire).within("when", place)?);
    }
    Ok(Rule { from: from.collect::<Result<_, _>>()?, to: to.collect::<Result<_, _>>()?, when: Group(when) })
}

/// The terms of one source or operation.
#[derive(Default)]
struct Terms(Vec<Term>);

impl Terms {
    /// Adds what is asked of one attribute, unless nothing is.
    fn add<W, V>(
        &mut self,
        name: &'static str,
        wire: Vec<W>,
        one: impl Fn(W) -> Result<V, InvalidField>,
        asked: impl Fn(Vec<V>) -> Asked,
    ) -> Result<(), InvalidField> {
        if wire.is_empty() {
            return Ok(());
        }
        let values = wire.into_iter().map(one).collect::<Result<_, _>>();
        let asked = asked(values.map_err(|fault| fault.under(name))?);
        self.0.push(Term { name: name.into(), negated: name.starts_with("not"), asked });
        Ok(())
    }
}

fn source(wire: wire::Source) -> Result<Group, InvalidField> {
    let mut terms = Terms::default();
    terms.add("principals", wire.principals, text, Asked::Principals)?;
    terms.add("notPrincipals", wire.not_principals, text, Asked::Principals)?;
    terms.add("requestPrincipals", wire.request_principals, text, |_| Asked::Unknown)?;
    terms.add("notRequestPrincipals", wire.not_request_principals, text, |_| Asked::Unknown)?;
    terms.add("namespaces", wire.namespaces, text, Asked::Namespaces)?;
    terms.add("notNamespaces", wire.not_namespaces, text, Asked::Namespaces)?;
    terms.add("serviceAccounts", wire.service_accounts, account, Asked::ServiceAccounts)?;
    terms.add("notServiceAccounts", wire.not_service_accounts, account, Asked::ServiceAccounts)?;
    terms.add("ipBlocks", wire.ip_blocks, prefix, Asked::SourceIps)?;
    terms.add("notIpBlocks", wire.not_ip_blocks, prefix, Asked::SourceIps)?;
    terms.add("remoteIpBlocks", wire.remote_ip_blocks, prefix, Asked::RemoteIps)?;
    terms.add("notRemoteIpBlocks", wire.not_remote_ip_blocks, prefix, Asked::RemoteIps)?;
    terms.add("trustDomains", wire.trust_domains, text, Asked::TrustDomains)?;
    terms.add("notTrustDomains", wire.not_trust_domains, text, Asked::TrustDomains)?;
    Ok(Group(terms.0))
}

fn operation(wire: wire::Operation) -> Result<Group, InvalidField> {
    let mut terms = Terms::default();
    terms.add("hosts", wire.hosts, text, Asked::Hosts)?;
    terms.add("notHosts", wire.not_hosts, text, Asked::Hosts)?;
    terms.add("ports", wire.ports, port, Asked::Ports)?;
    terms.add("notPorts", wire.not_ports, port, Asked::Ports)?;
    terms.add("methods", wire.methods, text, Asked::Methods)?;
    terms.add("notMethods", wire.not_methods, text, Asked::Methods)?;
    terms.add("paths", wire.paths, path, Asked::Paths)?;
    terms.add("notPaths", wire.not_paths, path, Asked::Paths)?;
    Ok(Group(terms.0))
}

/// Values and notValues are two terms.
fn condition(wire: &wire::Condition) -> Result<Vec<Term>, InvalidField> {
    let lists = [(&wire.values, false), (&wire.not_values, true)];
    let terms = lists.into_iter().filter(|(values, _)| !values.is_empty()).map(|(values, negated)| {
        let name = if negated { format!("{} (notValues)", wire.key) } else { wire.key.clone() };
        Ok(Term { name: name.into(), negated, asked: attribute(&wire.key, values)? })
    });
    let terms: Vec<Term> = terms.collect::<Result<_, _>>()?;
    if terms.is_empty() { Err(Problem::Missing.of("values")) } else { Ok(terms) }
}

/// A condition's attribute. One that this proxy does not know is a constraint all the same (policy.md rule 17).
fn attribute(key: &str, values: &[String]) -> Result<Asked, InvalidField> {
    fn all<V>(
        values: &[String],
        one: impl Fn(String) -> Result<V, InvalidField>,
    ) -> Result<Vec<V>, InvalidField> {
        values
            .iter()
            .cloned()
            .map(one)
            .collect::<Result<_, _>>()
            .map_err(|fault: InvalidField| fault.under("values"))
    }
    let texts = || values.iter().map(|value| wildcard(value)).collect();
    Ok(match key {
        "source.ip" => Asked::SourceIps(all(values, prefix)?),
        "remote.ip" => Asked::RemoteIps(all(values, prefix)?),
        "source.namespace" => Asked::Namespaces(texts()),
        "source.principal" => Asked::Principals(texts()),
        "source.serviceAccount" => Asked::ServiceAccounts(all(values, account)?),
        "source.trustDomain" => Asked::TrustDomains(texts()),
        "destination.ip" => Asked::DestinationIps(all(values, prefix)?),
        "destination.port" => Asked::Ports(all(values, port_text)?),
        _ => match key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => header(name, texts())?,
            None => Asked::Unknown,
        },
    })
}

/// HTTP/2 has pseudo-headers where HTTP/1 has lines, and a request may have come by either.
fn header(name: &str, values: Vec<TextMatch>) -> Result<Asked, InvalidField> {
    let lower = name.to_ascii_lowercase();
    Ok(match lower.as_str() {
        ":authority" | "host" => Asked::Hosts(values),
        ":method" => Asked::Methods(values),
        pseudo if pseudo.starts_with(':') => Asked::Unknown,
        plain => Asked::Header(HeaderName::try_from(plain).map_err(|_| invalid("key", name))?, values),
    })
}

fn text(wire: wire::Text) -> Result<TextMatch, InvalidField> {
    TextMatch::try_from(wire).map_err(|fault| invalid("", fault))
}

fn path(wire: String) -> Result<PathMatch, InvalidField> {
    PathMatch::new(&wire).map_err(|fault| invalid("", fault))
}

fn account(wire: String) -> Result<ServiceAccountMatch, InvalidField> {
    let (namespace, name) = invalid::name(&wire).map_err(|problem| problem.of(""))?;
    Ok(ServiceAccountMatch { namespace: namespace.to_owned(), service_account: name.to_owned() })
}

/// A prefix, or an address alone. IPv4-mapped prefixes mean the IPv4 ones, as addresses are folded before comparing.
fn prefix(wire: String) -> Result<IpNet, InvalidField> {
    let found =
        wire.parse::<IpNet>().or_else(|_| wire.parse().map(|address: std::net::IpAddr| IpNet::from(address)));
    let found = found.map_err(|_| invalid("", &wire))?;
    let bytes = invalid::bytes(found.addr());
    invalid::prefix(&bytes, found.prefix_len().into()).map_err(|problem| problem.of(""))
}

fn port(wire: u32) -> Result<u16, InvalidField> {
    invalid::port(wire).map_err(|problem| problem.of(""))
}

fn port_text(wire: String) -> Result<u16, InvalidField> {
    wire.parse().map_err(|_| invalid("", &wire))
}
