//! Routes between wire and model. A rule that cannot be read rejects its table: left out, the next rule would take its
//! requests.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    Abort, AbortShare, Action, Backend, Broken, Case, Delay, DirectResponse, Fault, Forward, HeaderChange,
    HeaderMatch, HttpMatch, HttpRule, HttpTable, Mirror, PathChange, Pattern, QueryMatch, Redirect,
    RedirectPort, Retry, RetryOn, Rewrite, TcpMatch, TcpRule, TcpTable, TextMatch, text,
};
use crate::invalid::{InvalidField, Problem};
use crate::waypoint::parse::{Field, duration, invalid, port, service_key};
use crate::wire::waypoint as wire;

/// Base of the back-off that nobody gave.
const BACKOFF: Duration = Duration::from_millis(25);

impl HttpTable {
    /// Reads rules in their order.
    pub(crate) fn parse(wire: Vec<wire::HttpRule>) -> Result<Self, InvalidField> {
        let rules =
            wire.into_iter().enumerate().map(|(place, wire)| rule(wire).within("http", place).map(Arc::new));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

impl TcpTable {
    /// Reads rules in their order.
    pub(crate) fn parse(wire: Vec<wire::TcpRule>) -> Result<Self, InvalidField> {
        let rules = wire
            .into_iter()
            .enumerate()
            .map(|(place, wire)| tcp_rule(wire).within("tcp", place).map(Arc::new));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

fn rule(wire: wire::HttpRule) -> Result<HttpRule, InvalidField> {
    let action = match wire.action.ok_or_else(|| Problem::Missing.of("action"))? {
        wire::http_rule::Action::Forward(wire) => Action::Forward(forward(wire.backends)?),
        wire::http_rule::Action::Redirect(wire) => Action::Redirect(redirect(wire)?),
        wire::http_rule::Action::Respond(wire) => Action::Respond(DirectResponse {
            status: status(wire.status, "respond.status")?,
            body: wire.body.into(),
        }),
    };
    let matches =
        wire.matches.into_iter().enumerate().map(|(place, wire)| http_match(wire).within("matches", place));
    let mirrors =
        wire.mirrors.into_iter().enumerate().map(|(place, wire)| mirror(&wire).within("mirrors", place));
    Ok(HttpRule {
        name: wire.name.into(),
        origin: wire.origin.into(),
        matches: matches.collect::<Result<_, _>>()?,
        action,
        rewrite: wire.rewrite.map(rewrite).transpose()?,
        request_headers: headers(wire.request_headers, Head::Request)?,
        response_headers: headers(wire.response_headers, Head::Response)?,
        fault: wire.fault.map(fault).transpose()?,
        mirrors: mirrors.collect::<Result<_, _>>()?,
        timeout: duration(wire.timeout_ms),
        retry: wire.retry.filter(|retry| retry.attempts > 0).map(retry).transpose()?,
    })
}

fn http_match(wire: wire::HttpMatch) -> Result<HttpMatch, InvalidField> {
    let headers = wire.headers.into_iter().map(|wire| {
        let name = HeaderName::try_from(&wire.name).map_err(|_| invalid("headers.name", &wire.name))?;
        Ok(HeaderMatch { name, value: compared(wire.value, "headers.value")?, invert: wire.invert })
    });
    let query = wire.query.into_iter().map(|wire| {
        Ok(QueryMatch { name: wire.name, value: compared(wire.value, "query.value")?, invert: wire.invert })
    });
    Ok(HttpMatch {
        name: wire.name.into(),
        path: compared(wire.path, "path")?,
        path_case: if wire.ignore_path_case { Case::Insensitive } else { Case::Sensitive },
        scheme: compared(wire.scheme, "scheme")?,
        method: compared(wire.method, "method")?,
        authority: compared(wire.authority, "authority")?,
        headers: headers.collect::<Result<_, _>>()?,
        query: query.collect::<Result<_, _>>()?,
        port: port(wire.port, "port")?,
        source_labels: wire.source_labels.into_iter().collect(),
        source_namespace: some(wire.source_namespace),
    })
}

fn compared(wire: Option<wire::Text>, field: &str) -> Result<Option<TextMatch>, InvalidField> {
    wire.map(|wire| TextMatch::try_from(wire).map_err(|fault| invalid(field, fault))).transpose()
}

fn forward(wire: Vec<wire::Backend>) -> Result<Forward, InvalidField> {
    let backends = wire.into_iter().enumerate().map(|(place, wire)| backend(wire).within("backends", place));
    Ok(Forward::new(backends.collect::<Result<_, _>>()?))
}

fn backend(wire: wire::Backend) -> Result<Backend, InvalidField> {
    let broken = match wire.broken {
        0 => None,
        code => Some(Broken { status: status(code, "broken")?, why: wire.broken_why.into() }),
    };
    // What is broken may well have no usable name.
    let service = match (service_key(&wire.service, "service"), &broken) {
        (Err(_), Some(_)) => crate::service::ServiceKey::new("", &wire.service),
        (found, _) => found?,
    };
    Ok(Backend {
        service,
        subset: some(wire.subset).map(Arc::from),
        port: port(wire.port, "port")?,
        weight: wire.weight,
        request_headers: headers(wire.request_headers, Head::Request)?,
        response_headers: headers(wire.response_headers, Head::Response)?,
        broken,
    })
}

fn redirect(wire: wire::Redirect) -> Result<Redirect, InvalidField> {
    let port = match (port(wire.port, "redirect.port")?, wire::redirect::PortFrom::try_from(wire.port_from)) {
        (Some(number), _) => RedirectPort::Number(number),
        (None, Ok(wire::redirect::PortFrom::Request)) => RedirectPort::Request,
        (None, Ok(wire::redirect::PortFrom::Scheme)) => RedirectPort::Scheme,
        (None, Err(_)) => return Err(Problem::Value(wire.port_from).of("redirect.port_from")),
    };
    let code = if wire.status == 0 {
        StatusCode::MOVED_PERMANENTLY
    } else {
        status(wire.status, "redirect.status")?
    };
    Ok(Redirect {
        scheme: some(wire.scheme),
        authority: some(wire.authority),
        port,
        path: wire.path.map(path_change).transpose()?,
        status: code,
    })
}

fn rewrite(wire: wire::Rewrite) -> Result<Rewrite, InvalidField> {
    let path = wire.path.map(path_change).transpose()?;
    let authority = some(wire.authority).map(|text| value(&text, "rewrite.authority")).transpose()?;
    Ok(Rewrite { path, authority })
}

fn path_change(wire: wire::PathChange) -> Result<PathChange, InvalidField> {
    use wire::path_change::Kind;
    Ok(match wire.kind.ok_or_else(|| Problem::Missing.of("path.kind"))? {
        Kind::Prefix(text) => PathChange::Prefix(text),
        Kind::Segments(text) => PathChange::Segments(text),
        Kind::Full(text) => PathChange::Full(text),
        Kind::Regex(wire) => {
            let pattern =
                Pattern::within(&wire.pattern).map_err(|fault| invalid("path.regex.pattern", fault))?;
            let substitution = text::Substitution::new(&wire.substitution, &pattern);
            let substitution = substitution.map_err(|fault| invalid("path.regex.substitution", fault))?;
            PathChange::Regex { pattern, substitution }
        }
    })
}

/// Whose headers are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Request,
    Response,
}

fn headers(wire: Option<wire::HeaderChange>, head: Head) -> Result<HeaderChange, InvalidField> {
    let mut change = HeaderChange::default();
    let Some(wire) = wire else { return Ok(change) };
    let mut set: Vec<_> = wire.set.into_iter().collect();
    let mut add: Vec<_> = wire.add.into_iter().collect();
    set.sort();
    add.sort();
    for (name, text) in set {
        change.put(&name, &text, head, |change| &mut change.set)?;
    }
    for (name, text) in add {
        change.put(&name, &text, head, |change| &mut change.add)?;
    }
    for name in wire.remove {
        let authority = name.eq_ignore_ascii_case("host") && head == Head::Request;
        if !authority && !name.starts_with(':') {
            change.remove.push(HeaderName::try_from(&name).map_err(|_| invalid("headers.remove", &name))?);
        }
    }
    Ok(change)
}

impl HeaderChange {
    /// The authority is set by the first that names it; other pseudo-headers are nobody's to change.
    fn put(
        &mut self,
        name: &str,
        text: &str,
        head: Head,
        list: impl Fn(&mut Self) -> &mut Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(), InvalidField> {
        let value = value(text, name)?;
        let authority = name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority");
        if authority && head == Head::Request {
            self.authority.get_or_insert(value);
        } else if !name.starts_with(':') {
            let name = HeaderName::try_from(name).map_err(|_| invalid("headers", name))?;
            list(self).push((name, value));
        }
        Ok(())
    }
}

fn fault(wire: wire::Fault) -> Result<Fault, InvalidField> {
    let answer = match (wire.abort_grpc, wire.abort_status) {
        (0, 0) => None,
        (0, code) => Some(Abort::Http(status(code, "fault.abort_status")?)),
        (code, _) => Some(Abort::Grpc(code)),
    };
    let delay = duration(wire.delay_ms).filter(|_| wire.delay_share > 0);
    Ok(Fault {
        delay: delay.map(|time| Delay { time, share: wire.delay_share }),
        abort: answer
            .filter(|_| wire.abort_share > 0)
            .map(|answer| AbortShare { answer, share: wire.abort_share }),
    })
}

fn mirror(wire: &wire::Mirror) -> Result<Mirror, InvalidField> {
    Ok(Mirror {
        service: service_key(&wire.service, "service")?,
        subset: some(wire.subset.clone()).map(Arc::from),
        port: port(wire.port, "port")?,
        share: wire.share,
    })
}

fn retry(wire: wire::Retry) -> Result<Arc<Retry>, InvalidField> {
    let on = wire.on.iter().map(|name| RetryOn::from_name(name).ok_or_else(|| invalid("retry.on", name)));
    let statuses = wire.statuses.iter().map(|code| Ok(status(*code, "retry.statuses")?.as_u16()));
    let headers = wire.headers.iter();
    let headers = headers.map(|name| HeaderName::try_from(name).map_err(|_| invalid("retry.headers", name)));
    Ok(Arc::new(Retry {
        attempts: wire.attempts,
        per_try_timeout: duration(wire.per_try_timeout_ms),
        on: on.collect::<Result<_, _>>()?,
        statuses: statuses.collect::<Result<_, InvalidField>>()?,
        headers: headers.collect::<Result<_, _>>()?,
        backoff: duration(wire.backoff_ms).unwrap_or(BACKOFF),
        avoid_tried: wire.avoid_tried,
    }))
}

fn tcp_rule(wire: wire::TcpRule) -> Result<TcpRule, InvalidField> {
    let matches =
        wire.matches.into_iter().enumerate().map(|(place, wire)| tcp_match(wire).within("matches", place));
    Ok(TcpRule {
        name: wire.name.into(),
        origin: wire.origin.into(),
        matches: matches.collect::<Result<_, _>>()?,
        forward: forward(wire.backends)?,
    })
}

fn tcp_match(wire: wire::TcpMatch) -> Result<TcpMatch, InvalidField> {
    let subnets = wire.destination_subnets.iter();
    let subnets = subnets.map(|text| text.parse().map_err(|_| invalid("destination_subnets", text)));
    Ok(TcpMatch {
        destination_subnets: subnets.collect::<Result<_, _>>()?,
        port: port(wire.port, "port")?,
        source_labels: wire.source_labels.into_iter().collect(),
        source_namespace: some(wire.source_namespace),
    })
}

fn status(code: u32, field: &str) -> Result<StatusCode, InvalidField> {
    let found = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    // An answer of 1xx is none.
    found.filter(|code| !code.is_informational()).ok_or_else(|| invalid(field, code))
}

fn value(text: &str, field: &str) -> Result<HeaderValue, InvalidField> {
    HeaderValue::try_from(text).map_err(|_| invalid(field, format!("{text:?} is not a header's value")))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A port that is set matches only itself.
pub(super) fn is_port(wanted: Option<NonZeroU16>, port: u16) -> bool {
    wanted.is_none_or(|wanted| wanted.get() == port)
}
