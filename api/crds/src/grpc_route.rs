//! GRPCRoute: Gateway API's routing rules for gRPC, every field kept.

mod check;

use serde::Deserialize;

use crate::gateway_api::{Backend, Filter, MatchKind, NamedMatch, ParentRef, SessionPersistence};
use crate::meta::ObjectMeta;

/// A GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcRoute {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: GrpcRouteSpec,
}

/// What a GRPCRoute says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// `All` or `None`.
    pub use_default_gateways: Option<String>,
    /// Names requests are sent to; empty means those of the listener.
    pub hostnames: Vec<String>,
    /// Rules; the most specific match wins.
    pub rules: Vec<GrpcRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcRule {
    /// Name of the rule.
    pub name: Option<String>,
    /// Any of these; empty matches everything.
    pub matches: Vec<GrpcMatch>,
    /// What happens to requests.
    pub filters: Vec<Filter>,
    /// Where to.
    pub backend_refs: Vec<Backend>,
    /// Requests of one client stay with one backend.
    pub session_persistence: Option<SessionPersistence>,
}

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcMatch {
    /// Service and method.
    pub method: Option<MethodMatch>,
    /// Headers.
    pub headers: Vec<NamedMatch>,
}

/// Which methods are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MethodMatch {
    /// How both are compared.
    #[serde(rename = "type")]
    pub kind: MatchKind,
    /// The service with its package; any where it is absent.
    pub service: Option<String>,
    /// The method; any where it is absent.
    pub method: Option<String>,
}

#[cfg(test)]
mod tests;
