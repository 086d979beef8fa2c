//! The operators of access log formats, and what each says of a request or connection.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_api::authz::Denied;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::report::Event;

/// The time the endpoint took, as if it were a header of its answer.
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// One operator. What it stands for may be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime,
    Request(Vec<Field>, Option<usize>),
    Response(Vec<Field>, Option<usize>),
    Protocol,
    ResponseCode,
    ResponseFlags,
    Details,
    TerminationDetails,
    TransportFailure,
    BytesReceived,
    BytesSent,
    Duration,
    ResponseDuration,
    Attempts,
    GrpcStatus,
    UpstreamHost,
    UpstreamCluster,
    DownstreamLocal(Part),
    DownstreamRemote(Part),
    PeerUri,
    UpstreamPeerUri,
    TraceId,
    RouteName,
    /// Nothing we know, or nothing a waypoint can know.
    Unknown,
}

/// What of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Method,
    Path,
    Authority,
    Scheme,
    Header(HeaderName),
}

/// How much of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    Ip,
    Port,
}

/// The operator that follows a percent sign, and what comes after the sign that ends it. Arguments may hold percent
/// signs themselves.
pub(super) fn split(after: &str) -> Option<(&str, &str)> {
    let name = after.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let mut end = name;
    if after[end..].starts_with('(') {
        end += after[end..].find(')')? + 1;
    }
    if after[end..].starts_with(':') {
        end += 1;
        end += after[end..].find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len() - end);
    }
    Some((&after[..end], after[end..].strip_prefix('%')?))
}

impl Operator {
    /// Of its text between percent signs.
    pub(super) fn parse(text: &str) -> Self {
        let (name, rest) = text.split_at(text.find(['(', ':']).unwrap_or(text.len()));
        let (argument, most) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((argument, rest)) => (argument, rest.strip_prefix(':')),
            None => ("", rest.strip_prefix(':')),
        };
        let most = most.and_then(|most| most.parse().ok());
        match name {
            "START_TIME" => Self::StartTime,
            "REQ" => fields(argument).map_or(Self::Unknown, |fields| Self::Request(fields, most)),
            "RESP" => fields(argument).map_or(Self::Unknown, |fields| Self::Response(fields, most)),
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Self::Details,
            "CONNECTION_TERMINATION_DETAILS" => Self::TerminationDetails,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::TransportFailure,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::Attempts,
            "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => Self::GrpcStatus,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::UpstreamHost,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::DownstreamLocal(Part::All),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::DownstreamLocal(Part::Ip),
            "DOWNSTREAM_LOCAL_PORT" => Self::DownstreamLocal(Part::Port),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                Self::DownstreamRemote(Part::All)
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Self::DownstreamRemote(Part::Ip)
            }
            "DOWNSTREAM_REMOTE_PORT" => Self::DownstreamRemote(Part::Port),
            "DOWNSTREAM_PEER_URI_SAN" => Self::PeerUri,
            "UPSTREAM_PEER_URI_SAN" => Self::UpstreamPeerUri,
            "TRACE_ID" => Self::TraceId,
            "ROUTE_NAME" => Self::RouteName,
            _ => Self::Unknown,
        }
    }

    /// Headers of answers it shows.
    pub(super) fn answered(&self) -> impl Iterator<Item = &HeaderName> {
        let fields = match self {
            Self::Response(fields, _) => fields.as_slice(),
            _ => &[],
        };
        fields.iter().filter_map(|field| match field {
            Field::Header(name) if *name != SERVICE_TIME => Some(name),
            _ => None,
        })
    }

    /// Whether its value is a number by itself.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::ResponseCode
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Duration
                | Self::ResponseDuration
                | Self::Attempts
                | Self::GrpcStatus
        )
    }

    /// Writes its value; an error if there is none.
    pub(super) fn write(&self, event: &Event<'_>, out: &mut String) -> fmt::Result {
        let record = event.record;
        match self {
            Self::StartTime => time(event.began(), out),
            Self::Request(fields, most) => requested(fields, event, *most, out),
            Self::Response(fields, most) => answered(fields, event, *most, out),
            Self::Protocol => out.write_str(protocol(record.head.as_ref().ok_or(fmt::Error)?.version)),
            Self::ResponseCode => write!(out, "{}", event.outcome.status),
            Self::ResponseFlags => write!(out, "{}", event.outcome.flags),
            Self::Details if record.is_connection() => Err(fmt::Error),
            Self::Details => details(event, out),
            Self::TerminationDetails if record.is_connection() => {
                record.denied.as_ref().map_or(Err(fmt::Error), |denied| matched(denied, out))
            }
            Self::TerminationDetails | Self::Unknown => Err(fmt::Error),
            Self::TransportFailure
                if event.outcome.flags.reason.is_some_and(|reason| reason.http_flag() == "UF") =>
            {
                plain(record.detail.as_deref().ok_or(fmt::Error)?.as_bytes(), None, out)
            }
            Self::TransportFailure => Err(fmt::Error),
            Self::BytesReceived => write!(out, "{}", record.received.bytes()),
            Self::BytesSent => write!(out, "{}", record.sent),
            Self::Duration => write!(out, "{}", event.duration.as_millis()),
            Self::ResponseDuration => write!(out, "{}", event.answered.ok_or(fmt::Error)?.as_millis()),
            Self::Attempts => write!(out, "{}", record.attempts),
            Self::GrpcStatus => write!(out, "{}", event.outcome.grpc_status.ok_or(fmt::Error)?),
            Self::UpstreamHost => write!(out, "{}", record.upstream.ok_or(fmt::Error)?),
            Self::UpstreamCluster => event.cluster(out),
            Self::DownstreamLocal(part) => part.write(record.arrival.dialled, out),
            Self::DownstreamRemote(part) => part.write(record.arrival.client, out),
            Self::PeerUri => out.write_str(record.arrival.identity.as_ref().ok_or(fmt::Error)?.uri()),
            Self::UpstreamPeerUri => out.write_str(event.ends.destination.principal()),
            Self::TraceId => write!(out, "{}", record.trace.as_ref().ok_or(fmt::Error)?.context.trace),
            Self::RouteName => {
                let name = record.rule.as_ref().map(|rule| &*rule.name).filter(|name| !name.is_empty());
                out.write_str(name.ok_or(fmt::Error)?)
            }
        }
    }
}

impl Field {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            ":METHOD" => Self::Method,
            ":PATH" => Self::Path,
            ":AUTHORITY" => Self::Authority,
            ":SCHEME" => Self::Scheme,
            _ => Self::Header(HeaderName::try_from(name).ok()?),
        })
    }
}

impl Part {
    fn write(self, address: SocketAddr, out: &mut String) -> fmt::Result {
        match self {
            Self::All => write!(out, "{address}"),
            Self::Ip => write!(out, "{}", address.ip()),
            Self::Port => write!(out, "{}", address.port()),
        }
    }
}

/// `NAME?OTHER`: the other where the first is absent.
fn fields(argument: &str) -> Option<Vec<Field>> {
    argument.split('?').map(Field::parse).collect()
}

fn requested(fields: &[Field], event: &Event<'_>, most: Option<usize>, out: &mut String) -> fmt::Result {
    let head = event.record.head.as_deref().ok_or(fmt::Error)?;
    for field in fields {
        let value = match field {
            Field::Method => Some(head.method.as_str().as_bytes()),
            Field::Path => Some(head.target.as_str().as_bytes()),
            Field::Authority => Some(head.authority.as_bytes()),
            Field::Scheme => Some(&b"http"[..]),
            Field::Header(name) => first(&head.headers, name),
        };
        if let Some(value) = value {
            return plain(value, most, out);
        }
    }
    Err(fmt::Error)
}

fn answered(fields: &[Field], event: &Event<'_>, most: Option<usize>, out: &mut String) -> fmt::Result {
    for field in fields {
        let Field::Header(name) = field else { continue };
        if *name == SERVICE_TIME {
            let Some(answered) = event.answered else { continue };
            return write!(out, "{}", answered.as_millis());
        }
        if let Some((_, value)) = event.record.kept.iter().find(|(kept, _)| kept == name) {
            return plain(value.as_bytes(), most, out);
        }
    }
    Err(fmt::Error)
}

fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// What a peer sent, on one line whatever it is, with at most so many characters.
fn plain(value: &[u8], most: Option<usize>, out: &mut String) -> fmt::Result {
    let text = String::from_utf8_lossy(value);
    let characters = text.chars().take(most.unwrap_or(usize::MAX));
    out.extend(characters.map(|c| if c.is_control() { ' ' } else { c }));
    Ok(())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// Why the status is what it is, in Envoy's words.
fn details(event: &Event<'_>, out: &mut String) -> fmt::Result {
    let record = event.record;
    if let Some(denied) = &record.denied {
        return matched(denied, out);
    }
    let flags = &event.outcome.flags;
    if let Some(reason) = flags.reason {
        return match reason.http_flag() {
            "NR" => out.write_str("route_not_found"),
            "UH" => out.write_str("no_healthy_upstream"),
            "UO" => out.write_str("overflow"),
            "UT" => out.write_str("response_timeout"),
            "UC" => out.write_str("upstream_reset_before_response_started{connection_termination}"),
            "UF" => out.write_str("upstream_reset_before_response_started{connection_failure}"),
            _ => write!(out, "{reason}"),
        };
    }
    out.write_str(match () {
        () if flags.aborted => "fault_filter_abort",
        () if flags.abandoned => "downstream_remote_disconnect",
        () if event.answered.is_some() => "via_upstream",
        () => "direct_response",
    })
}

fn matched(denied: &Denied, out: &mut String) -> fmt::Result {
    match (&denied.policy, denied.rule) {
        (Some(policy), Some(rule)) => write!(
            out,
            "rbac_access_denied_matched_policy[ns[{}]-policy[{}]-rule[{rule}]]",
            policy.namespace, policy.name
        ),
        (Some(policy), None) => {
            write!(out, "rbac_access_denied_matched_policy[ns[{}]-policy[{}]]", policy.namespace, policy.name)
        }
        (None, _) => out.write_str("rbac_access_denied_matched_policy[none]"),
    }
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn time(at: SystemTime, out: &mut String) -> fmt::Result {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z",
        second % 60,
        since.subsec_millis()
    )
}

/// The date of a day since 1970, in the proleptic Gregorian calendar: years begin in March, so that a leap day is the
/// last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097;
    let shifted = days + 719_468;
    let (cycle, day) = (shifted / CYCLE, shifted % CYCLE);
    let year = (day - day / 1_460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + cycle * 400 + next, month, date)
}
