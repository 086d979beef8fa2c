//! What a rule of an HTTPRoute or GRPCRoute does with requests on their way.

use std::num::NonZeroU16;

use serde::Deserialize;
use serde_json::Value;

use super::{BackendObject, Fraction, LocalObject};
use crate::value::{self, Percent};

/// One thing that happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawFilter")]
pub enum Filter {
    /// Changes headers of requests.
    RequestHeaders(HeaderModifier),
    /// Changes headers of responses.
    ResponseHeaders(HeaderModifier),
    /// Sends a copy elsewhere.
    Mirror(RequestMirror),
    /// Answers with another address.
    Redirect(Redirect),
    /// Changes path and host.
    Rewrite(Rewrite),
    /// Cross-origin requests.
    Cors(Cors),
    /// Asks another program.
    ExternalAuth(ExternalAuth),
    /// An extension of somebody's.
    Extension(LocalObject),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawFilter {
    #[serde(rename = "type")]
    kind: FilterKind,
    #[serde(default)]
    request_header_modifier: Option<HeaderModifier>,
    #[serde(default)]
    response_header_modifier: Option<HeaderModifier>,
    #[serde(default)]
    request_mirror: Option<RequestMirror>,
    #[serde(default)]
    request_redirect: Option<Redirect>,
    #[serde(default)]
    url_rewrite: Option<Rewrite>,
    #[serde(default)]
    cors: Option<Cors>,
    #[serde(default)]
    external_auth: Option<ExternalAuth>,
    #[serde(default)]
    extension_ref: Option<LocalObject>,
}

#[derive(Clone, Copy, Deserialize)]
enum FilterKind {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    #[serde(rename = "CORS")]
    Cors,
    ExternalAuth,
    ExtensionRef,
}

/// What happens to headers: set, then add, then remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderModifier {
    /// Overwritten.
    pub set: Vec<Header>,
    /// Appended.
    pub add: Vec<Header>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Sends a copy elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawMirror")]
pub struct RequestMirror {
    /// Where to.
    pub backend: BackendObject,
    /// How many of the requests.
    pub share: Percent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawMirror {
    backend_ref: BackendObject,
    #[serde(default)]
    percent: Option<u32>,
    #[serde(default)]
    fraction: Option<Fraction>,
}

/// Answers with another address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Redirect {
    /// The new scheme; the request's where it is absent.
    pub scheme: Option<String>,
    /// The new host; the request's where it is absent.
    pub hostname: Option<String>,
    /// The new path; the request's where it is absent.
    pub path: Option<PathModifier>,
    /// The new port; by the scheme where it is absent.
    #[serde(deserialize_with = "value::optional_port")]
    pub port: Option<NonZeroU16>,
    /// Status; 302 where it is absent.
    pub status_code: Option<u16>,
}

/// Changes path and host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// The new host; the request's where it is absent.
    pub hostname: Option<String>,
    /// The new path; the request's where it is absent.
    pub path: Option<PathModifier>,
}

/// How a path changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawPath")]
pub enum PathModifier {
    /// The whole path.
    Full(String),
    /// The matched prefix, by whole segments.
    Prefix(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPath {
    #[serde(rename = "type")]
    kind: PathKind,
    #[serde(default)]
    replace_full_path: Option<String>,
    #[serde(default)]
    replace_prefix_match: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
enum PathKind {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

/// Cross-origin requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Cors {
    /// Origins.
    pub allow_origins: Vec<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: Option<bool>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    pub allow_headers: Vec<String>,
    /// Headers of responses.
    pub expose_headers: Vec<String>,
    /// Seconds a client may remember the answer; 5 where it is absent.
    pub max_age: Option<u32>,
}

/// Asks another program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExternalAuth {
    /// `HTTP` or `GRPC`.
    pub protocol: String,
    /// Which program.
    pub backend_ref: BackendObject,
    /// Of gRPC, as written.
    #[serde(default)]
    pub grpc: Option<Value>,
    /// Of HTTP, as written.
    #[serde(default)]
    pub http: Option<Value>,
    /// What of the body is sent along, as written.
    #[serde(default)]
    pub forward_body: Option<Value>,
}

impl FilterKind {
    /// The value of `type`, and the field that belongs to it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::RequestHeaderModifier => ("RequestHeaderModifier", "requestHeaderModifier"),
            Self::ResponseHeaderModifier => ("ResponseHeaderModifier", "responseHeaderModifier"),
            Self::RequestMirror => ("RequestMirror", "requestMirror"),
            Self::RequestRedirect => ("RequestRedirect", "requestRedirect"),
            Self::UrlRewrite => ("URLRewrite", "urlRewrite"),
            Self::Cors => ("CORS", "cors"),
            Self::ExternalAuth => ("ExternalAuth", "externalAuth"),
            Self::ExtensionRef => ("ExtensionRef", "extensionRef"),
        }
    }
}

impl TryFrom<RawFilter> for Filter {
    type Error = String;

    fn try_from(raw: RawFilter) -> Result<Self, String> {
        let (kind, field) = raw.kind.names();
        let set = [
            ("requestHeaderModifier", raw.request_header_modifier.is_some()),
            ("responseHeaderModifier", raw.response_header_modifier.is_some()),
            ("requestMirror", raw.request_mirror.is_some()),
            ("requestRedirect", raw.request_redirect.is_some()),
            ("urlRewrite", raw.url_rewrite.is_some()),
            ("cors", raw.cors.is_some()),
            ("externalAuth", raw.external_auth.is_some()),
            ("extensionRef", raw.extension_ref.is_some()),
        ];
        if let Some((other, _)) = set.iter().find(|(name, set)| *set && *name != field) {
            return Err(format!(
                "{other} does not belong to a filter of type {kind}; remove it, or correct type"
            ));
        }
        let made = match raw.kind {
            FilterKind::RequestHeaderModifier => raw.request_header_modifier.map(Self::RequestHeaders),
            FilterKind::ResponseHeaderModifier => raw.response_header_modifier.map(Self::ResponseHeaders),
            FilterKind::RequestMirror => raw.request_mirror.map(Self::Mirror),
            FilterKind::RequestRedirect => raw.request_redirect.map(Self::Redirect),
            FilterKind::UrlRewrite => raw.url_rewrite.map(Self::Rewrite),
            FilterKind::Cors => raw.cors.map(Self::Cors),
            FilterKind::ExternalAuth => raw.external_auth.map(Self::ExternalAuth),
            FilterKind::ExtensionRef => raw.extension_ref.map(Self::Extension),
        };
        made.ok_or_else(|| format!("a filter of type {kind} says nothing; set {field}"))
    }
}

impl TryFrom<RawMirror> for RequestMirror {
    type Error = String;

    fn try_from(raw: RawMirror) -> Result<Self, String> {
        let share = match (raw.percent, raw.fraction) {
            (Some(_), Some(_)) => {
                return Err("both percent and fraction are set; keep one of them".to_owned());
            }
            (Some(percent), None) => {
                Percent::new(f64::from(percent)).map_err(|error| format!("percent: {error}"))?
            }
            (None, Some(fraction)) => fraction.percent().map_err(|error| format!("fraction: {error}"))?,
            (None, None) => Percent::ALL,
        };
        Ok(Self { backend: raw.backend_ref, share })
    }
}

impl TryFrom<RawPath> for PathModifier {
    type Error = String;

    fn try_from(raw: RawPath) -> Result<Self, String> {
        match (raw.kind, raw.replace_full_path, raw.replace_prefix_match) {
            (PathKind::ReplaceFullPath, Some(path), None) => Ok(Self::Full(path)),
            (PathKind::ReplacePrefixMatch, None, Some(path)) => Ok(Self::Prefix(path)),
            (PathKind::ReplaceFullPath, ..) => {
                Err("type ReplaceFullPath needs replaceFullPath alone; set it and no other".to_owned())
            }
            (PathKind::ReplacePrefixMatch, ..) => {
                Err("type ReplacePrefixMatch needs replacePrefixMatch alone; set it and no other".to_owned())
            }
        }
    }
}
