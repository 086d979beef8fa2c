//! Spans as OTLP: those messages and fields of OpenTelemetry's `trace/v1` protocol that a proxy fills. The published
//! crate of these messages comes with OpenTelemetry's SDK, which a proxy has no use for.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::{Enumeration, Message, Oneof};

use super::span::{Origin, Span};

/// Where collectors of OTLP over HTTP take them unless the configuration says otherwise.
pub const PATH: &str = "/v1/traces";

/// The method of OTLP over gRPC.
pub const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// One report.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    /// One per process.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// What a collector answers; a report it takes in part only is not sent again either way.
#[derive(Clone, PartialEq, Message)]
pub struct ExportResponse {}

/// The spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// One per library.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What describes it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// The spans of one library.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<WireSpan>,
}

/// A library.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct WireSpan {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// The operation.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Which side of a call.
    #[prost(enumeration = "Kind", tag = "6")]
    pub kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start: u64,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end: u64,
    /// What else there is to say.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// Which side of a call a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Not said.
    Unspecified = 0,
    /// The side that answers.
    Server = 2,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Well or not.
    #[prost(enumeration = "Code", tag = "3")]
    pub code: i32,
}

/// Whether a span ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Not said.
    Unset = 0,
    /// It did not.
    Error = 2,
}

/// One attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// An attribute's value.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// Of some type.
    #[prost(oneof = "Any", tags = "1, 3")]
    pub value: Option<Any>,
}

/// The types of attributes.
#[derive(Clone, PartialEq, Oneof)]
pub enum Any {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// Tags whose values are numbers.
const NUMBERS: [&str; 4] = ["http.status_code", "request_size", "response_size", "grpc.status_code"];

/// One report.
pub fn request(spans: &[Span], origin: &Origin) -> ExportRequest {
    let resource = [
        ("service.name", origin.name()),
        ("service.namespace", origin.namespace.clone()),
        ("k8s.pod.name", origin.pod.clone()),
        ("k8s.cluster.name", origin.cluster.clone()),
    ];
    let attributes = resource.into_iter().map(|(key, value)| attribute(key, &value)).collect();
    let scope = Scope { name: "ambit.waypoint".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = spans.iter().map(wire).collect();
    ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }],
    }
}

fn wire(span: &Span) -> WireSpan {
    let code = if span.failed { Code::Error } else { Code::Unset };
    WireSpan {
        trace_id: span.context.trace.to_bytes().to_vec(),
        span_id: span.context.span.to_bytes().to_vec(),
        parent_span_id: span.context.parent.map_or_else(Vec::new, |parent| parent.to_bytes().to_vec()),
        name: span.name.clone(),
        kind: Kind::Server.into(),
        start: nanoseconds(span.began),
        end: nanoseconds(span.began + span.duration),
        attributes: span.tags.iter().map(|(tag, value)| attribute(tag, value)).collect(),
        status: Some(Status { code: code.into() }),
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let number = NUMBERS.contains(&key).then(|| value.parse().ok()).flatten();
    let value = number.map_or_else(|| Any::Text(value.to_owned()), Any::Number);
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn nanoseconds(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
