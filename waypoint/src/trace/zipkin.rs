//! Spans as Zipkin's JSON, version 2.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use super::span::{Origin, Span};

/// Where collectors take them unless the configuration says otherwise.
pub const PATH: &str = "/api/v2/spans";

/// The body of one report.
pub fn body(spans: &[Span], origin: &Origin) -> Vec<u8> {
    Value::Array(spans.iter().map(|span| object(span, origin)).collect()).to_string().into_bytes()
}

fn object(span: &Span, origin: &Origin) -> Value {
    let began = span.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut tags: Map<String, Value> =
        span.tags.iter().map(|(tag, value)| ((*tag).to_owned(), value.as_str().into())).collect();
    if span.failed {
        tags.insert("error".to_owned(), "true".into());
    }
    let mut object = json!({
        "traceId": span.context.trace.to_string(),
        "id": span.context.span.to_string(),
        "kind": "SERVER",
        "name": span.name,
        "timestamp": microseconds(began),
        // Zipkin takes 0 for unknown.
        "duration": microseconds(span.duration).max(1),
        "localEndpoint": { "serviceName": origin.name() },
        "remoteEndpoint": { family(span.peer.ip()): span.peer.ip().to_string(), "port": span.peer.port() },
        "tags": tags,
    });
    if let Some(parent) = span.context.parent {
        object["parentId"] = parent.to_string().into();
    }
    object
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ipv4" } else { "ipv6" }
}

fn microseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
