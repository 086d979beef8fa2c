//! What a request can ask of its answer, by path (`/status/503`), query (`?status=503&delay=20`) or header.
//!
//! | in path or query | effect |
//! |---|---|
//! | `status=N` | that status |
//! | `delay=MS` | waits before it answers |
//! | `bytes=N` | a body of N bytes |
//! | `reset=head`, `reset=body` | breaks the connection (HTTP/2: the stream) off before the head, or within the body |
//! | `trailers=TEXT` | the trailer `x-trailer: TEXT` (HTTP/1.1: when the client takes trailers) |
//! | `header=NAME:VALUE` | that header |
//! | `/echo` | sends the body back as it comes |
//!
//! Headers: `x-fail-first: N` lets the first N requests of one `x-fail-key` (else `x-request-id`, else path) fail with
//! `x-fail-status` (else 503; gRPC: UNAVAILABLE), and `x-grpc-status: N` ends a call so.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use crate::standin::serve::Answer;

/// Largest answer of `bytes`.
const LARGEST: usize = 64 << 20;

/// Where an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    Head,
    Body,
}

/// Requests that shall fail before one succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FailFirst {
    pub(super) key: String,
    pub(super) count: u64,
}

/// What was asked.
#[derive(Debug)]
pub(super) struct Ask {
    status: Option<StatusCode>,
    pub(super) delay: Duration,
    pub(super) bytes: Option<usize>,
    pub(super) reset: Option<Reset>,
    trailers: Option<HeaderValue>,
    headers: HeaderMap,
    pub(super) sends_back: bool,
    /// A status asked for by path comes without a body, as it always did.
    pub(super) bare: bool,
    pub(super) fail_first: Option<FailFirst>,
    pub(super) fail_status: StatusCode,
    pub(super) grpc_status: Option<u32>,
}

impl Ask {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let in_path = path.trim_start_matches('/').split_once('/');
        let query = request.uri().query().unwrap_or_default();
        let asked: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).chain(in_path).collect();
        let value = |name: &str| asked.iter().find(|(key, _value)| *key == name).map(|(_key, value)| *value);
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let status = |text: &str| text.parse::<StatusCode>().unwrap_or(StatusCode::BAD_REQUEST);
        let key = header("x-fail-key").or(header("x-request-id")).unwrap_or(path);
        let fail_first = header("x-fail-first").and_then(|count| count.parse().ok());
        let pairs = asked.iter().filter(|(key, _value)| *key == "header");
        let named = pairs.filter_map(|(_key, pair)| {
            let (name, value) = pair.split_once(':')?;
            Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
        });
        Ask {
            status: value("status").map(status),
            delay: Duration::from_millis(value("delay").and_then(|time| time.parse().ok()).unwrap_or(0)),
            bytes: value("bytes").and_then(|size| size.parse().ok()).map(|size: usize| size.min(LARGEST)),
            reset: value("reset").map(|place| if place == "body" { Reset::Body } else { Reset::Head }),
            trailers: value("trailers").and_then(|text| text.parse().ok()),
            headers: named.collect(),
            sends_back: path == "/echo",
            bare: in_path.is_some_and(|(command, _value)| command == "status"),
            fail_first: fail_first.map(|count| FailFirst { key: key.to_owned(), count }),
            fail_status: header("x-fail-status").map_or(StatusCode::SERVICE_UNAVAILABLE, status),
            grpc_status: header("x-grpc-status").and_then(|code| code.parse().ok()),
        }
    }

    /// Puts status, headers, trailers and the break onto an answer.
    pub(super) fn dress(self, mut response: Response<Answer>) -> Response<Answer> {
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        response.headers_mut().extend(self.headers);
        if let Some(text) = self.trailers {
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-trailer"));
            let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-trailer"), text)]);
            let (head, body) = response.into_parts();
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            response = Response::from_parts(head, Box::pin(body));
        }
        if self.reset == Some(Reset::Body) {
            // A part first, or the head would not be sent either.
            let pieces = [Ok(Frame::data(Bytes::from_static(b"a part of it"))), Err("asked to break off")];
            let pieces = pieces.map(|piece| piece.map_err(std::io::Error::other));
            response = response
                .map(|_body| -> Answer { Box::pin(StreamBody::new(futures_util::stream::iter(pieces))) });
        }
        response
    }
}

/// A request's body as an answer's, piece by piece.
pub(super) fn sent_back(request: Request<Incoming>) -> Answer {
    Box::pin(request.into_body().map_err(std::io::Error::other))
}

#[cfg(test)]
mod tests {
    use super::{Ask, FailFirst, Reset};
    use http::{Request, StatusCode};
    use std::time::Duration;

    #[test]
    fn path_query_and_headers_are_read() {
        let request = Request::get("/status/201?delay=5&reset=body&bytes=9&header=a:b")
            .header("x-fail-first", "2")
            .header("x-request-id", "r")
            .header("x-fail-status", "500");
        let ask = Ask::of(&request.body(()).unwrap());
        assert_eq!((ask.status, ask.delay), (Some(StatusCode::CREATED), Duration::from_millis(5)));
        assert_eq!((ask.reset, ask.bytes, ask.bare), (Some(Reset::Body), Some(9), true));
        assert_eq!(ask.headers["a"], "b");
        assert_eq!(ask.fail_first, Some(FailFirst { key: "r".to_owned(), count: 2 }));
        assert_eq!(ask.fail_status, StatusCode::INTERNAL_SERVER_ERROR);
        let plain = Ask::of(&Request::get("/").body(()).unwrap());
        assert!(plain.status.is_none() && plain.fail_first.is_none() && plain.delay.is_zero());
    }
}
