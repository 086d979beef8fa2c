//! When failed attempts are made again.

use std::time::Duration;

use http::HeaderName;

/// When failed attempts are made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Beyond the first.
    pub attempts: u32,
    /// For one attempt.
    pub per_try_timeout: Option<Duration>,
    /// What is retried.
    pub on: Vec<RetryOn>,
    /// Of [`RetryOn::RetriableStatusCodes`].
    pub statuses: Vec<u16>,
    /// Of [`RetryOn::RetriableHeaders`].
    pub headers: Vec<HeaderName>,
    /// Base of the back-off.
    pub backoff: Duration,
    /// Other endpoints first.
    pub avoid_tried: bool,
}

/// What is retried. Names are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// `5xx`, connection failures and resets included.
    ServerError,
    /// `gateway-error`: 502, 503, 504.
    GatewayError,
    /// `reset`.
    Reset,
    /// `reset-before-request`.
    ResetBeforeRequest,
    /// `connect-failure`.
    ConnectFailure,
    /// `retriable-4xx`: 409.
    Retriable4xx,
    /// `refused-stream`.
    RefusedStream,
    /// `retriable-status-codes`.
    RetriableStatusCodes,
    /// `retriable-headers`.
    RetriableHeaders,
    /// `envoy-ratelimited`.
    RateLimited,
    /// gRPC `cancelled`.
    Cancelled,
    /// gRPC `deadline-exceeded`.
    DeadlineExceeded,
    /// gRPC `internal`.
    Internal,
    /// gRPC `resource-exhausted`.
    ResourceExhausted,
    /// gRPC `unavailable`.
    Unavailable,
}

impl RetryOn {
    /// The condition of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "5xx" => Self::ServerError,
            "gateway-error" => Self::GatewayError,
            "reset" => Self::Reset,
            "reset-before-request" => Self::ResetBeforeRequest,
            "connect-failure" => Self::ConnectFailure,
            "retriable-4xx" => Self::Retriable4xx,
            "refused-stream" => Self::RefusedStream,
            "retriable-status-codes" => Self::RetriableStatusCodes,
            "retriable-headers" => Self::RetriableHeaders,
            "envoy-ratelimited" => Self::RateLimited,
            "cancelled" => Self::Cancelled,
            "deadline-exceeded" => Self::DeadlineExceeded,
            "internal" => Self::Internal,
            "resource-exhausted" => Self::ResourceExhausted,
            "unavailable" => Self::Unavailable,
            _ => return None,
        })
    }
}
