//! How a DestinationRule lets an endpoint be chosen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::value;

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Without regard to the request.
    pub simple: Option<SimpleBalancer>,
    /// By something of the request.
    pub consistent_hash: Option<ConsistentHash>,
    /// By locality first.
    pub locality_lb_setting: Option<LocalitySetting>,
    /// By zone first.
    pub zone_aware_lb_setting: Option<ZoneAwareSetting>,
    /// Superseded by `warmup`.
    #[serde(deserialize_with = "value::optional_duration")]
    pub warmup_duration_secs: Option<Duration>,
    /// New endpoints get less at first.
    pub warmup: Option<Warmup>,
}

/// A choice without regard to the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleBalancer {
    /// The default.
    #[default]
    Unspecified,
    /// Superseded name of `LEAST_REQUEST`.
    LeastConn,
    /// Any.
    Random,
    /// The address the client dialled.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The one with fewer requests under way.
    LeastRequest,
}

/// A choice by something of the request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawHash")]
pub struct ConsistentHash {
    /// By what.
    pub key: HashKey,
    /// In which table.
    pub ring: HashRing,
}

/// What of the request decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header.
    Header(String),
    /// A cookie.
    Cookie(HttpCookie),
    /// The client's address.
    SourceIp,
    /// A parameter of the query.
    QueryParameter(String),
}

/// The table in which a hash is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashRing {
    /// A ring of at least so many places.
    Ring {
        /// Places.
        minimum_size: u64,
    },
    /// A Maglev table.
    Maglev {
        /// Places.
        table_size: u64,
    },
}

/// A cookie that decides; it is made where it is absent and has a lifetime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCookie {
    /// Name.
    pub name: String,
    /// Path.
    pub path: String,
    /// Lifetime; zero for a session.
    #[serde(deserialize_with = "value::optional_duration")]
    pub ttl: Option<Duration>,
    /// Further attributes.
    pub attributes: Vec<CookieAttribute>,
}

/// One more attribute of a cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CookieAttribute {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawHash {
    http_header_name: Option<String>,
    http_cookie: Option<HttpCookie>,
    use_source_ip: Option<bool>,
    http_query_parameter_name: Option<String>,
    ring_hash: Option<RawRing>,
    maglev: Option<RawMaglev>,
    minimum_ring_size: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawRing {
    minimum_ring_size: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawMaglev {
    table_size: Option<u64>,
}

/// Load by locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalitySetting {
    /// Shares by locality of the client.
    pub distribute: Vec<Distribute>,
    /// Where to when a region fails.
    pub failover: Vec<Failover>,
    /// Labels in order of weight.
    pub failover_priority: Vec<String>,
    /// On or off.
    pub enabled: Option<bool>,
}

/// Shares of localities for clients of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distribute {
    /// Locality of the client.
    pub from: String,
    /// Percents; they sum to 100.
    pub to: BTreeMap<String, u32>,
}

/// Where to when a region fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Failover {
    /// The region.
    pub from: String,
    /// Another one.
    pub to: String,
}

/// Load by zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ZoneAwareSetting {
    /// On or off.
    pub enabled: Option<bool>,
    /// Where to when a region fails.
    pub failover: Vec<Failover>,
    /// Labels in order of weight.
    pub failover_priority: Vec<String>,
    /// With fewer endpoints zones do not count.
    pub min_cluster_size: Option<u64>,
}

/// How the share of a new endpoint grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Warmup {
    /// Until it is full.
    #[serde(deserialize_with = "value::optional_duration")]
    pub duration: Option<Duration>,
    /// Where it begins; 10 where it is absent.
    #[serde(deserialize_with = "value::optional_percent")]
    pub minimum_percent: Option<value::Percent>,
    /// How it grows; 1 where it is absent.
    pub aggression: Option<value::Decimal>,
}

impl TryFrom<RawHash> for ConsistentHash {
    type Error = String;

    fn try_from(raw: RawHash) -> Result<Self, String> {
        let source = raw.use_source_ip.unwrap_or(false).then_some(HashKey::SourceIp);
        let keys = [
            raw.http_header_name.map(HashKey::Header),
            raw.http_cookie.map(HashKey::Cookie),
            source,
            raw.http_query_parameter_name.map(HashKey::QueryParameter),
        ];
        let mut keys = keys.into_iter().flatten();
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err("exactly one key is wanted; set one of httpHeaderName, httpCookie, useSourceIp and \
                        httpQueryParameterName"
                .to_owned());
        };
        if raw.ring_hash.is_some() && raw.maglev.is_some() {
            return Err("both ringHash and maglev are set; keep one of them".to_owned());
        }
        let ring = match raw.maglev {
            Some(maglev) => HashRing::Maglev { table_size: maglev.table_size.unwrap_or(65_537) },
            None => {
                let size = raw.ring_hash.and_then(|ring| ring.minimum_ring_size).or(raw.minimum_ring_size);
                HashRing::Ring { minimum_size: size.unwrap_or(1024) }
            }
        };
        Ok(Self { key, ring })
    }
}
