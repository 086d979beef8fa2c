//! One rule of a policy: sources, operations and conditions.

use ambit_api::policy::{ServiceAccountMatch, StringMatch};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::condition::Condition;
use super::{fail, text};

/// The most service accounts one list may name.
const MAX_SERVICE_ACCOUNTS: usize = 16;

/// Matches when any source, any operation and every condition does; a missing section matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// Where requests come from, any of.
    #[serde(deserialize_with = "sources")]
    pub from: Vec<Source>,
    /// What they ask for, any of.
    #[serde(deserialize_with = "operations")]
    pub to: Vec<Operation>,
    /// Further conditions, all of.
    pub when: Vec<Condition>,
}

/// Where a request comes from: all fields must match, in each any value; of the `not_` ones none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Source {
    /// Identities, without `spiffe://`.
    #[serde(deserialize_with = "text::principals")]
    pub principals: Vec<StringMatch>,
    /// None of these identities.
    #[serde(deserialize_with = "text::principals")]
    pub not_principals: Vec<StringMatch>,
    /// JWT identities, `issuer/subject`.
    #[serde(deserialize_with = "text::patterns")]
    pub request_principals: Vec<StringMatch>,
    /// None of these JWT identities.
    #[serde(deserialize_with = "text::patterns")]
    pub not_request_principals: Vec<StringMatch>,
    /// Namespaces.
    #[serde(deserialize_with = "text::patterns")]
    pub namespaces: Vec<StringMatch>,
    /// None of these namespaces.
    #[serde(deserialize_with = "text::patterns")]
    pub not_namespaces: Vec<StringMatch>,
    /// Service accounts; a bare name is one of the policy's namespace.
    #[serde(deserialize_with = "text::service_accounts")]
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// None of these service accounts.
    #[serde(deserialize_with = "text::service_accounts")]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// Addresses of the TCP peer.
    #[serde(deserialize_with = "text::networks")]
    pub ip_blocks: Vec<IpNet>,
    /// None of these addresses of the TCP peer.
    #[serde(deserialize_with = "text::networks")]
    pub not_ip_blocks: Vec<IpNet>,
    /// Original client addresses (X-Forwarded-For, PROXY protocol).
    #[serde(deserialize_with = "text::networks")]
    pub remote_ip_blocks: Vec<IpNet>,
    /// None of these original client addresses.
    #[serde(deserialize_with = "text::networks")]
    pub not_remote_ip_blocks: Vec<IpNet>,
    /// Trust domains.
    #[serde(deserialize_with = "text::patterns")]
    pub trust_domains: Vec<StringMatch>,
    /// None of these trust domains.
    #[serde(deserialize_with = "text::patterns")]
    pub not_trust_domains: Vec<StringMatch>,
}

/// What a request asks for: all fields must match, in each any value; of the `not_` ones none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Operation {
    /// Host names (HTTP).
    #[serde(deserialize_with = "text::patterns")]
    pub hosts: Vec<StringMatch>,
    /// None of these host names (HTTP).
    #[serde(deserialize_with = "text::patterns")]
    pub not_hosts: Vec<StringMatch>,
    /// Ports.
    #[serde(deserialize_with = "text::ports")]
    pub ports: Vec<u16>,
    /// None of these ports.
    #[serde(deserialize_with = "text::ports")]
    pub not_ports: Vec<u16>,
    /// Methods (HTTP).
    #[serde(deserialize_with = "text::patterns")]
    pub methods: Vec<StringMatch>,
    /// None of these methods (HTTP).
    #[serde(deserialize_with = "text::patterns")]
    pub not_methods: Vec<StringMatch>,
    /// Paths or path templates (HTTP), as written.
    #[serde(deserialize_with = "text::paths")]
    pub paths: Vec<String>,
    /// None of these paths (HTTP).
    #[serde(deserialize_with = "text::paths")]
    pub not_paths: Vec<String>,
}

impl Rule {
    /// Gives service accounts without a namespace the policy's.
    pub(super) fn resolve_service_accounts(&mut self, namespace: &str) {
        let sources = self.from.iter_mut();
        let listed = sources
            .flat_map(|source| source.service_accounts.iter_mut().chain(&mut source.not_service_accounts));
        let conditions = self.when.iter_mut().flat_map(Condition::service_accounts_mut);
        for account in listed.chain(conditions) {
            if account.namespace.is_empty() {
                namespace.clone_into(&mut account.namespace);
            }
        }
    }
}

impl Source {
    fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Err("an empty source would match everything; name at least one value, or remove `from`"
                .to_owned());
        }
        let accounts = self.service_accounts.len().max(self.not_service_accounts.len());
        if accounts > MAX_SERVICE_ACCOUNTS {
            return Err(format!(
                "{accounts} service accounts, at most {MAX_SERVICE_ACCOUNTS} are allowed; use several sources"
            ));
        }
        let others = [&self.principals, &self.not_principals, &self.namespaces, &self.not_namespaces];
        if accounts > 0 && others.iter().any(|list| !list.is_empty()) {
            return Err(
                "serviceAccounts cannot stand beside principals or namespaces; keep one of them".to_owned()
            );
        }
        Ok(())
    }
}

impl Operation {
    fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Err("an empty operation would match everything; name at least one value, or remove `to`"
                .to_owned());
        }
        Ok(())
    }
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Source>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(deserialize_with = "source")]
        source: Source,
    }
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    if entries.is_empty() {
        return Err(fail("an empty list would match every source; name one, or remove the field".to_owned()));
    }
    Ok(entries.into_iter().map(|entry| entry.source).collect())
}

fn source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Source, D::Error> {
    let source = Source::deserialize(deserializer)?;
    source.check().map_err(fail)?;
    Ok(source)
}

fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(deserialize_with = "operation")]
        operation: Operation,
    }
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    if entries.is_empty() {
        return Err(fail(
            "an empty list would match every operation; name one, or remove the field".to_owned(),
        ));
    }
    Ok(entries.into_iter().map(|entry| entry.operation).collect())
}

fn operation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Operation, D::Error> {
    let operation = Operation::deserialize(deserializer)?;
    operation.check().map_err(fail)?;
    Ok(operation)
}
