//! The whole table: what each reason says to peers, logs and metrics.

use std::collections::BTreeSet;

use super::Blame::{Downstream, Mesh, Upstream};
use super::Reason;

#[test]
fn flags_statuses_and_blame_are_as_the_table_says() {
    // (reason, response flag, status of the CONNECT, blame, whether another endpoint may be tried)
    let rows = [
        (Reason::PolicyDenied, "DENY", 401, Downstream, false),
        (Reason::PolicyUnknown, "DENY", 401, Mesh, false),
        (Reason::PolicyChanged, "DENY", 401, Downstream, false),
        (Reason::TlsFailed, "TLS_FAILURE", 503, Upstream, true),
        (Reason::HandshakeFailed, "H2_HANDSHAKE_FAILURE", 503, Upstream, true),
        (Reason::NoCertificate, "IDENTITY_ERROR", 503, Mesh, false),
        (Reason::CertificateExpired, "IDENTITY_ERROR", 503, Mesh, false),
        (Reason::TimedOut, "CONNECT", 503, Upstream, true),
        (Reason::ConnectFailed, "CONNECT", 503, Upstream, true),
        (Reason::NoHealthyEndpoint, "CONNECT", 503, Mesh, false),
        (Reason::WorkloadUnknown, "CONNECT", 503, Mesh, false),
        (Reason::WaypointUnresolved, "CONNECT", 503, Mesh, false),
        (Reason::BadRequest, "CONNECT", 400, Downstream, false),
        (Reason::IllegalDestination, "CONNECT", 503, Downstream, false),
        (Reason::Refused, "CONNECT", 503, Upstream, false),
        (Reason::Overloaded, "OVERLOAD", 503, Mesh, false),
        (Reason::IdleTimeout, "IDLE_TIMEOUT", 503, Downstream, false),
        (Reason::Draining, "DRAIN", 503, Mesh, false),
        (Reason::PodGone, "DRAIN", 503, Mesh, false),
        (Reason::Reset, "RESET", 503, Upstream, false),
        (Reason::NoRoute, "NR", 404, Downstream, false),
        (Reason::BackendBroken, "NC", 503, Mesh, false),
        (Reason::RequestTimedOut, "UT", 503, Upstream, false),
        (Reason::Io, "IO", 503, Mesh, false),
    ];
    for (reason, flag, status, blame, retryable) in rows {
        let got = (reason.flag(), reason.connect_status(), reason.blame(), reason.retryable());
        assert_eq!(got, (flag, status, blame, retryable), "{reason}");
    }
    let reasons: BTreeSet<_> = rows.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(reasons.len(), rows.len(), "texts are unique");
    assert!(reasons.iter().all(|text| text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())));
}

#[test]
fn answers_to_requests_are_as_the_table_says() {
    let rows = [
        (Reason::PolicyDenied, "UAEX", 403),
        (Reason::PolicyUnknown, "UAEX", 403),
        (Reason::BadRequest, "DPE", 400),
        (Reason::NoRoute, "NR", 404),
        (Reason::BackendBroken, "NC", 500),
        (Reason::RequestTimedOut, "UT", 504),
        (Reason::NoHealthyEndpoint, "UH", 503),
        (Reason::Overloaded, "UO", 503),
        (Reason::ConnectFailed, "UF", 503),
        (Reason::Reset, "UC", 503),
    ];
    for (reason, flag, status) in rows {
        assert_eq!((reason.http_flag(), reason.http_status()), (flag, status), "{reason}");
    }
}
