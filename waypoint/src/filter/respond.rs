//! Answers we give ourselves: direct responses, faults, refusals and failures, in the client's own protocol.
//!
//! A gRPC client takes any other HTTP status than 200 for a broken server, so it gets 200 and the gRPC status that
//! corresponds, without a body.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

#[cfg(test)]
mod tests;

/// Where gRPC puts its status.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What a gRPC message must not contain as it is; bytes beyond ASCII never may.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// What the client of a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Plain HTTP.
    Http,
    /// gRPC.
    Grpc,
}

/// A gRPC status code. Codes nobody defined are kept as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrpcStatus(pub u32);

impl Speaks {
    /// By the request's content type.
    pub fn of(request: &HeaderMap) -> Self {
        let kind = request.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        // `application/grpc-web` is another protocol, which carries its status in the body.
        match kind.strip_prefix(b"application/grpc") {
            Some([] | [b'+' | b';' | b' ', ..]) => Self::Grpc,
            _ => Self::Http,
        }
    }
}

impl GrpcStatus {
    /// The call was cancelled.
    pub const CANCELLED: Self = Self(1);
    /// Time ran out.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// A quota is used up.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// A broken invariant.
    pub const INTERNAL: Self = Self(13);
    /// Try again later.
    pub const UNAVAILABLE: Self = Self(14);

    /// The status in an answer's head (it has one if there is no body) or trailers.
    pub fn in_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok().map(Self)
    }

    /// What an answer of `status` means to a gRPC client (gRPC's HTTP mapping).
    pub fn from_http(status: StatusCode) -> Self {
        Self(match status.as_u16() {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    /// The HTTP status of the same meaning, for clients that do not speak gRPC and for counting failures.
    pub fn to_http(self) -> StatusCode {
        let status = match self.0 {
            0 => 200,
            // Nginx's number for a client that went away; nothing registered says it.
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// An answer of ours: `status`, with a text that says why.
pub fn answer(status: StatusCode, text: &str, speaks: Speaks) -> Response<Bytes> {
    match speaks {
        Speaks::Http => http(status, Bytes::copy_from_slice(text.as_bytes())),
        Speaks::Grpc => grpc(GrpcStatus::from_http(status), text),
    }
}

/// The answer a route gives in the place of any service.
pub fn direct(status: StatusCode, body: &Bytes, speaks: Speaks) -> Response<Bytes> {
    match speaks {
        Speaks::Http => http(status, body.clone()),
        Speaks::Grpc if status == StatusCode::OK => grpc(GrpcStatus(0), ""),
        Speaks::Grpc => grpc(GrpcStatus::from_http(status), &String::from_utf8_lossy(body)),
    }
}

/// A gRPC status of ours, or what comes closest for a client that does not speak gRPC.
pub fn grpc_answer(status: GrpcStatus, text: &str, speaks: Speaks) -> Response<Bytes> {
    match speaks {
        Speaks::Http => http(status.to_http(), Bytes::copy_from_slice(text.as_bytes())),
        Speaks::Grpc => grpc(status, text),
    }
}

fn http(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    if length > 0 {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    // 204 has no body and says nothing of its length.
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer
}

fn grpc(status: GrpcStatus, text: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status.0));
    if let Ok(message) = HeaderValue::try_from(utf8_percent_encode(text, ESCAPED).to_string())
        && !text.is_empty()
    {
        headers.insert(GRPC_MESSAGE, message);
    }
    answer
}
