//! Limits of a DestinationRule, and when an endpoint is left alone.

use std::time::Duration;

use serde::Deserialize;

use crate::value;

/// Limits of connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: TcpPool,
    /// Of requests.
    pub http: HttpPool,
}

/// Limits of connections. Absent or 0: none, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpPool {
    /// At once.
    pub max_connections: Option<u32>,
    /// Until one must be made; 10 s where it is absent.
    #[serde(deserialize_with = "value::optional_duration")]
    pub connect_timeout: Option<Duration>,
    /// Probes of idle connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// A connection's lifetime.
    #[serde(deserialize_with = "value::optional_duration")]
    pub max_connection_duration: Option<Duration>,
    /// Until an idle one is closed.
    #[serde(deserialize_with = "value::optional_duration")]
    pub idle_timeout: Option<Duration>,
}

/// Probes of idle connections; the system's settings where a field is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpKeepalive {
    /// Unanswered ones until it is dead.
    pub probes: Option<u32>,
    /// Until the first.
    #[serde(deserialize_with = "value::optional_duration")]
    pub time: Option<Duration>,
    /// Between two.
    #[serde(deserialize_with = "value::optional_duration")]
    pub interval: Option<Duration>,
}

/// Limits of requests. Absent or 0: none, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpPool {
    /// Waiting for a connection.
    pub http1_max_pending_requests: Option<u32>,
    /// Under way.
    pub http2_max_requests: Option<u32>,
    /// On one connection; 1 means no keep-alive.
    pub max_requests_per_connection: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// Until an idle connection is closed; an hour where it is absent.
    #[serde(deserialize_with = "value::optional_duration")]
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 goes on as HTTP/2.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// The client's protocol goes on.
    pub use_client_protocol: Option<bool>,
    /// Streams on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Pings on HTTP/2 connections.
    pub http2_keep_alive: Option<Http2Keepalive>,
}

/// Pings on HTTP/2 connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Keepalive {
    /// Between two.
    #[serde(deserialize_with = "value::optional_duration")]
    pub interval: Option<Duration>,
    /// Until an answer must be there.
    #[serde(deserialize_with = "value::optional_duration")]
    pub timeout: Option<Duration>,
}

/// Whether HTTP/1.1 goes on as HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    #[default]
    Default,
    /// Never.
    DoNotUpgrade,
    /// Always.
    Upgrade,
}

/// When an endpoint is left alone for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Superseded: means gateway errors.
    pub consecutive_errors: Option<u32>,
    /// Failures to connect count apart from answers.
    pub split_external_local_origin_errors: Option<bool>,
    /// Failures to connect, in a row; 5 where it is absent.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Answers 502, 503, 504, in a row; off where it is absent.
    pub consecutive_gateway_errors: Option<u32>,
    /// Answers 5xx, in a row; 5 where it is absent, 0 is off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Between two sweeps; 10 s where it is absent.
    #[serde(deserialize_with = "value::optional_duration")]
    pub interval: Option<Duration>,
    /// Times the number of ejections; 30 s where it is absent.
    #[serde(deserialize_with = "value::optional_duration")]
    pub base_ejection_time: Option<Duration>,
    /// Of the endpoints; 10 where it is absent.
    pub max_ejection_percent: Option<u32>,
    /// With fewer healthy ones ejections do not count; 0 is off.
    pub min_health_percent: Option<u32>,
    /// Statuses that count as errors in place of 5xx.
    pub outlier_detection_http_error_codes: Vec<u32>,
}
