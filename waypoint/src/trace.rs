//! Traces: the context that requests carry, and a span for each request that is sampled.
//!
//! A request that nobody traces costs one look at the configuration. What is sampled goes, through a bounded queue, to a
//! task beside the data plane ([`export`]); a collector that is slow or gone costs spans, which are counted, and no time.

use ambit_api::waypoint::{Tracing, TracingProtocol};
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

pub mod context;
pub mod export;
pub mod otlp;
pub mod span;
pub mod zipkin;

use context::{Context, Form};

/// Names a request for everybody who logs it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a request under way knows of its trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its place in the trace; sent on.
    pub context: Context,
}

/// Reads the context a request came with, or begins one, and leaves in its headers the context it goes on with.
pub fn begin(headers: &mut HeaderMap, tracing: &Tracing, rng: &mut impl Rng) -> Trace {
    let native = match tracing.protocol {
        TracingProtocol::Zipkin => Form::B3,
        TracingProtocol::OtlpGrpc | TracingProtocol::OtlpHttp => Form::W3c,
    };
    let came = context::read(headers, native);
    let sampled = came.sampled.unwrap_or_else(|| rng.random_range(0..1_000_000) < tracing.sampling);
    let context = Context::child(came.parent, sampled, rng);
    context::write(&context, native, headers);
    Trace { context }
}

/// Every request has a name; one that comes with one keeps it.
pub fn name(headers: &mut HeaderMap, rng: &mut impl Rng) {
    if headers.contains_key(REQUEST_ID) {
        return;
    }
    // A random UUID: version 4, variant 1.
    let bits = rng.random::<u128>() & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
    let (a, b, c, d, e) = (
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xffff,
        (bits >> 48) & 0xffff,
        bits & 0xffff_ffff_ffff,
    );
    if let Ok(name) = HeaderValue::try_from(format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")) {
        headers.insert(REQUEST_ID, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_uuid_and_stays() {
        let mut headers = HeaderMap::new();
        name(&mut headers, &mut rand::rng());
        let given = headers[REQUEST_ID].clone();
        let parts: Vec<_> = given.to_str().unwrap().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && ['8', '9', 'a', 'b'].iter().any(|c| parts[3].starts_with(*c)));
        name(&mut headers, &mut rand::rng());
        assert_eq!(headers[REQUEST_ID], given);
    }

    #[test]
    fn the_client_decides_about_sampling_and_else_the_share() {
        let tracing = |sampling| Tracing {
            protocol: TracingProtocol::Zipkin,
            collector: "zipkin:9411".to_owned(),
            sampling,
            path: String::new(),
        };
        for (said, sampling, sampled) in
            [(None, 0, false), (None, 1_000_000, true), (Some("1"), 0, true), (Some("0"), 1_000_000, false)]
        {
            let mut headers = HeaderMap::new();
            said.map(|said| headers.insert("x-b3-sampled", HeaderValue::from_static(said)));
            let trace = begin(&mut headers, &tracing(sampling), &mut rand::rng());
            assert_eq!(trace.context.sampled, sampled, "{said:?} {sampling}");
            assert_eq!(headers["x-b3-sampled"], if sampled { "1" } else { "0" });
            assert_eq!(headers["x-b3-traceid"].to_str().unwrap(), trace.context.trace.to_string());
        }
    }
}
