//! What stays on a connection, and what goes on.

use std::sync::Arc;

use super::{
    CONNECTION, Head, HeaderMap, HeaderName, HeaderValue, Method, PathAndQuery, TE, UPGRADE, Version,
};
use crate::route::{Action, Backend, Forward, HeaderChange, HttpRule, Matched, Rewrite};
use crate::service::ServiceKey;

fn head(headers: &[(&'static str, &'static str)]) -> Head {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let headers = all;
    Head {
        method: Method::GET,
        authority: "web.shop:8080".into(),
        target: PathAndQuery::from_static("/a?b=c"),
        headers,
        version: Version::HTTP_11,
    }
}

#[test]
fn what_belongs_to_a_connection_stays_on_it() {
    let head = head(&[
        ("connection", "close, x-mine"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip, Trailers"),
        ("expect", "100-continue"),
        ("host", "web.shop:8080"),
        ("x-other", "2"),
    ]);
    let outline = head.outline().unwrap();
    let mut left: Vec<_> = outline.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["te", "x-other"]);
    assert_eq!(outline.headers[TE], "trailers");
}

#[test]
fn an_upgrade_goes_on_only_if_the_connection_names_it_and_it_is_no_further_http() {
    for kind in ["websocket", "WebSocket"] {
        let outline = head(&[("connection", "Upgrade"), ("upgrade", kind)]).outline().unwrap();
        assert_eq!(outline.headers[CONNECTION], "upgrade");
        assert_eq!(outline.headers[UPGRADE], kind);
    }
    let rows: [&[(&str, &str)]; 6] = [
        &[("upgrade", "websocket")],
        &[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AA")],
        &[("connection", "Upgrade"), ("upgrade", "h2c"), ("http2-settings", "AA")],
        &[("connection", "Upgrade"), ("upgrade", "websocket, h2c")],
        &[("connection", "Upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")],
        &[("connection", "Upgrade"), ("upgrade", "TLS/1.0")],
    ];
    for headers in rows {
        assert!(head(headers).outline().unwrap().headers.is_empty(), "{headers:?}");
    }
}

/// Of everything that may name the host, what comes last in this order is in force; Envoy's order, too.
#[test]
fn the_rewrite_of_a_rule_outranks_its_headers_and_those_of_a_backend() {
    let named = |name: Option<&'static str>| name.map(HeaderValue::from_static);
    let change = |name| HeaderChange { authority: named(name), ..HeaderChange::default() };
    for (by_rule, by_backend, by_rewrite, host) in [
        (None, None, None, "web.shop:8080"),
        (Some("rule"), None, None, "rule"),
        (None, Some("backend"), None, "backend"),
        (None, None, Some("rewrite"), "rewrite"),
        (Some("rule"), Some("backend"), None, "backend"),
        (Some("rule"), None, Some("rewrite"), "rewrite"),
        (None, Some("backend"), Some("rewrite"), "rewrite"),
        (Some("rule"), Some("backend"), Some("rewrite"), "rewrite"),
    ] {
        let backend = Backend {
            service: ServiceKey::new("shop", "web"),
            subset: None,
            port: None,
            weight: 1,
            request_headers: change(by_backend),
            response_headers: HeaderChange::default(),
            broken: None,
        };
        let rule = Arc::new(HttpRule {
            name: "".into(),
            origin: "".into(),
            matches: vec![],
            action: Action::Forward(Forward::default()),
            rewrite: Some(Rewrite { path: None, authority: named(by_rewrite) }),
            request_headers: change(by_rule),
            response_headers: HeaderChange::default(),
            fault: None,
            mirrors: vec![],
            timeout: None,
            retry: None,
        });
        let mut outline = head(&[]).outline().unwrap();
        outline.follow(&rule, &backend, &Matched { rule: &rule, place: 0, by: None, prefix: 0 }).unwrap();
        assert_eq!(outline.authority, host, "{by_rule:?} {by_backend:?} {by_rewrite:?}");
    }
}
