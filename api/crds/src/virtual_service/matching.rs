//! What a rule of a VirtualService matches.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use ipnet::IpNet;
use serde::Deserialize;

use crate::meta::Map;
use crate::value::{self, StringMatch};

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatch {
    /// For logs; joined to the rule's name.
    pub name: String,
    /// Name of statistics.
    pub stat_prefix: String,
    /// Path, without the query.
    pub uri: Option<StringMatch>,
    /// Case of exact and prefix paths does not count.
    pub ignore_uri_case: bool,
    /// Scheme.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Host the request names.
    pub authority: Option<StringMatch>,
    /// Headers that must match.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that must not match; an absent one counts as empty.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Parameters of the query that must match.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Port of the service that was called.
    #[serde(deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
    /// Labels of the client.
    pub source_labels: Map,
    /// Namespace of the client.
    pub source_namespace: String,
    /// In place of the whole object's gateways.
    pub gateways: Vec<String>,
}

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsMatch {
    /// Server names; never empty.
    pub sni_hosts: Vec<String>,
    /// Addresses that were dialled.
    #[serde(deserialize_with = "value::networks")]
    pub destination_subnets: Vec<IpNet>,
    /// Port that was dialled.
    #[serde(deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
    /// Labels of the client.
    pub source_labels: Map,
    /// Namespace of the client.
    pub source_namespace: String,
    /// In place of the whole object's gateways.
    pub gateways: Vec<String>,
}

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpMatch {
    /// Addresses that were dialled.
    #[serde(deserialize_with = "value::networks")]
    pub destination_subnets: Vec<IpNet>,
    /// Port that was dialled.
    #[serde(deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
    /// Address of the client; Istio's API has it, and nothing obeys it.
    pub source_subnet: String,
    /// Labels of the client.
    pub source_labels: Map,
    /// Namespace of the client.
    pub source_namespace: String,
    /// In place of the whole object's gateways.
    pub gateways: Vec<String>,
}
