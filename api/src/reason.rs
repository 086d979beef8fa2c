//! Why a connection ended other than well: one closed list, mapped once to status, log flag and blame.

use std::fmt;

#[cfg(test)]
mod tests;

/// The end of a connection or request. Add a variant here and the compiler names every place that must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A policy denied it.
    PolicyDenied,
    /// The workload names a policy this proxy has not received.
    PolicyUnknown,
    /// A policy change cut an open connection.
    PolicyChanged,
    /// TLS failed, or the peer's certificate is not acceptable.
    TlsFailed,
    /// The HTTP/2 preface or settings exchange failed.
    HandshakeFailed,
    /// We hold no certificate for the identity we must present.
    NoCertificate,
    /// Our certificate or the peer's expired while the connection was open.
    CertificateExpired,
    /// The peer did not answer in time (handshake, CONNECT, TCP connect).
    TimedOut,
    /// The peer refused or reset before a byte was sent.
    ConnectFailed,
    /// A healthy endpoint does not exist.
    NoHealthyEndpoint,
    /// The local workload is not known (yet).
    WorkloadUnknown,
    /// The destination needs a waypoint that cannot be resolved.
    WaypointUnresolved,
    /// The CONNECT request is malformed or names an address that is not this pod's.
    BadRequest,
    /// The destination is one of the proxy's own ports.
    IllegalDestination,
    /// The remote proxy answered CONNECT with another status than 200.
    Refused,
    /// A limit of this proxy was reached.
    Overloaded,
    /// No data for longer than the idle time-out.
    IdleTimeout,
    /// The proxy is shutting down and the drain deadline passed.
    Draining,
    /// The pod left the mesh or is gone.
    PodGone,
    /// One side reset an established connection.
    Reset,
    /// No route of the waypoint takes the request.
    NoRoute,
    /// The route's backend cannot be used, or none has any weight.
    BackendBroken,
    /// The route's time for the whole request passed.
    RequestTimedOut,
    /// An operating system call failed.
    Io,
}

/// Who caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The side that opened the connection.
    Downstream,
    /// The side we connected to.
    Upstream,
    /// Ambit itself: configuration, certificates, limits.
    Mesh,
}

impl Reason {
    /// The `response_flags` label and log flag; Istio's where it has one.
    pub fn flag(self) -> &'static str {
        match self {
            Self::PolicyDenied | Self::PolicyUnknown | Self::PolicyChanged => "DENY",
            Self::TlsFailed => "TLS_FAILURE",
            Self::HandshakeFailed => "H2_HANDSHAKE_FAILURE",
            Self::NoCertificate | Self::CertificateExpired => "IDENTITY_ERROR",
            Self::TimedOut
            | Self::ConnectFailed
            | Self::NoHealthyEndpoint
            | Self::WorkloadUnknown
            | Self::WaypointUnresolved
            | Self::BadRequest
            | Self::IllegalDestination
            | Self::Refused => "CONNECT",
            Self::Overloaded => "OVERLOAD",
            Self::IdleTimeout => "IDLE_TIMEOUT",
            Self::Draining | Self::PodGone => "DRAIN",
            Self::Reset => "RESET",
            Self::NoRoute | Self::BackendBroken | Self::RequestTimedOut => self.http_flag(),
            Self::Io => "IO",
        }
    }

    /// The status that answers a CONNECT which ends for this reason (l4-protocols §2.4).
    pub fn connect_status(self) -> u16 {
        match self {
            Self::PolicyDenied | Self::PolicyUnknown | Self::PolicyChanged => 401,
            Self::BadRequest => 400,
            Self::NoRoute => 404,
            _ => 503,
        }
    }

    /// The status that answers an HTTP request which ends for this reason (apis §2.8).
    pub fn http_status(self) -> u16 {
        match self {
            Self::PolicyDenied | Self::PolicyUnknown | Self::PolicyChanged => 403,
            Self::BadRequest | Self::IllegalDestination => 400,
            Self::NoRoute => 404,
            Self::RequestTimedOut => 504,
            Self::BackendBroken => 500,
            _ => 503,
        }
    }

    /// The flag of an HTTP request in access logs and `istio_requests_total`: Envoy's, which dashboards know.
    pub fn http_flag(self) -> &'static str {
        match self {
            Self::PolicyDenied | Self::PolicyUnknown | Self::PolicyChanged => "UAEX",
            Self::BadRequest | Self::IllegalDestination => "DPE",
            Self::NoRoute => "NR",
            Self::BackendBroken => "NC",
            Self::RequestTimedOut => "UT",
            Self::NoHealthyEndpoint | Self::WorkloadUnknown | Self::WaypointUnresolved => "UH",
            Self::Overloaded => "UO",
            Self::IdleTimeout => "SI",
            Self::Reset | Self::Draining | Self::PodGone | Self::CertificateExpired => "UC",
            Self::TlsFailed
            | Self::HandshakeFailed
            | Self::NoCertificate
            | Self::TimedOut
            | Self::ConnectFailed
            | Self::Refused
            | Self::Io => "UF",
        }
    }

    /// Who caused it.
    pub fn blame(self) -> Blame {
        match self {
            Self::PolicyDenied
            | Self::PolicyChanged
            | Self::BadRequest
            | Self::IllegalDestination
            | Self::NoRoute => Blame::Downstream,
            Self::IdleTimeout => Blame::Downstream,
            Self::TlsFailed
            | Self::HandshakeFailed
            | Self::TimedOut
            | Self::ConnectFailed
            | Self::Refused
            | Self::RequestTimedOut
            | Self::Reset => Blame::Upstream,
            Self::PolicyUnknown
            | Self::NoCertificate
            | Self::CertificateExpired
            | Self::NoHealthyEndpoint
            | Self::WorkloadUnknown
            | Self::WaypointUnresolved
            | Self::BackendBroken
            | Self::Overloaded
            | Self::Draining
            | Self::PodGone
            | Self::Io => Blame::Mesh,
        }
    }

    /// Whether another endpoint may be tried, provided no byte of the application was sent.
    pub fn retryable(self) -> bool {
        matches!(self, Self::TlsFailed | Self::HandshakeFailed | Self::TimedOut | Self::ConnectFailed)
    }

    /// The reason in words, as logs and answers carry it (snake case, stable).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PolicyDenied => "policy_denied",
            Self::PolicyUnknown => "policy_unknown",
            Self::PolicyChanged => "policy_changed",
            Self::TlsFailed => "tls_failed",
            Self::HandshakeFailed => "handshake_failed",
            Self::NoCertificate => "no_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::TimedOut => "timed_out",
            Self::ConnectFailed => "connect_failed",
            Self::NoHealthyEndpoint => "no_healthy_endpoint",
            Self::WorkloadUnknown => "workload_unknown",
            Self::WaypointUnresolved => "waypoint_unresolved",
            Self::BadRequest => "bad_request",
            Self::IllegalDestination => "illegal_destination",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::IdleTimeout => "idle_timeout",
            Self::Draining => "draining",
            Self::PodGone => "pod_gone",
            Self::Reset => "reset",
            Self::NoRoute => "no_route",
            Self::BackendBroken => "backend_broken",
            Self::RequestTimedOut => "request_timed_out",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
