//! The `when` conditions of a rule: a known key and values of the key's type.

use ambit_api::policy::{ServiceAccountMatch, StringMatch};
use ipnet::IpNet;
use serde::Deserialize;

use super::text;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Condition {
    /// What is looked at.
    pub key: ConditionKey,
    /// Any of these; empty means no demand.
    pub values: Values,
    /// None of these.
    pub not_values: Values,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConditionKey {
    /// A request header.
    RequestHeader(String),
    /// Address of the TCP peer.
    SourceIp,
    /// Original client address.
    RemoteIp,
    /// Namespace of the peer's identity.
    SourceNamespace,
    /// Service account of the peer's identity.
    SourceServiceAccount,
    /// The peer's identity.
    SourcePrincipal,
    /// Trust domain of the peer's identity.
    SourceTrustDomain,
    /// JWT identity.
    RequestPrincipal,
    /// JWT audiences.
    RequestAudiences,
    /// JWT authorized presenter.
    RequestPresenter,
    /// A JWT claim, by path.
    RequestClaim(Vec<String>),
    /// Address of the workload.
    DestinationIp,
    /// Port of the workload.
    DestinationPort,
    /// Server name of the TLS handshake.
    ConnectionSni,
    /// Metadata of an Envoy filter: the text behind `experimental.envoy.filters.`.
    EnvoyFilter(String),
}

/// Values of a condition, by the type of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// Patterns.
    Text(Vec<StringMatch>),
    /// Addresses.
    Networks(Vec<IpNet>),
    /// Ports.
    Ports(Vec<u16>),
    /// Service accounts.
    ServiceAccounts(Vec<ServiceAccountMatch>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    key: ConditionKey,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    not_values: Vec<String>,
}

/// Keys without a parameter.
const PLAIN: [(&str, ConditionKey); 12] = [
    ("source.ip", ConditionKey::SourceIp),
    ("remote.ip", ConditionKey::RemoteIp),
    ("source.namespace", ConditionKey::SourceNamespace),
    ("source.serviceAccount", ConditionKey::SourceServiceAccount),
    ("source.principal", ConditionKey::SourcePrincipal),
    ("source.trustDomain", ConditionKey::SourceTrustDomain),
    ("request.auth.principal", ConditionKey::RequestPrincipal),
    ("request.auth.audiences", ConditionKey::RequestAudiences),
    ("request.auth.presenter", ConditionKey::RequestPresenter),
    ("destination.ip", ConditionKey::DestinationIp),
    ("destination.port", ConditionKey::DestinationPort),
    ("connection.sni", ConditionKey::ConnectionSni),
];

impl Condition {
    pub(super) fn service_accounts_mut(&mut self) -> impl Iterator<Item = &mut ServiceAccountMatch> {
        [&mut self.values, &mut self.not_values].into_iter().flat_map(|values| match values {
            Values::ServiceAccounts(list) => list.as_mut_slice(),
            _ => &mut [],
        })
    }
}

impl Values {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(list) => list.is_empty(),
            Self::Networks(list) => list.is_empty(),
            Self::Ports(list) => list.is_empty(),
            Self::ServiceAccounts(list) => list.is_empty(),
        }
    }

    fn parse(key: &ConditionKey, texts: &[String]) -> Result<Self, String> {
        fn each<T>(texts: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
            texts.iter().map(|text| parse(text)).collect()
        }
        match key {
            ConditionKey::SourceIp | ConditionKey::RemoteIp | ConditionKey::DestinationIp => {
                each(texts, text::network).map(Self::Networks)
            }
            ConditionKey::DestinationPort => each(texts, text::port).map(Self::Ports),
            ConditionKey::SourceServiceAccount => {
                each(texts, text::service_account).map(Self::ServiceAccounts)
            }
            ConditionKey::SourcePrincipal => each(texts, text::principal).map(Self::Text),
            ConditionKey::SourceNamespace | ConditionKey::SourceTrustDomain | ConditionKey::ConnectionSni => {
                each(texts, text::pattern).map(Self::Text)
            }
            _ => each(texts, text::loose_pattern).map(Self::Text),
        }
    }
}

impl TryFrom<Raw> for Condition {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if raw.values.is_empty() && raw.not_values.is_empty() {
            return Err("a condition without values demands nothing; set values or notValues".to_owned());
        }
        let values = Values::parse(&raw.key, &raw.values).map_err(|error| format!("values: {error}"))?;
        let not_values =
            Values::parse(&raw.key, &raw.not_values).map_err(|error| format!("notValues: {error}"))?;
        Ok(Self { key: raw.key, values, not_values })
    }
}

impl<'de> Deserialize<'de> for ConditionKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_key(&text).map_err(serde::de::Error::custom)
    }
}

fn parse_key(text: &str) -> Result<ConditionKey, String> {
    if let Some((_, key)) = PLAIN.iter().find(|(name, _)| *name == text) {
        return Ok(key.clone());
    }
    let parameters = |prefix: &str| text.strip_prefix(prefix).and_then(brackets);
    if let Some(names) = parameters("request.headers")
        && let [name] = names.as_slice()
    {
        return Ok(ConditionKey::RequestHeader(name.to_ascii_lowercase()));
    }
    if let Some(path) = parameters("request.auth.claims") {
        return Ok(ConditionKey::RequestClaim(path));
    }
    if let Some(rest) = text.strip_prefix("experimental.envoy.filters.")
        && !rest.is_empty()
    {
        return Ok(ConditionKey::EnvoyFilter(rest.to_owned()));
    }
    let known =
        PLAIN.iter().map(|(name, _)| *name).chain(["request.headers[name]", "request.auth.claims[name]"]);
    Err(match crate::document::suggest(text, known.clone()) {
        Some(near) => format!("{text:?} is not a known key; did you mean {near:?}?"),
        None => format!("{text:?} is not a known key; known are {}", known.collect::<Vec<_>>().join(", ")),
    })
}

/// Splits `[a][b]` into `a`, `b`.
fn brackets(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<String> = inner.split("][").map(str::to_owned).collect();
    let fine = |part: &String| !part.is_empty() && !part.contains(['[', ']']);
    parts.iter().all(fine).then_some(parts)
}
