//! What a rule of a VirtualService does with a request besides sending it on.

use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;

use super::Destination;
use crate::meta::Map;
use crate::value::{self, Percent, StringMatch};

/// Answers with another address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Redirect {
    /// The new path; empty for the request's own.
    pub uri: String,
    /// In place of the matched prefix; empty for none.
    pub prefix_rewrite: String,
    /// The new host; empty for the request's own.
    pub authority: String,
    /// The new scheme; empty for the request's own.
    pub scheme: String,
    /// The new port.
    #[serde(deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
    /// Where the port comes from otherwise.
    pub derive_port: Option<RedirectPort>,
    /// Status; 301 where none is written.
    pub redirect_code: Option<u32>,
}

/// Where the port of a redirect comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPort {
    /// The scheme's own.
    FromProtocolDefault,
    /// The request's.
    FromRequestPort,
}

/// Answers at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectResponse {
    /// Status.
    pub status: u32,
    /// Body; none where it is absent.
    #[serde(default)]
    pub body: Option<ResponseBody>,
}

/// The body of a direct response.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawBody")]
pub struct ResponseBody(pub Vec<u8>);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawBody {
    string: Option<String>,
    #[serde(deserialize_with = "value::optional_base64")]
    bytes: Option<Vec<u8>>,
}

/// Another VirtualService whose rules stand in place of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for the own one.
    pub namespace: String,
}

/// Changes path and authority before the request goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Rewrite {
    /// In place of the matched prefix, or of the whole path.
    pub uri: String,
    /// The new host; empty for none.
    pub authority: String,
    /// Replaces what an expression matches.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Replaces every place of the path that an expression matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegexRewrite {
    /// The expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What is put there; `\1` names groups.
    #[serde(rename = "rewrite")]
    pub substitution: String,
}

/// When a request is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// How often; 0 for never.
    pub attempts: u32,
    /// For one attempt; the rule's timeout where it is absent.
    #[serde(deserialize_with = "value::optional_duration")]
    pub per_try_timeout: Option<Duration>,
    /// After what: names joined by commas; empty for the default.
    pub retry_on: String,
    /// Also in other localities.
    pub retry_remote_localities: Option<bool>,
    /// Not where it was tried already.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base of the pauses in between.
    #[serde(deserialize_with = "value::optional_duration")]
    pub backoff: Option<Duration>,
}

/// Faults put in on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Waits.
    pub delay: Option<Delay>,
    /// Answers with an error.
    pub abort: Option<Abort>,
}

/// Waits before a request goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Delay {
    /// How long.
    #[serde(deserialize_with = "value::optional_duration")]
    pub fixed_delay: Option<Duration>,
    /// Istio's API has it, and nothing obeys it.
    #[serde(deserialize_with = "value::optional_duration")]
    pub exponential_delay: Option<Duration>,
    /// How many of the requests; none where it is absent.
    pub percentage: Option<Percent>,
    /// Whole percents; superseded by `percentage`.
    pub percent: Option<u32>,
}

/// Answers with an error instead of sending a request on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Abort {
    /// Status.
    pub http_status: Option<u32>,
    /// Name of a gRPC status.
    pub grpc_status: String,
    /// Istio's API has it, and nothing obeys it.
    pub http2_error: String,
    /// How many of the requests; none where it is absent.
    pub percentage: Option<Percent>,
}

/// Sends a copy elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Where to.
    pub destination: Destination,
    /// How many of the requests; all where it is absent.
    #[serde(default)]
    pub percentage: Option<Percent>,
}

/// Cross-origin requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Exact origins; superseded by `allow_origins`.
    pub allow_origin: Vec<String>,
    /// Origins.
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    pub allow_headers: Vec<String>,
    /// Headers of responses.
    pub expose_headers: Vec<String>,
    /// How long a client may remember the answer.
    #[serde(deserialize_with = "value::optional_duration")]
    pub max_age: Option<Duration>,
    /// Whether credentials may be sent.
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What happens to preflights of origins that are not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As FORWARD.
    #[default]
    Unspecified,
    /// They go to the service.
    Forward,
    /// They are answered without leave.
    Ignore,
}

/// Header changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Of requests.
    pub request: HeaderOperations,
    /// Of responses.
    pub response: HeaderOperations,
}

/// What happens to headers: set, then add, then remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderOperations {
    /// Overwritten.
    pub set: Map,
    /// Appended.
    pub add: Map,
    /// Taken away.
    pub remove: Vec<String>,
}

impl Delay {
    /// How many of the requests, in either way of writing.
    pub fn share(&self) -> Percent {
        self.percentage.or(self.percent.map(Percent::whole)).unwrap_or(Percent::NONE)
    }
}

impl Abort {
    /// How many of the requests.
    pub fn share(&self) -> Percent {
        self.percentage.unwrap_or(Percent::NONE)
    }
}

impl TryFrom<RawBody> for ResponseBody {
    type Error = String;

    fn try_from(raw: RawBody) -> Result<Self, String> {
        match (raw.string, raw.bytes) {
            (Some(text), None) => Ok(Self(text.into_bytes())),
            (None, Some(bytes)) => Ok(Self(bytes)),
            (None, None) => Err("a body without content; write string or bytes, or remove it".to_owned()),
            (Some(_), Some(_)) => Err("both string and bytes are set; keep one of them".to_owned()),
        }
    }
}
