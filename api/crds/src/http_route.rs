//! HTTPRoute: Gateway API's routing rules for HTTP, every field kept.

mod check;

use std::time::Duration;

use serde::Deserialize;

use crate::gateway_api::{Backend, Filter, NamedMatch, ParentRef, SessionPersistence};
use crate::meta::ObjectMeta;
use crate::value;

/// An HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRoute {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: HttpRouteSpec,
}

/// What an HTTPRoute says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// `All` or `None`.
    pub use_default_gateways: Option<String>,
    /// Names requests are sent to; empty means those of the listener.
    pub hostnames: Vec<String>,
    /// Rules; the most specific match wins.
    pub rules: Vec<HttpRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRule {
    /// Name of the rule.
    pub name: Option<String>,
    /// Any of these; one for the prefix `/` where none is written.
    pub matches: Vec<HttpMatch>,
    /// What happens to requests.
    pub filters: Vec<Filter>,
    /// Where to.
    pub backend_refs: Vec<Backend>,
    /// How long it may take.
    pub timeouts: Option<Timeouts>,
    /// When to try again.
    pub retry: Option<Retry>,
    /// Requests of one client stay with one backend.
    pub session_persistence: Option<SessionPersistence>,
}

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatch {
    /// Path; the prefix `/` where none is written.
    pub path: PathMatch,
    /// Headers.
    pub headers: Vec<NamedMatch>,
    /// Parameters of the query.
    pub query_params: Vec<NamedMatch>,
    /// Method.
    pub method: Option<Method>,
}

/// What a path is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawPath")]
pub enum PathMatch {
    /// Equal.
    Exact(String),
    /// Begins with it, by whole segments.
    Prefix(String),
    /// The whole path matches the expression.
    Regex(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPath {
    #[serde(default, rename = "type")]
    kind: PathKind,
    #[serde(default = "slash")]
    value: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum PathKind {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names say all")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// How long it may take; zero for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// The whole request with its retries.
    #[serde(deserialize_with = "value::optional_gateway_duration")]
    pub request: Option<Duration>,
    /// One attempt.
    #[serde(deserialize_with = "value::optional_gateway_duration")]
    pub backend_request: Option<Duration>,
}

/// When to try again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// After these statuses.
    pub codes: Vec<u16>,
    /// How often.
    pub attempts: Option<u32>,
    /// Least pause in between.
    #[serde(deserialize_with = "value::optional_gateway_duration")]
    pub backoff: Option<Duration>,
}

impl Method {
    /// As requests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}

impl Default for HttpRouteSpec {
    fn default() -> Self {
        Self {
            parent_refs: Vec::new(),
            use_default_gateways: None,
            hostnames: Vec::new(),
            rules: vec![HttpRule::default()],
        }
    }
}

impl Default for HttpRule {
    fn default() -> Self {
        Self {
            name: None,
            matches: vec![HttpMatch::default()],
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: None,
            retry: None,
            session_persistence: None,
        }
    }
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix(slash())
    }
}

impl From<RawPath> for PathMatch {
    fn from(raw: RawPath) -> Self {
        match raw.kind {
            PathKind::Exact => Self::Exact(raw.value),
            PathKind::PathPrefix => Self::Prefix(raw.value),
            PathKind::RegularExpression => Self::Regex(raw.value),
        }
    }
}

fn slash() -> String {
    "/".to_owned()
}

#[cfg(test)]
mod tests;
