//! What the kinds of Gateway API share: references, header changes, matches of headers.

pub(crate) mod check;
mod filter;

use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;

use crate::value::{self, Percent};

pub use filter::{
    Cors, ExternalAuth, Filter, Header, HeaderModifier, PathModifier, Redirect, RequestMirror, Rewrite,
};

/// The API group of Gateway API's kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// What a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ParentRef {
    /// API group; empty for a Service.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// Kind.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// Namespace; the route's own where it is absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// One listener, or one port of a Service by name.
    #[serde(default)]
    pub section_name: Option<String>,
    /// One port.
    #[serde(default, deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
}

/// Something requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendObject {
    /// API group; empty for a Service.
    #[serde(default)]
    pub group: String,
    /// Kind.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; the route's own where it is absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Port; a Service needs one.
    #[serde(default, deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
}

/// One backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawBackend")]
pub struct Backend {
    /// Where to.
    pub object: BackendObject,
    /// Its share of the sum of weights.
    pub weight: u32,
    /// What happens to requests that go there.
    pub filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackend {
    #[serde(default)]
    group: String,
    #[serde(default = "service_kind")]
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default, deserialize_with = "value::optional_port")]
    port: Option<NonZeroU16>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    filters: Vec<Filter>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalObject {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// A Secret, or another object that holds something secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretObject {
    /// API group.
    #[serde(default)]
    pub group: String,
    /// Kind.
    #[serde(default = "secret_kind")]
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; the own one where it is absent.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum MatchKind {
    /// Equal.
    #[default]
    Exact,
    /// The whole value matches the expression.
    RegularExpression,
}

/// A header or a parameter of the query that must match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedMatch {
    /// How it is compared.
    #[serde(default, rename = "type")]
    pub kind: MatchKind,
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Requests of one client stay with one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionPersistence {
    /// Name of the session.
    pub session_name: Option<String>,
    /// Lifetime of it.
    #[serde(deserialize_with = "value::optional_gateway_duration")]
    pub absolute_timeout: Option<Duration>,
    /// Lifetime without requests.
    #[serde(deserialize_with = "value::optional_gateway_duration")]
    pub idle_timeout: Option<Duration>,
    /// `Cookie` or `Header`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Of a cookie; superseded by `cookie`.
    pub cookie_config: Option<CookieConfig>,
    /// Of a cookie.
    pub cookie: Option<CookieConfig>,
    /// Of a header.
    pub header: Option<SessionHeader>,
}

/// The header that carries a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionHeader {
    /// Name.
    pub name: String,
}

/// The cookie that carries a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CookieConfig {
    /// `Session` or `Permanent`.
    pub lifetime_type: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Path; `/` where it is absent.
    pub path: Option<String>,
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fraction {
    numerator: u32,
    #[serde(default = "hundred")]
    denominator: u32,
}

impl Fraction {
    pub(crate) fn percent(self) -> Result<Percent, String> {
        if self.denominator == 0 || self.numerator > self.denominator {
            return Err(format!(
                "{}/{} is no part of a whole; write a numerator from 0 to the denominator",
                self.numerator, self.denominator
            ));
        }
        Percent::new(f64::from(self.numerator) * 100.0 / f64::from(self.denominator))
    }
}

impl ParentRef {
    /// Whether it names a Service.
    pub fn is_service(&self) -> bool {
        matches!(self.group.as_str(), "" | "core") && self.kind == "Service"
    }

    /// Whether it names a Gateway.
    pub fn is_gateway(&self) -> bool {
        self.group == GROUP && self.kind == "Gateway"
    }
}

impl BackendObject {
    /// Whether it names a Service.
    pub fn is_service(&self) -> bool {
        matches!(self.group.as_str(), "" | "core") && self.kind == "Service"
    }
}

impl From<RawBackend> for Backend {
    fn from(raw: RawBackend) -> Self {
        let RawBackend { group, kind, name, namespace, port, weight, filters } = raw;
        Self { object: BackendObject { group, kind, name, namespace, port }, weight, filters }
    }
}

fn gateway_group() -> String {
    GROUP.to_owned()
}

fn gateway_kind() -> String {
    "Gateway".to_owned()
}

fn service_kind() -> String {
    "Service".to_owned()
}

fn secret_kind() -> String {
    "Secret".to_owned()
}

fn one() -> u32 {
    1
}

fn hundred() -> u32 {
    100
}
