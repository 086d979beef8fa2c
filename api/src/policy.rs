//! An authorization policy as ztunnels hold it. Source: `istio.security.Authorization`.
//!
//! A policy matches if any rule does; a rule if all clauses do; a clause if any match does; a match if all its
//! non-empty fields do. The evaluation lives in [`crate::authz`].

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

mod parse;
#[cfg(test)]
mod tests;

pub use parse::InvalidPolicy;

/// A policy's unique name, written `namespace/name`; the namespace is empty for mesh-wide ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PolicyKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// Which workloads a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PolicyScope {
    /// Every workload.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that list the policy by name.
    WorkloadSelector,
}

/// What a matching policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PolicyAction {
    /// Allows; its presence denies what no ALLOW matches.
    Allow,
    /// Denies.
    Deny,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Unique name.
    pub key: PolicyKey,
    /// Which workloads.
    pub scope: PolicyScope,
    /// What it does.
    pub action: PolicyAction,
    /// Any rule suffices; without rules it never matches.
    pub rules: Vec<Rule>,
    /// Counted and logged, never enforced.
    pub dry_run: bool,
}

/// All clauses must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Any match suffices; without matches it matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// The matches.
    pub matches: Vec<Match>,
}

/// All non-empty fields must match; a match with every field empty never does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Match {
    /// Source namespaces, any of.
    pub namespaces: Vec<StringMatch>,
    /// Source namespaces, none of.
    pub not_namespaces: Vec<StringMatch>,
    /// Source principals (identity without `spiffe://`), any of.
    pub principals: Vec<StringMatch>,
    /// Source principals, none of.
    pub not_principals: Vec<StringMatch>,
    /// Source service accounts, any of.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Source service accounts, none of.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// Source address prefixes, any of.
    pub source_ips: Vec<IpNet>,
    /// Source address prefixes, none of.
    pub not_source_ips: Vec<IpNet>,
    /// Destination address prefixes, any of.
    pub destination_ips: Vec<IpNet>,
    /// Destination address prefixes, none of.
    pub not_destination_ips: Vec<IpNet>,
    /// Destination ports, any of.
    pub destination_ports: Vec<u16>,
    /// Destination ports, none of.
    pub not_destination_ports: Vec<u16>,
}

/// How one string of a policy is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// Any value, as long as there is one.
    Presence,
}

/// A service account of a namespace, whatever the trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ServiceAccountMatch {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub service_account: String,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PolicyKey {
    /// Makes a key.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}
