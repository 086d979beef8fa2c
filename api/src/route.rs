//! Routes of a waypoint: tables of rules, in the order of evaluation, with every pattern compiled once.
//!
//! Source: `ambit.waypoint.HttpRule` and `TcpRule`. Matching lives in [`find`], what a rule does to paths and addresses
//! in [`change`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use crate::identity::Identity;
use crate::service::ServiceKey;

pub mod change;
pub mod find;
pub mod headers;
pub mod outline;
mod parse;
mod retry;
pub mod rewrite;
#[cfg(test)]
mod tests;
pub mod text;

pub use retry::{Retry, RetryOn};
pub use text::{Case, Pattern, TextMatch};

/// The routes of a service, or of a listener, for requests. The first rule that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpTable {
    /// The rules, in order.
    pub rules: Vec<Arc<HttpRule>>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// For access logs; empty if it has none.
    pub name: Arc<str>,
    /// The object and the place in it, for example `VirtualService/shop/web#0`.
    pub origin: Arc<str>,
    /// Any suffices; none match everything.
    pub matches: Vec<HttpMatch>,
    /// What becomes of the request.
    pub action: Action,
    /// How the request changes on its way.
    pub rewrite: Option<Rewrite>,
    /// Header operations on the request.
    pub request_headers: HeaderChange,
    /// Header operations on the answer.
    pub response_headers: HeaderChange,
    /// Faults put in on purpose.
    pub fault: Option<Fault>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Of the whole request with its retries.
    pub timeout: Option<Duration>,
    /// Retries; `None`: none.
    pub retry: Option<Arc<Retry>>,
}

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// For people; empty if it has none.
    pub name: Arc<str>,
    /// The path without the query.
    pub path: Option<TextMatch>,
    /// Of exact and prefix paths.
    pub path_case: Case,
    /// `http` or `https`.
    pub scheme: Option<TextMatch>,
    /// The method.
    pub method: Option<TextMatch>,
    /// The authority as sent, with its port if it has one; in any case of letters.
    pub authority: Option<TextMatch>,
    /// Headers, all of them.
    pub headers: Vec<HeaderMatch>,
    /// Parameters of the query, by their first value as it was sent, all of them.
    pub query: Vec<QueryMatch>,
    /// Port of the service.
    pub port: Option<NonZeroU16>,
    /// Labels of the client's pod.
    pub source_labels: BTreeMap<String, String>,
    /// The client's namespace.
    pub source_namespace: Option<String>,
}

/// What is asked of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// Its value; `None`: presence.
    pub value: Option<TextMatch>,
    /// Must not match; an absent header then counts as empty.
    pub invert: bool,
}

/// What is asked of one parameter of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Its name, as it was sent.
    pub name: String,
    /// Its value; `None`: presence.
    pub value: Option<TextMatch>,
    /// Must not match; an absent parameter then counts as empty.
    pub invert: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sent on.
    Forward(Forward),
    /// Sent elsewhere by the client itself.
    Redirect(Redirect),
    /// Answered here.
    Respond(DirectResponse),
}

/// Where requests go on to, by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The backends, those of weight 0 included.
    pub backends: Vec<Backend>,
    /// The sum of their weights; 0: nothing can be chosen, which is answered with 500.
    total: u64,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The service, by the name of its destination.
    pub service: ServiceKey,
    /// One subset of it.
    pub subset: Option<Arc<str>>,
    /// The service's port; `None`: the one that was dialled.
    pub port: Option<NonZeroU16>,
    /// Its share among its siblings.
    pub weight: u32,
    /// Header operations on the request, after the rule's.
    pub request_headers: HeaderChange,
    /// Header operations on the answer, after the rule's.
    pub response_headers: HeaderChange,
    /// Why it cannot be used; its share of requests is answered with this.
    pub broken: Option<Broken>,
}

/// What stands in the place of a backend that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The status of the answer.
    pub status: StatusCode,
    /// Why, for logs.
    pub why: Arc<str>,
}

/// Sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `None`: the request's.
    pub scheme: Option<String>,
    /// Host, or host and port; `None`: the request's.
    pub authority: Option<String>,
    /// Where the port comes from.
    pub port: RedirectPort,
    /// `None`: the path stays.
    pub path: Option<PathChange>,
    /// The status of the answer.
    pub status: StatusCode,
}

/// The port of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// This one.
    Number(NonZeroU16),
    /// The one the request came to.
    Request,
    /// The scheme's own.
    Scheme,
}

/// An answer given here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// How a request changes on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Of the path.
    pub path: Option<PathChange>,
    /// The new authority.
    pub authority: Option<HeaderValue>,
}

/// How a path changes; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// The matched prefix is replaced as it stands.
    Prefix(String),
    /// The matched prefix is replaced by whole segments.
    Segments(String),
    /// The whole path is replaced.
    Full(String),
    /// Every match of a pattern is replaced.
    Regex {
        /// What is replaced.
        pattern: Pattern,
        /// By what; `\1` names groups.
        substitution: text::Substitution,
    },
}

/// Set, then add, then remove; each by sorted name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChange {
    /// Replaces all values of a header.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a value to a header.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes a header.
    pub remove: Vec<HeaderName>,
    /// Of a request: the new authority (`Host` and `:authority` among the headers above mean it).
    pub authority: Option<HeaderValue>,
}

/// Faults put in on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Waits first.
    pub delay: Option<Delay>,
    /// Answers in the service's place.
    pub abort: Option<AbortShare>,
}

/// A wait for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Of how many, in millionths.
    pub share: u32,
}

/// An answer for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortShare {
    /// The answer.
    pub answer: Abort,
    /// To how many, in millionths.
    pub share: u32,
}

/// An answer in the place of the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// An HTTP status.
    Http(StatusCode),
    /// A gRPC status code.
    Grpc(u32),
}

/// Who gets a copy of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The service, by the name of its destination.
    pub service: ServiceKey,
    /// One subset of it.
    pub subset: Option<Arc<str>>,
    /// The service's port; `None`: the one that was dialled.
    pub port: Option<NonZeroU16>,
    /// Of how many requests, in millionths.
    pub share: u32,
}

/// The routes for connections of which only the addresses are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpTable {
    /// The rules, in order.
    pub rules: Vec<Arc<TcpRule>>,
}

/// One rule for connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRule {
    /// For access logs; empty if it has none.
    pub name: Arc<str>,
    /// The object and the place in it.
    pub origin: Arc<str>,
    /// Any suffices; none match everything.
    pub matches: Vec<TcpMatch>,
    /// Where connections go on to.
    pub forward: Forward,
}

/// Everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpMatch {
    /// Where the address dialled lies, any of these.
    pub destination_subnets: Vec<IpNet>,
    /// Port of the service.
    pub port: Option<NonZeroU16>,
    /// Labels of the client's pod.
    pub source_labels: BTreeMap<String, String>,
    /// The client's namespace.
    pub source_namespace: Option<String>,
}

/// Who sends a request or opens a connection: as routes ask for it, and as policies judge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Proven by the CONNECT's certificate.
    pub identity: Option<Identity>,
    /// The CONNECT's TCP peer.
    pub ip: IpAddr,
    /// The namespace of its pod; empty if it is not known.
    pub namespace: Arc<str>,
    /// The labels of its pod, as far as some route asks for them.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// What routes are chosen by: a request, normalised.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// In canonical form ([`crate::normalise::authority`]), with the port if one was sent.
    pub authority: &'a str,
    /// Normalised, without the query.
    pub path: &'a str,
    /// As sent.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The service's port that was dialled.
    pub port: u16,
    /// Who sends it.
    pub client: &'a Client,
}

/// The rule a request fell on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'t> {
    /// The rule.
    pub rule: &'t Arc<HttpRule>,
    /// Its place in the table.
    pub place: usize,
    /// The match that held; `None`: the rule has none and takes everything.
    pub by: Option<&'t HttpMatch>,
    /// How many bytes of the path it matched: what [`PathChange::Prefix`] and [`PathChange::Segments`] replace.
    pub prefix: usize,
}

impl Forward {
    /// Backends with their weights summed up.
    pub fn new(backends: Vec<Backend>) -> Self {
        let total = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        Self { backends, total }
    }

    /// The sum of the weights; 0: nothing can be chosen.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The backend on which `ticket`, drawn from `0..total`, falls. `None`: no backend has any weight.
    pub fn choose(&self, ticket: u64) -> Option<&Backend> {
        let mut left = ticket.checked_rem(self.total)?;
        self.backends.iter().find(|backend| match left.checked_sub(u64::from(backend.weight)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    }
}
