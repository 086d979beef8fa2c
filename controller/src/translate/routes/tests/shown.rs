//! Rules and destinations as text that a person can check.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ambit_api::wire::waypoint::path_change::Kind as Change;
use ambit_api::wire::waypoint::text::Kind;
use ambit_api::wire::waypoint::{
    Backend, Destination, HeaderChange, HeaderMatch, HttpMatch, HttpRule, OutlierDetection, PathChange,
    PortPolicy, Redirect, TcpMatch, TcpRule, Text, TrafficPolicy, http_rule, redirect, traffic_policy,
};

use super::super::retry::built_in;

/// `key=value` for every pair whose value says something.
fn parts(pairs: &[(&str, String)]) -> String {
    let said = pairs.iter().filter(|(_, value)| !value.is_empty() && value != "0" && value != "false");
    said.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn text(text: Option<&Text>) -> String {
    match text.and_then(|text| text.kind.as_ref()) {
        None => String::new(),
        Some(Kind::Exact(text)) => format!("{text:?}"),
        Some(Kind::Prefix(text)) => format!("{text:?}*"),
        Some(Kind::Suffix(text)) => format!("*{text:?}"),
        Some(Kind::Regex(text)) => format!("/{text}/"),
        Some(Kind::Segments(text)) => format!("{text:?}/…"),
        Some(Kind::Present(_)) => "present".to_owned(),
    }
}

fn map(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}:{value:?}")).collect::<Vec<_>>().join(",")
}

fn fields(fields: &[HeaderMatch]) -> String {
    let one = |field: &HeaderMatch| {
        let value = field.value.as_ref().map_or_else(|| "present".to_owned(), |value| text(Some(value)));
        format!("{}{}:{value}", if field.invert { "!" } else { "" }, field.name)
    };
    fields.iter().map(one).collect::<Vec<_>>().join(",")
}

fn http_match(one: &HttpMatch) -> String {
    let said = parts(&[
        ("name", one.name.clone()),
        ("path", text(one.path.as_ref())),
        ("ignore-case", one.ignore_path_case.to_string()),
        ("scheme", text(one.scheme.as_ref())),
        ("method", text(one.method.as_ref())),
        ("authority", text(one.authority.as_ref())),
        ("headers", fields(&one.headers)),
        ("query", fields(&one.query)),
        ("port", one.port.to_string()),
        ("source", map(&one.source_labels)),
        ("source-namespace", one.source_namespace.clone()),
    ]);
    if said.is_empty() { "anything".to_owned() } else { said }
}

fn tcp_match(one: &TcpMatch) -> String {
    parts(&[
        ("subnets", one.destination_subnets.join(",")),
        ("port", one.port.to_string()),
        ("source", map(&one.source_labels)),
        ("source-namespace", one.source_namespace.clone()),
    ])
}

fn headers(change: Option<&HeaderChange>) -> String {
    let Some(change) = change else { return String::new() };
    let said =
        parts(&[("set", map(&change.set)), ("add", map(&change.add)), ("remove", change.remove.join(","))]);
    format!("[{said}]")
}

fn path(path: Option<&PathChange>) -> String {
    match path.and_then(|path| path.kind.as_ref()) {
        None => String::new(),
        Some(Change::Prefix(text)) => format!("prefix:{text:?}"),
        Some(Change::Segments(text)) => format!("segments:{text:?}"),
        Some(Change::Full(text)) => format!("full:{text:?}"),
        Some(Change::Regex(one)) => format!("/{}/{}/", one.pattern, one.substitution),
    }
}

fn redirected(one: &Redirect) -> String {
    let from = redirect::PortFrom::try_from(one.port_from).unwrap();
    parts(&[
        ("scheme", one.scheme.clone()),
        ("authority", one.authority.clone()),
        ("port", one.port.to_string()),
        ("port-from", from.as_str_name().to_ascii_lowercase()),
        ("path", path(one.path.as_ref())),
        ("status", one.status.to_string()),
    ])
}

fn backend(one: &Backend) -> String {
    let subset = if one.subset.is_empty() { String::new() } else { format!("#{}", one.subset) };
    let port = if one.port == 0 { String::new() } else { format!(":{}", one.port) };
    let broken =
        if one.broken == 0 { String::new() } else { format!(" BROKEN {} {}", one.broken, one.broken_why) };
    let changes = parts(&[
        ("request", headers(one.request_headers.as_ref())),
        ("response", headers(one.response_headers.as_ref())),
    ]);
    format!("{} → {}{subset}{port}{broken} {changes}", one.weight, one.service).trim_end().to_owned()
}

/// What a rule does besides, in parts.
fn besides(rule: &HttpRule) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let rewrite = rule.rewrite.as_ref();
    let fault = rule.fault.unwrap_or_default();
    // What is said nowhere is shown nowhere.
    let retry = rule.retry.clone().filter(|retry| *retry != built_in()).unwrap_or_default();
    let never = rule.retry.as_ref().is_none_or(|retry| retry.attempts == 0);
    let statuses: Vec<String> = retry.statuses.iter().map(u32::to_string).collect();
    vec![
        (
            "rewrite",
            vec![
                ("path", path(rewrite.and_then(|one| one.path.as_ref()))),
                ("authority", rewrite.map(|one| one.authority.clone()).unwrap_or_default()),
            ],
        ),
        (
            "headers",
            vec![
                ("request", headers(rule.request_headers.as_ref())),
                ("response", headers(rule.response_headers.as_ref())),
            ],
        ),
        (
            "fault",
            vec![
                ("delay-ms", fault.delay_ms.to_string()),
                ("delay-share", fault.delay_share.to_string()),
                ("abort", fault.abort_status.to_string()),
                ("grpc", fault.abort_grpc.to_string()),
                ("abort-share", fault.abort_share.to_string()),
            ],
        ),
        ("timeout", vec![("ms", rule.timeout_ms.to_string())]),
        (
            "retry",
            vec![
                ("attempts", if never { "never".to_owned() } else { retry.attempts.to_string() }),
                ("per-try-ms", retry.per_try_timeout_ms.to_string()),
                ("on", retry.on.join(",")),
                ("statuses", statuses.join(",")),
                ("backoff-ms", retry.backoff_ms.to_string()),
                ("avoid-tried", retry.avoid_tried.to_string()),
                ("headers", retry.headers.join(",")),
            ],
        ),
    ]
}

pub(super) fn http(rule: &HttpRule, out: &mut String) {
    writeln!(out, "  http {:?} of {}", rule.name, rule.origin).unwrap();
    let mut line = |text: String| writeln!(out, "    {text}").unwrap();
    rule.matches.iter().for_each(|one| line(format!("if {}", http_match(one))));
    match rule.action.as_ref().unwrap() {
        http_rule::Action::Forward(forward) => forward.backends.iter().for_each(|one| line(backend(one))),
        http_rule::Action::Redirect(one) => line(format!("redirect {}", redirected(one))),
        http_rule::Action::Respond(one) => {
            line(format!("respond {} {:?}", one.status, String::from_utf8_lossy(&one.body)));
        }
    }
    for one in &rule.mirrors {
        let to = Backend {
            service: one.service.clone(),
            subset: one.subset.clone(),
            port: one.port,
            weight: one.share,
            ..Backend::default()
        };
        line(format!("mirror {}", backend(&to)));
    }
    for (name, pairs) in besides(rule) {
        let text = parts(&pairs);
        if !text.is_empty() {
            line(format!("{name} {text}"));
        }
    }
}

pub(super) fn tcp(rule: &TcpRule, out: &mut String) {
    writeln!(out, "  tcp {:?} of {}", rule.name, rule.origin).unwrap();
    rule.matches.iter().for_each(|one| writeln!(out, "    if {}", tcp_match(one)).unwrap());
    rule.backends.iter().for_each(|one| writeln!(out, "    {}", backend(one)).unwrap());
}

fn outlier(one: &OutlierDetection) -> String {
    parts(&[
        ("5xx", one.consecutive_5xx.to_string()),
        ("gateway", one.consecutive_gateway.to_string()),
        ("local", one.consecutive_local.to_string()),
        ("split", one.split_local.to_string()),
        ("interval-ms", one.interval_ms.to_string()),
        ("ejection-ms", one.base_ejection_ms.to_string()),
        ("max-percent", one.max_ejection_percent.to_string()),
        ("min-healthy", one.min_health_percent.to_string()),
    ])
}

fn policy(policy: Option<&TrafficPolicy>) -> String {
    let Some(one) = policy else { return "nothing".to_owned() };
    let balancer = traffic_policy::LoadBalancer::try_from(one.load_balancer).unwrap();
    parts(&[
        ("lb", balancer.as_str_name().to_ascii_lowercase()),
        ("connections", one.max_connections.to_string()),
        ("connect-ms", one.connect_timeout_ms.to_string()),
        ("pending", one.max_pending_requests.to_string()),
        ("requests", one.max_requests.to_string()),
        ("per-connection", one.max_requests_per_connection.to_string()),
        ("retries", one.max_retries.to_string()),
        ("idle-ms", one.idle_timeout_ms.to_string()),
        ("streams", one.max_concurrent_streams.to_string()),
        ("h2", one.upgrade_to_h2.to_string()),
        ("outlier", one.outlier.as_ref().map(outlier).map(|text| format!("[{text}]")).unwrap_or_default()),
    ])
}

pub(super) fn destination(one: &Destination, out: &mut String) {
    writeln!(out, "  destination {}/{}: {}", one.namespace, one.hostname, policy(one.policy.as_ref()))
        .unwrap();
    let ports = |ports: &[PortPolicy], indent: &str, out: &mut String| {
        for port in ports {
            writeln!(out, "{indent}port {}: {}", port.port, policy(port.policy.as_ref())).unwrap();
        }
    };
    ports(&one.ports, "    ", out);
    for subset in &one.subsets {
        let labels = map(&subset.labels);
        writeln!(out, "    subset {} [{labels}]: {}", subset.name, policy(subset.policy.as_ref())).unwrap();
        ports(&subset.ports, "      ", out);
    }
}
