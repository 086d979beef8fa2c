//! VirtualService: Istio's routing rules, every field kept.
//!
//! Parsed strictly, then checked as Istio's admission does; what is here can be obeyed or be named as not obeyed.

mod action;
pub(crate) mod check;
mod matching;

use std::time::Duration;

use serde::Deserialize;

use crate::meta::ObjectMeta;
use crate::value;

pub use action::{
    Abort, CorsPolicy, Delay, Delegate, DirectResponse, Fault, HeaderOperations, Headers, Mirror, Redirect,
    RedirectPort, RegexRewrite, ResponseBody, Retry, Rewrite, UnmatchedPreflights,
};
pub use matching::{HttpMatch, TcpMatch, TlsMatch};

/// The reserved name that stands for every proxy of the mesh in lists of gateways.
pub const MESH_GATEWAY: &str = "mesh";

/// A VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualService {
    /// Name, labels, annotations.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: VirtualServiceSpec,
}

/// What a VirtualService says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualServiceSpec {
    /// Names requests are sent to; empty only for one that others delegate to.
    pub hosts: Vec<String>,
    /// Gateways it applies to; empty means [`MESH_GATEWAY`] alone.
    pub gateways: Vec<String>,
    /// Rules for HTTP, in order.
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is passed on, in order.
    pub tls: Vec<TlsRoute>,
    /// Rules for all other connections, in order.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it; empty means all.
    pub export_to: Vec<String>,
}

/// One rule for HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRoute {
    /// For logs.
    pub name: String,
    /// Any of these; empty matches everything.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Where to.
    pub route: Vec<HttpDestination>,
    /// Answer with another address.
    pub redirect: Option<Redirect>,
    /// Answer at once.
    pub direct_response: Option<DirectResponse>,
    /// Rules of another VirtualService.
    pub delegate: Option<Delegate>,
    /// What is changed of path and authority.
    pub rewrite: Option<Rewrite>,
    /// For the whole request with its retries; zero for none.
    #[serde(deserialize_with = "value::optional_duration")]
    pub timeout: Option<Duration>,
    /// When to try again.
    pub retries: Option<Retry>,
    /// Faults put in on purpose.
    pub fault: Option<Fault>,
    /// Who gets a copy.
    pub mirror: Option<Destination>,
    /// How many of the requests are copied; all where it is absent.
    pub mirror_percentage: Option<value::Percent>,
    /// Whole percents; superseded by `mirror_percentage`.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<u32>,
    /// Several who get a copy.
    pub mirrors: Vec<Mirror>,
    /// Cross-origin requests.
    pub cors_policy: Option<CorsPolicy>,
    /// Header changes.
    pub headers: Option<Headers>,
}

/// Somewhere to send a request, and its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpDestination {
    /// Where to.
    pub destination: Destination,
    /// Its share of the sum of weights; of a single one it does not count.
    #[serde(default)]
    pub weight: u32,
    /// Header changes for this destination.
    #[serde(default)]
    pub headers: Option<Headers>,
}

/// Somewhere to send a connection, and its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedDestination {
    /// Where to.
    pub destination: Destination,
    /// Its share of the sum of weights; of a single one it does not count.
    #[serde(default)]
    pub weight: u32,
}

/// A service, or part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Its name, as [`VirtualServiceSpec::hosts`] are written.
    pub host: String,
    /// A subset of a DestinationRule; empty for the whole service.
    #[serde(default)]
    pub subset: String,
    /// A port of the service.
    #[serde(default)]
    pub port: Option<value::PortSelector>,
}

/// One rule for TLS that is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsRoute {
    /// Any of these; never empty.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Where to.
    pub route: Vec<WeightedDestination>,
}

/// One rule for connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpRoute {
    /// Any of these; empty matches everything.
    #[serde(rename = "match")]
    pub matches: Vec<TcpMatch>,
    /// Where to.
    pub route: Vec<WeightedDestination>,
}

impl HttpRoute {
    /// Everyone who gets a copy, in either way of writing, with the share of requests.
    pub fn copies(&self) -> impl Iterator<Item = (&Destination, value::Percent)> {
        let whole = self.mirror_percent.map(value::Percent::whole);
        let share = self.mirror_percentage.or(whole).unwrap_or(value::Percent::ALL);
        let one = self.mirror.iter().map(move |mirror| (mirror, share));
        let all = value::Percent::ALL;
        one.chain(self.mirrors.iter().map(move |each| (&each.destination, each.percentage.unwrap_or(all))))
    }
}

#[cfg(test)]
mod tests;
